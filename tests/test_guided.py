"""A restorer behind a detector: exact under its mask, looked at once, in every kind of restorer."""

import numpy as np
import pytest
import torch
from networks import finds, guided_by, lively, lively_detector, lively_lmd_vit

from deblur_cli.feather import overlay_weights
from deblur_cli.nets import Guided, accelerate, cues
from deblur_cli.nets.detector import Detector
from deblur_cli.photo.photo import Photo
from deblur_cli.restore import Deblurrer, Settings
from deblur_cli.runner import Runner

TOLD = {"encoder": (1, 1, 2), "decoder": (1, 1, 1), "stem": 2, "guided": True}
RESTORERS = {
    "m2aenet": lambda: lively(pooling=64),
    "told": lambda: lively(pooling=64, **TOLD),
    "nafnet": lambda: lively("nafnet", pooling=64),
    "lmd_vit": lively_lmd_vit,
}


def photo_of(pixels):
    return Photo(pixels=pixels, source="photo", format="PNG")


def picture(height, width, channels=3, dtype=np.uint8):
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, np.iinfo(dtype).max, (-(-height // 6), -(-width // 6), channels), dtype)
    return np.ascontiguousarray(coarse.repeat(6, axis=0).repeat(6, axis=1)[:height, :width])


@pytest.mark.parametrize("kind", RESTORERS)
def test_pixels_beyond_the_detectors_mask_stay_bit_identical(kind):
    network = RESTORERS[kind]()
    deblurrer = Deblurrer(guided_by(lively_detector(pooling=48), network), "cpu", "fp32")
    photo = photo_of(picture(300, 260))
    result = deblurrer.run(photo, Settings(tile=160, overlap=32))
    mask = (result.maps.probability > 0.5).astype(np.float32)
    weights = overlay_weights(mask, slice(0, 300), slice(0, 260))
    differs = (result.photo.pixels != photo.pixels).any(axis=2)
    assert (weights == 0).mean() > 0.2 and (weights == 1).mean() > 0.2
    assert not (differs & (weights == 0)).any()
    assert differs[weights == 1].mean() > 0.9
    assert deblurrer.runner.traces and result.maps.start.any()


@pytest.mark.parametrize("kind", RESTORERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_sharp_photo_is_never_given_to_the_restorer(kind, dtype, monkeypatch):
    network = RESTORERS[kind]()
    deblurrer = Deblurrer(guided_by(finds(lively_detector(), 0.2), network), "cpu")
    monkeypatch.setattr(Guided, "restore", None)
    photo = photo_of(picture(90, 140, dtype=dtype))
    result = deblurrer.run(photo, Settings(tile=128, overlap=32))
    assert np.array_equal(result.photo.pixels, photo.pixels)
    assert (result.changed, result.tiles_restored, result.blurred_share) == (False, 0, 0)


def test_the_detector_sees_each_tile_once_and_nothing_is_kept(monkeypatch):
    deblurrer = Deblurrer(guided_by(lively_detector(), lively(pooling=64)), "cpu", "fp32")
    looked, kept, plain, run = [], [], Detector.detect, Runner.attempt
    monkeypatch.setattr(
        Detector, "detect", lambda self, *values: looked.append(values) or plain(self, *values)
    )
    monkeypatch.setattr(Runner, "attempt", lambda self, *values: kept.append(values[4]) or run(self, *values))
    result = deblurrer.run(photo_of(picture(300, 300)), Settings(tile=128, overlap=32))
    assert len(looked) == result.tiles
    assert kept == [None] * result.tiles_restored and result.tiles_restored > 1


@pytest.mark.parametrize("kind", RESTORERS)
def test_a_tile_is_restored_under_the_photos_maps(kind):
    """What the tool makes of a photo in one tile is what the network makes of it under the same maps."""
    network = Guided(lively_detector(), RESTORERS[kind]()).eval()
    deblurrer = Deblurrer(guided_by(network.detector, network.restorer), "cpu", "fp32")
    pixels = picture(96, 128)
    result = deblurrer.run(photo_of(pixels), Settings(keep_sharp=False))
    image = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = accelerate(network)(image).image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(expected - pixels).mean() > 0.5
    assert np.abs(result.photo.pixels - expected).mean() < 0.3


def test_tiles_agree_on_what_the_detector_found():
    seen = []
    detector = finds(lively_detector(pooling=48), 0.9)
    deblurrer = Deblurrer(guided_by(detector, lively(pooling=64)), "cpu", "fp32")
    original = Runner.attempt

    def spy(self, network, image, maps, *rest):
        seen.append(maps)
        return original(self, network, image, maps, *rest)

    deblurrer.runner.attempt = spy.__get__(deblurrer.runner)
    result = deblurrer.run(photo_of(picture(256, 256)), Settings(tile=160, overlap=32))
    assert len(seen) == result.tiles_restored == 4
    rows, columns = seen[0].shape[-2:]
    assert max(rows, columns) < 32  # a part of the photo
    np.testing.assert_array_equal(seen[0][0, 0], result.maps.probability[:rows, :columns])
    np.testing.assert_allclose(seen[0][0, 1:3] * 8, result.maps.start[:, :rows, :columns], rtol=1e-6)


@pytest.mark.parametrize("kind", RESTORERS)
def test_half_precision_leaves_the_cues_whole(kind, monkeypatch):
    deblurrer = Deblurrer(guided_by(finds(lively_detector(), 0.9), RESTORERS[kind]()), "cpu", "bf16")
    photo, seen, plain = photo_of(picture(96, 96)), [], cues.motion_cues
    monkeypatch.setattr(cues, "motion_cues", lambda image: seen.append(image) or plain(image))
    assert next(deblurrer.runner.network.detector.parameters()).dtype == torch.bfloat16
    result = deblurrer.run(photo, Settings())
    (image,) = seen
    exact = torch.from_numpy(photo.pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    assert torch.equal(image, exact)  # not rounded to the 8 bits that bfloat16 has
    assert result.changed and not result.tiles_kept


def test_a_network_that_is_told_restores_nothing_alone():
    network = lively(pooling=64, **TOLD)
    assert network.guided and not network.detects
    with pytest.raises(RuntimeError, match="follows"):
        network(torch.rand(1, 3, 64, 64))
