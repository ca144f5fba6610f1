"""Motion drawn in two ways: as the paths along which blurred pixels moved, and densely as flow."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deblur_cli.nets.motion import trajectory
from deblur_cli.nets.network import CELL
from deblur_cli.pictures.drawing import (
    Bools,
    Floats,
    Maps,
    Pixels8,
    add_motion_legend,
    as_rgb,
    bands,
    dimming,
    direction_colors,
    line_width,
    motion_colors,
    stroke,
    subdued,
    tinted,
    upsample,
)

_LEAST_MOTION = 0.25  # photo pixels; what moved less has no direction to draw
_CASING = np.array([12, 12, 12], dtype=np.float32)
_MOST_TIMES = 20  # how many times its length a path may be drawn
_CURVES_WANTED = 260  # over the whole blurred region
_CURVES_AT_LEAST = 40  # even where they are so long that they overlap
_INSTANTS = 33  # points along a trajectory
_BROAD = 2.2  # width at the start of the exposure, in widths of a plain line
_TAPER = 0.25  # width at the end of the exposure, as a share of that at its start
_TINT = 0.85  # share of the map's color; the rest is the photo
_FULL = 95  # percentile of the distances that gets the full color, so that one outlier darkens nothing


@dataclass(frozen=True, eq=False)
class Motion:
    """Where something moved far enough to draw, and how far.

    moving  h w, cells over epsilon that moved far enough, by a possible displacement
    length  h w, photo pixels from start to end, 0 where the displacement is impossible
    """

    moving: Bools
    length: Floats


def drawable_motion(maps: Maps, epsilon: float, size: tuple[int, int]) -> Motion:
    """Motion to draw: not of sharp or still cells, nor longer than the diagonal of the photo (h, w)."""
    reach = float(np.hypot(*size))
    ends = np.concatenate([maps.start, maps.end])
    sane = (np.abs(ends) <= reach).all(axis=0)  # false for NaN
    length = np.hypot(*np.where(sane, maps.end - maps.start, 0)).astype(np.float32)
    return Motion((maps.probability > epsilon) & (length >= _LEAST_MOTION), length)


def trajectory_overlay(
    pixels: Pixels8, maps: Maps, epsilon: float, *, legend: bool = False, scale: float = 1.0
) -> Pixels8:
    """Draw the paths along which blurred pixels moved, on a grid that suits the blurred region.

    Each path runs through the pixel's place at mid-exposure, thick where the exposure began and thin
    where it ended; its color tells the direction. Paths have their true length, unless that would be
    too short to see: then all are drawn longer by a whole factor, which the legend states.
    pixels H W 3 or H W 1, the photo, or the photo reduced to `scale` of its size; returns H W 3.
    """
    height, width = pixels.shape[:2]
    brightness = dimming(pixels, 0.6)
    drawn = np.empty((height, width, 3), np.uint8)
    for top, bottom in bands(height):
        drawn[top:bottom] = np.rint(subdued(as_rgb(pixels[top:bottom]), 0.5, brightness))
    line = line_width(height, width) * _BROAD
    motion = drawable_motion(maps, epsilon, (round(height / scale), round(width / scale)))
    curves, factor = _curves(maps, motion, (height, width), line, scale)
    widths = line * np.linspace(1, _TAPER, _INSTANTS, dtype=np.float32)
    for path, _ in curves:
        stroke(drawn, path, widths + 0.5 * line, _CASING)
    for path, color in curves:
        stroke(drawn, path, widths, color)
    if legend:
        add_motion_legend(drawn, motion.moving, _lines(motion, factor), speed=False)
    return drawn


def _lines(motion: Motion, factor: int) -> list[str]:
    if not motion.moving.any():
        return ["no motion found"]
    lengths = motion.length[motion.moving]
    lines = [f"median {np.median(lengths):.3g} px", "from thick to thin"]
    return [*lines, f"drawn {factor} x as long"] if factor > 1 else lines


def _curves(
    maps: Maps, motion: Motion, size: tuple[int, int], line: float, scale: float
) -> tuple[list[tuple[Floats, Floats]], int]:
    """The curves to draw with lines of that width, and by how much their length is multiplied.

    Of each its path in pixels of the picture, instants 2 (y, x), and the color of its direction, 3.
    """
    if not motion.moving.any():
        return [], 1
    typical = float(np.median(motion.length[motion.moving])) * scale
    factor = 1 if typical >= 3 * line else max(1, min(round(6 * line / typical), _MOST_TIMES))
    cells = _grid_cells(motion.moving, size, typical * factor, CELL * scale)
    start, end = (field[:, cells[:, 0], cells[:, 1]] for field in (maps.start, maps.end))  # 2 n
    colors = direction_colors(np.arctan2(*(end - start)))
    center = np.minimum((cells + 0.5) * CELL * scale, np.array(size) - 0.5).astype(np.float32)
    path = trajectory(torch.from_numpy(start), torch.from_numpy(end), _INSTANTS)  # instants 2 n
    paths = center[:, None] + np.float32(factor * scale) * path.permute(2, 0, 1).numpy()  # n instants 2
    return list(zip(paths, colors, strict=True)), factor


def _grid_cells(
    blurred: NDArray[np.bool_], size: tuple[int, int], length: float, cell: float
) -> NDArray[np.int64]:
    """Choose map cells to draw curves of a typical length at: n 2 (row, column).

    The grid is finer the smaller the blurred region, but not so fine that curves run into each other.
    A grid square takes the blurred cell nearest to its middle, so that small regions get their curve too.
    """
    cells = np.argwhere(blurred)
    finest = max(2.0, min(size) / 40 / cell, min(length / cell, np.sqrt(len(cells) / _CURVES_AT_LEAST)))
    step = int(max(finest, np.sqrt(len(cells) / _CURVES_WANTED)))
    square = cells // step
    off_center = np.abs(cells - (square * step + step // 2)).sum(axis=1)
    order = np.lexsort((off_center, square[:, 1], square[:, 0]))
    _, first = np.unique(square[order], axis=0, return_index=True)
    nearest = order[first]
    return _apart(cells[nearest[np.argsort(off_center[nearest], kind="stable")]], 0.75 * step)


def _apart(cells: NDArray[np.int64], distance: float) -> NDArray[np.int64]:
    """Leave out cells that lie too close to an earlier one."""
    kept = np.zeros(len(cells), bool)
    for i, cell in enumerate(cells):
        gaps = np.hypot(*(cells[:i][kept[:i]] - cell).T)
        kept[i] = not (gaps < distance).any()
    return cells[kept]


def flow_overlay(
    pixels: Pixels8, maps: Maps, epsilon: float, *, legend: bool = False, scale: float = 1.0
) -> Pixels8:
    """Color every blurred pixel by the direction and distance from start to end of the exposure.

    pixels H W 3 or H W 1, the photo, or the photo reduced to `scale` of its size; returns H W 3.
    """
    height, width = pixels.shape[:2]
    motion = drawable_motion(maps, epsilon, (round(height / scale), round(width / scale)))
    full = float(np.percentile(motion.length[motion.moving], _FULL)) if motion.moving.any() else 1.0
    moved = np.where(motion.length > 0, maps.end - maps.start, 0).astype(np.float32)  # 2 h w
    still = ((maps.probability > epsilon) & ~motion.moving).astype(np.float32)
    brightness = dimming(pixels, 0.6)
    drawn = np.empty((height, width, 3), np.uint8)
    for top, bottom in bands(height):
        photo = as_rgb(pixels[top:bottom])
        canvas = subdued(photo, 0.8, brightness)
        rows = (top, bottom)
        inside = upsample(maps.probability, rows, width, scale) > epsilon  # the contour of the mask
        inside &= upsample(still, rows, width, scale) <= 0.5
        down, across = (upsample(part, rows, width, scale)[inside] for part in moved)
        speed = np.clip(np.hypot(down, across) / full, 0, 1).astype(np.float32)
        canvas[inside] = tinted(photo[inside], motion_colors(np.arctan2(down, across), speed), _TINT)
        drawn[top:bottom] = np.rint(canvas)
    if legend:
        moving = bool(motion.moving.any())
        lines = [f"rim {full:.3g} px or more", "middle: still"] if moving else ["no motion found"]
        add_motion_legend(drawn, motion.moving, lines, speed=True)
    return drawn
