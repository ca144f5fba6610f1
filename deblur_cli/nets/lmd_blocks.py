"""Adaptive window pruning blocks of LMD-ViT (Li et al., ICLR 2024).

Parameter names are those of the published checkpoint.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.mask import MaskPredictor
from deblur_cli.nets.windows import WindowGrid, WindowGroup, merge, partition

PREDICTING = 2  # the first blocks of a layer predict: one for plain, one for shifted windows
EXPANSION = 4  # hidden channels of the feed-forward part, in channels of the block


@dataclass(frozen=True)
class Verdict:
    """What a predictor said of the windows of its grid.

    confidence: (B N) in 0-1, that a window is blurred; kept: (B N) of booleans, those over epsilon
    """

    grid: WindowGrid
    confidence: Tensor
    kept: Tensor

    @cached_property
    def groups(self) -> list[WindowGroup]:
        """Kept windows as they are computed."""
        return self.grid.choose(self.kept)

    @property
    def map(self) -> Tensor:
        """The confidence at each pixel of the layer: B 1 H W."""
        return self.grid.spread(self.confidence)

    @property
    def decision(self) -> Tensor:
        """Kept windows as a map, B 1 h w of zeros and ones."""
        batch, down, across = self.grid.shape
        return self.kept.view(batch, 1, down, across).float()


class Projection(nn.Module):
    """Queries, keys and values: K n C -> 3 of K heads n C/heads."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(channels, 2 * channels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        parts = (self.to_q(x), *self.to_kv(x).chunk(2, dim=-1))
        return tuple(part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)


class WindowAttention(nn.Module):
    """Attention among the pixels of each window, with a learned bias for each offset: K n C -> K n C.

    A window holds n = size * size pixels.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, size: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * size - 1) ** 2, heads))
        self.register_buffer("relative_position_index", offsets(size))
        self.qkv = Projection(channels, heads)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, barrier: Tensor | None = None) -> Tensor:
        """barrier: n n or K 1 n n, added to the attention."""
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # heads n n
        if barrier is not None:
            bias = bias + barrier.to(bias.dtype)
        query, key, value = self.qkv(x)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).flatten(2))  # K heads n C/heads -> K n C


class FeedForward(nn.Module):
    """Point-wise, depth-wise 3x3 within each window, point-wise: K n C -> K n C."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        hidden = EXPANSION * channels
        self.linear1 = nn.Sequential(nn.Linear(channels, hidden), nn.GELU())
        convolution = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, padding_mode="reflect")
        self.dwconv = nn.Sequential(convolution, nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.linear1(x).unflatten(1, (self.size, self.size)).permute(0, 3, 1, 2)  # K 4C w w
        return self.linear2(self.dwconv(hidden).permute(0, 2, 3, 1).flatten(1, 2))


class WindowBlock(nn.Module):
    """Attention and feed-forward part on kept windows; the others keep their pixels: B H W C -> B H W C.

    A block that predicts says itself which windows are kept. With a `modulator`, as in the decoder, each
    place in a window has a learned vector of its own.
    """

    def __init__(
        self, channels: int, heads: int, size: int, shift: int, predicts: bool, modulated: bool
    ) -> None:
        super().__init__()
        self.size, self.shift = size, shift
        self.modulator = nn.Embedding(size * size, channels) if modulated else None
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, size)
        self.mlp = FeedForward(channels, size)
        self.score_predictor = MaskPredictor(channels) if predicts else None

    def judge(self, x: Tensor, epsilon: float) -> Verdict:
        """Which windows of x, B H W C, are blurred with a confidence above epsilon?"""
        assert self.score_predictor is not None
        batch, height, width = x.shape[:3]
        grid = WindowGrid(batch, height, width, self.size, self.shift, x.device)
        scores = grid.means(self.score_predictor(x.permute(0, 3, 1, 2)))
        confidence = scores.float().softmax(1)[:, 0]
        return Verdict(grid, confidence, confidence > epsilon)

    def attend(self, windows: Tensor, barrier: Tensor | None) -> Tensor:
        """What attention adds: K n C -> K n C."""
        normed = self.norm1(windows)
        if self.modulator is not None:
            normed = normed + self.modulator.weight
        return self.attn(normed, barrier)

    def forward(self, x: Tensor, verdict: Verdict) -> Tensor:
        grid, kept = verdict.grid, verdict.kept[:, None, None]
        windows = partition(x, self.size, self.shift)
        windows = windows + kept * self.attend(windows, grid.barriers[grid.kinds][:, None])
        windows = windows + kept * self.mlp(self.norm2(windows))
        return merge(windows, grid)


class WindowLayer(nn.Module):
    """Blocks of one scale, in turn with plain and shifted windows: B H W C -> B H W C.

    The first block of each kind predicts for all of its kind.
    """

    def __init__(self, channels: int, depth: int, heads: int, size: int, modulated: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            WindowBlock(channels, heads, size, number % 2 * (size // 2), number < PREDICTING, modulated)
            for number in range(depth)
        )

    def forward(self, x: Tensor, epsilon: float) -> tuple[Tensor, list[Verdict]]:
        """The layer's output and the verdicts of its predictors."""
        verdicts: list[Verdict] = []
        for number, module in enumerate(self.blocks):
            block = cast(WindowBlock, module)
            if number < PREDICTING:
                verdicts.append(block.judge(x, epsilon))
            x = block(x, verdicts[number % PREDICTING])
        return x, verdicts


def offsets(size: int) -> Tensor:
    """Row of the bias table for each pair of pixels of a window, n n: one for each offset between them."""
    line = torch.arange(size)
    y, x = (place.flatten() for place in torch.meshgrid(line, line, indexing="ij"))
    down, across = (place[:, None] - place + size - 1 for place in (y, x))
    return down * (2 * size - 1) + across
