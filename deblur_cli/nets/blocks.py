"""Building blocks: those of NAFNet, the mask predictor of M²AENet and its mask- and motion-aware block.

Chen et al., "Simple Baselines for Image Restoration" (2022), and Shang et al., "Motion-Aware Adaptive Pixel
Pruning for Efficient Local Motion Deblurring" (2025), which has the equations. All tensors are B C H W;
kernels are fastest when the memory format is channels-last.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.motion import SamplingPlan, deformable_rows

NORM_EPSILON = 1e-6  # as in the published NAFNet checkpoints
DENSE_FROM = 0.15  # share of blurred pixels from which the dense depth-wise kernel beats nine lookups


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over the channels of each pixel: B C H W -> B C H W.

    Statistics are taken in float32 for half-precision inputs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # B C H W -> B H W C -> B C H W

    def rows(self, x: Tensor) -> Tensor:
        """The same for pixels as rows: (..., C) -> (..., C)."""
        return super().forward(x)


class SimpleGate(nn.Module):
    """Product of the two halves of the channels: B 2C H W -> B C H W."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * second


class Average(nn.Module):
    """Average of each channel over the image, B C 1 1, or over a window around each pixel, B C H W.

    window: pixels of this layer's resolution, None for the image. Near the border the nearest whole window
    counts; one that covers the image is the image. This is the test-time local pooling of Chu et al.,
    "Improving Image Restoration by Revisiting Global Information Aggregation" (2022).
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        if self.window is None or self.window >= max(x.shape[-2:]):
            return x.mean((-2, -1), keepdim=True)
        return self.local(x, self.window)

    def local(self, x: Tensor, window: int) -> Tensor:
        """Mean of the nearest whole window around each pixel: B C H W -> B C H W.

        Running sums are kept in float32 at least and along one axis at a time, which keeps them small.
        """
        rows, columns = min(window, x.shape[-2]), min(window, x.shape[-1])
        sums = F.pad(x.to(torch.promote_types(x.dtype, torch.float32)).cumsum(-1), (1, 0))
        sums = sums[..., columns:] - sums[..., :-columns]
        sums = F.pad(sums.cumsum(-2), (0, 0, 1, 0))
        means = ((sums[..., rows:, :] - sums[..., :-rows, :]) / (rows * columns)).to(x.dtype)
        padding = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)  # centered on their pixels
        return F.pad(means, padding, mode="replicate")


class NAFBlock(nn.Module):
    """Nonlinear-activation-free block: B C H W -> B C H W.

    pooling: window of the channel attention in pixels of this block's resolution, None for the whole image
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


class MaskPredictor(nn.Module):
    """Blur logits for each pixel of the features entering encoder stage 4 (Eq. 1).

    Half of the embedded channels stay local. The other half become their average over the image, or over
    `pooling` pixels of this resolution, so that each pixel is compared with the whole.
    """

    def __init__(self, channels: int, pooling: int | None = None) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(
            nn.Linear(channels, channels), nn.GELU(), nn.LayerNorm(channels), nn.Linear(channels, channels)
        )
        self.out_conv = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.GELU(),
            nn.Linear(channels // 2, channels // 4),
            nn.GELU(),
            nn.Linear(channels // 4, 2),
        )
        self.average = Average(pooling)

    def forward(self, features: Tensor) -> Tensor:
        """B C H W -> logits B 2 H W; channel 0 speaks for blurred, channel 1 for sharp."""
        embedded = self.in_conv(features.permute(0, 2, 3, 1))  # B C H W -> B H W C
        local, shared = embedded.chunk(2, dim=-1)
        shared = self.average(shared.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        logits = self.out_conv(torch.cat([local, shared.expand_as(local)], dim=-1))
        return logits.permute(0, 3, 1, 2)  # B H W 2 -> B 2 H W


def threshold_mask(probability: Tensor, epsilon: float | Tensor) -> Tensor:
    """Mask of Eq. 3: 1 where the probability is above epsilon, else 0. epsilon: one for all, or B 1 1 1."""
    return (probability > epsilon).to(probability.dtype)


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


def plan_pruning(mask: Tensor) -> PruningPlan | None:
    """Gathering plan of a 0/1 mask B 1 H W; None where all of it is one."""
    blurred = mask.reshape(-1).nonzero().squeeze(1)
    if len(blurred) == mask.numel():
        return None
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


@dataclass(frozen=True)
class Guidance:
    """What all blocks of a stage share: where it is blurred and how each pixel moved.

    mask:     B 1 H W of zeros and ones, or None where every pixel is processed
    sampling: the motion as sampling positions, or None for blocks without motion
    """

    mask: Tensor | None = None
    sampling: SamplingPlan | None = None

    @cached_property
    def pruning(self) -> PruningPlan | None:
        """The mask as a gathering plan, for blocks that compute blurred pixels alone; None if all are."""
        return None if self.mask is None else plan_pruning(self.mask)


class MotionBlock(NAFBlock):
    """The mask- and motion-aware simple block of M²AENet (Fig. 2).

    Its first half works on blurred pixels, its second half follows the motion. Without mask or motion in its
    guidance, that half is NAFNet's.
    """

    def __init__(
        self,
        channels: int,
        pooling: int | None = None,
        motion: bool = True,
        mask_conv3: bool = False,
        mask_conv4: bool = False,
    ) -> None:
        super().__init__(channels, pooling)
        self.mask_conv3, self.mask_conv4 = mask_conv3, mask_conv4
        if motion:  # holds the parameters of the depth-wise deformable convolution, at first the identity
            self.dconv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
            nn.init.dirac_(self.dconv.weight, groups=2 * channels)
            nn.init.zeros_(kernel_of(self.dconv)[1])

    def forward(self, x: Tensor, guidance: Guidance) -> Tensor:  # type: ignore[override]
        """Eq. 5, then Eq. 6: B C H W -> B C H W."""
        f3 = self.weigh(self.extract(x, guidance))
        f_mid = self.add(self.project(self.conv3, f3, guidance, self.mask_conv3), x, self.beta)
        f4 = self.project(self.conv4, self.norm2(f_mid), guidance, self.mask_conv4)
        if guidance.sampling is not None:
            f4 = self.deform(f4, guidance.sampling)
        return self.add(self.conv5(self.gate(f4)), f_mid, self.gamma)

    def extract(self, x: Tensor, guidance: Guidance) -> Tensor:
        """SG(f_2) of Eq. 5: convolutions where the mask is one, f_1 elsewhere: B C H W -> B C H W."""
        f1 = self.norm1(x)
        return self.gate(blend(self.conv2(self.conv1(f1)), f1, guidance.mask))

    def project(self, convolution: nn.Conv2d, x: Tensor, guidance: Guidance, masked: bool) -> Tensor:
        """A point-wise convolution, if masked only where the mask is one: B C H W -> B C H W or B 2C H W."""
        return blend(convolution(x), x, guidance.mask if masked else None)

    def deform(self, features: Tensor, plan: SamplingPlan) -> Tensor:
        """Motion-aware deformable convolution (Section 3.3.2): B 2C H W -> B 2C H W."""
        batch, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)  # B 2C H W -> (B H W) 2C
        rows = deformable_rows(rows, plan, *kernel_of(self.dconv))
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def blend(convolved: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
    """What was convolved, n C channels, where the mask is one; Rep(x), n times x, elsewhere (Eq. 5)."""
    if mask is None:
        return convolved
    mask = mask.to(convolved.dtype)
    repeats = convolved.shape[1] // x.shape[1]
    return convolved * mask + x.repeat(1, repeats, 1, 1) * (1 - mask)


def kernel_of(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that has both."""
    assert convolution.bias is not None
    return convolution.weight, convolution.bias


def zero_initialized(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and bias at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
