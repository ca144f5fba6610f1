"""From the confidence of single cells to regions, and from regions to how strongly a pixel is laid in."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.nets import STAGE_SCALE

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
    cells, offset = surroundings(mask, rows, columns, margin)
    dilated = F.max_pool2d(torch.from_numpy(cells)[None, None], 3, stride=1, padding=1)
    return enlarge_cells(dilated[0, 0].numpy(), offset, rows, columns)


def surroundings(cells: Floats, rows: slice, columns: slice, margin: int) -> tuple[Floats, tuple[int, int]]:
    """The cells of a window of pixels with a margin, continued over the border, and the first one's place."""
    top, left = rows.start // STAGE_SCALE - margin, columns.start // STAGE_SCALE - margin
    bottom, right = -(-rows.stop // STAGE_SCALE) + margin, -(-columns.stop // STAGE_SCALE) + margin
    height, width = cells.shape
    inner = cells[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    padding = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)))
    return np.pad(inner, padding, mode="edge"), (top, left)


def enlarge_cells(cells: Floats, offset: tuple[int, int], rows: slice, columns: slice) -> Floats:
    """Cells interpolated at the pixels of a window; the first cell is the one at `offset` of the photo."""
    values = torch.from_numpy(cells)[None, None]
    values = F.interpolate(values, scale_factor=STAGE_SCALE, mode="bilinear", align_corners=False)[0, 0]
    down, across = rows.start - offset[0] * STAGE_SCALE, columns.start - offset[1] * STAGE_SCALE
    window = values[down : down + rows.stop - rows.start, across : across + columns.stop - columns.start]
    return np.asarray(window.numpy())


def smooth_weights(cells: Floats, rows: slice, columns: slice) -> Floats:
    """Weights of cells, h w, interpolated at the pixels of a window."""
    return enlarge_cells(*surroundings(cells, rows, columns, 1), rows, columns)


def covered_share(mask: Floats, height: int, width: int) -> float:
    """Share of the photo's pixels whose cells count, h w of 0-1; the last cells may be part cells."""
    rows = np.minimum(STAGE_SCALE, height - STAGE_SCALE * np.arange(mask.shape[0]))
    columns = np.minimum(STAGE_SCALE, width - STAGE_SCALE * np.arange(mask.shape[1]))
    return float((mask * rows[:, None] * columns[None, :]).sum() / (height * width))
