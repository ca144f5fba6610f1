"""What pruned execution gathers and scatters: pixels under a mask for M²AENet, windows for LMD-ViT."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

DENSE_FROM = 0.15  # share of blurred pixels from which the dense depth-wise kernel beats nine lookups
APART = -100.0  # added to the attention between pixels of different borders, as in Swin Transformer
KINDS = 4  # of windows: in the middle, at the right border, at the lower border, in the corner
TOGETHER = 256  # windows computed at once, which bounds the memory; more are no faster on a processor


@dataclass(frozen=True)
class PruningPlan:
    """Which pixels the mask-aware convolution of Eq. 5 reads and writes, for all blocks that share a mask.

    Exact: the point-wise convolution runs on the mask dilated by one pixel, which is all that the 3x3
    depth-wise convolution on the mask can see.

    blurred:   Q, rows (of B H W) where the mask is one
    dilated:   D, rows within one pixel of them
    neighbors: 9 Q, position among `dilated` of each neighbor in raster order; D stands for outside
    shape:     B, H and W of the mask
    """

    blurred: Tensor
    dilated: Tensor
    neighbors: Tensor
    shape: tuple[int, int, int]

    @property
    def mostly_blurred(self) -> bool:
        """Whether the depth-wise convolution runs on the whole picture and is picked from there."""
        return len(self.blurred) > DENSE_FROM * math.prod(self.shape)


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


def dilate(mask: Tensor) -> Tensor:
    """The 0/1 mask B 1 H W and whatever lies within one pixel of it, float32."""
    return F.max_pool2d(mask.float(), 3, stride=1, padding=1)


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
    kernel = weight.view(-1, 9).t().contiguous()  # C 1 3 3 -> 9 C; strided rows would not vectorize
    result = bias.expand(plan.neighbors.shape[1], -1)
    for tap in range(9):
        result = torch.addcmul(result, padded.index_select(0, plan.neighbors[tap]), kernel[tap])
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


@dataclass(frozen=True)
class WindowGrid:
    """The windows of B feature maps of height x width pixels, both whole multiples of `size`.

    Windows are size x size pixels and tile the map; N windows of one map are counted row by row, those of
    further maps follow. With a shift they lie that many pixels further down and right, and those at the lower
    and right border hold pixels of both borders (the cyclic shift of Liu et al., "Swin Transformer", 2021),
    which then do not attend to each other.
    """

    batch: int
    height: int
    width: int
    size: int
    shift: int
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """Maps, and windows down and across."""
        return self.batch, self.height // self.size, self.width // self.size

    @cached_property
    def rows(self) -> Tensor:
        """Which pixels, as rows of (B H W) C, each window holds: (B N) w*w."""
        pixels = torch.arange(self.batch * self.height * self.width, device=self.device)
        return self.partition(pixels.view(self.batch, self.height, self.width, 1)).flatten(1)

    @cached_property
    def kinds(self) -> Tensor:
        """Kind of each window, (B N): 1 is added at the right border and 2 at the lower one, if shifted."""
        kind = torch.zeros(self.shape, dtype=torch.long, device=self.device)
        if self.shift:
            kind[:, :, -1] += 1
            kind[:, -1] += 2
        return kind.flatten()

    @cached_property
    def barriers(self) -> Tensor:
        """What is added to the attention in windows of each kind: 4 w*w w*w, zero or APART."""
        beyond = (torch.arange(self.size, device=self.device) >= self.size - self.shift).long()
        across, down = beyond.expand(self.size, -1), beyond[:, None].expand(-1, self.size)
        sides = [(across * (kind & 1) + down * (kind & 2)).flatten() for kind in range(KINDS)]
        return torch.stack([APART * (side[:, None] != side).float() for side in sides])

    def partition(self, x: Tensor) -> Tensor:
        """All windows: B H W C -> (B N) w*w C."""
        batch, down, across = self.shape
        x = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        x = x.view(batch, down, self.size, across, self.size, -1)
        return x.transpose(2, 3).reshape(-1, self.size**2, x.shape[-1])  # B h w h' w' C, h' w' within windows

    def merge(self, windows: Tensor) -> Tensor:
        """The inverse: (B N) w*w C -> B H W C."""
        x = windows.view(*self.shape, self.size, self.size, -1).transpose(2, 3)
        x = x.reshape(self.batch, self.height, self.width, -1)
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x

    def means(self, values: Tensor) -> Tensor:
        """Mean over each window of values B C H W: (B N) C."""
        return values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])[self.rows].mean(1)

    def spread(self, values: Tensor) -> Tensor:
        """One value for each window, (B N), at all its pixels: B 1 H W."""
        picture = values.new_empty(self.batch * self.height * self.width)
        picture[self.rows] = values[:, None].expand(self.rows.shape)
        return picture.view(self.batch, 1, self.height, self.width)

    def groups(self, kept: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Kept windows, (B N) of booleans, in groups of one kind, each small enough for the memory.

        For each its pixels as rows of (B H W) C, K w*w, and what is added to the attention, w*w w*w.
        """
        groups = []
        for kind in range(KINDS if self.shift else 1):
            chosen = (kept & (self.kinds == kind)).nonzero().squeeze(1)
            barrier = self.barriers[kind] if kind else None
            groups += [(self.rows[part], barrier) for part in chosen.split(TOGETHER) if len(part)]
        return groups
