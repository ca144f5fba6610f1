"""From the confidence of single pixels to regions that moved."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SMOOTHING = 3  # stage cells; smaller than anything that the network could have seen move


def settle(probability: NDArray[np.float32], epsilon: float) -> NDArray[np.float32]:
    """Confidence averaged over each cell's neighbours, lowered to epsilon where a region is nowhere sure.

    probability: stage map h w in 0-1; what is over epsilon in the result, h w, is to be restored.
    The network judges every cell of 8 x 8 photo pixels alone, so that some cells of any sharp photo come
    out a little above epsilon. A region over epsilon therefore counts only if it is somewhere over
    sqrt(epsilon) as well, the two thresholds of Canny, "A Computational Approach to Edge Detection" (1986).
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
