"""Everything that makes a network fast at inference; networks as built and trained are the plain reference.

Each fast class computes what its plain parent does, from the same parameters and submodules.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.blocks import Average, Guidance, MotionBlock, NAFBlock, PruningPlan, kernel_of
from deblur_cli.nets.lmd_vit import KeptWindows, WindowBlock, WindowLayer
from deblur_cli.nets.m2aenet import M2AENet
from deblur_cli.nets.network import N, Network

ODD, EVEN = 9, 24  # cells that a window of local pooling is at least wide; its means change that slowly


def accelerate(network: N, *, exact: bool = False) -> N:
    """The same network, changed in place for inference, in evaluation mode; a second time does nothing.

    Its parameters are then no longer those of its weights file: save and train the plain network, and
    accelerate before lowering the precision. Exact, but for rounding:
      residual scales are multiplied into the convolutions before them;
      trailing blocks that return their input are left out;
      masked blocks compute blurred pixels alone, by a plan that the blocks of a stage share;
      LMD-ViT computes kept windows alone.
    Approximate, and left out with `exact`: local pooling takes a mean for each of some cells.
    """
    for module in list(network.modules()):
        if isinstance(module, M2AENet):
            skip_identity_blocks(module)
        if isinstance(module, NAFBlock) and not exact:
            pool_in_cells(module)
        if type(module) in FASTER:
            if isinstance(module, NAFBlock):
                fold_scales(module)
            module.__class__ = FASTER[type(module)]  # parameters, hooks and name in the network stay
    return network.eval()


def skip_identity_blocks(network: Network) -> None:
    """Leave out trailing blocks of the last encoder stage that return their input, if it is an M²AENet."""
    if isinstance(network, M2AENet):
        network.depth = network.config.encoder[-1]
        while (blocks := network.deep_blocks()) and not (blocks[-1].beta.any() or blocks[-1].gamma.any()):
            network.depth -= 1


@torch.no_grad()
def fold_scales(block: NAFBlock) -> None:
    """Multiply the residual scales into the convolutions before them, for a `FoldedBlock`."""
    for convolution, scale in ((block.conv3, block.beta), (block.conv5, block.gamma)):
        weight, bias = kernel_of(convolution)
        weight.mul_(scale.view(-1, 1, 1, 1))
        bias.mul_(scale.view(-1))


def pool_in_cells(block: NAFBlock) -> None:
    """Let channel attention with a local window take one mean for each cell of several pixels."""
    average = block.sca[0]
    if type(average) is Average and average.window and (cell := cell_for(average.window)) > 1:
        block.sca[0] = CellAverage(average.window, cell)


def cell_for(window: int) -> int:
    """The side of the largest cells that a window of local pooling may be made of, in its pixels.

    The middle of an even number of cells is not that of a cell, so there have to be more of them.
    """
    counts = ((side, window // side) for side in range(window, 0, -1) if window % side == 0)
    return next(side for side, count in counts if side == 1 or count >= (ODD if count % 2 else EVEN))


class CellAverage(Average):
    """Average whose local means are taken for cells of n x n pixels: B C H W -> B C H/n W/n, rounded up.

    A close approximation, since they change slowly. Running sums at full resolution would cost more than the
    layers that they serve. A window that covers the image is global pooling as ever, B C 1 1.
    """

    def __init__(self, window: int, cell: int) -> None:
        super().__init__(window)
        self.cell = cell

    def local(self, x: Tensor, window: int) -> Tensor:
        means, across = F.avg_pool2d(x, self.cell, ceil_mode=True), window // self.cell
        height, width = (side / self.cell for side in x.shape[-2:])
        if height % 1 == width % 1 == 0:
            return super().local(means, across)
        share = means.new_ones(1, 1, *means.shape[-2:])  # the last cells hold less, so they count less
        share[..., -1, :] *= height % 1 or 1
        share[..., -1] *= width % 1 or 1
        return super().local(means * share, across) / super().local(share, across)

    def enlarge(self, values: Tensor, height: int, width: int) -> Tensor:
        """Values of cells, or of the image, at its pixels: interpolated, B C height width, or B C 1 1."""
        if values.shape[-2:] == (1, 1):
            return values
        scale = float(self.cell)
        return F.interpolate(values, scale_factor=scale, mode="bilinear")[..., :height, :width]


class FoldedBlock(NAFBlock):
    """NAFBlock whose residual scales are part of the convolutions before them; may pool in cells."""

    def add(self, change: Tensor, x: Tensor, scale: Tensor) -> Tensor:  # noqa: ARG002
        return change.add_(x)

    def weigh(self, gated: Tensor) -> Tensor:
        attention, average = self.sca(gated), self.sca[0]
        if isinstance(average, CellAverage):
            attention = average.enlarge(attention, *gated.shape[-2:])
        return gated * attention


class PrunedBlock(FoldedBlock, MotionBlock):
    """MotionBlock that computes the masked convolutions of Eq. 5 for blurred pixels alone."""

    def extract(self, x: Tensor, guidance: Guidance) -> Tensor:
        """Gather, convolve, scatter: B C H W -> B C H W."""
        plan = guidance.pruning
        if plan is None:
            return super().extract(x, Guidance())
        normed = self.norm1.rows(x.permute(0, 2, 3, 1))  # B C H W -> B H W C
        rows = normed.reshape(-1, normed.shape[-1])  # B H W C -> (B H W) C
        point = F.linear(rows.index_select(0, plan.dilated), self.conv1.weight.flatten(1), self.conv1.bias)
        first, second = depthwise(point, plan, *kernel_of(self.conv2)).chunk(2, dim=1)
        gated = (rows * rows).index_copy(0, plan.blurred, first * second)  # a repeated channel gates itself
        return gated.view_as(normed).permute(0, 3, 1, 2)  # -> B C H W

    def project(self, convolution: nn.Conv2d, x: Tensor, guidance: Guidance, masked: bool) -> Tensor:
        plan = guidance.pruning if masked else None
        if plan is None:
            return convolution(x)
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)  # B C H W -> (B H W) C
        blurred = rows.index_select(0, plan.blurred)
        values = F.linear(blurred, convolution.weight.flatten(1), convolution.bias)
        # sharp pixels need the scale that the weights of conv3 have in them
        sharp = rows * self.beta.view(-1) if convolution is self.conv3 else rows.repeat(1, 2)
        return sharp.index_copy(0, plan.blurred, values).view(batch, height, width, -1).permute(0, 3, 1, 2)


def depthwise(gathered: Tensor, plan: PruningPlan, weight: Tensor, bias: Tensor) -> Tensor:
    """3x3 depth-wise convolution on the mask: gathered D C -> Q C; weight C 1 3 3, bias C."""
    if plan.mostly_blurred:  # densely, zeros where nothing was gathered: blurred pixels see only dilated ones
        batch, height, width = plan.shape
        rows = gathered.new_zeros(batch * height * width, gathered.shape[1])
        picture = rows.index_copy(0, plan.dilated, gathered).view(batch, height, width, -1)
        picture = F.conv2d(picture.permute(0, 3, 1, 2), weight, bias, padding=1, groups=len(bias))
        return picture.permute(0, 2, 3, 1).reshape(len(rows), -1).index_select(0, plan.blurred)
    padded = F.pad(gathered, (0, 0, 0, 1))  # one row of zeros for whatever lies outside the image
    kernel = weight.view(-1, 9).t().contiguous()  # C 1 3 3 -> 9 C; strided rows would not vectorize
    result = bias.expand(plan.neighbors.shape[1], -1)
    for tap in range(9):
        result = torch.addcmul(result, padded.index_select(0, plan.neighbors[tap]), kernel[tap])
    return result


class KeptWindowBlock(WindowBlock):
    """WindowBlock that computes kept windows alone and writes them over its input, contiguous B H W C."""

    def forward(self, x: Tensor, chosen: KeptWindows) -> Tensor:
        """Gather, compute, scatter: B H W C -> B H W C."""
        pixels = x.view(-1, x.shape[-1])
        for rows, barrier in chosen.groups:
            windows = pixels[rows]  # (B H W) C -> K w*w C
            windows = windows + self.attend(windows, barrier)
            pixels[rows] = windows + self.mlp(self.norm2(windows))
        return x


class KeptWindowLayer(WindowLayer):
    """WindowLayer of blocks that write over what they are given, which is a copy."""

    def forward(self, x: Tensor, epsilon: float) -> tuple[Tensor, list[KeptWindows]]:
        return super().forward(x.clone(memory_format=torch.contiguous_format), epsilon)


FASTER: dict[type[nn.Module], type[nn.Module]] = {
    NAFBlock: FoldedBlock,
    MotionBlock: PrunedBlock,
    WindowBlock: KeptWindowBlock,
    WindowLayer: KeptWindowLayer,
}
