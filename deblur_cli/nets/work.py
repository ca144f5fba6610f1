"""How much a network computes: multiply-accumulates, counted from its layers without running it.

Counted are convolutions, linear layers and the nine taps of the deformable convolution; normalisation,
gates, pooling and the interpolation between neighbouring pixels are not, as is usual (Section 4.1 of
M²AENet calls the same number FLOPs). Nor are the products that a detector's motion cues are made of, and
the steps that undo blur along a motion, as these are no layers; `deblur bench` times the cues.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from deblur_cli.nets.detector import Detector
from deblur_cli.nets.fast import CellAverage
from deblur_cli.nets.layers import Average, NAFBlock
from deblur_cli.nets.lmd_blocks import PREDICTING, WindowBlock
from deblur_cli.nets.lmd_vit import LMDViT
from deblur_cli.nets.m2aenet import M2AENet
from deblur_cli.nets.network import CELL, Network
from deblur_cli.nets.pruned import dilate

TAPS = 9  # of every depth-wise kernel


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one picture.

    detection: encoder stages before the last, mask predictor and motion analyzer, or what a guided network
    is told; not the detector that it follows
    masked: the two convolutions of the last encoder stage that are pruned; depthwise: the second alone
    deep: the rest of that stage but the deformable convolution; deformable: that; decoding: what follows
    """

    detection: int
    masked: int
    depthwise: int
    deep: int
    deformable: int
    decoding: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.detection + self.masked + self.deep + self.deformable + self.decoding

    @property
    def restoration(self) -> int:
        """All but detection."""
        return self.total - self.detection


def count(
    network: M2AENet, height: int, width: int, blurred: int | None = None, dilated: int | None = None
) -> Work:
    """Work of a network on one picture of height x width pixels.

    blurred, dilated: pixels of the last encoder stage (8 x 8 photo pixels each) that are masked in, and those
    within one pixel of them; None for dense execution. Blocks that are left out are not counted.
    """
    stages, stem, multiple = len(network.encoders), network.config.stem, network.multiple
    height, width = (-(-side // multiple) * multiple // stem for side in (height, width))
    sizes = [(height >> stage) * (width >> stage) for stage in range(stages + 1)]
    detection = kernel(network.intro) * sizes[0]
    for stage, blocks in enumerate(list(network.encoders)[:-1]):
        detection += sum(block_work(block, height >> stage, width >> stage) for block in blocks.children())
        detection += kernel(network.downs[stage]) * sizes[stage + 1]
    deepest = (height >> stages - 1, width >> stages - 1)
    pixels = sizes[stages - 1]
    detection += sum(kernel(layer) for part in telling(network) for layer in part.modules()) * pixels
    masked = depthwise = deep = deformable = 0
    for block in network.deep_blocks():
        pointwise = kernel(block.conv1) * (pixels if dilated is None else dilated)
        spatial = kernel(block.conv2) * (pixels if blurred is None else blurred)
        masked, depthwise = masked + pointwise + spatial, depthwise + spatial
        deep += second_half(block, *deepest)
        if blurred is not None:  # point-wise convolutions that are pruned in ablations
            config = network.config
            pruned = config.mask_conv3 * kernel(block.conv3) + config.mask_conv4 * kernel(block.conv4)
            deep -= pruned * (pixels - blurred)
        deformable += kernel(block.dconv) * pixels if network.config.motion else 0
    decoding = kernel(network.downs[-1]) * sizes[stages]
    decoding += sum(
        block_work(block, height >> stages, width >> stages) for block in network.middle_blks.children()
    )
    for number, (up, blocks) in enumerate(zip(network.ups, network.decoders, strict=True)):
        stage = stages - 1 - number
        decoding += sum(kernel(layer) for layer in up.modules()) * sizes[stage + 1]
        decoding += sum(block_work(block, height >> stage, width >> stage) for block in blocks.children())
    decoding += kernel(network.ending) * sizes[0]
    return Work(detection, masked, depthwise, deep, deformable, decoding)


def telling(network: M2AENet) -> list[nn.Module]:
    """The layers that say what is blurred and how it moved, or are told so."""
    names = ("told", "mask_predictor", "motion_analyzer")
    return [module for name, module in network.named_children() if name in names]


def count_pruned(network: M2AENet, size: tuple[int, int], mask: Tensor) -> Work:
    """Work on a picture of size (height, width) under a stage mask 1 1 h/8 w/8 of zeros and ones.

    Dense for a network without a mask.
    """
    if not network.config.mask:
        return count(network, *size)
    return count(network, *size, int(mask.sum()), int(dilate(mask).sum()))


def count_detector(network: Detector, height: int, width: int) -> int:
    """Multiply-accumulates of a detector on one picture of height x width pixels, its cues left out."""
    rows, columns = (-(-side // network.multiple) * network.multiple for side in (height, width))
    near = (rows // CELL, columns // CELL)
    far = (rows // network.multiple, columns // network.multiple)
    layers = (network.read_cues, network.read_image, network.head)
    total = sum(kernel(layer) for layer in layers) * near[0] * near[1]
    resampling = (network.down, *network.up.modules())
    total += sum(kernel(layer) for layer in resampling) * far[0] * far[1]
    for blocks, size in ((network.before, near), (network.context, far), (network.after, near)):
        total += sum(block_work(block, *size) for block in blocks.children())
    return total


def count_detection(network: Network, height: int, width: int) -> int | None:
    """Multiply-accumulates of finding what is blurred in a picture, by a detector or by M²AENet itself.

    None for LMD-ViT, as each predictor decides for itself.
    """
    if isinstance(network, Detector):
        return count_detector(network, height, width)
    return count(network, height, width).detection if isinstance(network, M2AENet) else None


def count_dense(network: Network, height: int, width: int) -> int:
    """Those of all layers of a restorer on every pixel of a picture."""
    if isinstance(network, LMDViT):
        return count_windows(network, height, width)
    return count(cast(M2AENet, network), height, width).total


def block_work(block: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of a plain block."""
    block = cast(NAFBlock, block)
    return (kernel(block.conv1) + kernel(block.conv2)) * height * width + second_half(block, height, width)


def second_half(block: NAFBlock, height: int, width: int) -> int:
    """Those of a block behind its first two convolutions, without a deformable one."""
    layers = kernel(block.conv3) + kernel(block.conv4) + kernel(block.conv5)
    attention = kernel(block.sca[1]) * positions(cast(Average, block.sca[0]), height, width)
    return layers * height * width + attention


def positions(average: Average, height: int, width: int) -> int:
    """How many means a pooling layer gives."""
    if average.window is None or average.window >= max(height, width):
        return 1
    cell = average.cell if isinstance(average, CellAverage) else 1
    return -(-height // cell) * -(-width // cell)


def kernel(layer: object) -> int:
    """Multiply-accumulates of a layer for each pixel that it gives: the size of its weight."""
    return layer.weight.numel() if isinstance(layer, nn.Conv2d | nn.Linear) else 0


def count_windows(network: LMDViT, height: int, width: int, kept: Sequence[float] | None = None) -> int:
    """Multiply-accumulates of LMD-ViT on one picture of height x width pixels.

    kept: share of the windows that each predictor keeps, in the order that they run; None for all windows.
    """
    config, halvings = network.config, network.config.halvings
    height, width = (-(-side // network.multiple) * network.multiple for side in (height, width))
    total = (TAPS * 3 * config.embed + TAPS * 2 * config.embed * 4) * height * width
    shares = iter(kept or ())
    for layer, name in enumerate(network.names):
        scale = layer if layer <= halvings else 2 * halvings - layer
        pixels = (height >> scale) * (width >> scale)
        blocks = [cast(WindowBlock, block) for block in network.layer(name).blocks]
        each = [next(shares, 1.0) for _ in blocks[:PREDICTING]]
        for number, block in enumerate(blocks):
            parts = block.score_predictor.modules() if block.score_predictor else ()
            total += sum(kernel(part) for part in parts) * pixels
            total += round(window_work(block) * pixels * each[number % PREDICTING])
    for step in range(halvings):
        finest = (height >> step) * (width >> step)
        total += weights_of(network, f"dowsample_{step}") * finest // 4
        total += weights_of(network, f"upsample_{halvings - 1 - step}") * finest // 4
    return total


def window_work(block: WindowBlock) -> int:
    """Multiply-accumulates of a window block for each pixel of a window that is kept."""
    layers = [*block.attn.modules(), *block.mlp.modules()]
    attention = 2 * block.size**2 * block.norm1.normalized_shape[0]  # queries by keys, then by values
    return sum(kernel(layer) for layer in layers) + attention


def weights_of(network: nn.Module, name: str) -> int:
    """Size of the kernels of a part of a network."""
    return sum(value.numel() for value in network.get_submodule(name).parameters() if value.dim() > 1)
