"""Each term of the training loss against a case worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import lively

from deblur_cli.train.losses import (
    cell_displacement,
    cell_mask,
    dice_loss,
    keep_unmoved,
    mask_loss,
    motion_loss,
    psnr_loss,
    reblur_loss,
    reconstruction_loss,
    splat,
    total_variation,
    training_loss,
)
from deblur_cli.train.samples import Sample
from deblur_cli.train.settings import LossWeights

L1_ALONE = LossWeights(ssim=0, fft=0)


def test_l1_is_the_mean_distance():
    truth = torch.rand(2, 3, 16, 16) * 0.5
    assert reconstruction_loss(truth + 0.25, truth, L1_ALONE).item() == pytest.approx(0.25, abs=1e-6)


def test_equal_pictures_cost_nothing():
    truth = torch.rand(2, 3, 16, 16)
    assert reconstruction_loss(truth, truth, LossWeights()).item() == pytest.approx(0, abs=1e-6)


def test_ssim_term_of_two_constant_pictures_is_their_luminance_term_alone():
    dark, bright = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    luminance = (2 * 0.2 * 0.6 + 0.01**2) / (0.2**2 + 0.6**2 + 0.01**2)
    found = reconstruction_loss(dark, bright, LossWeights(ssim=2, fft=0)).item()
    assert found == pytest.approx(0.4 + 2 * (1 - luminance), abs=1e-4)


def test_fft_term_of_a_single_pixel_is_a_flat_spectrum():
    truth = torch.zeros(1, 3, 16, 16)
    image = truth.clone()
    image[:, :, 0, 0] = 0.8  # at the origin: every coefficient is real, 0.8 / 16
    l1 = 0.8 / 256
    expected = l1 + 0.5 * (0.8 / 16) / 2  # real parts all alike, imaginary parts zero
    assert reconstruction_loss(image, truth, LossWeights(ssim=0, fft=0.5)).item() == pytest.approx(expected)


def test_cross_entropy_of_two_pixels_where_channel_0_speaks_for_blurred():
    logits = torch.tensor([[[[2.0, 2.0]], [[0.0, 0.0]]]])  # both call it blurred with odds e^2 : 1
    mask = torch.tensor([[[[1.0, 0.0]]]])  # the first is
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert mask_loss(logits, mask).item() == pytest.approx((right + wrong) / 2)
    assert mask_loss(logits, torch.ones(1, 1, 1, 2)).item() == pytest.approx(right)


def test_dice_averages_the_overlap_over_pictures_in_which_something_moved():
    probability = torch.tensor([[1.0, 0.5, 0.0], [0.3, 0.3, 0.3]]).view(2, 1, 1, 3)
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).view(2, 1, 1, 3)
    assert dice_loss(probability, mask).item() == pytest.approx(1 - 2 * 1 / (1.5 + 2))
    assert dice_loss(mask, mask) == 0
    assert dice_loss(probability, torch.zeros_like(mask)) == 0


def test_psnr_term_is_bels_within_the_mask():
    sharp, mask = torch.full((2, 3, 16, 16), 0.5), torch.zeros(2, 1, 16, 16)
    mask[0, :, :4] = 1
    still = torch.zeros(2, 2, 16, 16)
    image = sharp.clone()
    image[0, :, :4] += 0.1  # 20 dB where it moved
    image[0, :, 8:] = 0.0  # off the mask
    image[1] = 1.0  # nothing moved here
    sample = Sample(sharp, sharp, mask, still, still)
    assert psnr_loss(image, sample).item() == pytest.approx(-2.0, abs=1e-3)
    assert psnr_loss(image, Sample(sharp, sharp, torch.zeros_like(mask), still, still)) == 0


def test_motion_reads_the_same_forwards_and_backwards():
    true_start, true_end, mask = torch.rand(2, 2, 4, 4), -torch.rand(2, 2, 4, 4), torch.ones(2, 1, 4, 4)
    start, end = torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4)
    assert motion_loss(true_start, true_end, true_start, true_end, mask) == 0
    assert motion_loss(true_end, true_start, true_start, true_end, mask) == 0
    forward = motion_loss(start, end, true_start, true_end, mask)
    assert forward == motion_loss(end, start, true_start, true_end, mask) > 0


def test_motion_counts_the_mask_alone_and_averages_over_it():
    start, end = torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 1, 3)
    true_start, true_end = torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 1, 3)
    true_start[0, :, 0, 0] = torch.tensor([1.0, -2.0])
    true_end[0, :, 0, 0] = torch.tensor([0.5, 0.0])
    true_end[0, :, 0, 2] = 100  # off the mask
    mask = torch.tensor([[[[1.0, 1.0, 0.0]]]])
    assert motion_loss(start, end, true_start, true_end, mask).item() == pytest.approx(3.5 / 2)
    assert motion_loss(start, end, true_start, true_end, torch.zeros_like(mask)) == 0


def test_total_variation_of_a_ramp_is_its_slopes():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    ramp = (2 * y - 3 * x).expand(2, 2, 5, 7)
    assert total_variation(ramp).item() == 5
    assert total_variation(torch.full((1, 2, 5, 7), 4.0)).item() == 0


def spread_over(rows):
    """Rows of cells as pictures: B 1 w -> B 3 8 8w."""
    return (
        torch.tensor(rows)
        .view(len(rows), 1, 1, -1)
        .repeat_interleave(8, 2)
        .repeat_interleave(8, 3)
        .expand(-1, 3, -1, -1)
    )


def test_a_bright_pixel_that_moves_one_place_reblurs_to_its_path():
    sharp = spread_over([[0.0, 0.0, 0.9, 0.0, 0.0]])
    start, end = torch.zeros(2, 1, 2, 1, 5)  # the bright one comes from the left and goes to the right
    start[0, 1, 0, 2], end[0, 1, 0, 2] = -1.0, 1.0
    # instants at -1, -0.75 ... 1 pixels share their light linearly; what it lands on does not move, so
    # its weight is 1 (zero motion) against exp(length) of the moving pixel
    light, seen = [0.0] * 5, [0] * 5
    for place in (-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1):
        for pixel, still in ((1, 1.0), (2, 0.0), (3, 1.0)):
            moving = max(0.0, 1 - abs(2 + place - pixel)) * math.exp(abs(place))
            light[pixel] += 0.9 * moving / (still + moving) if still + moving else 0.0
            seen[pixel] += still + moving > 0
    blurred = [total / max(count, 1) for total, count in zip(light, seen, strict=True)]
    assert reblur_loss(start, end, spread_over([blurred]), sharp).item() == pytest.approx(0, abs=1e-10)
    brighter = [blurred[0], blurred[1] + 0.1, *blurred[2:]]
    assert reblur_loss(start, end, spread_over([brighter]), sharp).item() == pytest.approx(0.01 / 5, rel=1e-4)


def test_reblur_of_a_still_picture_is_the_picture():
    sharp = torch.rand(2, 3, 16, 24)
    still = torch.zeros(2, 2, 2, 3)
    assert reblur_loss(still, still, sharp, sharp).item() == pytest.approx(0, abs=1e-10)


def test_a_cell_is_blurred_from_more_than_a_quarter_of_its_block():
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, :4, :4] = 1  # exactly a quarter of the first block
    mask[0, 0, 8:12, 8:12], mask[0, 0, 15, 15] = 1, 1  # one pixel more
    assert cell_mask(mask).tolist() == [[[[0, 0], [0, 1]]]]


def test_cell_displacement_averages_over_the_mask_in_cells():
    displacement, mask = torch.zeros(1, 2, 8, 16), torch.zeros(1, 1, 8, 16)
    mask[0, 0, :2, 0] = 1
    displacement[0, :, 0, 0] = torch.tensor([4.0, -16.0])
    displacement[0, :, 1, 0] = torch.tensor([12.0, 0.0])
    displacement[0, :, 5, 5] = 1000  # off the mask
    found = cell_displacement(displacement, mask)
    assert found[0, :, 0, 0].tolist() == pytest.approx([1.0, -1.0])
    assert found[0, :, 0, 1].tolist() == [0, 0]


def test_what_did_not_move_should_come_back_with_its_noise():
    blurred, sharp = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    mask, still = torch.zeros(1, 1, 16, 16), torch.zeros(1, 2, 16, 16)
    mask[..., :5, :] = 1
    wanted = keep_unmoved(Sample(blurred, sharp, mask, still, still))
    assert torch.equal(wanted[:, :, :5], sharp[:, :, :5])
    assert torch.equal(wanted[:, :, 5:], blurred[:, :, 5:])


def test_total_is_the_weighted_sum_of_the_terms_of_both_architectures():
    picture = torch.rand(1, 3, 32, 32)
    mask = (torch.rand(1, 1, 32, 32) > 0.5).float()
    start, end = torch.randn(1, 2, 32, 32) * mask, torch.randn(1, 2, 32, 32) * mask
    sample = Sample(picture, picture.flip(2), mask, start, end)
    factors = {"psnr": 0.5, "mask": 0.3, "dice": 0.4, "motion": 0.2, "smooth": 0.1, "reblur": 0.7}
    weights = LossWeights(**factors)
    factors["reconstruction"] = 1
    terms = training_loss(lively()(picture), sample, weights)
    assert set(terms) == {"total", *factors}
    assert terms["total"].item() == pytest.approx(sum(f * terms[name].item() for name, f in factors.items()))
    plain = training_loss(lively("nafnet")(picture), sample, weights)
    assert set(plain) == {"total", "reconstruction", "psnr"}
    assert "psnr" not in training_loss(lively()(picture), sample, LossWeights())
    assert "motion" not in training_loss(lively()(picture), replace(sample, measured=True), weights)


def test_where_cameras_took_both_pictures_the_sharp_one_is_the_truth_everywhere():
    sharp, blurred = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    still = torch.zeros(1, 2, 16, 16)
    sample = Sample(blurred, sharp, torch.zeros(1, 1, 16, 16), still, still, measured=True)
    assert torch.equal(keep_unmoved(sample), sharp)


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
