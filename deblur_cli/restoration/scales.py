"""The photo at several scales, and the scale at which each cell is restored.

Blur is detected in the photo itself and in copies that are 2, 4 and 8 times smaller: at all of `SCALES` but
those at which the photo is too small (`usable_scales`). A network that learned blur of 3 to 24 pixels sees
nothing in a large photo whose hand moved by 60; four times smaller, that is 15. `merge_scales` makes one map
of all scales and gives each cell the scale at which its motion is `BEST_LENGTH` long. That is mostly between
two of them; `scale_shares` says how both are mixed.

Pyramids of this kind are as old as SRN-DeblurNet (Tao et al., "Scale-recurrent Network for Deep Image
Deblurring", 2018); here each region has a scale of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.nets.motion import from_double_angle, to_double_angle
from deblur_cli.nets.network import cells_of
from deblur_cli.nets.pieces import piece
from deblur_cli.photo.photo import white
from deblur_cli.restoration.findings import Findings
from deblur_cli.restoration.mask import enlarge_window, surroundings
from deblur_cli.restoration.tiles import Tile

SMALLEST_SIDE = 64  # pixels; scales at which the shorter side would be less are left out
BEST_LENGTH = 11.0  # pixels of blur, at the scale that is restored, that are restored best
SMOOTHING = 5  # cells; neighbors move alike, and one scale should not end where the next cell begins
SUREST = 3  # power of its confidence by which a scale counts for that of all; a large one takes the surest
SURE = 1e-3  # confidence that counts for nothing beside any other
BLURRED = 0.5  # confidence from which a cell counts towards a shake of the photo
BLOCKS, WIDELY = 4, 0.75  # a shake shows in that share of 4 x 4 blocks of the photo
OUTSTANDING = 2.0  # times as far from the shake as it is long; what is no farther than once is part of it
NOTABLE = 0.01  # share of the photo that has to stand out
REACH = 2  # pixels that an enlarged one sees around it (bicubic)

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScaledPhoto:
    """A photo at one scale. pixels: H W C, of the photo's own type; scale: how many times smaller it is."""

    pixels: NDArray[np.generic]
    scale: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in its own pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @piece("cutting tiles")
    def cut(self, tile: Tile) -> Tensor:
        """A tile as a network sees it: 1 3 h w in 0-1, float32."""
        window = self.pixels[tile.index]
        values = torch.from_numpy(window.astype(np.float32) / white(window))
        return values.permute(2, 0, 1)[None].expand(1, 3, -1, -1)  # h w C -> 1 3 h w


def usable_scales(scales: tuple[int, ...], height: int, width: int) -> tuple[int, ...]:
    """Those of the scales at which a photo of that size is large enough; always the finest of them."""
    largest = max(min(scales), min(height, width) // SMALLEST_SIDE)
    return tuple(scale for scale in sorted(scales) if scale <= largest)


@piece("pyramid")
def pyramid(pixels: NDArray[np.generic], scales: tuple[int, ...]) -> list[ScaledPhoto]:
    """The photo at each of the scales, the finest first. pixels: H W C, uint8 or uint16."""
    photos, scale = [], 1
    while True:
        if scale in scales:
            photos.append(ScaledPhoto(pixels, scale))
        if scale >= max(scales):
            return photos
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


@piece("merging scales")
def merge_scales(detected: Mapping[int, Floats], size: tuple[int, int]) -> Findings:
    """One map of what was detected at several scales in a photo of height x width pixels.

    detected: by scale, probability, start and end, 5 h w, displacements in pixels of the photo at that scale
    Scales lie over each other like layers, the finest in front: each counts as far as it is sure and no finer
    one is, since finer ones measure motion better and coarser ones see blur that is too long for finer ones.
    The confidence is nearly that of the surest scale: finer ones that half believe in blur do not lower it.
    A cell is restored at the scale that makes its motion BEST_LENGTH long.
    """
    cells = cells_of(size)
    layers = [enlarge_maps(maps, scale, cells) for scale, maps in sorted(detected.items())]
    probability = torch.cat([layer[:, :1] for layer in layers], 1)  # 1 s h w, the finest scale first
    fields = torch.stack([layer[:, 1:] for layer in layers], 1)  # 1 s 4 h w
    weight = layer_weights(probability)
    field = (weight[:, :, None] * fields).sum(1)
    sure = joint_confidence(weight, probability)
    sure = sure * outstanding_share(sure, 2 * field[:, :2])
    length = (weight * 2 * fields[:, :, :2].norm(dim=2)).sum(1, keepdim=True)
    moved = smooth(length * sure) / smooth(sure).clamp(min=SURE)
    scale = (moved / BEST_LENGTH).clamp(min(detected), max(detected))
    start, end = from_double_angle(field)
    maps = [part[0].numpy() for part in (sure.clamp(0, 1), start, end, scale)]
    return Findings(size, maps[0][0], maps[1], maps[2], maps[3][0])


def layer_weights(probability: Tensor) -> Tensor:
    """How much each scale counts, 1 s h w, summing to one: as far as it is sure and no finer one is."""
    through = torch.cumprod(1 - probability, 1)
    through = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], 1)
    weight = probability * through + SURE * probability + SURE**2
    return weight / weight.sum(1, keepdim=True)


def joint_confidence(weight: Tensor, probability: Tensor) -> Tensor:
    """The mean confidence of all scales, 1 s h w each, in which sure ones count most: 1 1 h w."""
    weight = weight * probability.clamp(min=SURE) ** SUREST
    return (weight * probability).sum(1, keepdim=True) / weight.sum(1, keepdim=True)


def outstanding_share(sure: Tensor, motion: Tensor) -> Tensor:
    """How far each cell counts beside a slight shake of the whole photo: 1 1 h w of 0-1.

    sure: 1 1 h w, confidence; motion: 1 2 h w, double angle, as long as the blur in photo pixels
    Real photos are soft, and many were shaken a little, which looks like motion everywhere. Where one motion
    is detected nearly everywhere, and something else moved several times as far, only the latter counts.
    Without such a thing, a shake counts like any other blur.
    """
    everything = torch.ones_like(sure)
    blurred = sure > BLURRED
    if not blurred.any():
        return everything
    shake = dominant_motion(motion[0, :, blurred[0, 0]], sure[blurred])
    distance = (motion - shake.view(1, 2, 1, 1)).norm(dim=1, keepdim=True) / shake.norm().clamp(min=1)
    alike = (blurred & (distance < 1)).float()
    widely = (F.adaptive_avg_pool2d(alike, BLOCKS) > 1 / 4).float().mean()
    outstanding = F.avg_pool2d((blurred & (distance > OUTSTANDING)).float(), SMOOTHING, 1, SMOOTHING // 2)
    if widely < WIDELY or (outstanding > 0.5).float().mean() < NOTABLE:
        return everything
    return ((distance - 1) / (OUTSTANDING - 1)).clamp(0, 1)


def dominant_motion(motion: Tensor, weight: Tensor) -> Tensor:
    """The motion that most cells share, by mean shift from the median: motion 2 n, weight n -> 2."""
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


def enlarge_maps(maps: Floats, scale: int, cells: tuple[int, int]) -> Tensor:
    """Maps of the photo at a scale, 5 h w, for the photo's own cells: 1 5 H W, motion as a double angle.

    Displacements become photo pixels.
    """
    values = torch.from_numpy(maps)[None]
    field = to_double_angle(values[:, 1:3], values[:, 3:5]) * scale
    joined = torch.cat([values[:, :1], field], 1)
    if scale > 1:
        joined = F.interpolate(joined, scale_factor=scale, mode="bilinear", align_corners=False)
    return joined[..., : cells[0], : cells[1]]


def scale_shares(scale: Floats, scales: tuple[int, ...]) -> dict[int, Floats]:
    """How much each of the scales counts in a cell, h w of 0-1 each: the two that are nearest, in octaves."""
    ordered, place = sorted(scales), np.log2(scale)
    hats = zip(ordered, np.eye(len(ordered)), strict=True)  # one at its own scale, zero at the next ones
    return {one: np.interp(place, np.log2(ordered), hat).astype(np.float32) for one, hat in hats}


def reduce_cells(cells: Floats, scale: int) -> Floats:
    """The photo's cells as cells of the photo at a scale, the largest of each: h w -> h/s w/s rounded up."""
    values = torch.from_numpy(np.ascontiguousarray(cells))[None, None]
    return np.asarray(F.max_pool2d(values, scale, ceil_mode=True)[0, 0].numpy()) if scale > 1 else cells


def reduce_maps(findings: Findings, scale: int) -> Floats:
    """Probability, start and end for the photo at a scale, 5 h w, displacements in its pixels."""
    probability = findings.probability
    reduced = reduce_cells(probability, scale)
    rows, columns = (
        np.minimum(np.arange(count) * scale + scale // 2, full - 1)
        for count, full in zip(reduced.shape, probability.shape, strict=True)
    )
    start, end = (part[:, rows[:, None], columns[None]] / scale for part in (findings.start, findings.end))
    return np.concatenate([reduced[None], start, end]).astype(np.float32)


def enlarge_change(change: Floats, scale: int, rows: slice, columns: slice) -> Floats:
    """A change of the photo at a scale, H W C, enlarged in a window of the photo: rows x columns x C."""
    window = surroundings(change, rows, columns, REACH, scale)
    return enlarge_window(*window, rows, columns, scale, "bicubic")
