"""Motion cues: they tell motion and its length, and are exact to their plain form."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.nets import motion_cues as cues
from deblur_cli.nets.network import CELL

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
    channels = [other.channels for other in cues.SCALES]
    found = cues.motion_cues(picture).split(channels, 1)[cues.SCALES.index(scale)][0]
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
        patched.setattr(cues, "STRIP", strip)
        found = cues.motion_cues(picture)
    assert found.shape == (count, cues.CHANNELS, rows, columns)
    torch.testing.assert_close(found, cues.cues_reference(picture), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("direction", [0, 3, 6, 9])
def test_along_the_motion_the_picture_is_least_like_itself_at_the_length_of_the_blur(direction):
    full = cues.SCALES[1]
    picture = smeared(6, math.pi * direction / cues.DIRECTIONS)
    along = alike(picture, full, direction)
    across = alike(picture, full, (direction + cues.DIRECTIONS // 2) % cues.DIRECTIONS)
    assert abs(full.radii[int(along.argmin())] - 6) <= 1  # shifts are by whole pixels
    assert along.min() < -0.25 and across[full.radii.index(6)] > -0.05


def test_a_flat_picture_has_cues_that_a_network_can_read():
    found = cues.motion_cues(torch.full((1, 3, 32, 32), 0.5))
    assert found.isfinite().all() and found.abs().max() <= cues.LARGEST


def test_no_gradient_runs_through_the_cues_and_half_precision_sees_the_same():
    picture = noise(32, 48).requires_grad_()
    assert not cues.motion_cues(picture).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        same = cues.motion_cues(picture)
    assert torch.equal(same, cues.motion_cues(picture))
