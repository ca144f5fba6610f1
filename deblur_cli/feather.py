"""How strongly a restored pixel is laid over the photo: one inside the blur mask, fading to zero."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from deblur_cli.nets import STAGE_SCALE


def overlay_weights(mask: NDArray[np.float32], rows: slice, columns: slice) -> NDArray[np.float32]:
    """Overlay weight of the photo's pixels in a window, h w in 0-1.

    mask: stage map of zeros and ones for the whole photo, one cell for 8 x 8 pixels. The weight is one
    on the mask dilated by 4 pixels, then falls to zero over the next 8, so 12 pixels away from the mask
    it is exactly zero. The same pixel gets the same weight whatever window it is seen through.
    """
    margin = 2  # cells that reach into the window's weights: one of dilation, one of interpolation
    top, left = rows.start // STAGE_SCALE - margin, columns.start // STAGE_SCALE - margin
    bottom, right = -(-rows.stop // STAGE_SCALE) + margin, -(-columns.stop // STAGE_SCALE) + margin
    height, width = mask.shape
    inner = mask[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    padding = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)))
    cells = torch.from_numpy(np.pad(inner, padding, mode="edge"))[None, None]
    dilated = F.max_pool2d(cells, 3, stride=1, padding=1)
    weights = F.interpolate(dilated, scale_factor=STAGE_SCALE, mode="bilinear", align_corners=False)[0, 0]
    down, across = rows.start - top * STAGE_SCALE, columns.start - left * STAGE_SCALE
    window = weights[down : down + rows.stop - rows.start, across : across + columns.stop - columns.start]
    return np.asarray(window.numpy())
