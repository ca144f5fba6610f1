"""A network on a device: precision, memory, tiles that fail, and the maps that a tile is restored with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import detects, finds, guided_by, lively, lively_detector, lively_lmd_vit
from restoration_helpers import (
    RESTORERS,
    as_input,
    deblurrer_of,
    findings_of,
    guided,
    photo_of,
    picture,
    run,
)

from deblur_cli.errors import OutOfMemoryError, UsageError
from deblur_cli.nets import motion_cues
from deblur_cli.nets.blocks import NAFBlock
from deblur_cli.restoration import Tiling, engine
from deblur_cli.restoration.deblurrer import Request
from deblur_cli.restoration.engine import Engine

ERRORS = {
    "python": MemoryError(),
    "cuda": torch.OutOfMemoryError("CUDA"),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cpu": RuntimeError("DefaultCPUAllocator: not enough memory"),
}


class OutOfMemoryAbove:
    """Stands for a network on a device whose memory holds tiles up to a size."""

    def __init__(self, network, largest, error):
        self.network, self.largest, self.error = network, largest, error

    def check(self, image):
        if max(image.shape[-2:]) > self.largest:
            raise self.error

    def detect(self, image, *rest):
        self.check(image)
        return self.network.detect(image, *rest)

    def follow(self, image, *rest):
        self.check(image)
        return self.network.follow(image, *rest)

    def __getattr__(self, name):
        return getattr(self.network, name)


def run_short_of_memory(engine, largest, error):
    engine.network = OutOfMemoryAbove(engine.network, largest, error)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_out_of_memory_halves_the_tile_of_detection(error):
    photo = photo_of(picture(300, 300))
    network = guided("m2aenet")
    expected = deblurrer_of(network, scales=(1,), size=192).detect(photo)
    deblurrer = deblurrer_of(network, scales=(1,), size=384)
    run_short_of_memory(deblurrer.detector, 200, error)
    findings = deblurrer.detect(photo)
    assert np.array_equal(findings.probability, expected.probability)
    assert np.array_equal(findings.start, expected.start)
    assert findings.tiles == expected.tiles > 1
    assert findings.notes == ("out of memory: tile size lowered to 192",)


@pytest.mark.parametrize("scale", [1, 4])
def test_out_of_memory_halves_the_tile_of_restoration_at_any_scale(scale):
    side = 280 * scale
    photo, findings = photo_of(picture(side, side)), findings_of(side, side, scale=scale)
    findings.probability[:-10] = 0.9
    network = lively(pooling=64)
    expected = deblurrer_of(network, size=128).restore(photo, findings, Request())
    deblurrer = deblurrer_of(network, size=256)
    run_short_of_memory(deblurrer.restorer, 128, MemoryError())
    result = deblurrer.restore(photo, findings, Request())
    assert result.changed
    assert np.array_equal(result.photo.pixels, expected.photo.pixels)
    assert result.notes == ("out of memory: tile size lowered to 128",)
    assert result.tiles_restored == expected.tiles_restored


def test_the_smaller_tile_of_all_scales_is_noted_once():
    photo = photo_of(picture(600, 600))
    deblurrer = deblurrer_of(guided("told"), size=256)
    run_short_of_memory(deblurrer.detector, 128, MemoryError())
    run_short_of_memory(deblurrer.restorer, 128, MemoryError())
    result = run(deblurrer, photo)
    assert result.changed and len(result.scale_shares) > 1
    assert result.notes == ("out of memory: tile size lowered to 128",)


@pytest.mark.parametrize("side", ["detector", "restorer"])
def test_out_of_memory_with_the_smallest_tile_says_so(side):
    deblurrer = deblurrer_of(guided("m2aenet"), size=256)
    run_short_of_memory(getattr(deblurrer, side), 0, MemoryError())
    with pytest.raises(OutOfMemoryError, match=r"tiles of 128 .* close other programs"):
        run(deblurrer, photo_of(picture(300, 300)))


@pytest.mark.parametrize("overlap", [32, 160])
def test_tiles_are_never_halved_below_what_their_overlap_needs(overlap):
    deblurrer = deblurrer_of(lively(pooling=64), overlap=overlap)
    run_short_of_memory(deblurrer.detector, 0, MemoryError())
    with pytest.raises(OutOfMemoryError, match="lower --overlap"):
        deblurrer.detect(photo_of(picture(700, 500)))


def test_other_runtime_errors_are_not_mistaken_for_memory():
    deblurrer = deblurrer_of(lively())
    run_short_of_memory(deblurrer.detector, 0, RuntimeError("a real bug"))
    with pytest.raises(RuntimeError, match="a real bug"):
        deblurrer.detect(photo_of(picture(64, 64)))


def spoil(network, value):
    """A network whose output is off by `value`."""
    with torch.no_grad():
        network.ending.bias += value
    return network


@pytest.mark.parametrize(("scale", "value"), [(1, float("nan")), (1, 0.6), (4, float("inf"))])
def test_a_failed_tile_stays_as_it_was_and_is_named(value, scale):
    side = 250 * scale
    findings = findings_of(side, side, scale=scale)
    findings.probability[:] = 0
    findings.probability[-8 * scale :, :8] = 1  # within one tile
    photo = photo_of(picture(side, side))
    network = spoil(lively(pooling=64), value)
    deblurrer = deblurrer_of(network, size=160)
    top = deblurrer.restorer.grid(250, 250).rows[-1].start
    result = deblurrer.restore(photo, findings, Request())
    assert result.photo is photo and top > 0
    assert (result.changed, result.tiles_restored, result.tiles_kept) == (False, 0, 1)
    assert result.notes == (f"the tile at 0,{top * scale} failed and stays as it was",)


def test_a_failed_tile_is_named_once_though_memory_ran_out_after_it():
    photo = photo_of(picture(300, 300))
    deblurrer = deblurrer_of(spoil(detects(lively(pooling=64), 0.9), float("nan")), scales=(1,), size=256)
    network, calls = deblurrer.restorer.network, []
    findings, plain = deblurrer.detect(photo), network.restore

    def restore(*values, **more):
        calls.append(values)
        if len(calls) == 2:
            raise MemoryError
        return plain(*values, **more)

    network.restore = restore
    result = deblurrer.restore(photo, findings, Request())
    failures = [note for note in result.notes if "failed" in note]
    assert len(failures) == len(set(failures)) == result.tiles_kept > 4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_tile_that_fails_in_low_precision_is_restored_in_float32(precision, caplog):
    network = detects(lively(), 0.9)
    photo = photo_of(picture(100, 100))
    expected = run(deblurrer_of(network), photo)
    deblurrer = deblurrer_of(network, precision)
    spoil(deblurrer.restorer.network, float("nan"))
    result = run(deblurrer, photo)
    assert result.tiles_kept == 0 and not result.notes
    difference = np.abs(result.photo.pixels.astype(int) - expected.photo.pixels)
    assert difference.mean() < 2  # detection still ran in low precision
    assert "run again in fp32" in caplog.text


def blind(network, where):
    """A detector that fails in pictures whose first pixel is of some brightness."""
    plain = network.detect

    def detect(image, *rest):
        found = plain(image, *rest)
        spoilt = found.probability * float("nan") if where(image[0, 0, 0, 0]) else found.probability
        return replace(found, probability=spoilt)

    network.detect = detect
    return network


def test_a_tile_in_which_detection_fails_counts_as_sharp_and_is_named():
    pixels = picture(600, 600)
    pixels[300:] = 255
    deblurrer = deblurrer_of(guided_by(finds(lively_detector(), 0.9), lively()), scales=(2,), size=128)
    blind(deblurrer.detector.network, lambda corner: corner == 1)
    findings = deblurrer.detect(photo_of(pixels))
    places = [f"{tile.corner[1] * 2},{tile.corner[0] * 2}" for tile in deblurrer.detector.grid(300, 300)]
    missing = [place for place in places if int(place.split(",")[1]) >= 300]
    assert list(findings.notes) == [
        f"detection failed in the tile at {place}, which counts as sharp" for place in missing
    ]
    assert 0 < len(missing) < len(places)
    assert findings.probability[-8:].max() == 0
    assert findings.probability[:36].min() > 0.85


def test_detection_that_fails_in_low_precision_is_run_in_float32(caplog):
    network = guided_by(lively_detector(pooling=48), lively())
    photo = photo_of(picture(100, 120))
    deblurrer = deblurrer_of(network, "bf16")
    blind(deblurrer.detector.network, lambda corner: True)
    findings, expected = deblurrer.detect(photo), deblurrer_of(network).detect(photo)
    assert not findings.notes
    assert np.array_equal(findings.probability, expected.probability)
    assert "run again in fp32" in caplog.text


def sure(network):
    """LMD-ViT whose predictors keep all windows, so that no rounding decides."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "score_predictor.out_conv.4" in name:
                value.zero_()
                if name.endswith("bias"):
                    value[0] = 2
    return network


@pytest.mark.parametrize("kind", RESTORERS)
def test_bfloat16_is_close_to_float32(kind):
    photo = photo_of(picture(100, 100, dtype=np.uint16))
    findings, network = findings_of(100, 100, scale=1, reach=3.0), guided(kind)
    sure(network.network)
    exact, rough = (
        deblurrer_of(network, precision).restore(photo, findings, Request()) for precision in ("fp32", "bf16")
    )
    assert exact.changed and not rough.tiles_kept
    change = np.abs(exact.photo.pixels.astype(float) - photo.pixels)
    difference = np.abs(exact.photo.pixels.astype(float) - rough.photo.pixels)
    assert difference.mean() < 0.1 * change.mean()


@pytest.mark.parametrize("kind", ["m2aenet", "told", "nafnet"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_rounds_what_changes_but_not_the_photo(kind, precision):
    network = guided(kind)
    with torch.no_grad():
        network.network.restorer.ending.weight.zero_()
        network.network.restorer.ending.bias.zero_()
        if kind == "told":
            network.network.restorer.trust.zero_()  # what it mixes in is a change too
    photo = photo_of(picture(100, 100, dtype=np.uint16))
    deblurrer = deblurrer_of(network, precision)
    result = deblurrer.restore(photo, findings_of(100, 100, scale=1), Request())
    assert result.tiles_restored == 1 and not result.changed


def test_half_precision_leaves_the_cues_whole(monkeypatch):
    deblurrer = deblurrer_of(guided("told", finds(lively_detector(), 0.9)), "bf16", scales=(1,))
    photo, seen, plain = photo_of(picture(96, 96)), [], motion_cues.motion_cues
    monkeypatch.setattr(motion_cues, "motion_cues", lambda image: seen.append(image) or plain(image))
    assert next(deblurrer.detector.network.parameters()).dtype == torch.bfloat16
    result = run(deblurrer, photo)
    (image,) = seen
    assert torch.equal(image, as_input(photo.pixels))  # not rounded to the 8 bits that bfloat16 has
    assert result.changed and not result.tiles_kept


@pytest.mark.parametrize(
    "values",
    [
        {"size": 100},
        {"size": 64},
        {"overlap": 20},
        {"overlap": 0},
        {"size": 128, "overlap": 64},
    ],
)
def test_tiles_that_cannot_be_are_refused(values):
    with pytest.raises(UsageError, match="must be"):
        Tiling(**values)


@pytest.mark.parametrize("scale", [1, 2])
def test_tiles_are_restored_with_the_maps_of_the_photo(scale, monkeypatch):
    """Not with what a tile would detect by itself."""
    given, plain = [], Engine.restore_part

    def restore_part(self, network, image, maps, epsilon):
        given.append(maps[0].numpy())
        return plain(self, network, image, maps, epsilon)

    monkeypatch.setattr(Engine, "restore_part", restore_part)
    side = 256 * scale
    findings = findings_of(side, side, seed=4, scale=scale)
    findings.probability[:] = 0.9
    deblurrer = deblurrer_of(guided("told"), size=160)
    result = deblurrer.restore(photo_of(picture(side, side)), findings, Request())
    assert len(given) == result.tiles_restored == 4
    rows, columns = given[0].shape[1:]
    assert max(rows, columns) < 32  # a part of the photo
    np.testing.assert_allclose(given[0][1], 0.9, rtol=1e-6)
    middle = slice(scale // 2, None, scale)
    expected = findings.start[:, middle, middle][:, :rows, :columns]
    np.testing.assert_allclose(given[0][2:4] * scale, expected, rtol=1e-5)


@pytest.mark.parametrize("switches", [{"mask": False}, {"motion": False}, {}], ids=str)
def test_a_network_follows_its_own_motion_where_none_was_found(switches):
    """Findings of a mask alone know no motion; a network that sees one by itself goes by that."""
    network = lively(**switches)
    if network.config.mask:
        detects(network, 0.9)
    pixels = picture(96, 112)
    deblurrer = deblurrer_of(network, scales=(1,))
    findings = deblurrer.detect(photo_of(pixels))
    findings.start[:], findings.end[:] = 0, 0
    result = deblurrer.restore(photo_of(pixels), findings, Request(keep_sharp=False))
    with torch.no_grad():
        expected = network(as_input(pixels)).image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(result.photo.pixels - expected).max() <= 0.51


@pytest.mark.parametrize(("size", "tiles"), [((600, 400), 1), ((400, 1300), 1), ((800, 700), 4)])
def test_small_photos_are_one_tile_so_that_confidence_has_no_seam(monkeypatch, size, tiles):
    deblurrer = deblurrer_of(lively(), scales=(1,))
    monkeypatch.setattr(engine, "CPU_BYTES", 2 * 512**2 * deblurrer.weights.network.bytes_per_pixel)
    monkeypatch.setattr(engine, "AUTOMATIC_SIDES", (512, 256))
    assert len(deblurrer.detector.grid(*size)) == len(deblurrer.grids(*size)[1][0]) == tiles
    assert deblurrer.detect(photo_of(picture(*size))).tiles == tiles


def test_small_photos_are_tiled_where_memory_is_short(monkeypatch):
    deblurrer = deblurrer_of(lively())
    room = 300 * 400 * deblurrer.weights.network.bytes_per_pixel / engine.MEMORY_SHARE
    monkeypatch.setattr(engine, "free_memory", lambda device: room)
    assert len(deblurrer.restorer.grid(300, 400)) == 1
    assert len(deblurrer.restorer.grid(600, 400)) > 1


def short_sighted(network):
    """Leave out what looks beyond a few pixels: channel attention, motion, and the coarse 3x3 kernels."""
    with torch.no_grad():
        for block in network.modules():
            if isinstance(block, NAFBlock):
                block.sca[1].weight.zero_()
                block.sca[1].bias.fill_(1)
        for block in [*network.encoders[-1], *network.middle_blks]:
            taps = torch.zeros(3, 3)
            taps[1, 1] = 1
            block.conv2.weight.mul_(taps)
        network.motion_analyzer.weight.zero_()
        network.motion_analyzer.bias.zero_()
    return network


def test_a_part_comes_out_as_in_its_tile(monkeypatch):
    photo = photo_of(np.random.default_rng(5).integers(0, 256, (480, 560, 3), np.uint8))
    findings = findings_of(480, 560, scale=1, reach=0.0)
    findings.probability[:] = 0
    findings.probability[25:33, 30:40] = 1
    sizes, plain = [], Engine.restore_part

    def restore_part(self, network, image, *rest):
        sizes.append(image.shape[-2] * image.shape[-1])
        return plain(self, network, image, *rest)

    monkeypatch.setattr(Engine, "restore_part", restore_part)
    deblurrer = deblurrer_of(short_sighted(lively(pooling=96)), size=320)
    parts, work = deblurrer.restore(photo, findings, Request()), sum(sizes)
    sizes.clear()
    monkeypatch.setattr(deblurrer.restorer.reference, "smallest_part", None)
    whole = deblurrer.restore(photo, findings, Request())
    assert parts.tiles_restored == whole.tiles_restored == 4
    assert work < 0.5 * sum(sizes)
    assert parts.changed
    difference = np.abs(parts.photo.pixels.astype(int) - whole.photo.pixels)
    assert difference.max() <= 1  # rounding
    assert (difference > 0).mean() < 0.001


def test_networks_in_windows_restore_with_the_epsilon_that_is_asked_for():
    network = lively_lmd_vit()
    pixels = picture(128, 160)
    deblurrer = deblurrer_of(network, scales=(1,))
    findings, results = deblurrer.detect(photo_of(pixels)), {}
    findings.probability[:] = 1
    for epsilon in (0.3, 0.7):
        request = Request(epsilon=epsilon, keep_sharp=False)
        results[epsilon] = deblurrer.restore(photo_of(pixels), findings, request).photo.pixels
        with torch.no_grad():
            image = network(as_input(pixels), epsilon).image
        expected = image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
        assert np.abs(results[epsilon] - expected).max() <= 0.51
    assert not np.array_equal(*results.values())
