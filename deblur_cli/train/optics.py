"""Softness that is not motion: a lens or file that is soft everywhere, and what lies out of focus."""

import torch
import torch.nn.functional as F
from torch import Tensor

WIDE = 3  # standard deviations that a Gaussian's kernel reaches to either side
GAUSSIAN = 0.5  # standard deviation of the Gaussian that looks as soft as a disc of radius 1


def gaussian_blur(image: Tensor, deviation: Tensor, largest: float) -> Tensor:
    """Each picture of B C H W smoothed by a Gaussian of its own, the border replicated.

    deviation: B 1 1 1 in pixels, at most `largest`; zero keeps the picture.
    """
    count, channels, height, width = image.shape
    reach = max(1, round(WIDE * largest))
    place = torch.arange(-reach, reach + 1, device=image.device)
    kernel = torch.exp(-(place.square() / (2 * deviation.view(-1, 1).square().clamp(min=1e-4))))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None, None]
    planes = F.pad(image, (reach,) * 4, mode="replicate").reshape(1, count * channels, *padded(image, reach))
    across = F.conv2d(planes, kernel, groups=count * channels)
    down = F.conv2d(across, kernel.transpose(2, 3), groups=count * channels)
    return down.reshape(count, channels, height, width)


def padded(image: Tensor, reach: int) -> tuple[int, int]:
    """Height and width with a border of so many pixels."""
    return image.shape[-2] + 2 * reach, image.shape[-1] + 2 * reach


def out_of_focus(image: Tensor, radius: Tensor, round_lens: Tensor, largest: float) -> Tensor:
    """Each picture of B C H W as a lens out of focus shows it, the border mirrored.

    radius: B in pixels, at most `largest`, which is below H and W; round_lens: B, true for an even disc,
    false for a Gaussian as soft as it.
    """
    reach = min(round(largest) + 2, *(side - 1 for side in image.shape[-2:]))
    height, width = padded(image, reach)
    down, across = (torch.fft.fftfreq(side, 1 / side, device=image.device) for side in (height, width))
    distance = torch.hypot(down.view(-1, 1), across.view(1, -1))
    radius = radius.view(-1, 1, 1)
    disc = (radius + 0.5 - distance).clamp(0, 1)  # pixels on the edge count by how far they are inside
    bell = torch.exp(-(distance / (GAUSSIAN * radius)).square() / 2)
    kernel = torch.where(round_lens.view(-1, 1, 1), disc, bell)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    planes = F.pad(image, (reach,) * 4, mode="reflect")
    spectrum = torch.fft.rfft2(planes) * torch.fft.rfft2(kernel)[:, None]
    soft = torch.fft.irfft2(spectrum, s=(height, width))[..., reach:-reach, reach:-reach]
    return soft.clamp(min=0)  # of rounding in the transforms
