"""JPEG's loss as tensor operations, on any device and for a whole batch at once."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Quantisation tables of ITU-T T.81 (1992), Annex K, for quality 50
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# ITU-R BT.601, full range, as JFIF uses it
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def compress(image: Tensor, quality: Tensor) -> Tensor:
    """What a JPEG file of this quality keeps of a picture, with halved chroma (4:2:0).

    image: B 3 H W in 0-1, sides whole multiples of 16; quality: B, 1-100. Returns B 3 H W in 0-1.
    """
    to_ycbcr = torch.tensor(YCBCR, device=image.device)
    ycbcr = torch.einsum("ij,bjhw->bihw", to_ycbcr, image) * 255
    luma = quantise(ycbcr[:, :1] - 128, LUMINANCE, quality) + 128
    chroma = quantise(F.avg_pool2d(ycbcr[:, 1:], 2), CHROMINANCE, quality)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    restored = torch.einsum("ij,bjhw->bihw", to_ycbcr.inverse(), torch.cat([luma, chroma], 1))
    return (restored.round() / 255).clamp(0, 1)


def quantise(planes: Tensor, table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Quantise each 8x8 block of B C H W in the cosine domain."""
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1, 1, 1, 1)
    steps = torch.tensor(table, device=planes.device, dtype=planes.dtype).view(1, 1, 1, 8, 1, 8)
    steps = ((steps * scale + 50) / 100).floor().clamp(1, 255)
    basis = cosine_basis(planes.device)
    batch, channels, height, width = planes.shape
    blocks = planes.reshape(batch, channels, height // 8, 8, width // 8, 8)
    spectrum = torch.einsum("ui,bcyixj,vj->bcyuxv", basis, blocks, basis)
    spectrum = (spectrum / steps).round() * steps
    return torch.einsum("ui,bcyuxv,vj->bcyixj", basis, spectrum, basis).reshape(planes.shape)


def cosine_basis(device: torch.device) -> Tensor:
    """Orthonormal 8-point DCT-II matrix: frequency by sample."""
    sample = torch.arange(8, device=device, dtype=torch.float32)
    basis = torch.cos(math.pi / 8 * (sample + 0.5) * sample.unsqueeze(1)) / 2
    basis[0] /= math.sqrt(2)
    return basis
