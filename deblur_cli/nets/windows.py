"""Windows of a feature map: which pixels belong to each, which attend to each other, gather and scatter.

Windows are w x w pixels and tile the picture. Shifted by s, they lie s pixels further down and right, and
those at the lower and right border hold pixels of both borders (the cyclic shift of Liu et al., "Swin
Transformer", 2021), which then do not attend to each other.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

APART = -100.0  # added to the attention between pixels of different borders, as in Swin Transformer
KINDS = 4  # of windows: in the middle, at the right border, at the lower border, in the corner
TOGETHER = 256  # windows computed at once, which bounds the memory; more are no faster on a processor


@dataclass(frozen=True)
class WindowGrid:
    """The windows of B feature maps of height x width pixels, both whole multiples of `size`.

    N windows of one map are counted row by row; those of further maps follow.
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
        pixels = pixels.view(self.batch, self.height, self.width, 1)
        return partition(pixels, self.size, self.shift).flatten(1)

    @cached_property
    def kinds(self) -> Tensor:
        """Kind of each window, (B N): 1 is added at the right border and 2 at the lower one, if shifted."""
        batch, down, across = self.shape
        kind = torch.zeros(batch, down, across, dtype=torch.long, device=self.device)
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

    def means(self, values: Tensor) -> Tensor:
        """Mean over each window of values B C H W: (B N) C."""
        return values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])[self.rows].mean(1)

    def spread(self, values: Tensor) -> Tensor:
        """One value for each window, (B N), at all its pixels: B 1 H W."""
        picture = values.new_empty(self.batch * self.height * self.width)
        picture[self.rows] = values[:, None].expand(self.rows.shape)
        return picture.view(self.batch, 1, self.height, self.width)

    def choose(self, kept: Tensor) -> list["WindowGroup"]:
        """Kept windows, (B N) of booleans, in groups of one kind, each small enough for the memory."""
        groups = []
        for kind in range(KINDS if self.shift else 1):
            chosen = (kept & (self.kinds == kind)).nonzero().squeeze(1)
            barrier = self.barriers[kind] if kind else None
            groups += [WindowGroup(self.rows[part], barrier) for part in chosen.split(TOGETHER) if len(part)]
        return groups


@dataclass(frozen=True)
class WindowGroup:
    """Windows of one kind: their pixels as rows of (B H W) C, K w*w, and w*w w*w to add to the attention."""

    rows: Tensor
    barrier: Tensor | None


def gather(pixels: Tensor, group: WindowGroup) -> Tensor:
    """Pixels (B H W) C of a group's windows: K w*w C."""
    return pixels[group.rows]


def scatter(pixels: Tensor, group: WindowGroup, values: Tensor) -> None:
    """Write K w*w C back over the group's windows in (B H W) C; nothing else is touched."""
    pixels[group.rows] = values


def partition(x: Tensor, size: int, shift: int) -> Tensor:
    """All windows: B H W C -> (B N) w*w C."""
    batch, height, width, channels = x.shape
    x = x.roll((-shift, -shift), (1, 2)) if shift else x
    x = x.view(batch, height // size, size, width // size, size, channels)
    return x.transpose(2, 3).reshape(-1, size * size, channels)  # B h w h' w' C, h' and w' within windows


def merge(windows: Tensor, grid: WindowGrid) -> Tensor:
    """The inverse: (B N) w*w C -> B H W C."""
    batch, down, across = grid.shape
    x = windows.view(batch, down, across, grid.size, grid.size, -1).transpose(2, 3)
    x = x.reshape(batch, grid.height, grid.width, -1)
    return x.roll((grid.shift, grid.shift), (1, 2)) if grid.shift else x
