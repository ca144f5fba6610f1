"""Undoing blur along a known motion: against the plain way, against the truth, and where nothing is found."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import detection_of, seeded

from deblur_cli.metrics import weighted_psnr
from deblur_cli.nets import Detection
from deblur_cli.nets.richardson_lucy import (
    ONSET,
    RichardsonLucy,
    RichardsonLucyConfig,
    enlarge,
    noise_of,
    richardson_lucy,
    richardson_lucy_reference,
    steps_for,
    to_encoded,
    to_linear,
)


def picture(height, width, seed=0, batch=1):
    """Random stripes and blocks, which have edges for blur to take and bring back."""
    blocks = torch.rand(batch, 3, -(-height // 6), -(-width // 5), generator=seeded(seed))
    return blocks.repeat_interleave(6, 2).repeat_interleave(5, 3)[..., :height, :width].contiguous()


def findings(image, seed, reach=0.8):
    """Confidence from none to full, and motions in cells that differ from cell to cell, even in direction."""
    detection = detection_of(image, seed, reach=reach)
    return detection.probability.square(), detection.start, detection.end


def blurred_along(sharp, displacement, instants=33):
    """A picture moved as a whole along a line, in linear light; displacement: (dy, dx) to the end."""
    rows = torch.arange(sharp.shape[2]).float().view(-1, 1).expand(sharp.shape[2:])
    columns = torch.arange(sharp.shape[3]).float().expand(sharp.shape[2:])
    size, total = torch.tensor([sharp.shape[3], sharp.shape[2]]), 0
    for time in torch.linspace(-1, 1, instants).tolist():
        moved = torch.stack([columns - time * displacement[1], rows - time * displacement[0]], -1)
        grid = ((2 * moved + 1) / size - 1)[None]
        total = total + torch.nn.functional.grid_sample(
            to_linear(sharp), grid, padding_mode="reflection", align_corners=False
        )
    return to_encoded(total / instants)


@given(
    height=st.integers(9, 70),
    width=st.integers(9, 70),
    batch=st.sampled_from([1, 3]),
    reach=st.sampled_from([0.3, 1.5, 20.0]),
    memory=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_found_pixels_alone_come_out_as_the_plain_way_in_whole_pictures(height, width, batch, reach, memory):
    image = picture(height, width, seed=height, batch=batch)
    found = findings(image, seed=width, reach=reach)
    fast = richardson_lucy(image.to(memory_format=memory), *found)
    plain = richardson_lucy_reference(image, *found)
    torch.testing.assert_close(fast, plain, rtol=0, atol=5e-4)
    assert (fast - image).abs().max() > 0.02


def test_what_is_not_found_stays_bit_by_bit():
    image = picture(90, 75)
    probability, start, end = findings(image, seed=1)
    probability[..., :6, :] = ONSET
    probability[..., 6:, :] = 0.9
    restored = richardson_lucy(image, probability, start, end)
    changed = (restored != image).any(1, keepdim=True)
    assert changed.float().mean() > 0.3
    assert not changed[enlarge(probability, image) <= ONSET].any()
    assert torch.equal(richardson_lucy(image, probability * 0, start, end), image)


@pytest.mark.parametrize("displacement", [(0.0, 4.0), (3.0, -2.0), (-5.0, 0.0)])
def test_a_known_blur_is_largely_undone_even_where_time_runs_backwards(displacement):
    sharp = picture(96, 112)
    blurred = blurred_along(sharp, displacement)
    end = torch.tensor(displacement).view(1, 2, 1, 1).expand(1, 2, 12, 14) / 8
    backwards = torch.rand(1, 1, 12, 14, generator=seeded(3)) < 0.5
    first, last = torch.where(backwards, end, -end), torch.where(backwards, -end, end)
    found = torch.zeros(1, 1, 12, 14)
    found[..., 2:10, 2:12] = 1
    restored = richardson_lucy(blurred, found, first, last)
    inside = enlarge(found, sharp) == 1
    before, after = (weighted_psnr(image, sharp, inside.float()).item() for image in (blurred, restored))
    assert after > before + 1.5  # dB
    ordered = richardson_lucy(blurred, found, -end, end)
    torch.testing.assert_close(restored, ordered, rtol=0, atol=1e-4)


def test_it_works_in_float32_within_autocast_and_without_gradients():
    image = picture(40, 48)
    found = findings(image, seed=2)
    plain = richardson_lucy(image, *found)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert torch.equal(richardson_lucy(image, *found), plain)
    start = found[1].clone().requires_grad_()
    assert not richardson_lucy(image, found[0], start, found[2]).requires_grad
    half = richardson_lucy(image.bfloat16(), *(part.bfloat16() for part in found))
    assert half.dtype == torch.bfloat16
    assert (half.float() - plain).abs().mean() < 0.01


def test_a_motion_that_is_no_number_does_no_harm():
    image = picture(40, 48)
    probability, start, end = findings(image, seed=4)
    start[..., 2, 3] = float("nan")
    end[..., 4, 1] = float("inf")
    end[..., 0, 0] = 1e30
    assert richardson_lucy(image, probability, start, end).isfinite().all()


@pytest.mark.parametrize("steps", [0.4, 2.0, 3.7])
def test_a_part_of_a_step_is_taken_as_the_plain_way_takes_it(steps):
    image = picture(40, 56)
    found = findings(image, seed=5)
    restored = richardson_lucy(image, *found, steps)
    expected = richardson_lucy_reference(image, *found, steps)
    torch.testing.assert_close(restored, expected, rtol=0, atol=2e-3)
    assert not torch.equal(restored, richardson_lucy(image, *found, math.ceil(steps) + 1))


@given(st.floats(0, 0.1))
def test_noise_is_told_from_structure(sigma):
    sharp = picture(128, 160)
    image = blurred_along(sharp, (3.0, 5.0)) * 0.6 + 0.2
    noise = torch.randn(image.shape, generator=seeded(1)) * sigma
    assert noise_of(image + noise, torch.ones(1, 1, 16, 20)) == pytest.approx(sigma, rel=0.15, abs=0.006)


def test_the_restorer_undoes_what_the_mask_says_in_full_and_less_of_it_in_noise():
    sharp, displacement = picture(96, 112), (2.0, 3.0)
    blurred = blurred_along(sharp, displacement)
    end = torch.tensor(displacement).view(1, 2, 1, 1).expand(1, 2, 12, 14) / 8
    mask = torch.zeros(1, 1, 12, 14)
    mask[..., 2:10, 2:12] = 1
    network = RichardsonLucy(RichardsonLucyConfig())

    def restored(image):
        unsure = Detection(image, (96, 112), torch.full((1, 1, 12, 14), 0.05), -end, end)
        return network.restore(network.follow(image, unsure), mask=mask).image

    inside = (enlarge(mask, sharp) == 1).float()
    before, after = (weighted_psnr(one, sharp, inside).item() for one in (blurred, restored(blurred)))
    assert after > before + 2  # dB
    outside = enlarge(mask, sharp) == 0
    assert torch.equal(restored(blurred) * outside, blurred * outside)
    noisy = blurred + 0.05 * torch.randn(blurred.shape, generator=seeded(2))
    change, usual = ((restored(one) - one).abs().mean().item() for one in (noisy, blurred))
    assert change < usual * 1.1  # although noise alone would be sharpened as well
    assert steps_for(0.05) < steps_for(0) / 2


def test_where_the_motion_is_unknown_the_restorer_invents_none():
    image, network = picture(40, 48), RichardsonLucy(RichardsonLucyConfig())
    told = Detection(image, (40, 48), torch.ones(1, 1, 5, 6))
    assert torch.equal(network.restore(network.follow(image, told)).image, image)
