"""Forward warping against cases worked out by hand, and its gradients against differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.train.splatting import splat


def still(height=1, width=4):
    return torch.zeros(1, 2, height, width, dtype=torch.float64)


def row(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def test_a_whole_pixel_moves_and_leaves_a_hole():
    displacement = still()
    displacement[:, 1] = 1.0
    moved, weight = splat(row(1, 2, 3, 4), displacement)
    assert moved.flatten().tolist() == [0, 1, 2, 3]  # the last one left the picture
    assert weight.flatten().tolist() == [0, 1, 1, 1]


def test_half_a_pixel_is_shared_between_two():
    displacement = still()
    displacement[0, 1, 0, 0] = 0.5
    moved, weight = splat(row(8, 2, 0, 0), displacement)
    assert weight.flatten().tolist() == [0.5, 1.5, 1, 1]
    assert moved.flatten().tolist() == pytest.approx([8, (8 * 0.5 + 2) / 1.5, 0, 0])


def test_rows_come_before_columns():
    displacement = torch.zeros(1, 2, 3, 3)
    displacement[0, 0, 0, 0] = 2.0
    moved, _ = splat(torch.eye(3)[None, None], displacement)
    assert moved[0, 0, 2, 0] == 0.5  # meets the zero that was there
    assert moved[0, 0, 0, 0] == 0


def test_where_pixels_meet_each_counts_by_the_exponential_of_its_importance():
    displacement = still(width=2)
    displacement[0, 1, 0, 0] = 1.0
    moved, _ = splat(row(5, 1), displacement, row(2, 0))
    share = math.e**2 / (math.e**2 + 1)
    assert moved[0, 0, 0, 1].item() == pytest.approx(5 * share + 1 * (1 - share))


def test_huge_importance_stays_finite():
    moved, _ = splat(row(5, 1), still(width=2), row(2000, 1999))
    assert moved.flatten().tolist() == pytest.approx([5, 1])


@given(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_average_splatting_loses_no_light_inside(count, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(count, 3, height, width, dtype=torch.float64, generator=generator)
    displacement = torch.rand(count, 2, height, width, dtype=torch.float64, generator=generator)
    target = torch.nn.functional.pad(image, (2, 2, 2, 2))
    moved, weight = splat(target, torch.nn.functional.pad(displacement, (2, 2, 2, 2)))
    assert torch.allclose((moved * weight).sum((2, 3)), image.sum((2, 3)))


def test_gradients_are_those_of_differences():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    displacement = torch.rand(2, 2, 4, 5, dtype=torch.float64, generator=generator) * 0.8 + 0.1
    importance = torch.rand(2, 1, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    displacement.requires_grad_()
    assert torch.autograd.gradcheck(splat, (image, displacement, importance))
