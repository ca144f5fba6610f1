"""Measures of picture quality, as LMD-ViT's evaluation defines them.

Pictures are tensors B C H W in 0-1; results have one value for each picture, float64 for the ratios.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 11  # pixels, Wang et al. 2004
SSIM_SIGMA = 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, B."""
    return -10 * torch.log10((image - truth).double().square().mean((1, 2, 3)))


def weighted_psnr(image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """PSNR_w: the error is averaged over the mask B 1 H W alone, in dB; NaN for an empty mask."""
    weight = mask.double().expand_as(image)
    error = (weight * (image - truth).double().square()).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    return -10 * torch.log10(error)


def ssim_map(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each pixel's 11x11 Gaussian window: B C H-10 W-10 (Wang et al. 2004)."""
    channels = image.shape[1]
    place = torch.arange(SSIM_WINDOW, device=image.device, dtype=image.dtype) - SSIM_WINDOW // 2
    window = torch.exp(-place.square() / (2 * SSIM_SIGMA**2))
    window = (window / window.sum()).view(1, 1, -1, 1)
    stacked = torch.cat([image, truth, image * image, truth * truth, image * truth], 1)
    blurred = F.conv2d(stacked, window.expand(5 * channels, 1, -1, 1), groups=5 * channels)
    blurred = F.conv2d(blurred, window.transpose(2, 3).expand(5 * channels, 1, 1, -1), groups=5 * channels)
    mean, mean_truth, square, square_truth, product = blurred.chunk(5, 1)
    variance, variance_truth = square - mean**2, square_truth - mean_truth**2
    covariance = product - mean * mean_truth
    luminance = (2 * mean * mean_truth + SSIM_C1) / (mean**2 + mean_truth**2 + SSIM_C1)
    return luminance * (2 * covariance + SSIM_C2) / (variance + variance_truth + SSIM_C2)


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Mean structural similarity, B."""
    return ssim_map(image, truth).mean((1, 2, 3))


def weighted_ssim(image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """SSIM_w: `ssim_map` averaged over the mask B 1 H W where a whole window fits, B; NaN if empty."""
    weight = mask[..., SSIM_WINDOW // 2 : -(SSIM_WINDOW // 2), SSIM_WINDOW // 2 : -(SSIM_WINDOW // 2)]
    weight = weight.double().expand(-1, image.shape[1], -1, -1)
    return (ssim_map(image, truth) * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def mask_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of two 0/1 masks B 1 H W; 1 where both are empty."""
    predicted, truth = predicted > 0.5, truth > 0.5
    union = (predicted | truth).sum((1, 2, 3)).double()
    common = (predicted & truth).sum((1, 2, 3)).double()
    return torch.where(union > 0, common / union.clamp(min=1), torch.ones_like(union))


def mask_precision(predicted: Tensor, truth: Tensor) -> Tensor:
    """Share of a 0/1 mask B 1 H W that is true; NaN where nothing is marked."""
    predicted, truth = predicted > 0.5, truth > 0.5
    return (predicted & truth).sum((1, 2, 3)).double() / predicted.sum((1, 2, 3))


def mask_recall(predicted: Tensor, truth: Tensor) -> Tensor:
    """Share of the true mask B 1 H W that is marked; NaN where nothing is blurred."""
    return mask_precision(truth, predicted)


def endpoint_error(start: Tensor, end: Tensor, true_start: Tensor, true_end: Tensor, mask: Tensor) -> Tensor:
    """Mean distance of both ends of the trajectories B 2 H W over the mask B 1 H W, NaN if that is empty.

    A blurred picture looks the same forwards and backwards in time, so at each pixel the nearer of the
    two readings counts. In the unit of the displacements.
    """
    forward = (start - true_start).norm(dim=1) + (end - true_end).norm(dim=1)
    backward = (start - true_end).norm(dim=1) + (end - true_start).norm(dim=1)
    nearer = (torch.minimum(forward, backward) / 2 * mask[:, 0]).double()
    return nearer.sum((1, 2)) / mask.double().sum((1, 2, 3))
