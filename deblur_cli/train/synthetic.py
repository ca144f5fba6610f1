"""Local motion blur as a camera makes it, from sharp photos.

Objects with a soft silhouette move over a sharp background along a quadratic trajectory (Eq. 4) while
they turn and grow a little; what the sensor gathers is the average over many instants in linear light.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.nets.light import to_linear
from deblur_cli.train.camera import CameraSettings, brighten_highlights, record
from deblur_cli.train.pool import cut_patches, draw
from deblur_cli.train.shapes import random_silhouette, segments
from deblur_cli.train.trajectory import Motion, expose, pixel_grid, random_motion, shutter

MASK_COVERAGE = 0.1  # share of the exposure from which a pixel touched by a moving object counts as blurred
TENSORS = ("blurred", "sharp", "mask", "start", "end")  # of a sample
TRIES = 3  # textures drawn for an object, of which that with most detail is taken
OPAQUE_COVERAGE = 0.95  # share from which a layer hides the motion behind it


@dataclass(frozen=True)
class BlurSettings:
    """What the synthesis draws from. Lengths are in pixels, from start to end of the exposure; shares in 0-1.

    objects: layers over the background, each of which moves, stands still (share `still`) or is absent
    segmented, joined: shares of layers cut along the outlines of their texture, or made of two shapes
    spread: objects are those of pictures up to so many times as large as the patch
    sharp, shake: shares of pictures in which nothing moves, or the whole frame
    defocus: share with a region out of focus (not motion), by at most `defocus_radius` pixels
    gaps: share in which the shutter is closed for a part of the exposure
    shrink, enlarge: how far photos are resampled, each 1 or more; enlarged ones look softer
    """

    shortest: float = 4.0
    longest: float = 16.0
    objects: int = 2
    still: float = 0.2
    absent: float = 0.15
    segmented: float = 0.25
    joined: float = 0.2
    spread: float = 1.0
    sharp: float = 0.0
    shake: float = 0.06
    defocus: float = 0.3
    defocus_radius: float = 8.0
    gaps: float = 0.1
    shrink: float = 2.0
    enlarge: float = 1.25
    camera: CameraSettings = field(default_factory=CameraSettings)


@dataclass(frozen=True)
class Sample:
    """A batch of blurred pictures and their truth.

    blurred, sharp: B 3 H W in 0-1, sRGB; sharp shows the middle of the exposure
    mask: B 1 H W of zeros and ones, ones where something moved
    start, end: B 2 H W, (dy, dx) in pixels from mid-exposure to start and end; zero off the mask
    measured: both pictures come from cameras, so that nobody knows the displacements
    """

    blurred: Tensor
    sharp: Tensor
    mask: Tensor
    start: Tensor
    end: Tensor
    measured: bool = False

    def to(self, device: str) -> "Sample":
        """The same on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in TENSORS})


def join(samples: Sequence[Sample]) -> Sample:
    """Batches of the same kind as a single one."""
    joined: dict[str, Any] = {
        name: torch.cat([getattr(sample, name) for sample in samples]) for name in TENSORS
    }
    return replace(samples[0], **joined)


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

    def lay_over(self, layer: Tensor, motion: Motion, moving: Tensor, weights: Tensor) -> None:
        """Lay a layer over the scene: B 4 H W, colour times coverage, then coverage.

        moving: B 1 1 1, one where the layer moves while the shutter is open, zero where it stands still;
        weights: B instants, how long the shutter is open at each instant.
        """
        height, width = layer.shape[-2:]
        exposed = torch.lerp(layer, expose(layer, motion, weights), moving)
        coverage = exposed[:, 3:]
        self.blurred = exposed[:, :3] + (1 - coverage) * self.blurred
        self.sharp = layer[:, :3] + (1 - layer[:, 3:]) * self.sharp
        touched = coverage > MASK_COVERAGE
        behind = self.mask * (1 - (coverage > OPAQUE_COVERAGE).float())  # motion that still shows through
        self.mask = torch.where(touched, torch.maximum(moving, behind), self.mask)
        start, end = (motion.displacement(height, width, time) for time in (-1, 1))
        moved = touched & (moving > 0)  # through the soft edge of a still layer the motion behind it shows
        self.start = torch.where(moved, start, self.start) * self.mask
        self.end = torch.where(moved, end, self.end) * self.mask


@dataclass(frozen=True)
class Fate:
    """What becomes of a layer, B 1 1 1 of zeros and ones each."""

    present: Tensor
    moving: Tensor
    shaken: Tensor


def synthesise(
    photos: Sequence[Tensor], count: int, size: int, settings: BlurSettings, generator: torch.Generator
) -> Sample:
    """A batch of `count` pictures of size x size (a multiple of 16) from uint8 photos 3 H W.

    All randomness comes from the generator, so the same state gives the same pictures.
    """
    background = to_linear(cut(photos, count, size, settings, generator))
    background = defocus_region(background, settings, generator)
    scene = Scene.still(brighten_highlights(background, settings.camera, generator))
    quiet = uniform(count, background, generator) < settings.sharp
    for number in range(settings.objects):
        silhouette, centre, texture = draw_object(photos, count, size, settings, generator)
        motion = random_motion(
            centre, size, (settings.shortest, settings.longest), settings.spread, generator
        )
        fate = draw_fate(count, number == 0, settings, background, generator)
        silhouette = torch.maximum(silhouette, fate.shaken)  # a shaken frame moves as a whole
        texture = torch.lerp(texture, scene.sharp, fate.shaken)
        layer = torch.cat([texture * silhouette, silhouette], 1) * fate.present
        weights = shutter(count, motion.instants(), settings.gaps, generator).to(layer.device)
        scene.lay_over(layer, motion, fate.moving * (~quiet), weights)
    blurred, sharp = record(scene.blurred, scene.sharp, settings.camera, generator)
    return Sample(blurred, sharp, scene.mask, scene.start, scene.end)


def cut(
    photos: Sequence[Tensor],
    count: int,
    size: int,
    settings: BlurSettings,
    generator: torch.Generator,
    tries: int = 1,
) -> Tensor:
    """Patches, count 3 size size, resampled as the settings say."""
    return cut_patches(photos, count, size, generator, tries, settings.shrink, settings.enlarge)


def uniform(count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """A number in 0-1 for each picture, B 1 1 1."""
    return torch.rand(count, 1, 1, 1, generator=generator, device=generator.device).to(like.device)


def draw_object(
    photos: Sequence[Tensor], count: int, size: int, settings: BlurSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Silhouettes B 1 H W, centres B 2 and textures B 3 H W in linear light."""
    silhouette, centre = random_silhouette(count, size, generator, settings.spread)
    second, _ = random_silhouette(count, size, generator, settings.spread)
    encoded = cut(photos, count, size, settings, generator, TRIES)
    kind = uniform(count, encoded, generator)
    joined, segmented = kind > 1 - settings.joined, kind < settings.segmented
    silhouette = torch.where(joined, torch.maximum(silhouette, second), silhouette)
    if segmented.any():
        silhouette = torch.where(segmented, segments(encoded, centre, generator), silhouette)
    texture = brighten_highlights(to_linear(encoded), settings.camera, generator)
    return silhouette, centre, texture


def draw_fate(
    count: int, first: bool, settings: BlurSettings, like: Tensor, generator: torch.Generator
) -> Fate:
    """Which layers are there, which move, and which of the first are a shaken frame."""
    fate = uniform(count, like, generator)
    shaken = (fate > 1 - settings.shake).float() if first else torch.zeros_like(fate)
    return Fate(
        present=(fate >= settings.absent).float(),
        moving=(fate >= settings.absent + settings.still).float(),
        shaken=shaken,
    )


def defocus_region(image: Tensor, settings: BlurSettings, generator: torch.Generator) -> Tensor:
    """Blur a region of some pictures as a lens out of focus does; the truth keeps it."""
    size = image.shape[-1]
    region, _ = random_silhouette(len(image), size, generator, settings.spread)
    chosen = uniform(len(image), image, generator) < settings.defocus
    radius = max(1, round(draw(1, settings.defocus_radius, generator)))
    y, x = pixel_grid(2 * radius + 1, 2 * radius + 1, image.device) - radius
    disc = (y.square() + x.square() <= (radius + 0.3) ** 2).float()
    kernel = (disc / disc.sum()).expand(3, 1, -1, -1)
    soft = F.conv2d(F.pad(image, (radius,) * 4, mode="reflect"), kernel, groups=3)
    return torch.lerp(image, soft, region * chosen)
