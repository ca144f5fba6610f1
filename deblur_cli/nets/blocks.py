"""The mask- and motion-aware simple block of M²AENet (Fig. 2, Eq. 5 and 6)."""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.layers import NAFBlock
from deblur_cli.nets.motion import SamplingPlan, deformable_rows
from deblur_cli.nets.pruned import PruningPlan, depthwise, gather, scatter


@dataclass(frozen=True)
class Guidance:
    """What the 28 blocks of a stage share: where it is blurred and how each pixel moved.

    mask:     B 1 H W of zeros and ones, or None where every pixel is processed
    pruning:  the mask as a gathering plan; None runs the dense reference
    sampling: the motion as sampling positions, or None for a block without motion
    """

    mask: Tensor | None
    pruning: PruningPlan | None
    sampling: SamplingPlan | None


class MotionBlock(NAFBlock):
    """NAFBlock whose first half works on blurred pixels and whose second half follows the motion.

    Without mask or motion in its guidance, that half is the one of NAFNet.
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
        if motion:  # holds the parameters of the depth-wise deformable convolution
            self.dconv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)

    def forward(self, x: Tensor, guidance: Guidance) -> Tensor:  # type: ignore[override]
        gated = self.prune(x, guidance.pruning) if guidance.pruning else self.mask(x, guidance.mask)
        x = self.add(self.point(self.conv3, self.weigh(gated), guidance, self.mask_conv3), x, self.beta)
        features = self.point(self.conv4, self.norm2(x), guidance, self.mask_conv4)
        if guidance.sampling is not None:
            features = self.deform(features, guidance.sampling)
        return self.mix(self.gate(features), x)

    def fold_scales(self) -> None:
        """As for any block, but for a masked projection, which hands sharp pixels on without its weights."""
        if not self.mask_conv3:
            super().fold_scales()

    def point(self, convolution: nn.Conv2d, x: Tensor, guidance: Guidance, masked: bool) -> Tensor:
        """A point-wise convolution that, if masked, repeats sharp pixels: B C H W -> B C H W or B 2C H W."""
        if not masked or guidance.mask is None:
            return cast(Tensor, convolution(x))
        repeats = convolution.out_channels // convolution.in_channels
        if guidance.pruning is None:
            mask = guidance.mask.to(x.dtype)
            return cast(Tensor, convolution(x)) * mask + x.repeat(1, repeats, 1, 1) * (1 - mask)
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)  # B C H W -> (B H W) C
        blurred = rows.index_select(0, guidance.pruning.blurred)
        values = F.linear(blurred, convolution.weight.flatten(1), convolution.bias)
        rows = scatter(values, rows.repeat(1, repeats), guidance.pruning)
        return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)

    def mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Dense f_2 of Eq. 5, gated: the convolutions where the mask is one, f_1 repeated elsewhere."""
        normed = self.norm1(x)
        spatial = self.conv2(self.conv1(normed))
        if mask is not None:
            mask = mask.to(spatial.dtype)
            spatial = spatial * mask + normed.repeat(1, 2, 1, 1) * (1 - mask)
        return self.gate(spatial)

    def prune(self, x: Tensor, plan: PruningPlan) -> Tensor:
        """The same numbers from blurred pixels alone: gather, convolve, scatter."""
        normed = self.norm1.rows(x.permute(0, 2, 3, 1))  # B C H W -> B H W C
        rows = normed.reshape(-1, normed.shape[-1])  # B H W C -> (B H W) C
        point = F.linear(gather(rows, plan), self.conv1.weight.flatten(1), self.conv1.bias)
        first, second = depthwise(point, plan, *kernel_of(self.conv2)).chunk(2, dim=1)
        gated = scatter(first * second, rows * rows, plan)  # a repeated channel gates itself
        return gated.view_as(normed).permute(0, 3, 1, 2)  # -> B C H W

    def deform(self, features: Tensor, plan: SamplingPlan) -> Tensor:
        """Motion-aware deformable convolution (Section 3.3.2): B 2C H W -> B 2C H W."""
        batch, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)  # B 2C H W -> (B H W) 2C
        rows = deformable_rows(rows, plan, *kernel_of(self.dconv))
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def kernel_of(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that has both."""
    assert convolution.bias is not None
    return convolution.weight, convolution.bias


def identity_kernel(convolution: nn.Conv2d) -> None:
    """Make a depth-wise 3x3 convolution return its input."""
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[:, 0, 1, 1] = 1
        if convolution.bias is not None:
            convolution.bias.zero_()
