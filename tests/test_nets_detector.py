"""The detector: cues that tell motion, exact to their plain form, and findings that fit the picture."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import lively_detector
from torch import nn

from deblur_cli import weights
from deblur_cli.nets import create_detector, detector
from deblur_cli.nets.network import CELL
from deblur_cli.train.lessons import begin_from

BORDER = 6  # cells at which blur meets the border of the picture


def noise(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def smeared(length, angle, side=256):
    """Noise moved along a line of `length` pixels in a direction, 1 3 S S."""
    path = torch.linspace(-0.5, 0.5, 4 * length + 1) * length
    down, right = path * math.sin(angle), path * math.cos(angle)
    theta = torch.zeros(len(path), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    theta[:, 0, 2], theta[:, 1, 2] = 2 * right / side, 2 * down / side
    grid = F.affine_grid(theta, [len(path), 3, side, side], align_corners=False)
    picture = noise(side, side).expand(len(path), -1, -1, -1)
    return F.grid_sample(picture, grid, padding_mode="reflection", align_corners=False).mean(0, keepdim=True)


def alike(picture, scale, direction):
    """Mean autocorrelation at each radius of a scale in one of the directions, away from the border."""
    channels = [other.channels for other in detector.SCALES]
    found = detector.motion_cues(picture).split(channels, 1)[detector.SCALES.index(scale)][0]
    first = 1 + direction * (1 + len(scale.radii)) + 1
    inner = found[first : first + len(scale.radii), BORDER:-BORDER, BORDER:-BORDER]
    return inner.mean((1, 2))


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 2),
    st.sampled_from([1, 500, 1 << 17]),
    st.integers(0, 9),
)
@settings(max_examples=12, deadline=None)
def test_cues_are_those_of_the_plain_way_in_strips_of_any_height(rows, columns, count, strip, seed):
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(count, 3, rows * CELL, columns * CELL, generator=generator)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(detector, "STRIP", strip)
        found = detector.motion_cues(picture)
    assert found.shape == (count, detector.CHANNELS, rows, columns)
    torch.testing.assert_close(found, detector.cues_reference(picture), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixels_of_a_cell_are_channels_as_after_an_unshuffle(layout):
    picture = torch.rand(2, 3, 48, 80).contiguous(memory_format=layout)
    cells = detector.cells_as_channels(picture)
    assert torch.equal(cells, F.pixel_unshuffle(picture, CELL))
    assert cells.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("direction", [0, 3, 6, 9])
def test_along_the_motion_the_picture_is_least_like_itself_at_the_length_of_the_blur(direction):
    full = detector.SCALES[1]
    picture = smeared(6, math.pi * direction / detector.DIRECTIONS)
    along = alike(picture, full, direction)
    across = alike(picture, full, (direction + detector.DIRECTIONS // 2) % detector.DIRECTIONS)
    assert abs(full.radii[int(along.argmin())] - 6) <= 1  # shifts are by whole pixels
    assert along.min() < -0.25 and across[full.radii.index(6)] > -0.05


def test_a_flat_picture_has_cues_that_a_network_can_read():
    found = detector.motion_cues(torch.full((1, 3, 32, 32), 0.5))
    assert found.isfinite().all() and found.abs().max() <= detector.LARGEST


def test_no_gradient_runs_through_the_cues_and_half_precision_sees_the_same():
    picture = noise(32, 48).requires_grad_()
    assert not detector.motion_cues(picture).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        same = detector.motion_cues(picture)
    assert torch.equal(same, detector.motion_cues(picture))


@torch.no_grad()
def test_findings_of_any_size_cover_the_picture_and_move_to_the_right():
    found = lively_detector().detect(noise(40, 52))
    assert found.size == (40, 52)
    assert found.probability.shape == (1, 1, 8, 8)  # up to whole multiples of 32 pixels
    assert 0 <= found.probability.min() < found.probability.max() <= 1
    torch.testing.assert_close(found.logits.softmax(1)[:, :1], found.probability)
    assert (found.end - found.start)[:, 1].min() >= 0  # of the two senses always the same


def test_weights_of_a_detector_come_back_as_they_were(tmp_path):
    network = lively_detector(pooling=48)
    weights.save(tmp_path / "d.safetensors", network, {"epsilon": "0.3"}, half=False)
    loaded = weights.load(str(tmp_path / "d.safetensors"))
    assert loaded.architecture == "detector" and loaded.network.config == network.config
    picture = noise(48, 48)
    assert torch.equal(loaded.network.detect(picture).probability, network.detect(picture).probability)
    with pytest.raises(RuntimeError, match="restores nothing"):
        network.restore(network.detect(picture))


@torch.no_grad()
def test_a_detector_grows_by_layers_that_begin_as_nothing(tmp_path):
    known = lively_detector(context=2, wide=0, edges=0, pooling=48)
    weights.save(tmp_path / "d.safetensors", known, {}, half=False)
    grown = create_detector(width=8, before=1, context=4, after=1, wide=1, edges=4, pooling=48).eval()
    begin_from(str(tmp_path / "d.safetensors"), grown)
    picture = noise(64, 96)
    assert torch.equal(grown.detect(picture).probability, known.detect(picture).probability)
    for begun in (grown.edges[-1], grown.wide.up[0], grown.context[2].conv5):
        nn.init.normal_(begun.weight, std=0.3)
        nn.init.ones_(grown.context[2].gamma)
        assert not torch.equal(grown.detect(picture).probability, known.detect(picture).probability)
        nn.init.zeros_(begun.weight)
        nn.init.zeros_(grown.context[2].gamma)


def test_edges_are_seen_alike_in_faint_and_strong_pictures():
    picture = noise(64, 64)
    strong, faint = (
        detector.slopes(seen, detector.motion_cues(seen)) for seen in (picture, 0.5 + picture / 8)
    )
    assert torch.allclose(strong, faint, rtol=0.05, atol=0.05)
    assert strong.square().sum(1).mean().item() == pytest.approx(1, rel=0.1)
