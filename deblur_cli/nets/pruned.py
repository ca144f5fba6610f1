"""Pixel pruning: the mask-aware convolution of Eq. 5 computed for blurred pixels alone.

Exact: the point-wise convolution runs on the mask dilated by one pixel, which is all that the 3x3
depth-wise convolution on the mask can see.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DENSE_FROM = 0.15  # share of blurred pixels from which the dense depth-wise kernel beats nine lookups


@dataclass(frozen=True)
class PruningPlan:
    """Which pixels to gather, worked out once for the 28 blocks that share a mask.

    blurred:    Q, rows (of B H W) where the mask is one
    dilated:    D, rows within one pixel of them
    neighbours: 9 Q, position among `dilated` of each neighbour in raster order; D stands for outside
    shape:      B, H and W of the mask
    """

    blurred: Tensor
    dilated: Tensor
    neighbours: Tensor
    shape: tuple[int, int, int]

    @property
    def mostly_blurred(self) -> bool:
        """Whether the depth-wise convolution runs on the whole picture and is picked from there."""
        return len(self.blurred) > DENSE_FROM * math.prod(self.shape)


def dilate(mask: Tensor) -> Tensor:
    """The 0/1 mask B 1 H W and whatever lies within one pixel of it, float32."""
    return F.max_pool2d(mask.float(), 3, stride=1, padding=1)


def plan_pruning(mask: Tensor) -> PruningPlan:
    """Gathering plan of a 0/1 mask B 1 H W."""
    blurred = mask.reshape(-1).nonzero().squeeze(1)
    dilated = dilate(mask).reshape(-1).nonzero().squeeze(1)
    batch, _, height, width = mask.shape
    position = torch.full((batch * height * width,), len(dilated), device=mask.device)
    position[dilated] = torch.arange(len(dilated), device=mask.device)
    # a border of "outside" on every side stands for the zero padding of the convolution
    bordered = F.pad(position.view(batch, height, width), (1, 1, 1, 1), value=len(dilated))
    windows = bordered.unfold(1, 3, 1).unfold(2, 3, 1).reshape(-1, 9)  # B H W 3 3 -> (B H W) 9
    return PruningPlan(blurred, dilated, windows[blurred].t().contiguous(), (batch, height, width))


def gather(rows: Tensor, plan: PruningPlan) -> Tensor:
    """Pixels that the pruned convolution reads: (B H W) C -> D C."""
    return rows.index_select(0, plan.dilated)


def scatter(values: Tensor, rows: Tensor, plan: PruningPlan) -> Tensor:
    """Blurred pixels back into the picture: values Q C laid over rows (B H W) C."""
    return rows.index_copy(0, plan.blurred, values)


def depthwise(gathered: Tensor, plan: PruningPlan, weight: Tensor, bias: Tensor) -> Tensor:
    """3x3 depth-wise convolution on the mask: gathered D C -> Q C; weight C 1 3 3, bias C."""
    if plan.mostly_blurred:
        return depthwise_in_place(gathered, plan, weight, bias)
    padded = F.pad(gathered, (0, 0, 0, 1))  # one row of zeros for whatever lies outside the image
    kernel = weight.view(-1, 9).t().contiguous()  # C 1 3 3 -> 9 C; strided rows would not vectorise
    result = bias.expand(plan.neighbours.shape[1], -1)
    for tap in range(9):
        result = torch.addcmul(result, padded.index_select(0, plan.neighbours[tap]), kernel[tap])
    return result


def depthwise_in_place(gathered: Tensor, plan: PruningPlan, weight: Tensor, bias: Tensor) -> Tensor:
    """The same by the dense convolution over the whole picture, zeros where nothing was gathered.

    Blurred pixels see only dilated ones, hence the same numbers.
    """
    batch, height, width = plan.shape
    rows = gathered.new_zeros(batch * height * width, gathered.shape[1])
    picture = rows.index_copy(0, plan.dilated, gathered).view(batch, height, width, -1)
    picture = F.conv2d(picture.permute(0, 3, 1, 2), weight, bias, padding=1, groups=len(bias))
    return picture.permute(0, 2, 3, 1).reshape(len(rows), -1).index_select(0, plan.blurred)
