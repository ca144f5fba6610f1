"""Local motion blur as a camera makes it, from sharp photos.

Objects with a soft silhouette move over a sharp background along a quadratic trajectory (Eq. 4) while
they turn and grow a little; what the sensor gathers is the average over many instants in linear light.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.train.jpeg import compress
from deblur_cli.train.pool import cut_patches, draw
from deblur_cli.train.shapes import random_silhouette

MASK_COVERAGE = 0.1  # share of the exposure from which a pixel touched by a moving object counts as blurred
OPAQUE_COVERAGE = 0.95  # share from which a layer hides the motion behind it


@dataclass(frozen=True)
class BlurSettings:
    """What the synthesis draws from. Lengths are in pixels, from start to end of the exposure."""

    shortest: float = 4.0
    longest: float = 16.0
    objects: int = 2  # layers laid over the background, each of which may move, stand still or be absent
    still: float = 0.2  # share of layers that stand still, so that a pasted edge alone means nothing
    absent: float = 0.15
    spread: float = 1.0  # objects are those of pictures up to so many times as large as the patch
    shake: float = 0.06  # share of pictures in which the whole frame moves
    defocus: float = 0.25  # share of pictures with a region out of focus, which is not motion
    defocus_radius: float = 4.0  # largest, in pixels
    noise: float = 0.008  # largest standard deviation of the noise at mid-grey, as a share of white
    quality: tuple[float, float] = (70.0, 98.0)  # JPEG, lowest and highest


@dataclass(frozen=True)
class Sample:
    """A batch of blurred pictures and their truth.

    blurred, sharp: B 3 H W in 0-1, sRGB; sharp shows the middle of the exposure
    mask: B 1 H W of zeros and ones, ones where something moved
    start, end: B 2 H W, (dy, dx) in pixels from mid-exposure to start and end; zero off the mask
    """

    blurred: Tensor
    sharp: Tensor
    mask: Tensor
    start: Tensor
    end: Tensor


@dataclass(frozen=True)
class Motion:
    """Motion of a layer: displacement of its centre, turning and growth; each B ... for a batch.

    start, end, centre: B 2 as (y, x) in pixels; turn: B, radians from mid-exposure to the end; growth: B
    """

    start: Tensor
    end: Tensor
    centre: Tensor
    turn: Tensor
    growth: Tensor

    def shift(self, time: float) -> Tensor:
        """Displacement of the centre at time -1 (start) to 1 (end), B 2 (Eq. 4)."""
        return (self.start + self.end) / 2 * time**2 + (self.end - self.start) / 2 * time

    def linear(self, time: float) -> Tensor:
        """Turning and growth at that time as matrices B 2 2 over (y, x)."""
        angle, scale = self.turn * time, (self.growth * time).exp()
        cosine, sine = angle.cos() * scale, angle.sin() * scale
        return torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], 1)

    def displacement(self, height: int, width: int, time: float) -> Tensor:
        """Where each pixel of mid-exposure is at that time, relative to itself: B 2 H W."""
        offset = pixel_grid(height, width, self.start.device) - self.centre.view(-1, 2, 1, 1)
        moved = torch.einsum("bij,bjhw->bihw", self.linear(time), offset)
        return moved - offset + self.shift(time).view(-1, 2, 1, 1)

    def warp(self, layer: Tensor, time: float) -> Tensor:
        """The square layer B C S S as it stands at that time; its border is mirrored."""
        size = layer.shape[-1]
        inverse = self.linear(-time)  # turns and shrinks back: pixel of the picture -> place in the layer
        offset = self.centre - torch.einsum("bij,bj->bi", inverse, self.centre + self.shift(time))
        # pixels 0 .. S-1 -> the -1 .. 1 of grid_sample, where the outermost pixel's edge is 1
        offset = (inverse.sum(2) * (size - 1) + 2 * offset + 1) / size - 1
        affine = torch.cat([inverse.flip(1, 2), offset.flip(1).unsqueeze(2)], 2)  # (y, x) -> (x, y)
        grid = F.affine_grid(affine, list(layer.shape), align_corners=False)
        return F.grid_sample(layer, grid, padding_mode="reflection", align_corners=False)


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """(y, x) of every pixel, 2 H W."""
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")).float()


def random_motion(centre: Tensor, size: int, settings: BlurSettings, generator: torch.Generator) -> Motion:
    """Length log-uniform, any direction, a slight bend, and turning that moves no edge farther than that."""
    uniform = torch.rand(6, len(centre), generator=generator, device=generator.device).to(centre.device)
    length = settings.shortest * (settings.longest / settings.shortest) ** uniform[0]
    angle = 2 * math.pi * uniform[1]
    direction = torch.stack([angle.sin(), angle.cos()], 1)
    across = torch.stack([direction[:, 1], -direction[:, 0]], 1)
    half = direction * length.view(-1, 1) / 2
    bend = across * (length * (uniform[2] - 0.5) * 0.4).view(-1, 1)
    swing = length / size / settings.spread  # radians that move the edge of an object by about half its blur
    turn = swing * (uniform[3] - 0.5) * (uniform[4] < 0.5)
    return Motion(bend - half, bend + half, centre, turn, swing * (uniform[5] - 0.5) * 0.5)


def expose(layer: Tensor, motion: Motion, instants: int) -> Tensor:
    """Average of a layer B C H W over the exposure."""
    total = torch.zeros_like(layer)
    for index in range(instants):
        total += motion.warp(layer, 2 * index / (instants - 1) - 1)
    return total / instants


def to_linear(encoded: Tensor) -> Tensor:
    """Encoded sRGB values in 0-1 to linear light (IEC 61966-2-1)."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_encoded(linear: Tensor) -> Tensor:
    """Linear light to sRGB values, both in 0-1."""
    linear = linear.clamp(0, 1)
    return torch.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    )


@dataclass
class Scene:
    """A batch of pictures in linear light while layers are laid over them; the fields are those of Sample."""

    blurred: Tensor
    sharp: Tensor
    mask: Tensor
    start: Tensor
    end: Tensor

    @classmethod
    def still(cls, background: Tensor) -> "Scene":
        """Nothing but a background B 3 H W that does not move."""
        count, _, height, width = background.shape
        mask = background.new_zeros(count, 1, height, width)
        start, end = (background.new_zeros(count, 2, height, width) for _ in range(2))
        return cls(background.clone(), background, mask, start, end)

    def lay_over(self, layer: Tensor, motion: Motion, moving: Tensor, instants: int) -> None:
        """Lay a layer over the scene: B 4 H W, colour times coverage, then coverage.

        moving: B 1 1 1, one where the layer moves while the shutter is open, zero where it stands still.
        """
        height, width = layer.shape[-2:]
        exposed = torch.lerp(layer, expose(layer, motion, instants), moving)
        coverage = exposed[:, 3:]
        self.blurred = exposed[:, :3] + (1 - coverage) * self.blurred
        self.sharp = layer[:, :3] + (1 - layer[:, 3:]) * self.sharp
        touched = coverage > MASK_COVERAGE
        behind = self.mask * (1 - (coverage > OPAQUE_COVERAGE).float())  # motion that still shows through
        self.mask = torch.where(touched, torch.maximum(moving, behind), self.mask)
        start, end = (motion.displacement(height, width, time) * moving for time in (-1, 1))
        self.start = torch.where(touched, start, self.start) * self.mask
        self.end = torch.where(touched, end, self.end) * self.mask


def synthesise(
    photos: Sequence[Tensor], count: int, size: int, settings: BlurSettings, generator: torch.Generator
) -> Sample:
    """A batch of `count` pictures of size x size (a multiple of 16) from uint8 photos 3 H W.

    All randomness comes from the generator, so the same state gives the same pictures.
    """
    background = to_linear(cut_patches(photos, count, size, generator))
    background = defocus_region(background, settings, generator)
    scene = Scene.still(background)
    instants = 2 * math.ceil(settings.longest / 3) + 1  # at most 1.5 pixels apart
    for layer_number in range(settings.objects):
        silhouette, centre = random_silhouette(count, size, generator, settings.spread)
        texture = to_linear(cut_patches(photos, count, size, generator, tries=2))
        motion = random_motion(centre, size, settings, generator)
        fate = torch.rand(count, generator=generator, device=generator.device).view(-1, 1, 1, 1)
        fate = fate.to(background.device)
        present = (fate >= settings.absent).float()
        moving = (fate >= settings.absent + settings.still).float()
        if layer_number == 0:  # a shaken frame is a moving object as large as the picture
            shaken = (fate > 1 - settings.shake).float()
            silhouette = torch.maximum(silhouette, shaken)
            texture = torch.lerp(texture, scene.sharp, shaken)
        layer = torch.cat([texture * silhouette, silhouette], 1) * present
        scene.lay_over(layer, motion, moving, instants)
    blurred = record(scene.blurred, settings, generator)
    return Sample(blurred, to_encoded(scene.sharp), scene.mask, scene.start, scene.end)


def defocus_region(image: Tensor, settings: BlurSettings, generator: torch.Generator) -> Tensor:
    """Blur a region of some pictures as a lens out of focus does; the truth keeps it."""
    size = image.shape[-1]
    region, _ = random_silhouette(len(image), size, generator, settings.spread)
    fate = torch.rand(len(image), generator=generator, device=generator.device).to(image.device)
    chosen = fate < settings.defocus
    radius = max(1, round(draw(1, settings.defocus_radius, generator)))
    y, x = pixel_grid(2 * radius + 1, 2 * radius + 1, image.device) - radius
    disc = (y.square() + x.square() <= (radius + 0.3) ** 2).float()
    kernel = (disc / disc.sum()).expand(3, 1, -1, -1)
    soft = F.conv2d(F.pad(image, (radius,) * 4, mode="reflect"), kernel, groups=3)
    return torch.lerp(image, soft, region * chosen.view(-1, 1, 1, 1))


def record(linear: Tensor, settings: BlurSettings, generator: torch.Generator) -> Tensor:
    """What the camera stores: shot and read noise, sRGB, JPEG. B 3 H W linear -> encoded, both in 0-1."""
    device = generator.device
    level = torch.rand(len(linear), 1, 1, 1, generator=generator, device=device).to(linear.device)
    grain = torch.randn(linear.shape, generator=generator, device=device).to(linear.device)
    deviation = settings.noise * level * (0.3 + 1.5 * linear.clamp(0, 1).sqrt())
    low, high = settings.quality
    share = torch.rand(len(linear), generator=generator, device=device).to(linear.device)
    return compress(to_encoded(linear + deviation * grain), low + (high - low) * share)
