"""What a GPU needs of detection and restoration, told without one: tensors on its device, and few waits."""

import numpy as np
import pytest
import torch
from networks import guided_by, lively, lively_detector
from restoration_helpers import RESTORERS, deblurrer_of, guided, photo_of, picture, run
from torch.profiler import ProfilerActivity, profile

from deblur_cli.nets import RichardsonLucy, RichardsonLucyConfig, motion, motion_cues

WAITS = {"aten::_local_scalar_dense", "aten::nonzero"}  # a number, or a size, that Python needs of the device


def undoing():
    """Blur that a detector finds, undone without a network."""
    return guided_by(lively_detector(pooling=48), RichardsonLucy(RichardsonLucyConfig()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [*RESTORERS, "richardson_lucy"])
def test_every_tensor_is_made_on_the_device_of_its_picture(kind, precision):
    """One that names no device would be on "meta" here, where others cannot be combined with it."""
    network = undoing() if kind == "richardson_lucy" else guided(kind)
    deblurrer, photo = deblurrer_of(network, precision, size=128), photo_of(picture(150, 200))
    expected = run(deblurrer, photo)
    with torch.device("meta"):
        result = run(deblurrer, photo)
    assert expected.changed
    assert np.array_equal(result.photo.pixels, expected.photo.pixels)


def test_a_network_that_detects_by_itself_makes_its_tensors_there_too():
    deblurrer, photo = deblurrer_of(lively(pooling=64), size=128), photo_of(picture(150, 200))
    with torch.device("meta"):
        assert run(deblurrer, photo, thorough=True).changed


def test_a_tensor_without_a_device_would_be_noticed(monkeypatch):
    start, end = torch.rand(2, 1, 2, 8, 8)
    monkeypatch.setattr(motion.torch, "linspace", lambda *words, device, dtype: torch.arange(9, dtype=dtype))
    assert motion.tap_positions(start, end).shape == (9, 1, 2, 8, 8)
    with torch.device("meta"), pytest.raises(RuntimeError, match="meta"):
        motion.tap_positions(start, end)


def test_a_gpu_works_out_the_cues_of_a_tile_at_once(monkeypatch):
    """A device other than the CPU; "meta" is one that computes nothing."""
    strips, plain = [], motion_cues.strip_sums

    def strip_sums(*words):
        strips.append(words)
        return plain(*words)

    monkeypatch.setattr(motion_cues, "strip_sums", strip_sums)
    for scale in motion_cues.SCALES:
        sums = motion_cues.sums_of(torch.empty(1, 1024, 1024, device="meta"), scale)
        motion_cues.write_cues(torch.empty(1, 128, 128, scale.channels, device="meta"), sums, scale)
    assert len(strips) == len(motion_cues.SCALES)


def waits(action):
    """How often Python waits for a number or a size."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as records:
        action()
    return sum(event.count for event in records.key_averages() if event.key in WAITS)


@pytest.mark.parametrize(("kind", "most"), [("m2aenet", 2), ("told", 3), ("nafnet", 0)])
def test_a_tile_hardly_waits_for_the_device(kind, most):
    """Looking at it never does; restoring asks which pixels are blurred, for blocks and to undo blur."""
    deblurrer, image = deblurrer_of(guided(kind)), torch.rand(1, 3, 128, 160)
    finder, restorer = deblurrer.detector, deblurrer.restorer
    assert waits(lambda: finder.detect_tile(finder.network, image)) == 0
    maps = torch.zeros(1, 6, 16, 20)
    maps[:, :2, 4:9, 3:12], maps[:, 4:, 4:9, 3:12] = 1, 5
    finished = waits(lambda: restorer.restore_part(restorer.network, image, maps, 0.5))
    assert finished <= 3 + most  # three are on the CPU: does anything move, is the result finite and near
