"""A photo at several scales, and the choice of the one at which each cell is restored.

A network that learned blur of 3 to 24 pixels sees nothing in a large photo whose hand moved by 60; four times
smaller, that is 15. Pyramids of this kind are as old as SRN-DeblurNet (Tao et al., "Scale-recurrent Network
for Deep Image Deblurring", 2018); here each region has a scale of its own, told by how far it moved.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.cells import cells_of
from deblur_cli.nets.motion import from_double_angle, to_double_angle
from deblur_cli.photo.photo import white
from deblur_cli.restoration.findings import Findings
from deblur_cli.restoration.mask import enlarge_window, surroundings
from deblur_cli.restoration.tiles import Tile

SMALLEST_SIDE = 64  # pixels; a photo is not looked at where its shorter side would be less
BEST_LENGTH = 11.0  # pixels of blur, as seen, that are restored best
SMOOTHING = 5  # cells; neighbors move alike, and one scale should not end where the next cell begins
SURE = 1e-3  # confidence that counts for nothing beside any other
JUDGED = 0.5  # confidence from which a cell has a say in how the photo was shaken
BLOCKS, WIDELY = 4, 0.75  # a shake shows in that share of 4 x 4 blocks of the photo
OUTSTANDING = 2.0  # times as far from the shake as it is long; what is no farther than once is part of it
NOTABLE = 0.01  # share of the photo that has to stand out
REACH = 2  # pixels that an enlarged one sees around it (bicubic)

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Level:
    """A photo at one scale. pixels: H W C, of the photo's own type; scale: how many times smaller it is."""

    pixels: NDArray[np.generic]
    scale: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in its own pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def cut(self, tile: Tile) -> Tensor:
        """A tile as a network sees it: 1 3 h w in 0-1, float32."""
        window = self.pixels[tile.index]
        values = torch.from_numpy(window.astype(np.float32) / white(window))
        return values.permute(2, 0, 1)[None].expand(1, 3, -1, -1)  # h w C -> 1 3 h w


def usable(scales: tuple[int, ...], height: int, width: int) -> tuple[int, ...]:
    """Those of the scales at which a photo of that size can be looked at; always the finest of them."""
    shorter = min(height, width)
    return tuple(
        scale for scale in sorted(scales) if scale == min(scales) or shorter >= SMALLEST_SIDE * scale
    )


def pyramid(pixels: NDArray[np.generic], scales: tuple[int, ...]) -> list[Level]:
    """The photo at each of the scales, the finest first. pixels: H W C, uint8 or uint16."""
    levels, scale = [], 1
    while True:
        if scale in scales:
            levels.append(Level(pixels, scale))
        if scale >= max(scales):
            return levels
        pixels, scale = halved(pixels), 2 * scale


def halved(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Each 2 x 2 pixels as their rounded mean, H W C -> H/2 W/2 C rounded up, of the same type."""
    odd = [(0, side % 2) for side in pixels.shape[:2]]
    padded = np.pad(pixels, (*odd, (0, 0)), mode="edge") if any(pad for _, pad in odd) else pixels
    wide = np.uint16 if pixels.dtype == np.uint8 else np.uint32
    total = np.full((len(padded) // 2, padded.shape[1] // 2, padded.shape[2]), 2, wide)
    for row in (0, 1):
        for column in (0, 1):
            total += padded[row::2, column::2]
    return (total >> 2).astype(pixels.dtype)


def choose(found: Mapping[int, Floats], size: tuple[int, int]) -> Findings:
    """What was found at several scales as one: for each cell what the scales say that suit its blur.

    found: by scale, probability, start and end of the photo at that scale, 5 h w, displacements in its pixels
    Scales lie over each other like layers, the finest in front: each has a say as far as it is sure and no
    finer one is, since finer ones measure motion better and coarser ones see blur that is too long for them.
    The cell is restored at the scale that makes its motion BEST_LENGTH long.
    """
    cells = cells_of(size)
    layers = [raise_maps(maps, scale, cells) for scale, maps in sorted(found.items())]
    probability = torch.cat([layer[:, :1] for layer in layers], 1)  # 1 s h w, the finest scale first
    fields = torch.stack([layer[:, 1:] for layer in layers], 1)  # 1 s 4 h w
    weight = in_front(probability)
    sure, field = (weight * probability).sum(1, keepdim=True), (weight[:, :, None] * fields).sum(1)
    sure = sure * standing_out(sure, 2 * field[:, :2])
    length = (weight * 2 * fields[:, :, :2].norm(dim=2)).sum(1, keepdim=True)
    moved = smooth(length * sure) / smooth(sure).clamp(min=SURE)
    scale = (moved / BEST_LENGTH).clamp(min(found), max(found))
    start, end = from_double_angle(field)
    maps = [part[0].numpy() for part in (sure.clamp(0, 1), start, end, scale)]
    return Findings(size, maps[0][0], maps[1], maps[2], maps[3][0])


def in_front(probability: Tensor) -> Tensor:
    """The say that each layer has, 1 s h w, summing to one: as far as it is sure and none before it is."""
    through = torch.cumprod(1 - probability, 1)
    through = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], 1)
    weight = probability * through + SURE * probability + SURE**2
    return weight / weight.sum(1, keepdim=True)


def standing_out(sure: Tensor, motion: Tensor) -> Tensor:
    """How far each cell counts beside a slight shake of the whole photo: 1 1 h w of 0-1.

    sure: 1 1 h w, confidence; motion: 1 2 h w, double angle, as long as the blur in photo pixels
    Real photos are soft, and many were shaken a little, which looks like motion everywhere. Where one motion
    is found nearly everywhere, and something else moved several times as far, that is what moved in the
    photo. Without such a thing, a shake counts like any other blur.
    """
    everything = torch.ones_like(sure)
    judged = sure > JUDGED
    if not judged.any():
        return everything
    shake = dominating(motion[0, :, judged[0, 0]], sure[judged])
    distance = (motion - shake.view(1, 2, 1, 1)).norm(dim=1, keepdim=True) / shake.norm().clamp(min=1)
    alike = (judged & (distance < 1)).float()
    widely = (F.adaptive_avg_pool2d(alike, BLOCKS) > 1 / 4).float().mean()
    outstanding = F.avg_pool2d((judged & (distance > OUTSTANDING)).float(), SMOOTHING, 1, SMOOTHING // 2)
    if widely < WIDELY or (outstanding > 0.5).float().mean() < NOTABLE:
        return everything
    return ((distance - 1) / (OUTSTANDING - 1)).clamp(0, 1)


def dominating(motion: Tensor, weight: Tensor) -> Tensor:
    """The motion that most cells share: motion 2 n, weight n -> 2. By mean shift from the median."""
    shared = motion.median(1).values
    for _ in range(5):
        near = weight * torch.exp(
            -((motion - shared[:, None]).norm(dim=0) / (shared.norm() / 2 + 2)).square()
        )
        shared = (motion * near).sum(1) / near.sum().clamp(min=1e-6)
    return shared


def smooth(cells: Tensor) -> Tensor:
    """The mean of each cell's neighborhood, B 1 h w."""
    return F.avg_pool2d(cells, SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False)


def raise_maps(maps: Floats, scale: int, cells: tuple[int, int]) -> Tensor:
    """Maps of the photo at a scale, 5 h w, as those of its cells: 1 5 H W, motion as a double angle.

    Displacements become photo pixels.
    """
    values = torch.from_numpy(maps)[None]
    field = to_double_angle(values[:, 1:3], values[:, 3:5]) * scale
    joined = torch.cat([values[:, :1], field], 1)
    if scale > 1:
        joined = F.interpolate(joined, scale_factor=scale, mode="bilinear", align_corners=False)
    return joined[..., : cells[0], : cells[1]]


def shares(scale: Floats, scales: tuple[int, ...]) -> dict[int, Floats]:
    """How much each of the scales counts in a cell, h w of 0-1 each: the two that are nearest, in octaves."""
    place = np.log2(np.clip(scale, min(scales), max(scales)))
    known = np.log2(np.asarray(sorted(scales)))
    index = np.clip(np.searchsorted(known, place, side="right") - 1, 0, max(len(known) - 2, 0))
    upper = np.minimum(index + 1, len(known) - 1)
    span = np.maximum(known[upper] - known[index], 1e-6)
    rise = np.clip((place - known[index]) / span, 0, 1)
    result = {}
    for number, one in enumerate(sorted(scales)):
        share = np.where(index == number, 1 - rise, 0) + np.where(
            (upper == number) & (upper != index), rise, 0
        )
        result[one] = share.astype(np.float32)
    return result


def lowered(cells: Floats, scale: int) -> Floats:
    """Values of the photo's cells as those of the photo at a scale, h w -> h/s w/s rounded up: the most."""
    values = torch.from_numpy(np.ascontiguousarray(cells))[None, None]
    return np.asarray(F.max_pool2d(values, scale, ceil_mode=True)[0, 0].numpy()) if scale > 1 else cells


def lowered_maps(findings: Findings, scale: int) -> Floats:
    """Probability, start and end as the photo at a scale shows them, 5 h w, displacements in its pixels."""
    probability = findings.probability
    wanted = lowered(probability, scale)
    rows, columns = (
        np.minimum(np.arange(count) * scale + scale // 2, full - 1)
        for count, full in zip(wanted.shape, probability.shape, strict=True)
    )
    start, end = (part[:, rows[:, None], columns[None]] / scale for part in (findings.start, findings.end))
    return np.concatenate([wanted[None], start, end]).astype(np.float32)


def enlarged(change: Floats, scale: int, rows: slice, columns: slice) -> Floats:
    """Part of a change at a scale, H W C, as it looks in the photo: rows x columns x C."""
    window = surroundings(change, rows, columns, REACH, scale)
    return enlarge_window(*window, rows, columns, scale, "bicubic")
