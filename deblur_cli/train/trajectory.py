"""How a layer moves while the shutter is open."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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

    def instants(self) -> int:
        """Instants that lie about 1.5 pixels apart for the longest path of the batch; an odd number."""
        length = (self.end - self.start).norm(dim=1).max()
        return 2 * math.ceil(float(length) / 3) + 1


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """(y, x) of every pixel, 2 H W."""
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")).float()


def random_motion(
    centre: Tensor, size: int, lengths: tuple[float, float], spread: float, generator: torch.Generator
) -> Motion:
    """Length log-uniform, any direction, a slight bend, and turning that moves no edge farther than that.

    centre: B 2 in pixels of a patch of `size`, whose objects belong to pictures `spread` times as large.
    """
    uniform = torch.rand(6, len(centre), generator=generator, device=generator.device).to(centre.device)
    shortest, longest = lengths
    length = shortest * (longest / shortest) ** uniform[0]
    angle = 2 * math.pi * uniform[1]
    direction = torch.stack([angle.sin(), angle.cos()], 1)
    across = torch.stack([direction[:, 1], -direction[:, 0]], 1)
    half = direction * length.view(-1, 1) / 2
    bend = across * (length * (uniform[2] - 0.5) * 0.4).view(-1, 1)
    swing = length / size / spread  # radians that move the edge of an object by about half its blur
    turn = swing * (uniform[3] - 0.5) * (uniform[4] < 0.5)
    return Motion(bend - half, bend + half, centre, turn, swing * (uniform[5] - 0.5) * 0.5)


def shutter(count: int, instants: int, share: float, generator: torch.Generator) -> Tensor:
    """Weight of each instant, B instants, each row summing to one.

    For a share of the batch the shutter is closed for a tenth to a third of the exposure, as where a video's
    frames are averaged or a light flickers; the first and last instants always count.
    """
    draws = torch.rand(3, count, 1, generator=generator, device=generator.device)
    time = torch.linspace(0, 1, instants, device=generator.device)
    width = 0.1 + 0.23 * draws[1]
    begin = 0.1 + (0.8 - width) * draws[2]
    closed = (time > begin) & (time < begin + width) & (draws[0] < share)
    weights = 1 - closed.float()
    return weights / weights.sum(1, keepdim=True)


def expose(layer: Tensor, motion: Motion, weights: Tensor) -> Tensor:
    """Weighted average of a layer B C H W over the exposure; weights: B instants."""
    total = torch.zeros_like(layer)
    instants = weights.shape[1]
    for index in range(instants):
        total += motion.warp(layer, 2 * index / (instants - 1) - 1) * weights[:, index].view(-1, 1, 1, 1)
    return total
