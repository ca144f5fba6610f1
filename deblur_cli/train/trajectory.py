"""How a layer, or the whole frame, moves while the shutter is open."""

import math
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.nets.motion import displacement_at

STEP = 1.5  # pixels at most from one instant to the next; from 2 on, fine stripes would come out sharp
SWERVE = 3 * math.sqrt(3) / 2  # makes the largest value of t - t³ over 0-1 one


@dataclass(frozen=True)
class Motion:
    """Motion of a layer: displacement of its center, turning and growth; each B ... for a batch.

    start, end, center: B 2 as (y, x) in pixels; turn: B, radians from mid-exposure to the end; growth: B,
    logarithm of the scale at the end; wobble: B 2, how far the path swerves from the parabola through start,
    mid-exposure and end, where it is none
    """

    start: Tensor
    end: Tensor
    center: Tensor
    turn: Tensor
    growth: Tensor
    wobble: Tensor = field(default_factory=lambda: torch.zeros(()))

    def shift(self, time: float | Tensor) -> Tensor:
        """Displacement of the center at time -1 (start) to 1 (end), of all or B: B 2."""
        time = time.unsqueeze(1) if isinstance(time, Tensor) else time
        return displacement_at(time, self.start, self.end) + self.wobble * (SWERVE * (time - time**3))

    def linear(self, time: float | Tensor) -> Tensor:
        """Turning and growth at that time as matrices B 2 2 over (y, x)."""
        angle, scale = self.turn * time, (self.growth * time).exp()
        cosine, sine = angle.cos() * scale, angle.sin() * scale
        return torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], 1)

    def at(self, places: Tensor, time: float | Tensor) -> Tensor:
        """How far what is at places (B 2 N in pixels) at mid-exposure has gone at that time: B 2 N."""
        offset = places - self.center.unsqueeze(2)
        return self.linear(time) @ offset - offset + self.shift(time).unsqueeze(2)

    def displacement(self, height: int, width: int, time: float) -> Tensor:
        """Where each pixel of mid-exposure is at that time, relative to itself: B 2 H W."""
        offset = pixel_grid(height, width, self.start.device) - self.center.view(-1, 2, 1, 1)
        moved = torch.einsum("bij,bjhw->bihw", self.linear(time), offset)
        return moved - offset + self.shift(time).view(-1, 2, 1, 1)

    def placing(self, size: int, time: float | Tensor) -> Tensor:
        """From pixels of the picture at that time to places in the layer of mid-exposure, B 2 3.

        Pixels are (y, x, 1); places (x, y) in the -1 to 1 of grid_sample, the outermost pixels' edges.
        """
        inverse = self.linear(-time)  # turns and shrinks back
        offset = self.center - torch.einsum("bij,bj->bi", inverse, self.center + self.shift(time))
        affine = torch.cat([2 * inverse, 2 * offset.unsqueeze(2) + 1], 2) / size
        return (affine - affine.new_tensor([0, 0, 1])).flip(1)

    def warp(self, layer: Tensor, time: float) -> Tensor:
        """The square layer B C S S as it stands at that time; its border is mirrored."""
        return look_up(layer, self.placing(layer.shape[-1], time))

    def instants(self, size: int) -> Tensor:
        """How many instants each needs so that nothing in the picture leaps: B odd numbers, 0 without motion.

        Whatever is in a picture of `size` goes at most STEP pixels from one to the next, if evenly.
        """
        edge = torch.tensor([0.0, size / 2, size], device=self.start.device)
        places = torch.cartesian_prod(edge, edge).t().expand(len(self.start), 2, 9)
        way = sum(self.at(places, time).norm(dim=1).amax(1) for time in (-1, 1))
        count = 2 * torch.ceil(torch.as_tensor(way) / 2 / STEP).long() + 1
        return torch.where(count > 1, count.clamp(min=3), 0)

    def scaled(self, factor: Tensor) -> "Motion":
        """A part or a multiple of the motion (factor B); zero stops it."""
        return replace(self.nearer(factor), turn=self.turn * factor, growth=self.growth * factor)

    def picked(self, rows: Tensor) -> "Motion":
        """The motions of these rows of the batch."""
        wobble = self.wobble + torch.zeros_like(self.start)  # on one device, even if none was given
        parts = (self.start, self.end, self.center, self.turn, self.growth, wobble)
        return Motion(*(part[rows] for part in parts))

    def nearer(self, factor: Tensor) -> "Motion":
        """What is `factor` (B) times as near to a camera that moves: it goes farther, but turns as much."""
        wide = factor.unsqueeze(1)
        return replace(self, start=self.start * wide, end=self.end * wide, wobble=self.wobble * wide)

    def over(self, frame: "Motion") -> "Motion":
        """On top of a frame's motion: what something does that moves along with it and on its own."""
        start, end = (frame.at(self.center.unsqueeze(2), time).squeeze(2) for time in (-1, 1))
        return Motion(
            self.start + start,
            self.end + end,
            self.center,
            self.turn + frame.turn,
            self.growth + frame.growth,
            self.wobble + frame.wobble,
        )


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """(y, x) of every pixel, 2 H W."""
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")).float()


def look_up(layer: Tensor, placing: Tensor) -> Tensor:
    """What is where an affine map B 2 3 (`Motion.placing`) leads to from each pixel of a layer B C S S."""
    pixel = torch.arange(layer.shape[-1], device=layer.device, dtype=layer.dtype)
    down, right, fixed = placing.unsqueeze(3).unbind(2)
    rows = (down * pixel).unsqueeze(3) + fixed.unsqueeze(3)
    places = rows + (right * pixel).unsqueeze(2)  # B 2 S S; far cheaper than torch's affine_grid
    grid = places.permute(0, 2, 3, 1)
    return F.grid_sample(layer, grid, padding_mode="reflection", align_corners=False)


def random_motion(
    center: Tensor, size: int, lengths: tuple[float, float], spread: float, generator: torch.Generator
) -> Motion:
    """Length log-uniform, any direction, a slight bend, and turning that moves no edge farther than that.

    center: B 2 in pixels of a patch of `size`, whose objects belong to pictures `spread` times as large.
    """
    uniform = torch.rand(6, len(center), generator=generator, device=generator.device).to(center.device)
    length = log_uniform(uniform[0], lengths)
    angle = 2 * math.pi * uniform[1]
    direction = torch.stack([angle.sin(), angle.cos()], 1)
    half = direction * length.view(-1, 1) / 2
    bend = across(direction) * (length * (uniform[2] - 0.5) * 0.4).view(-1, 1)
    swing = length / size / spread  # radians that move the edge of an object by about half its blur
    turn = swing * (uniform[3] - 0.5) * (uniform[4] < 0.5)
    return Motion(bend - half, bend + half, center, turn, swing * (uniform[5] - 0.5) * 0.5)


def log_uniform(uniform: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Evenly drawn 0-1 as numbers between two bounds, of which each octave has as many."""
    lowest, highest = bounds
    return lowest * (highest / lowest) ** uniform


def across(direction: Tensor) -> Tensor:
    """Directions B 2 turned by a quarter."""
    return torch.stack([direction[:, 1], -direction[:, 0]], 1)


def hand_shake(count: int, size: int, lengths: tuple[float, float], generator: torch.Generator) -> Motion:
    """How a whole frame moves: a shift along a path that a hand takes, roll, and zoom, alone or together.

    Roll and zoom go around a point inside or outside of the frame. The way of the farthest corner, without
    the bends of the path, is at most the length, which is log-uniform.
    """
    uniform = torch.rand(10, count, generator=generator, device=generator.device)
    length = log_uniform(uniform[0], lengths)
    center = size / 2 + (2.5 * uniform[1:3].t() - 1.25) * size
    reach = ((center - size / 2).abs() + size / 2).norm(dim=1)  # to the farthest corner
    roll = signed_part(uniform[3], 0.5)
    zoom = signed_part(uniform[4], 0.25)
    shift = torch.where((roll != 0) | (zoom != 0), uniform[5], 1.0)
    part = length / 2 / (shift + roll.abs() + zoom.abs())
    angle = 2 * math.pi * uniform[6]
    direction = torch.stack([angle.sin(), angle.cos()], 1)
    half = direction * (part * shift).view(-1, 1)
    bend = across(direction) * (part * shift * (uniform[7] - 0.5)).view(-1, 1)
    swerve = (uniform[8:10].t() - 0.5) * 0.6 * (part * shift).view(-1, 1)
    return Motion(bend - half, bend + half, center, part * roll / reach, part * zoom / reach, swerve)


def signed_part(uniform: Tensor, share: float) -> Tensor:
    """Zero but for a share of evenly drawn 0-1, there anything from 0.2 to 1.2 of either sign."""
    drawn = uniform / share * 2 - 1
    return torch.where(uniform < share, drawn + 0.2 * drawn.sign(), 0.0)


def shutter(instants: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Weight of each of so many instants (B), B most: rows sum to one, zeros follow a row's last instant.

    For a share of the batch the shutter is closed for a tenth to a third of the exposure, as where a video's
    frames are averaged or a light flickers; the first and last instants always count. Without instants a row
    is zero.
    """
    draws = torch.rand(3, len(instants), 1, generator=generator, device=generator.device).to(instants.device)
    number = torch.arange(max(1, int(instants.max())), device=instants.device)
    time = number / (instants.view(-1, 1) - 1).clamp(min=1)
    width = 0.1 + 0.23 * draws[1]
    begin = 0.1 + (0.8 - width) * draws[2]
    closed = (time > begin) & (time < begin + width) & (draws[0] < share)
    weights = (~closed & (number < instants.view(-1, 1))).float()
    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def expose(layer: Tensor, motion: Motion, weights: Tensor) -> Tensor:
    """Weighted average of a layer B C S S over the exposure; weights: B instants.

    A row's last weight above zero is that of the end of the exposure, and its instants are evenly spaced
    from start to end; a row of zeros keeps its picture as it is.
    """
    most = weights.shape[1]
    number = torch.arange(most, device=weights.device)
    instants, order = ((weights > 0) * (number + 1)).amax(1).sort(descending=True, stable=True)
    counts = instants.tolist()
    time = 2 * number / (instants.view(-1, 1) - 1).clamp(min=1) - 1
    placing = motion.picked(order.repeat_interleave(most)).placing(layer.shape[-1], time.flatten())
    placing, source, weights = (
        placing.view(-1, most, 2, 3),
        layer[order],
        weights[order].view(-1, most, 1, 1, 1),
    )
    total = torch.zeros_like(source)
    for index in range(counts[0]):
        under = sum(count > index for count in counts)  # way; the first ones, as they are sorted
        seen = look_up(source[:under], placing[:under, index])
        total[:under].addcmul_(seen, weights[:under, index])
    at_rest = sum(count == 0 for count in counts)
    exposed = torch.empty_like(layer)
    exposed[order] = torch.cat([total[: len(counts) - at_rest], source[len(counts) - at_rest :]])
    return exposed
