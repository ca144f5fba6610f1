"""Softness that is not motion: as strong as asked, even in all directions, without a loss of light."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.train.optics import gaussian_blur, out_of_focus

SIZE = 33


def point(count=1, channels=1):
    image = torch.zeros(count, channels, SIZE, SIZE)
    image[..., SIZE // 2, SIZE // 2] = 1
    return image


def width(spread):
    """Standard deviation of a spot in pixels, down and across."""
    place = torch.arange(SIZE) - SIZE // 2
    return [float((spread.sum(axis) * place**2).sum().clamp(min=0).sqrt()) for axis in (1, 0)]


@settings(max_examples=8)
@given(deviation=st.floats(0.625, 2, width=32))
def test_a_gaussian_spreads_a_point_by_its_deviation(deviation):
    spot = gaussian_blur(point(), torch.full((1, 1, 1, 1), deviation), 2.0)[0, 0]
    assert width(spot) == pytest.approx([deviation] * 2, rel=0.03)
    assert spot.sum().item() == pytest.approx(1, abs=1e-5)


def test_pictures_are_smoothed_each_on_its_own_and_none_by_zero():
    image = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    soft = gaussian_blur(image, torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), 1.5)
    assert torch.allclose(soft[0], image[0], atol=1e-6)
    assert soft[1].std() < 0.7 * image[1].std()
    alone = gaussian_blur(image[1:], torch.ones(1, 1, 1, 1), 1.5)
    assert torch.allclose(soft[1:], alone, atol=1e-6)


@settings(max_examples=8)
@given(radius=st.floats(0.75, 8, width=32))
def test_out_of_focus_a_point_is_a_disc_or_as_soft_a_bell(radius):
    discs = torch.tensor([True, False])
    disc, bell = out_of_focus(point(2), torch.full((2,), radius), discs, 8.0)[:, 0]
    assert disc.sum().item() == pytest.approx(1, abs=1e-4) and bell.sum().item() == pytest.approx(1, abs=1e-4)
    if radius > 2:
        assert 1 / disc.max().item() == pytest.approx(math.pi * radius**2, rel=0.1)  # its area
        assert width(disc) == pytest.approx([radius / 2] * 2, rel=0.15)
        assert width(bell) == pytest.approx([radius / 2] * 2, rel=0.15)
        assert disc.max() < bell.max()


@pytest.mark.parametrize("value", [0.0, 0.3, 4.0])
def test_an_even_picture_is_in_focus_everywhere_up_to_the_border(value):
    even = torch.full((1, 4, 16, 32), value)
    assert torch.allclose(out_of_focus(even, torch.tensor([7.0]), torch.tensor([True]), 8.0), even, atol=1e-5)
    assert torch.allclose(gaussian_blur(even, torch.ones(1, 1, 1, 1), 1.0), even, atol=1e-5)
