"""From light to file: highlights, lens, colour mosaic, noise, tone, processing and JPEG, as in cameras."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.nets.richardson_lucy import to_encoded
from deblur_cli.train.jpeg import compress
from deblur_cli.train.optics import gaussian_blur

NEIGHBOURHOOD = 1.2  # pixels, standard deviation of the weights of what denoising looks at
SMOOTHED = 0.03  # largest deviation of encoded values that denoising takes for noise
HALO = (0.7, 1.5)  # pixels, radius of the unsharp mask
HIGHLIGHT = 0.7  # linear value from which a pixel of a finished photo may have been brighter


@dataclass(frozen=True)
class CameraSettings:
    """What each picture's camera is drawn from; shares are of pictures, 0-1.

    highlights: share with lamps and reflections up to `brightest` times white before clipping
    noise: largest standard deviation at mid-grey, as a share of white; mosaic: share that went through a
    colour filter array; softness: largest standard deviation of lens and file, in pixels, smaller ones being
    more frequent; tone: largest change of the curve
    denoising: share whose noise is smoothed away where there is little detail
    sharpening: share made crisper by an unsharp mask, which leaves halos, of up to the amount `crispness`
    quality: of the JPEG, lowest and highest
    """

    highlights: float = 0.3
    brightest: float = 6.0
    noise: float = 0.012
    mosaic: float = 0.4
    softness: float = 1.3
    tone: float = 0.2
    denoising: float = 0.4
    sharpening: float = 0.4
    crispness: float = 1.2
    quality: tuple[float, float] = (50.0, 98.0)


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


def as_soft_as_mosaic(linear: Tensor) -> Tensor:
    """What `through_mosaic` smooths on average over the places of the colours, without their pattern."""
    whole = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]], device=linear.device) / 16
    cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]], device=linear.device) / 8
    kernel = torch.stack([whole, cross, whole])[:, None]
    return F.conv2d(F.pad(linear, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def apply_tone(encoded: Tensor, gamma: Tensor, contrast: Tensor) -> Tensor:
    """A camera's own curve in 0-1: a power, then an S around mid-grey; gamma, contrast B 1 1 1."""
    curved = encoded.clamp(0, 1) ** gamma
    return torch.lerp(curved, curved * curved * (3 - 2 * curved), contrast)


def denoise(encoded: Tensor, noise: Tensor) -> Tensor:
    """Smooth where the contrast around a pixel is below a deviation `noise` (B 1 1 1), keep what is above.

    The local mean and variance decide (J.-S. Lee, "Digital Image Enhancement and Noise Filtering by Use of
    Local Statistics", 1980), so that noise stays along edges, as in the photos of phones.
    """
    around = noise.new_full((), NEIGHBOURHOOD).expand_as(noise)
    mean, square = gaussian_blur(torch.cat([encoded, encoded.square()], 1), around, NEIGHBOURHOOD).chunk(2, 1)
    variance = (square - mean.square()).clamp(min=0).mean(1, keepdim=True)
    return torch.lerp(mean, encoded, variance / (variance + noise.square() + 1e-8))


def sharpen(encoded: Tensor, radius: Tensor, amount: Tensor) -> Tensor:
    """Unsharp mask on the luma of B 3 H W; radius (standard deviation, at most HALO) and amount: B 1 1 1."""
    luma = encoded.mean(1, keepdim=True)
    return (encoded + amount * (luma - gaussian_blur(luma, radius, HALO[1]))).clamp(0, 1)


def record(
    blurred: Tensor, sharp: Tensor, settings: CameraSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What the camera stores of the blurred picture, and the truth through the same lens and processing.

    Both B 3 H W in linear light, highlights above one; returned encoded in 0-1. Only the blurred one gets
    noise (shot and read), the mosaic's pattern, denoising and JPEG.
    """
    level, mosaic, soft, gamma, contrast, share = draws(6, blurred, generator)
    grain = torch.randn(blurred.shape, generator=generator, device=generator.device).to(blurred.device)
    deviation = settings.softness * soft.square()
    pair = torch.cat([blurred, sharp], 1)
    blurred, sharp = gaussian_blur(pair, deviation, settings.softness).chunk(2, 1)
    shot = settings.noise * level * (0.3 + 1.5 * blurred.clamp(0, 1).sqrt())
    noisy = (blurred + shot * grain).clamp(0, 1)
    through = mosaic < settings.mosaic
    noisy = torch.where(through, through_mosaic(noisy), noisy)
    sharp = torch.where(through, as_soft_as_mosaic(sharp.clamp(0, 1)), sharp)
    gamma, contrast = 1 + settings.tone * (2 * gamma - 1), settings.tone * contrast
    stored, truth = (apply_tone(to_encoded(image), gamma, contrast) for image in (noisy, sharp))
    stored, truth = process(stored, truth, settings, generator)
    low, high = settings.quality
    return compress(stored, low + (high - low) * share.view(-1)), truth


def process(
    stored: Tensor, truth: Tensor, settings: CameraSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Denoise the one and sharpen both, in the shares that the settings say."""
    denoised, noise, sharpened, radius, amount = draws(5, stored, generator)
    if (rows := chosen(denoised < settings.denoising)).numel():
        stored = stored.index_copy(0, rows, denoise(stored[rows], SMOOTHED * noise[rows]))
    if (rows := chosen(sharpened < settings.sharpening)).numel():
        radius = HALO[0] + (HALO[1] - HALO[0]) * radius[rows]
        amount = settings.crispness * amount[rows]
        stored, truth = (
            image.index_copy(0, rows, sharpen(image[rows], radius, amount)) for image in (stored, truth)
        )
    return stored, truth


def chosen(which: Tensor) -> Tensor:
    """Numbers of the pictures chosen by B 1 1 1."""
    return which.flatten().nonzero().flatten()
