"""From light to file: highlights, lens, color mosaic, noise, tone, processing, and JPEG, as in cameras."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.nets.richardson_lucy import to_encoded
from deblur_cli.train.settings import CameraSettings

NEIGHBORHOOD = 1.2  # pixels, standard deviation of the weights of what denoising looks at
SMOOTHED = 0.03  # largest deviation of encoded values that denoising takes for noise
HALO = (0.7, 1.5)  # pixels, radius of the unsharp mask
HIGHLIGHT = 0.7  # linear value from which a pixel of a finished photo may have been brighter
WIDE = 3  # standard deviations that a Gaussian's kernel reaches to either side
NARROWEST = 0.4  # of its height that the disc of a lens out of focus is narrower at most
FEWEST_BLADES, BLADES = 5, 4  # of an aperture, and how many numbers of them there are
BRIGHTEST_RIM = 1.5  # times the middle of the disc that its edge is brighter at most
GAUSSIAN = 0.5  # standard deviation of the Gaussian that looks as soft as a disc of radius 1
# Quantization tables of ITU-T T.81 (1992), Annex K, for quality 50
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


@dataclass(frozen=True)
class Lens:
    """How the lens of each of B pictures spreads a point that is out of focus; all fields are B.

    disc: true for a disc with an edge, false for a Gaussian as soft as it
    narrowness: width over height of the disc, which off the axis is cut from two sides
    angle: of that, in radians
    blades: sides of the aperture, zero where it is round
    rim: how much brighter than its middle the edge is
    """

    disc: Tensor
    narrowness: Tensor
    angle: Tensor
    blades: Tensor
    rim: Tensor

    @classmethod
    def drawn(cls, uniform: Tensor) -> "Lens":
        """Lenses from numbers in 0-1, 5 B: half of them discs, half of those round and even."""
        disc, narrow, angle, blades, rim = uniform
        return cls(
            disc < 0.5,
            1 - NARROWEST * (2 * narrow - 1).clamp(min=0),
            math.pi * angle,
            (FEWEST_BLADES + ((2 * blades - 1) * BLADES).floor()) * (blades >= 0.5),
            BRIGHTEST_RIM * (2 * rim - 1).clamp(min=0),
        )

    @classmethod
    def plain(cls, disc: Tensor) -> "Lens":
        """Round and even discs, or Gaussians."""
        nothing = torch.zeros(disc.shape, device=disc.device)
        return cls(disc, nothing + 1, nothing, nothing, nothing)

    def chosen(self, rows: Tensor) -> "Lens":
        """Those of some pictures."""
        return Lens(*(getattr(self, field.name)[rows] for field in fields(self)))

    def spread(self, down: Tensor, right: Tensor, radius: Tensor) -> Tensor:
        """The light at distances down H 1 and right 1 W from a point, its sum one: B H W; radius: B 1 1."""
        angle, narrowness, blades, rim, disc = (
            field.view(-1, 1, 1) for field in (self.angle, self.narrowness, self.blades, self.rim, self.disc)
        )
        across = (right * angle.cos() + down * angle.sin()) / narrowness
        along = down * angle.cos() - right * angle.sin()
        distance, sector = torch.hypot(across, along), 2 * math.pi / blades.clamp(min=1)
        off = (torch.atan2(along, across) % sector - sector / 2).cos() / (sector / 2).cos()
        to_edge = torch.where(blades > 0, distance * off, distance)
        edged = (radius + 0.5 - to_edge).clamp(0, 1)  # pixels on the edge count by how far they are inside
        edged = edged * (1 + rim * (to_edge / radius).square())
        bell = torch.exp(-(distance / (GAUSSIAN * radius)).square() / 2)
        light = torch.where(disc, edged, bell)
        return light / light.sum((1, 2), keepdim=True)


def out_of_focus(image: Tensor, radius: Tensor, lens: Lens, largest: float) -> Tensor:
    """Each picture of B C H W as a lens out of focus shows it, the border mirrored.

    radius: B in pixels, at most `largest`, which is below H and W
    """
    reach = min(round(largest) + 2, *(side - 1 for side in image.shape[-2:]))
    height, width = padded(image, reach)
    down, across = (torch.fft.fftfreq(side, 1 / side, device=image.device) for side in (height, width))
    kernel = lens.spread(down.view(-1, 1), across.view(1, -1), radius.view(-1, 1, 1))
    planes = F.pad(image, (reach,) * 4, mode="reflect")
    spectrum = torch.fft.rfft2(planes) * torch.fft.rfft2(kernel)[:, None]
    soft = torch.fft.irfft2(spectrum, s=(height, width))[..., reach:-reach, reach:-reach]
    return soft.clamp(min=0)  # of rounding in the transforms


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
    """What `through_mosaic` smooths on average over the places of the colors, without their pattern."""
    whole = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]], device=linear.device) / 16
    cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]], device=linear.device) / 8
    kernel = torch.stack([whole, cross, whole])[:, None]
    return F.conv2d(F.pad(linear, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def apply_tone(encoded: Tensor, gamma: Tensor, contrast: Tensor) -> Tensor:
    """A camera's own curve in 0-1: a power, then an S around mid-gray; gamma, contrast B 1 1 1."""
    curved = encoded.clamp(0, 1) ** gamma
    return torch.lerp(curved, curved * curved * (3 - 2 * curved), contrast)


def denoise(encoded: Tensor, noise: Tensor) -> Tensor:
    """Smooth where the contrast around a pixel is below a deviation `noise` (B 1 1 1), keep what is above.

    The local mean and variance decide (J.-S. Lee, "Digital Image Enhancement and Noise Filtering by Use of
    Local Statistics", 1980), so that noise stays along edges, as in the photos of phones.
    """
    around = noise.new_full((), NEIGHBORHOOD).expand_as(noise)
    mean, square = gaussian_blur(torch.cat([encoded, encoded.square()], 1), around, NEIGHBORHOOD).chunk(2, 1)
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
    radius, amount = HALO[0] + (HALO[1] - HALO[0]) * radius, settings.crispness * amount
    stored = where_chosen(
        stored, denoised < settings.denoising, lambda image, rows: denoise(image, SMOOTHED * noise[rows])
    )
    stored, truth = (
        where_chosen(
            image,
            sharpened < settings.sharpening,
            lambda image, rows: sharpen(image, radius[rows], amount[rows]),
        )
        for image in (stored, truth)
    )
    return stored, truth


def where_chosen(values: Tensor, which: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Values B ..., those chosen by B or B 1 1 1 changed. `change` takes these and their numbers."""
    rows = which.flatten().nonzero().flatten()
    return values.index_copy(0, rows, change(values[rows], rows)) if rows.numel() else values


def compress(image: Tensor, quality: Tensor) -> Tensor:
    """What a JPEG file of this quality keeps of a picture, with halved chroma (4:2:0).

    image: B 3 H W in 0-1, sides whole multiples of 16; quality: B, 1-100. Returns B 3 H W in 0-1.
    """
    to_ycbcr = torch.tensor(YCBCR, device=image.device)
    ycbcr = torch.einsum("ij,bjhw->bihw", to_ycbcr, image) * 255
    luma = quantize(ycbcr[:, :1] - 128, LUMINANCE, quality) + 128
    chroma = quantize(F.avg_pool2d(ycbcr[:, 1:], 2), CHROMINANCE, quality)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    restored = torch.einsum("ij,bjhw->bihw", to_ycbcr.inverse(), torch.cat([luma, chroma], 1))
    return (restored.round() / 255).clamp(0, 1)


def quantize(planes: Tensor, table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Quantize each 8x8 block of B C H W in the cosine domain."""
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
