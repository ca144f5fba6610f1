"""From the confidence of single cells to regions, and from regions to how strongly a pixel is laid in."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.cells import CELL

SMOOTHING = 3  # cells; smaller than anything that could be seen to move

Floats = NDArray[np.float32]


def settle(probability: Floats, epsilon: float) -> Floats:
    """Confidence averaged over each cell's neighbors, lowered to epsilon where a region is nowhere sure.

    probability: h w in 0-1, one value for 8 x 8 pixels; what is over epsilon in the result, h w, is blurred.
    Each cell is judged alone, so that some cells of any sharp photo come out a little above epsilon. A region
    over epsilon therefore counts only if it is somewhere over sqrt(epsilon) as well, the two thresholds of
    Canny, "A Computational Approach to Edge Detection" (1986).
    """
    cells = torch.from_numpy(probability)[None, None]
    smooth = F.avg_pool2d(cells, SMOOTHING, stride=1, padding=SMOOTHING // 2, count_include_pad=False)
    region = (smooth > epsilon).float()
    kept = grow((smooth > epsilon**0.5).float(), region)
    settled = torch.where(kept > 0, smooth, smooth.clamp(max=epsilon))
    return np.asarray(settled[0, 0].numpy(), np.float32)


def grow(seeds: Tensor, region: Tensor) -> Tensor:
    """The connected parts of a region (1 1 h w of zeros and ones) in which a seed lies; diagonals connect."""
    grown = seeds * region
    while True:
        larger = F.max_pool2d(grown, 3, stride=1, padding=1) * region
        if torch.equal(larger, grown):
            return grown
        grown = larger


def overlay_weights(mask: Floats, rows: slice, columns: slice) -> Floats:
    """How strongly restored pixels of a window are laid over the photo, h w in 0-1.

    mask: zeros and ones for the whole photo, h w, one cell for 8 x 8 pixels. The weight is one on the mask
    dilated by 4 pixels, then falls to zero over the next 8, so 12 pixels away from the mask it is exactly
    zero. The same pixel gets the same weight whatever window it is seen through.
    """
    margin = 2  # cells that reach into the window's weights: one of dilation, one of interpolation
    cells, place = surroundings(mask, rows, columns, margin)
    dilated = F.max_pool2d(torch.from_numpy(cells)[None, None], 3, stride=1, padding=1)
    return enlarge_window(dilated[0, 0].numpy(), place, rows, columns)


def surroundings(
    values: Floats, rows: slice, columns: slice, margin: int, step: int = CELL
) -> tuple[Floats, tuple[int, int]]:
    """The values that a window of pixels falls on, with a margin, and the place of the first one.

    values: h w or h w C, one for step x step pixels; continued over the border
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
    """Values, as of `surroundings`, interpolated at the pixels of their window."""
    planes = torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1)[None]  # h w C -> 1 C h w
    large = F.interpolate(planes, scale_factor=step, mode=mode, align_corners=False)[0].permute(1, 2, 0)
    down, across = rows.start - place[0] * step, columns.start - place[1] * step
    window = large[down : down + rows.stop - rows.start, across : across + columns.stop - columns.start]
    return np.asarray(window.numpy()).reshape(*window.shape[:2], *values.shape[2:])


def smooth_weights(cells: Floats, rows: slice, columns: slice) -> Floats:
    """Weights of cells, h w, interpolated at the pixels of a window."""
    return enlarge_window(*surroundings(cells, rows, columns, 1), rows, columns)


def covered_share(mask: Floats, height: int, width: int) -> float:
    """Share of the photo's pixels whose cells count, h w of 0-1; the last cells may be part cells."""
    rows = np.minimum(CELL, height - CELL * np.arange(mask.shape[0]))
    columns = np.minimum(CELL, width - CELL * np.arange(mask.shape[1]))
    return float((mask * rows[:, None] * columns[None, :]).sum() / (height * width))
