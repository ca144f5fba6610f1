"""Building blocks of NAFNet (Chen et al., "Simple Baselines for Image Restoration", 2022).

All tensors are B C H W; kernels are fastest when the memory format is channels-last.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-6  # as in the published NAFNet checkpoints


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each pixel: B C H W -> B C H W.

    Statistics are taken in float32 for half-precision inputs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # B C H W -> B H W C -> B C H W

    def rows(self, x: Tensor) -> Tensor:
        """The same for pixels as rows: (..., C) -> (..., C)."""
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, NORM_EPSILON)


class SimpleGate(nn.Module):
    """Product of the two halves of the channels: B 2C H W -> B C H W."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * second


class Average(nn.Module):
    """Average of each channel: over the whole image, or over a window around each pixel.

    With a window of k pixels the result at a pixel is the mean of the k x k window around it; near
    the border, where the window would leave the image, it is that of the nearest whole window. This is
    the test-time local pooling of Chu et al., "Improving Image Restoration by Revisiting Global
    Information Aggregation" (2022). A window that covers the image is global pooling again.

    `window` is in pixels of this layer's resolution; None means global.
    Returns B C 1 1 (global) or B C H W (local).
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        if self.window is None or self.window >= max(x.shape[-2:]):
            return x.mean((-2, -1), keepdim=True)
        return self.local(x, self.window)

    def local(self, x: Tensor, window: int) -> Tensor:
        """Mean of the nearest whole window around each pixel: B C H W -> B C H W."""
        height, width = x.shape[-2:]
        return spread(box_mean(x, min(window, height), min(window, width)), height, width)


def box_mean(x: Tensor, rows: int, columns: int) -> Tensor:
    """Mean over every whole rows x columns window: B C H W -> B C H-rows+1 W-columns+1.

    Running sums are kept in float32 at least and along one axis at a time, which keeps them small.
    """
    sums = F.pad(x.to(torch.promote_types(x.dtype, torch.float32)).cumsum(-1), (1, 0))
    sums = sums[..., columns:] - sums[..., :-columns]
    sums = F.pad(sums.cumsum(-2), (0, 0, 1, 0))
    sums = sums[..., rows:, :] - sums[..., :-rows, :]
    return (sums / (rows * columns)).to(x.dtype)


def spread(means: Tensor, height: int, width: int) -> Tensor:
    """Window means centred on their pixels and continued to the border: B C h w -> B C height width."""
    down, right = height - means.shape[-2], width - means.shape[-1]
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    return F.pad(means, padding, mode="replicate")


class NAFBlock(nn.Module):
    """Nonlinear-activation-free block: B C H W -> B C H W.

    `pooling` is the window of the channel attention in pixels of this block's resolution, None for
    the whole image.
    """

    def __init__(self, channels: int, pooling: int | None = None) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.sca = nn.Sequential(Average(pooling), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.gate = SimpleGate()
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.add(self.conv3(self.weigh(self.gate(self.conv2(self.conv1(self.norm1(x)))))), x, self.beta)
        return self.add(self.conv5(self.gate(self.conv4(self.norm2(x)))), x, self.gamma)

    def weigh(self, gated: Tensor) -> Tensor:
        """Channel attention: B C H W -> B C H W."""
        return gated * self.sca(gated)

    def add(self, change: Tensor, x: Tensor, scale: Tensor) -> Tensor:
        """The residual x + scale * change: B C H W -> B C H W."""
        return torch.addcmul(x, change, scale)
