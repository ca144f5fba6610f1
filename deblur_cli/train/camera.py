"""From light to file: highlights, lens, colour mosaic, noise, tone and JPEG, as cameras treat a picture."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.nets.light import to_encoded
from deblur_cli.train.jpeg import compress

HIGHLIGHT = 0.7  # linear value from which a pixel of a finished photo may have been brighter


@dataclass(frozen=True)
class CameraSettings:
    """What each picture's camera is drawn from; shares are of pictures, 0-1.

    highlights: share with lamps and reflections up to `brightest` times white before clipping
    noise: largest standard deviation at mid-grey, as a share of white; mosaic: share that went through a
    colour filter array; softness: largest strength of a 3x3 smoothing; tone: largest change of the curve
    quality: of the JPEG, lowest and highest
    """

    highlights: float = 0.3
    brightest: float = 6.0
    noise: float = 0.012
    mosaic: float = 0.4
    softness: float = 0.5
    tone: float = 0.2
    quality: tuple[float, float] = (60.0, 98.0)


def draws(count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform numbers for each picture, `count` B 1 1 1, on the pictures' device."""
    shape = (count, len(like), 1, 1, 1)
    return torch.rand(shape, generator=generator, device=generator.device).to(like.device)


def brighten_highlights(linear: Tensor, settings: CameraSettings, generator: torch.Generator) -> Tensor:
    """Give what is nearly white the light that clipping took: B 3 H W, then above one in places."""
    fate, level = draws(2, linear, generator)
    excess = ((linear.mean(1, keepdim=True) - HIGHLIGHT) / (1 - HIGHLIGHT)).clamp(0, 1)
    gain = (settings.brightest - 1) * level * (fate < settings.highlights)
    return linear * (1 + gain * excess.square())


def soften(linear: Tensor, strength: Tensor) -> Tensor:
    """What lens and pixel area do: between nothing (0) and a 3x3 binomial filter (1); strength B 1 1 1."""
    binomial = torch.tensor([0.25, 0.5, 0.25], device=linear.device)
    kernel = torch.outer(binomial, binomial).expand(3, 1, 3, 3)
    smooth = F.conv2d(F.pad(linear, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    return torch.lerp(linear, smooth, strength)


def through_mosaic(linear: Tensor) -> Tensor:
    """Through a Bayer filter (RGGB) and bilinear demosaicing: B 3 H W -> the same."""
    height, width = linear.shape[-2:]
    red, blue = linear.new_zeros(height, width), linear.new_zeros(height, width)
    red[::2, ::2], blue[1::2, 1::2] = 1, 1
    seen = torch.stack([red, 1 - red - blue, blue])
    square = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]], device=linear.device)
    cross = square * (square > 0.25)  # around a green pixel the corners are green as well
    kernel = torch.stack([square, cross, square])[:, None]
    padded = F.pad(linear * seen, (1, 1, 1, 1))
    weight = F.pad(seen[None], (1, 1, 1, 1))
    return F.conv2d(padded, kernel, groups=3) / F.conv2d(weight, kernel, groups=3)


def apply_tone(encoded: Tensor, gamma: Tensor, contrast: Tensor) -> Tensor:
    """A camera's own curve in 0-1: a power, then an S around mid-grey; gamma, contrast B 1 1 1."""
    curved = encoded.clamp(0, 1) ** gamma
    return torch.lerp(curved, curved * curved * (3 - 2 * curved), contrast)


def record(
    blurred: Tensor, sharp: Tensor, settings: CameraSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What the camera stores of the blurred picture, and the truth through the same lens and curve.

    Both B 3 H W in linear light, highlights above one; returned encoded in 0-1. Only the blurred one gets
    noise (shot and read), mosaic and JPEG.
    """
    level, mosaic, soft, gamma, contrast, share = draws(6, blurred, generator)
    grain = torch.randn(blurred.shape, generator=generator, device=generator.device).to(blurred.device)
    blurred, sharp = (soften(image, settings.softness * soft) for image in (blurred, sharp))
    deviation = settings.noise * level * (0.3 + 1.5 * blurred.clamp(0, 1).sqrt())
    noisy = (blurred + deviation * grain).clamp(0, 1)
    noisy = torch.where(mosaic < settings.mosaic, through_mosaic(noisy), noisy)
    gamma, contrast = 1 + settings.tone * (2 * gamma - 1), settings.tone * contrast
    stored, truth = (apply_tone(to_encoded(image), gamma, contrast) for image in (noisy, sharp))
    low, high = settings.quality
    return compress(stored, low + (high - low) * share.view(-1)), truth
