"""The mask: which regions count as blurred, and how its edge is feathered.

`region_confidence` decides with two thresholds which regions count, `feather_weights` how strongly each
restored pixel is laid over the photo. The rest brings values of cells to the pixels of a window.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from deblur_cli.nets.network import CELL

SMOOTHING = 3  # cells; smaller than anything that could be seen to move
SEED_POWER = 1 / 5  # of epsilon: how sure deblur must be somewhere in a region
FEATHER = 1  # cells by which the mask grows before its edge is softened: the one knob, any whole number
FEATHER_REACH = FEATHER + 1  # cells around the mask in which feathered weights are not zero, as follows

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def region_confidence(probability: Floats, epsilon: float) -> Floats:
    """Confidence averaged over each cell's neighbors, lowered to epsilon in regions that do not count.

    probability: h w in 0-1, one value for each cell; cells over epsilon in the result, h w, are blurred.
    Some cells of any sharp photo come out a little above epsilon. A region over epsilon therefore counts only
    if it is somewhere over the fifth root of epsilon as well: the two thresholds of
    Canny, "A Computational Approach to Edge Detection" (1986).
    """
    cells = torch.from_numpy(probability)[None, None]
    smooth = F.avg_pool2d(cells, SMOOTHING, stride=1, padding=SMOOTHING // 2, count_include_pad=False)
    seeds, region = ((smooth > threshold)[0, 0].numpy() for threshold in (epsilon**SEED_POWER, epsilon))
    result = torch.where(torch.from_numpy(grow(seeds, region)), smooth, smooth.clamp(max=epsilon))
    return np.asarray(result[0, 0].numpy(), np.float32)


def grow(seeds: Bools, region: Bools) -> Bools:
    """The connected parts of a region, h w, in which a seed lies; diagonals connect.

    Runs are cells of the region side by side in a row. A seed spreads from run to run, which takes as many
    steps as it crosses rows, each over all pairs of runs that touch.
    """
    first = region.copy()
    first[:, 1:] &= ~region[:, :-1]
    run = np.where(region, first.cumsum(dtype=np.int32).reshape(region.shape), np.int32(0))  # 0 outside
    above, below = touching(run)
    grown = np.zeros(run.max(initial=0) + 1, np.bool_)
    grown[run[seeds]] = True
    grown[0] = False
    while True:
        fresh = grown[above] != grown[below]
        if not fresh.any():
            return grown[run]
        grown[above[fresh]] = grown[below[fresh]] = True


def touching(run: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The runs of one row and those of the next that touch, also by a corner, by number; 0 is none."""
    found = []
    for upper, lower in ((run[:-1], run[1:]), (run[:-1, 1:], run[1:, :-1]), (run[:-1, :-1], run[1:, 1:])):
        fresh = (upper > 0) & (lower > 0)
        fresh[:, 1:] &= (upper[:, 1:] != upper[:, :-1]) | (lower[:, 1:] != lower[:, :-1])  # each pair once
        found.append((upper[fresh], lower[fresh]))
    above, below = map(np.concatenate, zip(*found, strict=True))
    return above, below


def feather_weights(mask: Floats, rows: slice, columns: slice) -> Floats:
    """The feathered mask in a window of the photo, h w in 0-1: how strongly restored pixels are laid over it.

    mask: 0-1 for the cells of the whole photo, h w. The mask grown by FEATHER is interpolated from the
    middles of its cells: with a FEATHER of 1, weights are one up to 4 pixels around the mask and fall to
    exactly zero at 12. A pixel has the same weight in every window.
    """
    cells, place = surroundings(mask, rows, columns, FEATHER_REACH)
    dilated = F.max_pool2d(torch.from_numpy(cells)[None, None], 2 * FEATHER + 1, stride=1, padding=FEATHER)
    return enlarge_window(dilated[0, 0].numpy(), place, rows, columns)


def surroundings(
    values: Floats, rows: slice, columns: slice, margin: int, step: int = CELL
) -> tuple[Floats, tuple[int, int]]:
    """The values that a window of pixels lies in, with a margin, and row and column of the first one.

    values: h w or h w C, one for step x step pixels; repeated beyond the border
    """
    top, left = rows.start // step - margin, columns.start // step - margin
    bottom, right = -(-rows.stop // step) + margin, -(-columns.stop // step) + margin
    height, width = values.shape[:2]
    inner = values[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    padding = [(max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)), (0, 0)]
    return np.pad(inner, padding[: values.ndim], mode="edge"), (top, left)


def enlarge_window(
    values: Floats,
    place: tuple[int, int],
    rows: slice,
    columns: slice,
    step: int = CELL,
    mode: str = "bilinear",
) -> Floats:
    """The result of `surroundings` interpolated at the pixels of the window."""
    planes = torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1)[None]  # h w C -> 1 C h w
    large = F.interpolate(planes, scale_factor=step, mode=mode, align_corners=False)[0].permute(1, 2, 0)
    down, across = rows.start - place[0] * step, columns.start - place[1] * step
    window = large[down : down + rows.stop - rows.start, across : across + columns.stop - columns.start]
    return np.asarray(window.numpy()).reshape(*window.shape[:2], *values.shape[2:])


def interpolated_weights(cells: Floats, rows: slice, columns: slice) -> Floats:
    """Weights of cells, h w, interpolated at the pixels of a window of the photo."""
    return enlarge_window(*surroundings(cells, rows, columns, 1), rows, columns)


def covered_share(mask: Floats, height: int, width: int) -> float:
    """Share of the photo's pixels that a mask covers, h w of 0-1; the last cells may be part cells."""
    rows = np.minimum(CELL, height - CELL * np.arange(mask.shape[0]))
    columns = np.minimum(CELL, width - CELL * np.arange(mask.shape[1]))
    return float((mask * rows[:, None] * columns[None, :]).sum() / (height * width))
