import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import detects, lively, weights_of

from deblur_cli import restore, task
from deblur_cli.errors import OutOfMemoryError, UsageError
from deblur_cli.restoration.mask import overlay_weights
from deblur_cli.restoration.mask import settle
from deblur_cli.nets import create
from deblur_cli.photo.photo import Photo
from deblur_cli.restore import Deblurrer, Settings
from deblur_cli.runner import Runner
from deblur_cli.restoration.tiles import Grid


def photo_of(pixels):
    return Photo(pixels=pixels, source=Path("photo.png"), format="PNG")


def picture(height, width, channels=3, seed=0, dtype=np.uint8):
    """Smooth colours with a patch of fine texture."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, channels, 7, 9), dtype=np.float32))
    smooth = (
        torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].permute(1, 2, 0).numpy()
    )
    patch = (slice(height // 4, height // 2), slice(width // 3, width // 2))
    smooth[patch] = rng.random(smooth[patch].shape, dtype=np.float32)
    return (smooth * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="module")
def deblurrer():
    return Deblurrer(weights_of(lively()), "cpu", "fp32")


@given(
    st.integers(1, 150), st.integers(1, 150), st.sampled_from([1, 3]), st.sampled_from([np.uint8, np.uint16])
)
def test_a_photo_without_blur_comes_out_bit_identical(height, width, channels, dtype):
    photo = photo_of(picture(height, width, channels, dtype=dtype))
    result = Deblurrer(weights_of(detects(lively(), 0.2)), "cpu").run(photo, Settings(tile=128, overlap=32))
    assert np.array_equal(result.photo.pixels, photo.pixels)
    assert not result.changed
    assert result.tiles_restored == 0
    assert result.blurred_share == 0


@given(st.integers(150, 400), st.integers(150, 400), st.sampled_from([1, 3]))
@settings(max_examples=8)
def test_pixels_beyond_the_feathered_mask_stay_bit_identical(deblurrer, height, width, channels):
    photo = photo_of(picture(height, width, channels))
    result = deblurrer.run(photo, Settings(epsilon=0.9, tile=128, overlap=32))
    mask = (result.maps.probability > 0.9).astype(np.float32)
    weights = overlay_weights(mask, slice(0, height), slice(0, width))
    differs = (result.photo.pixels != photo.pixels).any(axis=2)
    assert not (differs & (weights == 0)).any()
    if mask.any():
        assert differs[weights == 1].mean() > 0.3


def test_overlay_is_one_around_the_mask_and_zero_twelve_pixels_away():
    mask = np.zeros((9, 9), np.float32)
    mask[4, 4] = 1  # pixels 32 to 39
    weights = overlay_weights(mask, slice(0, 72), slice(0, 72))
    assert (weights[28:44, 28:44] == 1).all()
    assert not weights[:20].any()
    assert not weights[:, 52:].any()
    assert np.abs(np.diff(weights, axis=1)).max() <= 1 / 8  # no visible edge


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40))
def test_overlay_of_a_window_is_the_window_of_the_overlay(top, left, height, width):
    mask = (np.random.default_rng(0).random((13, 13)) > 0.8).astype(np.float32)
    whole = overlay_weights(mask, slice(0, 104), slice(0, 104))
    window = overlay_weights(mask, slice(top, top + height), slice(left, left + width))
    np.testing.assert_allclose(window, whole[top : top + height, left : left + width], atol=1e-6)


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
    pixels = (picture(height, width) * 0.8 + noise).astype(np.uint8)
    deblurrer = Deblurrer(weights_of(detects(lively(), 0.9)), "cpu", "fp32")
    whole = deblurrer.run(photo_of(pixels), Settings(tile=512, overlap=32, keep_sharp=False))
    tiled = deblurrer.run(photo_of(pixels), Settings(tile=192, overlap=64, keep_sharp=False))
    assert whole.tiles == 1
    assert tiled.tiles > 6
    change = tiled.photo.pixels.astype(int) - whole.photo.pixels
    near = near_tile_edges(height, width, 192, 64)
    assert np.abs(change)[near].max() <= np.abs(change)[~near].max()
    for axis in (0, 1):
        steps = np.abs(np.diff(change.mean(axis=2), axis=axis, prepend=0))
        assert steps[near].mean() <= 1.2 * steps[~near].mean()


def test_bare_output_of_a_single_tile_is_the_networks_own():
    network = detects(lively(), 0.9)
    pixels = picture(96, 80)
    result = Deblurrer(weights_of(network), "cpu", "fp32").run(photo_of(pixels), Settings(keep_sharp=False))
    image = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = network(image).image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(result.photo.pixels - expected).max() <= 0.51


def test_bare_output_follows_the_networks_own_mask():
    network = lively()
    pixels = picture(96, 80)
    deblurrer = Deblurrer(weights_of(network), "cpu", "fp32")
    bare = deblurrer.run(photo_of(pixels), Settings(keep_sharp=False))
    image = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        own = network.detect(image).probability[0, 0, :12, :10].numpy()
    np.testing.assert_allclose(bare.maps.probability, own, atol=1e-5)
    laid_over = deblurrer.run(photo_of(pixels), Settings())
    np.testing.assert_allclose(laid_over.maps.probability, settle(own, 0.5), atol=1e-5)


def test_higher_epsilon_marks_less():
    photo = photo_of(picture(160, 160))
    deblurrer = Deblurrer(weights_of(lively()), "cpu")
    shares = [deblurrer.run(photo, Settings(epsilon=epsilon)).blurred_share for epsilon in (0, 0.5, 1)]
    assert shares[0] > shares[1] > shares[2] == 0


def test_maps_are_in_photo_pixels():
    network = lively()
    result = Deblurrer(weights_of(network), "cpu", "fp32").run(photo_of(picture(70, 50)), Settings())
    assert result.maps.probability.shape == (9, 7)
    with torch.no_grad():
        image = torch.from_numpy(picture(70, 50).astype(np.float32) / 255).permute(2, 0, 1)[None]
        start = network.detect(image).start[0, :, :9, :7].numpy()
    np.testing.assert_allclose(result.maps.start, start * 8, rtol=1e-3, atol=1e-3)


def test_nafnet_restores_everything():
    result = Deblurrer(weights_of(lively("nafnet")), "cpu").run(photo_of(picture(100, 90)), Settings())
    assert result.blurred_share == pytest.approx(1)
    assert result.changed


class OutOfMemoryAbove:
    """Stands for a network on a device whose memory holds tiles up to a size."""

    def __init__(self, network, largest, error):
        self.network, self.largest, self.error = network, largest, error

    def detect(self, image, epsilon):
        if image.shape[-1] > self.largest:
            raise self.error
        return self.network.detect(image, epsilon)

    def __getattr__(self, name):
        return getattr(self.network, name)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: not enough memory")],
    ids=["python", "cuda", "cpu"],
)
def test_out_of_memory_halves_the_tile(error):
    photo = photo_of(picture(300, 300))
    deblurrer = Deblurrer(weights_of(lively()), "cpu", "fp32")
    expected = deblurrer.run(photo, Settings(tile=192, overlap=32))
    deblurrer.runner.network = OutOfMemoryAbove(deblurrer.runner.network, 200, error)
    result = deblurrer.run(photo, Settings(tile=384, overlap=32))
    assert result.tile_size == 192
    assert np.array_equal(result.photo.pixels, expected.photo.pixels)
    assert "192" in result.notes[0]


def test_out_of_memory_with_the_smallest_tile_says_so():
    deblurrer = Deblurrer(weights_of(lively()), "cpu")
    deblurrer.runner.network = OutOfMemoryAbove(deblurrer.runner.network, 0, MemoryError())
    with pytest.raises(OutOfMemoryError, match="close other programs"):
        deblurrer.run(photo_of(picture(300, 300)), Settings(tile=256))


def test_other_runtime_errors_are_not_mistaken_for_memory():
    deblurrer = Deblurrer(weights_of(lively()), "cpu")
    deblurrer.runner.network = OutOfMemoryAbove(deblurrer.runner.network, 0, RuntimeError("a real bug"))
    with pytest.raises(RuntimeError, match="a real bug"):
        deblurrer.run(photo_of(picture(64, 64)), Settings())


def spoil(network, value):
    """A network whose output is off by `value`."""
    with torch.no_grad():
        network.ending.bias += value
    return network


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.6])
def test_a_failed_tile_stays_as_it_was_and_is_reported(value):
    network = spoil(detects(lively(), 0.9), value)
    photo = photo_of(picture(100, 100))
    result = Deblurrer(weights_of(network), "cpu", "fp32").run(photo, Settings())
    assert np.array_equal(result.photo.pixels, photo.pixels)
    assert (result.tiles_restored, result.tiles_kept) == (0, 1)
    assert "stays as it was" in result.notes[0]


def test_a_tile_that_fails_in_low_precision_is_run_again_in_float32(caplog):
    network = detects(lively(), 0.9)
    photo = photo_of(picture(100, 100))
    expected = Deblurrer(weights_of(network), "cpu", "fp32").run(photo, Settings())
    deblurrer = Deblurrer(weights_of(network), "cpu", "bf16")
    spoil(deblurrer.runner.network, float("nan"))
    result = deblurrer.run(photo, Settings())
    assert result.tiles_kept == 0
    difference = np.abs(result.photo.pixels.astype(int) - expected.photo.pixels)
    assert difference.mean() < 2  # detection still ran in bfloat16
    assert "run again in fp32" in caplog.text


def test_bfloat16_is_close_to_float32():
    network = detects(lively(), 0.9)
    photo = photo_of(picture(100, 100))
    exact = Deblurrer(weights_of(network), "cpu", "fp32").run(photo, Settings())
    rough = Deblurrer(weights_of(network), "cpu", "bf16").run(photo, Settings())
    assert np.abs(exact.photo.pixels.astype(int) - rough.photo.pixels).mean() < 3


@pytest.mark.parametrize(
    "values",
    [
        {"epsilon": -0.1},
        {"epsilon": 1.5},
        {"epsilon": float("nan")},
        {"tile": 100},
        {"tile": 64},
        {"overlap": 20},
        {"overlap": 0},
        {"tile": 128, "overlap": 64},
    ],
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(UsageError, match=r"must be|too small"):
        Settings(**values)


def test_progress_counts_every_tile():
    seen = []
    photo = photo_of(picture(300, 300))
    Deblurrer(weights_of(detects(lively(), 0.9)), "cpu").run(
        photo, Settings(tile=192, overlap=32), lambda *step: seen.append(step)
    )
    assert seen == [(n, 4, "detect") for n in (1, 2, 3, 4)] + [(n, 4, "restore") for n in (1, 2, 3, 4)]


def test_tiles_agree_on_the_mask_of_the_photo():
    """Each tile is restored with the photo's maps, not with what it would find by itself."""
    seen = []
    deblurrer = Deblurrer(weights_of(lively()), "cpu", "fp32")
    original = Runner.attempt

    def spy(self, network, image, maps, epsilon, *rest):
        seen.append(maps)
        return original(self, network, image, maps, epsilon, *rest)

    deblurrer.runner.attempt = spy.__get__(deblurrer.runner)
    result = deblurrer.run(photo_of(picture(256, 256)), Settings(tile=160, overlap=32))
    first = seen[0][0, 0].numpy()
    rows, columns = first.shape
    assert rows < 32 and columns < 32  # a part of the photo
    np.testing.assert_array_equal(first, result.maps.probability[:rows, :columns])


def test_result_keeps_everything_but_the_pixels():
    photo = dataclasses.replace(photo_of(picture(64, 64)), alpha=picture(64, 64, 1)[..., 0], orientation=6)
    result = Deblurrer(weights_of(detects(lively(), 0.9)), "cpu").run(photo, Settings())
    assert result.changed
    assert np.array_equal(result.photo.alpha, photo.alpha)
    assert result.photo.orientation == 6


def test_features_are_kept_within_bounds_and_change_nothing(monkeypatch):
    photo = photo_of(picture(300, 300))
    deblurrer = Deblurrer(weights_of(lively()), "cpu", "fp32")
    choices = Settings(tile=128, overlap=32)
    detected = []
    plain = deblurrer.runner.network.detect
    monkeypatch.setattr(
        deblurrer.runner.network, "detect", lambda image, _: detected.append(plain(image)) or detected[-1]
    )
    kept = deblurrer.run(photo, choices)
    size = detected[0].bytes
    assert len(detected) == kept.tiles  # each once
    assert size == sum(part.nbytes for part in (detected[0].image, detected[0].features, *detected[0].skips))
    detected.clear()
    monkeypatch.setattr(task, "KEPT_BYTES", 2 * size)
    few = deblurrer.run(photo, choices)
    assert len(detected) == few.tiles + few.tiles_restored - 2
    assert np.array_equal(few.photo.pixels, kept.photo.pixels)


@pytest.mark.parametrize("switches", [{"mask": False}, {"motion": False}], ids=str)
def test_networks_without_mask_or_motion_restore_photos(switches):
    network = create("m2aenet", width=8, encoder=(1, 1, 1, 2), **switches).eval()
    if network.config.mask:
        detects(network, 0.9)
    with torch.no_grad():
        network.ending.weight.mul_(0.03)
        network.ending.bias.fill_(0.1)
    result = Deblurrer(weights_of(network), "cpu", "fp32").run(
        photo_of(picture(200, 300)), Settings(tile=128, overlap=32)
    )
    assert result.changed
    assert result.tiles_restored == result.tiles
    assert not result.maps.start.any() or network.config.motion


@pytest.mark.parametrize(("size", "tiles"), [((600, 400), 1), ((400, 1300), 1), ((800, 700), 4)])
def test_small_photos_are_one_tile_so_that_confidence_has_no_seam(monkeypatch, size, tiles):
    deblurrer = Deblurrer(weights_of(lively()), "cpu", "fp32")
    monkeypatch.setattr(restore, "CPU_BYTES", 2 * 512**2 * deblurrer.weights.network.bytes_per_pixel)
    monkeypatch.setattr(restore, "TILE_SIZES", (512, 256))
    result = deblurrer.run(photo_of(picture(*size)), Settings(restore=False))
    assert result.tiles == len(deblurrer.grid(*size, Settings())) == tiles


def test_small_photos_are_tiled_where_memory_is_short(monkeypatch):
    deblurrer = Deblurrer(weights_of(lively()), "cpu", "fp32")
    room = 300 * 400 * deblurrer.weights.network.bytes_per_pixel / restore.MEMORY_SHARE
    monkeypatch.setattr(restore, "free_memory", lambda device: room)
    assert len(deblurrer.grid(300, 400, Settings())) == 1
    assert len(deblurrer.grid(600, 400, Settings())) > 1
