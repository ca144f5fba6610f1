"""Textures that look like motion and are none: stripes, grids, fur and brushed metal, smooth gradients."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOCAL = 32  # pixels over which a pattern takes the color of what it lies on
KINDS = 5  # stripes, grid, lines, hatching, smooth


def patterned(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A share of the pictures B 3 H W in 0-1 with a directional pattern, or smoothed to their gradients.

    Stripes and grids (cloth, fences, windows), lines and hatching (fur, grass, brushed metal) go into any
    direction and bend a little. They keep the colors of the picture, half of them its detail too.
    """
    chosen = torch.rand(len(image), generator=generator, device=generator.device) < share
    rows = chosen.to(image.device).nonzero().flatten()
    if not len(rows):
        return image
    plain = image[rows]
    uniform = torch.rand(6, len(rows), 1, 1, 1, generator=generator, device=generator.device).to(image.device)
    kind = (uniform[0] * KINDS).floor()
    pattern = torch.where(kind < 2, stripes(plain, kind > 0, generator), lines(plain, kind == 3, generator))
    base = torch.where((uniform[1] < 0.5) & (kind < KINDS - 1), plain, local_color(plain))
    contrast = (0.1 + 0.5 * uniform[2]) * (kind < KINDS - 1)
    ink = 0.3 + uniform[3:].flatten(1).t().view(-1, 3, 1, 1)  # B 3 1 1, its color
    changed = image.clone()
    changed[rows] = (base + contrast * ink * pattern * (0.15 + base)).clamp(0, 1)
    return changed


def local_color(image: Tensor) -> Tensor:
    """The picture B 3 H W without detail."""
    rows, columns = (max(2, side // LOCAL) for side in image.shape[-2:])
    small = F.adaptive_avg_pool2d(image, (rows, columns))
    return F.interpolate(small, size=image.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def wavy(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coordinates along and across a direction of each picture's own, bent a little: B 1 H W in pixels."""
    count, _, height, width = image.shape
    draws = torch.rand(2, count, 1, 1, 1, generator=generator, device=generator.device).to(image.device)
    bends = torch.randn(count, 1, 4, 4, generator=generator, device=generator.device).to(image.device)
    bends = F.interpolate(bends, size=(height, width), mode="bicubic", align_corners=False)
    y = torch.arange(height, device=image.device, dtype=torch.float32).view(-1, 1)
    x = torch.arange(width, device=image.device, dtype=torch.float32).view(1, -1)
    cosine, sine = (math.pi * draws[0]).cos(), (math.pi * draws[0]).sin()
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return along, across + 12 * draws[1].square() * bends


def stripes(image: Tensor, crossed: Tensor, generator: torch.Generator) -> Tensor:
    """Stripes, or two sets across each other where `crossed` (B 1 1 1): B 1 H W in -1 to 1."""
    along, across = wavy(image, generator)
    shape = (4, len(image), 1, 1, 1)
    draws = torch.rand(shape, generator=generator, device=generator.device).to(image.device)
    period = 3 * 8 ** draws[0]
    edge = 0.5 + (period / 3) * draws[1]  # how steeply one color turns into the other
    first = torch.tanh(edge * (torch.sin(2 * math.pi * across / period) + draws[2] - 0.5))
    period = period * (1 + draws[3])
    second = torch.tanh(edge * (torch.sin(2 * math.pi * along / period) + draws[2] - 0.5))
    return torch.where(crossed, torch.maximum(first, second), first)


def lines(image: Tensor, hard: Tensor, generator: torch.Generator) -> Tensor:
    """Noise that is long in one direction and fine across it, with edges where `hard`: B 1 H W in -1 to 1.

    Its spectrum falls off smoothly along the lines, other than that of motion, which has zeros.
    """
    count, _, height, width = image.shape
    draws = torch.rand(2, count, 1, 1, generator=generator, device=generator.device).to(image.device)
    grain = torch.randn(count, height, width, generator=generator, device=generator.device).to(image.device)
    down = torch.fft.fftfreq(height, device=image.device).view(-1, 1)
    right = torch.fft.rfftfreq(width, device=image.device).view(1, -1)
    thickness = 0.5 * 4 ** draws[0]
    length = thickness * 12 * 8 ** draws[1]
    spectrum = torch.exp(-((2 * math.pi * thickness * right).square()) / 2)
    spectrum = spectrum / (1 + (2 * math.pi * length / 4 * down).square())
    noise = torch.fft.irfft2(torch.fft.rfft2(grain) * spectrum, s=(height, width))
    noise = noise / noise.std((1, 2), keepdim=True).clamp(min=1e-6)
    along, across = wavy(image, generator)
    grid = torch.cat([2 * across / width, 2 * along / height], 1).permute(0, 2, 3, 1)
    turned = F.grid_sample(noise[:, None], grid, padding_mode="reflection", align_corners=False)
    return torch.tanh(turned * torch.where(hard, 4.0, 0.7))
