"""Motion blur as a camera makes it, from sharp photos.

Objects with a soft silhouette move over a background along a quadratic trajectory (Eq. 4) while they turn
and grow a little, the frame itself may move, and some of it is out of focus; what the sensor gathers is the
average over many instants in linear light.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.nets.richardson_lucy import to_linear
from deblur_cli.train.camera import Lens, brighten_highlights, out_of_focus, record, where_chosen
from deblur_cli.train.material import cut_patches, patterned, random_silhouette, recolored, segments
from deblur_cli.train.samples import Sample
from deblur_cli.train.settings import BlurSettings
from deblur_cli.train.trajectory import (
    Motion,
    expose,
    hand_shake,
    log_uniform,
    pixel_grid,
    random_motion,
    shutter,
)

MASK_COVERAGE = 0.1  # share of the exposure from which a pixel touched by a moving object counts as blurred
VISIBLE = 0.75  # pixels to start and end together from which motion is blur
HIDDEN = 0.5  # of the radius of defocus: shorter motion does not show in what is out of focus
MOST_MIXED = 0.8  # of a texture that may be another one
TRIES = 3  # textures drawn for an object, of which that with most detail is taken
OPAQUE_COVERAGE = 0.95  # share from which a layer hides the motion behind it
SLIGHTEST_DEFOCUS = 0.7  # pixels of radius
FOCUS_STEPS = 3  # radii between which a picture gradually goes out of focus
LAYER_DEFOCUS = 0.4  # layers are out of focus so many times as often as backgrounds


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

    def lay_over(self, layer: Tensor, motion: Motion, weights: Tensor, defocus: Tensor) -> None:
        """Lay a layer over the scene: B 4 H W, color times coverage, then coverage.

        weights: B instants, how long the shutter is open at each instant (`expose`); defocus: B 1 H W or
        B 1 1 1, the radius by which the layer is out of focus
        """
        height, width = layer.shape[-2:]
        exposed = expose(layer, motion, weights)
        coverage = exposed[:, 3:]
        self.blurred = exposed[:, :3] + (1 - coverage) * self.blurred
        self.sharp = layer[:, :3] + (1 - layer[:, 3:]) * self.sharp
        start, end = (motion.displacement(height, width, time) for time in (-1, 1))
        way = torch.hypot(*start.split(1, 1)) + torch.hypot(*end.split(1, 1))
        touched = coverage > MASK_COVERAGE
        seen = way > (HIDDEN * defocus).clamp(min=VISIBLE)
        moved = touched & seen  # through the soft edge of a still layer the motion behind it shows
        behind = self.mask * (1 - (coverage > OPAQUE_COVERAGE).float())  # motion that still shows through
        self.mask = torch.where(touched, torch.maximum(moved.float(), behind), self.mask)
        self.start = torch.where(moved, start, self.start) * self.mask
        self.end = torch.where(moved, end, self.end) * self.mask


@dataclass(frozen=True)
class Frame:
    """How whole pictures move: the background's motion, and who else does.

    background: its motion, none where the frame is still
    nearest: B, how many times as far as the background the layer in front moves
    quiet, panned: B, whether nothing moves at all, and whether the layer in front is followed by the camera
    """

    background: Motion
    nearest: Tensor
    quiet: Tensor
    panned: Tensor

    def carried(self, own: Motion, number: int, settings: BlurSettings) -> Motion:
        """The motion of layer `number` of the picture, which has one of its own."""
        depth = self.nearest ** ((number + 1) / settings.objects)
        motion = own.over(self.background.nearer(depth))
        followed = self.panned & (number + 1 == settings.objects)
        return motion.scaled((~followed & ~self.quiet).float())


def synthesize(
    photos: Sequence[Tensor], count: int, size: int, settings: BlurSettings, generator: torch.Generator
) -> Sample:
    """A batch of `count` pictures of size x size (a multiple of 16) from uint8 photos 3 H W.

    All randomness comes from the generator, so the same state gives the same pictures.
    """
    if settings.halved and torch.rand((), generator=generator, device=generator.device) < settings.halved:
        return halved(expose_scene(Draw(photos, count, 2 * size, twice_as_large(settings), generator)))
    return expose_scene(Draw(photos, count, size, settings, generator))


def twice_as_large(settings: BlurSettings) -> BlurSettings:
    """Settings for pictures that will be halved: blur is as long afterwards, and objects may be smaller."""
    lengths = {"shortest": 2 * settings.shortest, "longest": 2 * settings.longest}
    return settings.model_copy(update=lengths | {"smallest": settings.smallest / settings.spread})


def halved(sample: Sample) -> Sample:
    """The same pictures at half their size, as `restoration.scales.halved` makes them of photos."""
    share = F.avg_pool2d(sample.mask, 2)
    mask = (share >= 0.5).float()
    start, end = (F.avg_pool2d(part, 2) / (2 * share.clamp(min=0.5)) for part in (sample.start, sample.end))
    blurred, sharp = (F.avg_pool2d(part, 2) for part in (sample.blurred, sample.sharp))
    return Sample(blurred, sharp, mask, start * mask, end * mask)


def expose_scene(draw: "Draw") -> Sample:
    """What a camera makes of a scene while it moves."""
    settings = draw.settings
    frame = draw.frame()
    background, radius = draw.defocus_region(draw.lit(draw.patches()))
    scene = Scene.still(background)
    whole = torch.cat([background, torch.ones_like(background[:, :1])], 1)
    scene.lay_over(whole, frame.background, draw.shutter(frame.background), radius)
    for number in range(settings.objects):
        silhouette, center, texture = draw.object()
        fate = draw.uniform()
        present = (fate >= settings.absent) | (frame.panned & (number + 1 == settings.objects))
        own = draw.motion(center).scaled((fate >= settings.absent + settings.still).float())
        motion = frame.carried(own, number, settings)
        layer = torch.cat([texture * silhouette, silhouette], 1) * present.view(-1, 1, 1, 1)
        layer, radius = draw.defocus_layer(layer)
        scene.lay_over(layer, motion, draw.shutter(motion.scaled(present.float())), radius)
    blurred, sharp = record(scene.blurred, scene.sharp, settings.camera, draw.generator)
    return Sample(blurred, sharp, scene.mask, scene.start, scene.end)


def fixed_set(
    photos: Sequence[Tensor], count: int, size: int, settings: BlurSettings, seed: int
) -> Iterator[Sample]:
    """`count` pictures one by one, each of which holds motion; the same seed gives the same set.

    Synthesis starts each picture from its own seed, so that picture n is the same in a set of any size.
    """
    for number in range(count):
        yield fixed_sample(photos, number, size, settings, seed)


def fixed_sample(
    photos: Sequence[Tensor], number: int, size: int, settings: BlurSettings, seed: int
) -> Sample:
    """Picture `number` of such a set."""
    generator = torch.Generator(device=photos[0].device).manual_seed(seed * 1_000_003 + number)
    sample = synthesize(photos, 1, size, settings, generator)
    while not sample.mask.any():
        sample = synthesize(photos, 1, size, settings, generator)
    return sample


@dataclass(frozen=True)
class Draw:
    """Draws what `count` pictures of size x size show. Each call goes on from the generator's state."""

    photos: Sequence[Tensor]
    count: int
    size: int
    settings: BlurSettings
    generator: torch.Generator

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in 0-1 for each picture: shape, then B."""
        return torch.rand(*shape, self.count, generator=self.generator, device=self.generator.device)

    def patches(self, tries: int = 1) -> Tensor:
        """Patches of the photos, B 3 H W, resampled, mixed, recolored, and patterned as the settings say."""
        settings = self.settings
        shape = self.size, self.generator, tries, settings.shrink, settings.enlarge
        cut = cut_patches(self.photos, self.count, *shape)
        if settings.mixed:
            lot, share = self.uniform(2)

            def mix(some: Tensor, rows: Tensor) -> Tensor:
                others = cut_patches(self.photos, len(rows), *shape)
                return torch.lerp(some, others, MOST_MIXED * share[rows].view(-1, 1, 1, 1))

            cut = where_chosen(cut, lot < settings.mixed, mix)
        if settings.recolored:
            cut = recolored(cut, settings.recolored, self.generator)
        return patterned(cut, settings.patterns, self.generator)

    def lit(self, patches: Tensor) -> Tensor:
        """Encoded patches in linear light, lamps above one."""
        return brighten_highlights(to_linear(patches), self.settings.camera, self.generator)

    def motion(self, center: Tensor) -> Motion:
        """Motion of objects around centers B 2."""
        lengths = (self.settings.shortest, self.settings.longest)
        return random_motion(center, self.size, lengths, self.settings.spread, self.generator)

    def frame(self) -> Frame:
        """Which pictures are still, shaken, or panned, and how."""
        settings = self.settings
        quiet, shaken, panned, deep, nearest = (self.uniform() for _ in range(5))
        shaken = (shaken < settings.shake) & (quiet >= settings.sharp)
        panned = (panned < settings.panning) & ~shaken & (quiet >= settings.sharp)
        pan = self.motion(torch.full((self.count, 2), self.size / 2, device=self.generator.device))
        shake = hand_shake(self.count, self.size, (settings.shortest, settings.longest), self.generator)
        moving = pan.scaled(panned.float()).over(shake.scaled(shaken.float()))
        nearest = 1 + settings.parallax * nearest * (deep < 0.5)  # turning alone, a camera sees no depth
        return Frame(moving.nearer(1 / nearest), nearest, quiet < settings.sharp, panned)

    def shutter(self, motion: Motion) -> Tensor:
        """When the shutter is open while this moves: B instants, as `expose` takes them."""
        return shutter(motion.instants(self.size), self.settings.gaps, self.generator)

    def silhouette(self, count: int) -> tuple[Tensor, Tensor]:
        """Silhouettes, count 1 H W, and their centers, count 2."""
        return random_silhouette(
            count, self.size, self.generator, self.settings.spread, self.settings.smallest
        )

    def object(self) -> tuple[Tensor, Tensor, Tensor]:
        """Silhouettes B 1 H W, centers B 2 and textures B 3 H W in linear light."""
        silhouette, center = self.silhouette(self.count)
        patches, kind = self.patches(TRIES), self.uniform()
        silhouette = where_chosen(
            silhouette,
            kind > 1 - self.settings.joined,
            lambda some, rows: torch.maximum(some, self.silhouette(len(rows))[0]),
        )
        silhouette = where_chosen(
            silhouette,
            kind < self.settings.segmented,
            lambda _, rows: segments(patches[rows], center[rows], self.generator),
        )
        return silhouette, center, self.lit(patches)

    def defocus_region(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Blur some pictures B 3 H W as a lens out of focus does; the truth keeps it. Radii: B 1 H W.

        A third of them is out of focus as a whole, a third in a region, a third more and more to one side.
        """
        size = self.size
        region, center = self.silhouette(self.count)
        radius, lens = self.defocus(self.settings.defocus)
        kind = 3 * self.uniform().view(-1, 1, 1, 1)
        slope = (center / size - 0.5).view(-1, 2, 1, 1)
        offset = pixel_grid(size, size, image.device) - size / 2
        to_side = (0.5 + 4 * (slope * offset).sum(1, keepdim=True) / size).clamp(0, 1)
        region = torch.where(kind < 1, region, torch.where(kind < 2, to_side, torch.ones_like(region)))
        seen, partly = image, radius * (kind < 2).flatten()
        for step in range(1, FOCUS_STEPS + 1):  # from one radius to the next, so that no ghost shines through
            reached = partly * step / FOCUS_STEPS if step < FOCUS_STEPS else radius
            softer = self.soften(image, reached, lens)
            seen = torch.lerp(seen, softer, (FOCUS_STEPS * region - step + 1).clamp(0, 1))
        return seen, region * radius.view(-1, 1, 1, 1)

    def defocus_layer(self, layer: Tensor) -> tuple[Tensor, Tensor]:
        """Blur some layers B 4 H W, color and coverage, as a lens out of focus does. Radii: B 1 1 1."""
        radius, lens = self.defocus(LAYER_DEFOCUS * self.settings.defocus)
        return self.soften(layer, radius, lens), radius.view(-1, 1, 1, 1)

    def defocus(self, share: float) -> tuple[Tensor, Lens]:
        """Radii B, above zero for a share of the pictures, and the lenses."""
        largest = self.settings.defocus_radius
        lot, radius = self.uniform(2)
        lens = Lens.drawn(self.uniform(5))
        return log_uniform(radius, (min(SLIGHTEST_DEFOCUS, largest), largest)) * (lot < share), lens

    def soften(self, image: Tensor, radius: Tensor, lens: Lens) -> Tensor:
        """Pictures B C H W out of focus by radii B."""
        largest = self.settings.defocus_radius
        return where_chosen(
            image, radius > 0, lambda some, rows: out_of_focus(some, radius[rows], lens.chosen(rows), largest)
        )
