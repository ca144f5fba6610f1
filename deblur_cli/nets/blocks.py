"""The mask- and motion-aware simple block of M²AENet (Fig. 2, Eq. 5 and 6)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from deblur_cli.nets.layers import NAFBlock
from deblur_cli.nets.motion import SamplingPlan, deformable_rows
from deblur_cli.nets.pruned import PruningPlan, plan_pruning


@dataclass(frozen=True)
class Guidance:
    """What the 28 blocks of a stage share: where it is blurred and how each pixel moved.

    mask:     B 1 H W of zeros and ones, or None where every pixel is processed
    sampling: the motion as sampling positions, or None for blocks without motion
    """

    mask: Tensor | None = None
    sampling: SamplingPlan | None = None

    @cached_property
    def pruning(self) -> PruningPlan | None:
        """The mask as a gathering plan, for blocks that compute blurred pixels alone; None where all are."""
        return None if self.mask is None or self.mask.all() else plan_pruning(self.mask)


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
        gated = self.extract(x, guidance)
        x = self.add(self.project(self.conv3, self.weigh(gated), guidance, self.mask_conv3), x, self.beta)
        features = self.project(self.conv4, self.norm2(x), guidance, self.mask_conv4)
        if guidance.sampling is not None:
            features = self.deform(features, guidance.sampling)
        return self.add(self.conv5(self.gate(features)), x, self.gamma)

    def extract(self, x: Tensor, guidance: Guidance) -> Tensor:
        """f_2 of Eq. 5, gated: convolutions where the mask is one, f_1 elsewhere: B C H W -> B C H W."""
        normed = self.norm1(x)
        spatial = self.conv2(self.conv1(normed))
        return self.gate(blend(spatial, normed, guidance.mask))

    def project(self, convolution: nn.Conv2d, x: Tensor, guidance: Guidance, masked: bool) -> Tensor:
        """A point-wise convolution, where the mask is one if it is masked: B C H W -> B C H W or B 2C H W."""
        return blend(convolution(x), x, guidance.mask if masked else None)

    def deform(self, features: Tensor, plan: SamplingPlan) -> Tensor:
        """Motion-aware deformable convolution (Section 3.3.2): B 2C H W -> B 2C H W."""
        batch, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)  # B 2C H W -> (B H W) 2C
        rows = deformable_rows(rows, plan, *kernel_of(self.dconv))
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def blend(convolved: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
    """What was convolved, n C channels, where the mask is one; x, repeated n times, elsewhere."""
    if mask is None:
        return convolved
    mask = mask.to(convolved.dtype)
    repeats = convolved.shape[1] // x.shape[1]
    return convolved * mask + x.repeat(1, repeats, 1, 1) * (1 - mask)


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
