"""Measures of quality against scikit-image and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deblur_cli.metrics import (
    endpoint_error,
    mask_iou,
    mask_precision,
    mask_recall,
    psnr,
    ssim,
    ssim_map,
    weighted_psnr,
    weighted_ssim,
)


def pair(size=(40, 56)):
    """A smooth picture and a noisy copy of it, 2 3 H W each."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: size[0], : size[1]] / 20
    truth = np.stack([0.5 + 0.4 * np.sin(y * k + x) for k in range(1, 7)]).reshape(2, 3, *size)
    return (truth + rng.normal(0, 0.05, truth.shape)).clip(0, 1), truth


def reference_ssim(image, truth):
    """The map of scikit-image, 3 H W."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return structural_similarity(truth, image, channel_axis=0, full=True, **options)[1]


def test_psnr_is_that_of_scikit_image():
    image, truth = pair()
    expected = [peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(image, truth, strict=True)]
    assert psnr(torch.tensor(image), torch.tensor(truth)).tolist() == pytest.approx(expected, abs=1e-9)


def test_ssim_is_that_of_scikit_image_wherever_a_whole_window_fits():
    image, truth = pair()
    found, means = (measure(torch.tensor(image), torch.tensor(truth)) for measure in (ssim_map, ssim))
    for number in range(2):
        inside = reference_ssim(image[number], truth[number])[:, 5:-5, 5:-5]
        assert np.abs(found[number].numpy() - inside).max() < 1e-9
        assert float(means[number]) == pytest.approx(inside.mean())


def test_weighted_ssim_averages_the_map_of_scikit_image_over_the_mask():
    image, truth = pair()
    mask = np.zeros((2, 1, 40, 56))
    mask[0, 0, 12:30, 20:50], mask[0, 0, :, :3] = 1, 1  # no whole window fits at the border: not counted
    found = weighted_ssim(torch.tensor(image), torch.tensor(truth), torch.tensor(mask))
    expected = reference_ssim(image[0], truth[0])[:, 12:30, 20:50].mean()
    assert found[0].item() == pytest.approx(expected, abs=1e-9)
    assert found[1].isnan()


def test_equal_pictures_have_no_error():
    image = torch.rand(1, 3, 16, 16)
    assert psnr(image, image).item() == math.inf
    assert ssim(image, image).item() == pytest.approx(1, abs=1e-6)


def test_weighted_psnr_counts_the_mask_alone():
    truth, mask = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    image = torch.full((2, 3, 4, 4), 0.9)  # far off, but outside the mask
    mask[0, 0, 1, 1], mask[0, 0, 2, 3] = 1, 1
    image[0, :, 1, 1] = 0.1
    image[0, :, 2, 3] = torch.tensor([0.3, 0.0, 0.0])
    # errors squared: 3 x 0.01 and 0.09 over two pixels of three channels
    expected = -10 * math.log10(0.12 / 6)
    found = weighted_psnr(image, truth, mask)
    assert found[0].item() == pytest.approx(expected, abs=1e-5)
    assert found[1].isnan()


def test_iou_by_counting_pixels():
    first, second = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    first[0, 0, 0, :3], second[0, 0, 0, 1:] = 1, 1  # two common pixels of four
    first[1, 0, 0, 0] = 1  # found where there is nothing
    assert mask_iou(first, second).tolist() == [0.5, 0.0, 1.0]


def test_precision_and_recall_by_counting_pixels():
    marked, true = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    marked[0, 0, 0, :], true[0, 0, :2, 0] = 1, 1  # one of four marked pixels is true, of two true ones one
    true[1, 0, 0, 0] = 1
    assert mask_precision(marked, true)[0] == 0.25
    assert mask_recall(marked, true).tolist() == [0.5, 0.0]
    assert mask_precision(marked, true)[1].isnan()


def test_endpoint_error_is_that_of_the_nearer_reading_within_the_mask():
    start, end = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    start[0, :, 0, 0], end[0, :, 0, 0] = torch.tensor([3.0, 4.0]), torch.tensor([-3.0, -4.0])
    mask = torch.zeros(1, 1, 2, 2)
    mask[0, 0, 0, :] = 1
    # backwards in time is as good: no error there; its neighbor should have moved by 5 pixels at either end
    true_start, true_end = -start, -end
    true_start[0, 0, 0, 1], true_end[0, 0, 0, 1] = 5, -5
    true_start[0, 0, 1, 1] = 100  # outside the mask
    assert endpoint_error(start, end, true_start, true_end, mask).tolist() == [2.5]
    assert endpoint_error(start, end, true_start, true_end, 0 * mask).isnan().all()
