"""Motion cues: how a picture resembles itself a few pixels further on, in each direction.

Motion smears a picture along its path, so the derivative along that direction repeats itself, negated, at
the length of the blur: its autocorrelation dips there (Yitzhaky and Kopeika, "Identification of Blur
Parameters from Motion Blurred Images", 1997). The cues are that autocorrelation around each cell of 8 x 8
photo pixels, at full and at half size, for a detector to read. No gradient runs through them.
"""

import math
import sys
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.network import CELL

DIRECTIONS = 12  # 15 degrees apart
SMOOTHING = 5  # cells over whose square the statistics are averaged
NOISE = 1e-5  # added to each energy; what quantization to 8 bits leaves of a flat area
LOGARITHMS = 5.0  # what those of energies are divided by, to be as large as other cues
LARGEST = 4.0  # cues are clamped to this
STRIP = 1 << 17  # pixels that a CPU works on at once, so that they stay in its cache


@dataclass(frozen=True)
class Scale:
    """The picture made `factor` times smaller, correlated at these distances in its pixels."""

    factor: int
    radii: tuple[int, ...]

    @property
    def channels(self) -> int:
        return 1 + DIRECTIONS * (1 + len(self.radii))

    @property
    def cell(self) -> int:
        return CELL // self.factor


SCALES = (Scale(2, (2, 3, 4, 5, 6, 7, 8, 9, 10, 12)), Scale(1, (2, 3, 4, 5, 6, 7)))
CHANNELS = sum(scale.channels for scale in SCALES)
FULL_SIZE = SCALES[0].channels  # place among the cues of the energy at full size


@torch.no_grad()
def motion_cues(image: Tensor) -> Tensor:
    """Cues of a picture B 3 H W in 0-1, sides whole multiples of 8: B CHANNELS H/8 W/8 in float32.

    For each scale the logarithm of the derivatives' energy, then for each direction its share of that energy
    and its autocorrelation at each radius, all averaged over 5 x 5 cells. Outside the picture there are no
    derivatives.
    """
    batch, _, height, width = image.shape
    cues = torch.empty(batch, height // CELL, width // CELL, CHANNELS, device=image.device)
    with torch.autocast(image.device.type, enabled=False):
        luma, first = image.float().mean(1), 0
        for scale in SCALES:
            write_cues(cues[..., first : first + scale.channels], sums_of(luma, scale), scale)
            first += scale.channels
    return cues.permute(0, 3, 1, 2)  # B H/8 W/8 CHANNELS -> B CHANNELS H/8 W/8


class MotionCues(nn.Module):
    """`motion_cues` as a layer without parameters, so that a profile can tell it from the others."""

    def forward(self, x: Tensor) -> Tensor:
        return motion_cues(x)


def write_cues(cues: Tensor, sums: Tensor, scale: Scale) -> None:
    """Work out the cues of one scale, B h w n, from its products summed over cells, B n h w.

    Goes by direction and by strips of cells, so that what it works on stays in the processor's cache.
    """
    rows, columns = sums.shape[-2:]
    each = 1 + len(scale.radii)
    high = max(1, strip_on(sums.device) // (columns * each))
    for top in range(0, rows, high):
        bottom = min(rows, top + high)
        energy = smoothed(sums[:, :1], top, bottom).div_(scale.cell**2).add_(NOISE)
        cues[:, top:bottom, :, 0] = (energy.log() / LOGARITHMS).clamp_(-LARGEST, LARGEST)[:, 0]
        for first in range(1, scale.channels, each):
            found = smoothed(sums[:, first : first + each], top, bottom).div_(scale.cell**2)
            along = found[:, :1].add_(NOISE).clone()
            found[:, :1].mul_(2).div_(energy).sub_(1)
            found[:, 1:].div_(along)
            cues[:, top:bottom, :, first : first + each] = found.clamp_(-LARGEST, LARGEST).permute(0, 2, 3, 1)


def smoothed(cells: Tensor, top: int, bottom: int) -> Tensor:
    """Means of B n h w over 5 x 5 cells, as far as those are in the picture, in rows from top to bottom."""
    rows, columns = cells.shape[-2:]
    reach = SMOOTHING // 2
    above, below = min(reach, top), min(reach, rows - bottom)
    padding = (reach, reach, reach - above, reach - below)
    padded = F.pad(cells[..., top - above : bottom + below, :], padding)
    down = sum_along(padded, bottom - top, -2).div_(places(top, bottom, rows, cells.device).view(-1, 1))
    return sum_along(down, columns, -1).div_(places(0, columns, columns, cells.device))


def sum_along(padded: Tensor, count: int, axis: int) -> Tensor:
    """Sums of `SMOOTHING` neighbors along an axis, `count` of them."""
    total = padded.narrow(axis, 0, count) + padded.narrow(axis, 1, count)
    for offset in range(2, SMOOTHING):
        total += padded.narrow(axis, offset, count)
    return total


def places(first: int, last: int, count: int, device: torch.device) -> Tensor:
    """How many of the `SMOOTHING` neighbors of the cells from first to last, of `count`, there are."""
    place, reach = torch.arange(first, last, device=device), SMOOTHING // 2
    return (place + reach).clamp(max=count - 1) - (place - reach).clamp(min=0) + 1


def sums_of(luma: Tensor, scale: Scale) -> Tensor:
    """Products of the derivatives of a scale summed over each cell: B H W -> B n H/8 W/8.

    First their energy, then for each direction the products at distance zero and at each radius. Works in
    strips that fit the processor's cache.
    """
    luma, margin = F.avg_pool2d(luma, scale.factor), max(scale.radii)
    batch, height, width = luma.shape
    down, right = luma[:, 2:] - luma[:, :-2], luma[:, :, 2:] - luma[:, :, :-2]  # central differences
    down = F.pad(down, (margin, margin, margin + 1, margin + 1))
    right = F.pad(right, (margin + 1, margin + 1, margin, margin))
    rows = max(1, strip_on(luma.device) // (width * scale.cell)) * scale.cell
    strips = []
    for one in range(batch):
        for top in range(0, height, rows):
            strip = slice(top, min(height, top + rows) + 2 * margin)
            strips.append(strip_sums(down[one, strip], right[one, strip], scale))
    count = -(-height // rows)
    return torch.stack([torch.cat(strips[n : n + count], 1) for n in range(0, len(strips), count)])


def strip_on(device: torch.device) -> int:
    """Pixels worked on at once: all of a tile on a GPU, which begins too slowly for many small strips."""
    return STRIP if device.type == "cpu" else sys.maxsize


def strip_sums(down: Tensor, right: Tensor, scale: Scale) -> Tensor:
    """The sums of one strip from its derivatives, each H+2m W+2m: n H/cell W/cell."""
    margin = max(scale.radii)
    height, width = down.shape[0] - 2 * margin, down.shape[1] - 2 * margin
    inner = slice(margin, margin + height), slice(margin, margin + width)
    rows = height // scale.cell
    product = torch.empty(height, width, device=down.device)
    sums = torch.empty(scale.channels, rows, width, device=down.device)  # over the rows of each cell
    energy = down[inner].square().addcmul_(right[inner], right[inner])
    torch.sum(energy.view(rows, scale.cell, width), 1, out=sums[0])
    place = 1
    for cosine, sine, shifts in directions(scale.radii):
        slope = torch.mul(right, cosine).add_(down, alpha=sine)
        here = slope[inner]
        for y, x in ((0, 0), *shifts):
            there = slope[margin + y : margin + y + height, margin + x : margin + x + width]
            torch.mul(here, there, out=product)
            torch.sum(product.view(rows, scale.cell, width), 1, out=sums[place])
            place += 1
    return sums.view(scale.channels, rows, width // scale.cell, scale.cell).sum(3)


@cache
def directions(radii: tuple[int, ...]) -> tuple[tuple[float, float, tuple[tuple[int, int], ...]], ...]:
    """Cosine, sine and the shifts (y, x) in pixels at each radius, for each direction."""
    angles = [math.pi * number / DIRECTIONS for number in range(DIRECTIONS)]
    return tuple(
        (math.cos(angle), math.sin(angle), tuple(shift(angle, radius) for radius in radii))
        for angle in angles
    )


def shift(angle: float, radius: int) -> tuple[int, int]:
    """The pixel (y, x) nearest to that distance in that direction."""
    return round(radius * math.sin(angle)), round(radius * math.cos(angle))


def cues_reference(image: Tensor) -> Tensor:
    """The same as `motion_cues`, the plain way: whole planes, one direction and radius after another."""
    luma, result = image.float().mean(1, keepdim=True), []
    for scale in SCALES:
        seen = F.avg_pool2d(luma, scale.factor)
        right = F.pad(seen[..., 2:] - seen[..., :-2], (1, 1))
        down = F.pad(seen[..., 2:, :] - seen[..., :-2, :], (0, 0, 1, 1))
        energy = mean_reference(right * right + down * down, scale) + NOISE
        result.append(energy.log() / LOGARITHMS)
        for number in range(DIRECTIONS):
            angle = math.pi * number / DIRECTIONS
            slope = right * math.cos(angle) + down * math.sin(angle)
            along = mean_reference(slope * slope, scale) + NOISE
            result.append(2 * along / energy - 1)
            for radius in scale.radii:
                y, x = shift(angle, radius)
                height, width = slope.shape[-2:]
                around = F.pad(slope, (radius,) * 4)
                there = around[..., radius + y : radius + y + height, radius + x : radius + x + width]
                result.append(mean_reference(slope * there, scale) / along)
    return torch.cat(result, 1).clamp(-LARGEST, LARGEST)


def mean_reference(values: Tensor, scale: Scale) -> Tensor:
    """Mean over cells and their neighbors: B 1 H W -> B 1 h w."""
    cells = F.avg_pool2d(values, scale.cell)
    return F.avg_pool2d(cells, SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False)
