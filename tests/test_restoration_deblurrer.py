"""Two steps for every photo: what is sharp stays sharp, at every scale and with every network."""

import copy
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import detects, finds, guided_by, lively, lively_detector, lively_lmd_vit
from restoration_helpers import (
    DEPTHS,
    RESTORERS,
    SUBSETS,
    as_input,
    deblurrer_of,
    findings_of,
    guided,
    photo_of,
    picture,
    run,
)

from deblur_cli.errors import DecodeError, UsageError
from deblur_cli.nets import accelerate, create
from deblur_cli.nets.detector import Detector
from deblur_cli.photo.color import with_network_view
from deblur_cli.photo.photo import Metadata, Photo
from deblur_cli.restoration.deblurrer import Request, untouched
from deblur_cli.restoration.engine import Engine
from deblur_cli.restoration.findings import everywhere
from deblur_cli.restoration.mask import feather_weights, region_confidence
from deblur_cli.restoration.scales import halved
from deblur_cli.restoration.tiles import Grid


@pytest.fixture(scope="module")
def deblurrers():
    """For each set of scales one of another kind of network, with small tiles."""
    kinds = [*RESTORERS, *RESTORERS]
    return {
        scales: deblurrer_of(guided(kind), scales=scales, size=128)
        for scales, kind in zip(SUBSETS, kinds, strict=False)
    }


SIDES = st.one_of(st.integers(1, 20), st.integers(21, 330))


@given(SIDES, SIDES, st.sampled_from([1, 3]), DEPTHS, st.sampled_from(SUBSETS), st.sampled_from([0.2, 0.5]))
@settings(max_examples=40)
def test_pixels_beyond_the_feathered_mask_stay_bit_identical(
    deblurrers, height, width, channels, dtype, scales, epsilon
):
    photo = photo_of(picture(height, width, channels, dtype=dtype))
    findings = findings_of(height, width, seed=height)
    before = photo.pixels.copy()
    result = deblurrers[scales].restore(photo, findings, Request(epsilon))
    assert np.array_equal(photo.pixels, before)
    pixels = result.photo.pixels
    assert (pixels.shape, pixels.dtype) == (before.shape, dtype)
    mask = (result.findings.probability > epsilon).astype(np.float32)
    weights = feather_weights(mask, slice(0, height), slice(0, width))
    differs = (pixels != before).any(axis=2)
    assert not differs[weights == 0].any()
    assert result.changed == differs.any()
    assert sum(result.scale_shares.values()) == pytest.approx(result.blurred_share, abs=1e-5)
    assert {scale for scale, share in result.scale_shares.items() if share} <= set(scales)
    if (weights == 1).sum() > 2000 and not result.tiles_kept:
        assert differs[weights == 1].mean() > 0.2


@given(SIDES, SIDES, st.sampled_from([1, 3]), DEPTHS, st.sampled_from(SUBSETS))
def test_a_photo_without_blur_comes_out_as_it_is(height, width, channels, dtype, scales):
    photo = photo_of(picture(height, width, channels, dtype=dtype))
    network = guided_by(finds(lively_detector(), 0.2), lively())
    result = run(deblurrer_of(network, scales=scales, size=128), photo)
    assert result.photo is photo
    assert (result.changed, result.tiles_restored, result.blurred_share) == (False, 0, 0)
    assert not any(result.scale_shares.values())


@pytest.mark.parametrize(
    ("size", "scales"),
    [
        ((8, 5000), (1, 2, 4, 8)),
        ((5000, 8), (2, 4)),
        ((1, 3000), (1,)),
        ((64, 2048), (1, 2, 4, 8)),
        ((9, 5), (1, 2)),
        ((1, 1), (8,)),
    ],
    ids=str,
)
def test_photos_of_any_shape_are_restored(size, scales):
    photo = photo_of(picture(*size))
    deblurrer = deblurrer_of(guided("told"), scales=scales, size=512, overlap=96)
    result = run(deblurrer, photo, epsilon=0.1)
    assert result.photo.pixels.shape == (*size, 3)
    assert result.findings.size == size
    everything = deblurrer.restore(photo, everywhere(*size), Request())
    assert everything.blurred_share == pytest.approx(1)
    assert everything.changed or everything.tiles_kept  # what drifts in a line of pixels is kept


def near_tile_edges(height, width, size, overlap):
    """Pixels within two of an edge of a tile that lies inside the picture."""
    near = np.zeros((height, width), bool)
    grid = Grid(height, width, size, overlap)
    for span in grid.rows:
        for edge in {span.start, span.stop} - {0, height}:
            near[edge - 2 : edge + 2] = True
    for span in grid.columns:
        for edge in {span.start, span.stop} - {0, width}:
            near[:, edge - 2 : edge + 2] = True
    return near


def test_no_seam_is_visible():
    """Tiled and whole output differ no more at the edges of tiles than elsewhere, and without steps."""
    height, width = 500, 420
    noise = np.random.default_rng(0).integers(0, 40, (height, width, 3))
    photo = photo_of((picture(height, width) * 0.8 + noise).astype(np.uint8))
    network = detects(lively(), 0.9)
    whole, tiled = (
        run(deblurrer_of(network, scales=(1,), size=size, overlap=overlap), photo, keep_sharp=False)
        for size, overlap in ((512, 32), (192, 64))
    )
    assert whole.tiles == 1
    assert tiled.tiles > 6
    change = tiled.photo.pixels.astype(int) - whole.photo.pixels
    assert np.abs(whole.photo.pixels.astype(int) - photo.pixels).mean() > 4 * np.abs(change).mean()
    near = near_tile_edges(height, width, 192, 64)
    assert np.abs(change)[near].max() <= np.abs(change)[~near].max()
    for axis in (0, 1):
        steps = np.abs(np.diff(change.mean(axis=2), axis=axis, prepend=0))
        assert steps[near].mean() <= 1.2 * steps[~near].mean()


@pytest.mark.parametrize("kind", [*RESTORERS, "alone", "windows alone"])
def test_bare_output_of_a_single_tile_is_the_networks_own(kind):
    if kind in RESTORERS:
        weights = guided(kind)
        network = weights.network
    else:
        network = weights = lively() if kind == "alone" else lively_lmd_vit()
    pixels = picture(128, 256)
    deblurrer = deblurrer_of(weights, scales=(1,))
    result = run(deblurrer, photo_of(pixels), keep_sharp=False)
    with torch.no_grad():
        output = accelerate(copy.deepcopy(network))(as_input(pixels)).image
    expected = output[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(expected - pixels).mean() > 0.5
    assert np.abs(result.photo.pixels - expected).max() <= 0.6  # rounding


def test_what_is_found_at_one_scale_is_the_networks_own():
    network = lively()
    pixels = picture(96, 80)
    deblurrer = deblurrer_of(network, scales=(1,))
    findings = deblurrer.detect(photo_of(pixels))
    with torch.no_grad():
        found = network.detect(as_input(pixels))
        own, start, end = (
            part[0, :, :12, :10].numpy() for part in (found.probability, found.start, found.end)
        )
    np.testing.assert_allclose(findings.probability, own[0], atol=1e-5)
    moved = 8 * (end - start)  # photo pixels, not the network's
    moved *= np.where(moved[1] < 0, -1, 1)
    np.testing.assert_allclose(findings.end - findings.start, moved, rtol=1e-3, atol=0.05)
    regions, bare = (
        deblurrer.restore(photo_of(pixels), findings, Request(keep_sharp=keep)).findings.probability
        for keep in (True, False)
    )
    np.testing.assert_array_equal(regions, region_confidence(findings.probability, 0.5))
    np.testing.assert_array_equal(bare, findings.probability)


@pytest.mark.parametrize(
    ("size", "dtype", "channels"),
    [((192, 256), np.uint8, 3), ((191, 255), np.uint16, 3), ((191, 255), np.uint8, 1)],
)
def test_restoring_at_half_the_size_is_enlarging_what_changes_there(size, dtype, channels):
    """The plain way: halve, restore, subtract, enlarge, add."""
    network, full = lively("nafnet"), np.iinfo(dtype).max
    photo = photo_of(picture(*size, channels, dtype=dtype))
    deblurrer = deblurrer_of(network, scales=(2,))
    result = deblurrer.restore(photo, deblurrer.detect(photo), Request(keep_sharp=False))
    small = halved(photo.pixels).repeat(3 // channels, axis=2)
    with torch.no_grad():
        change = network(as_input(small)).image.clamp(0, 1) - as_input(small)
    change = F.interpolate(change, scale_factor=2, mode="bicubic")[..., : size[0], : size[1]]
    change = change[0].permute(1, 2, 0).numpy()
    change = change.mean(2, keepdims=True) if channels == 1 else change
    expected = (photo.pixels + change * full).clip(0, full)
    assert np.abs(change).mean() > 0.02
    np.testing.assert_allclose(result.photo.pixels, expected, atol=0.5 + 1e-4 * full / 255 * 8)


def test_between_two_scales_both_count_by_their_shares():
    photo, network = photo_of(picture(256, 256)), lively("nafnet")
    changes = {}
    for scale in (1.0, 2.0, 2**0.25):
        result = deblurrer_of(network).restore(
            photo, everywhere(256, 256, scale=scale), Request(keep_sharp=False)
        )
        changes[scale] = result.photo.pixels.astype(int) - photo.pixels
    inner = (photo.pixels > 60) & (photo.pixels < 195)  # not clipped
    fine, coarse, mixed = (changes[scale][inner] for scale in (1.0, 2.0, 2**0.25))
    assert np.abs(fine - coarse).mean() > 2
    assert np.abs(mixed - (0.75 * fine + 0.25 * coarse)).mean() < 0.6  # rounding


def test_networks_that_find_nothing_restore_everything():
    deblurrer = deblurrer_of(lively("nafnet"))
    result = run(deblurrer, photo_of(picture(100, 90)))
    assert result.blurred_share == pytest.approx(1)
    assert result.changed
    assert result.tiles == 1


@pytest.mark.parametrize("kind", RESTORERS)
def test_a_mask_that_covers_everything_restores_everything(kind):
    photo = photo_of(picture(200, 136))
    result = deblurrer_of(guided(kind)).restore(photo, everywhere(200, 136), Request())
    assert result.blurred_share == result.scale_shares[1] == pytest.approx(1)
    assert (result.photo.pixels != photo.pixels).any(axis=2).mean() > 0.9


def test_findings_of_another_photo_are_refused():
    with pytest.raises(DecodeError, match="of 80 x 120 pixels, but this one has 120 x 80"):
        deblurrer_of(lively("nafnet")).restore(photo_of(picture(80, 120)), everywhere(120, 80), Request())


def test_a_higher_epsilon_marks_less():
    photo = photo_of(picture(160, 160))
    deblurrer = deblurrer_of(lively())
    findings = deblurrer.detect(photo)
    results = [deblurrer.restore(photo, findings, Request(epsilon)) for epsilon in (0, 0.5, 1)]
    shares = [result.blurred_share for result in results]
    assert shares[0] > shares[1] > shares[2] == 0
    scales = deblurrer.scales_for(160, 160)
    forecasts = [untouched(photo, findings, Request(epsilon), scales) for epsilon in (0, 0.5, 1)]
    assert [forecast.blurred_share for forecast in forecasts] == shares
    for forecast, result in zip(forecasts, results, strict=True):
        assert forecast.photo is photo and not forecast.changed
        assert forecast.scale_shares == pytest.approx(result.scale_shares)


@pytest.mark.parametrize("epsilon", [-0.1, 1.5, float("nan")])
def test_epsilon_out_of_range_is_refused(epsilon):
    with pytest.raises(UsageError, match="must be between 0 and 1"):
        Request(epsilon)


@pytest.mark.parametrize("scales", [(), (3,), (1, 16), (0, 1)])
def test_scales_that_are_not_known_are_refused(scales):
    with pytest.raises(UsageError, match="one or more of 1, 2, 4, 8"):
        deblurrer_of(lively("nafnet"), scales=scales)


@pytest.mark.parametrize(("kind", "keep_sharp"), [("m2aenet", True), ("nafnet", False)])
def test_progress_knows_its_end_from_the_start(kind, keep_sharp):
    photo, seen = photo_of(picture(600, 700)), []
    deblurrer = deblurrer_of(guided(kind), size=192)
    findings = deblurrer.detect(photo, lambda *step: seen.append(step))
    expected = findings.tiles
    assert seen == [(number, expected, "detect") for number in range(1, expected + 1)]
    seen.clear()
    result = deblurrer.restore(photo, findings, Request(keep_sharp=keep_sharp), lambda *s: seen.append(s))
    expected = result.tiles_restored
    assert sum(share > 0 for share in result.scale_shares.values()) > 1
    assert seen == [(number, expected, "restore") for number in range(1, expected + 1)]


def test_progress_ends_at_the_total_where_memory_runs_out(monkeypatch):
    photo, seen, calls = photo_of(picture(400, 400)), [], []
    deblurrer = deblurrer_of(guided("told"), size=256)
    plain = Engine.restore_part

    def restore_part(self, network, image, *rest):
        calls.append(1)
        if max(image.shape[-2:]) > 128 and len(calls) > 2:
            raise MemoryError
        return plain(self, network, image, *rest)

    monkeypatch.setattr(Engine, "restore_part", restore_part)
    findings = everywhere(400, 400, scale=1.5)
    result = deblurrer.restore(photo, findings, Request(), lambda *step: seen.append(step))
    assert result.notes
    assert seen[-1][0] == seen[-1][1] == result.tiles_restored


def test_the_detector_sees_each_tile_once(monkeypatch):
    deblurrer = deblurrer_of(guided("m2aenet"), size=128)
    tiles, plain = [], Detector.detect
    monkeypatch.setattr(
        Detector, "detect", lambda self, *values: tiles.append(values) or plain(self, *values)
    )
    result = run(deblurrer, photo_of(picture(300, 300)))
    assert result.changed
    assert len(tiles) == result.tiles


def test_scales_at_which_a_photo_is_too_small_are_left_out():
    deblurrer = deblurrer_of(guided("told"))
    assert deblurrer.scales_for(511, 2000) == (1, 2, 4)
    assert deblurrer.scales_for(30, 30) == (1,)
    assert deblurrer.grids(1000, 700).keys() == {1, 2, 4, 8}


def test_everything_but_the_pixels_is_kept():
    alpha = picture(64, 64, 1)[..., 0]
    photo = photo_of(picture(64, 64), alpha=alpha, orientation=6, metadata=Metadata(dpi=(300.0, 300.0)))
    result = run(deblurrer_of(detects(lively(), 0.9)), photo)
    assert result.changed
    assert np.array_equal(result.photo.alpha, alpha)
    assert (result.photo.orientation, result.photo.metadata.dpi) == (6, (300.0, 300.0))


@pytest.mark.parametrize(("scale", "dtype"), [(1, np.uint8), (2, np.uint16)])
def test_inks_beyond_the_feathered_mask_stay_bit_identical(scale, dtype):
    inks = picture(160, 200, 4, dtype=dtype)
    photo = with_network_view(Photo(pixels=inks, source=Path("print.tif"), format="TIFF"))
    assert photo.is_cmyk and photo.pixels.shape[2] == 3
    result = deblurrer_of(guided("told")).restore(photo, findings_of(160, 200, scale=scale), Request())
    mask = (result.findings.probability > 0.5).astype(np.float32)
    weights = feather_weights(mask, slice(0, 160), slice(0, 200))
    differs = (result.photo.stored != inks).any(axis=2)
    assert not differs[weights == 0].any() and (weights == 0).any()
    assert differs[weights == 1].mean() > 0.3


@pytest.mark.parametrize(
    ("size", "marked"), [((64, 40000), 0.1), ((40000, 64), 1.0), ((1200, 1400), 0.1), ((1200, 1400), 1.0)]
)
def test_memory_is_bounded_by_the_tile(size, marked):
    """Beside the photo there are its copy, smaller versions and what changes in them, and a row of tiles."""
    photo = photo_of(np.zeros((*size, 3), np.uint8))
    findings = everywhere(*size, scale=1.5)
    for axis, cells in enumerate(findings.probability.shape):
        if marked < 1 and cells > 40:
            findings.probability.swapaxes(0, axis)[int(cells * marked) + 20 :] = 0
    deblurrer = deblurrer_of(create("nafnet", width=8, encoder=(1,), decoder=(1,)), size=256)
    sizes = []

    def restore_part(network, image, *rest):
        sizes.append(max(image.shape[-2:]))
        return image

    deblurrer.restorer.restore_part = restore_part
    tracemalloc.start()
    deblurrer.restore(photo, findings, Request())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(sizes) <= 256
    row = min(256, size[0]) * size[1]
    assert peak < 8 * size[0] * size[1] + 12 * 2 * row + 60 * 256 * 2048
