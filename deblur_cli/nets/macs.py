"""How much a network computes: multiply-accumulates (macs), counted by torch in a run without any numbers.

Counted are convolutions, linear layers, attention and the nine taps of the deformable convolution; but not
normalization, gates, pooling and the interpolation between neighboring pixels, as is usual (Section 4.1 of
M²AENet calls the same number FLOPs), nor motion cues and Richardson-Lucy, which are no layers.

Two things are counted by hand. Torch's counter does not see the deformable convolution, which looks pixels up
instead of convolving. And without numbers no mask can choose pixels or windows: the network runs densely, and
what pruning spares is subtracted.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deblur_cli.nets.blocks import dilate
from deblur_cli.nets.detector import Detector
from deblur_cli.nets.guided import GuidedM2AENet
from deblur_cli.nets.lmd_vit import PREDICTING, LMDViT, WindowBlock
from deblur_cli.nets.m2aenet import M2AENet
from deblur_cli.nets.motion_cues import CHANNELS
from deblur_cli.nets.network import CELL, Detection, N, Network
from deblur_cli.nets.richardson_lucy import RichardsonLucy

Count = TypeVar("Count")


def once(count: Callable[[Network, int, int], Count]) -> Callable[[Network, int, int], Count]:
    """Count a network and a size of picture only once; `accelerate` it before."""
    known: WeakKeyDictionary[Network, dict[tuple[int, int], Count]] = WeakKeyDictionary()

    @wraps(count)
    def remembered(network: Network, height: int, width: int) -> Count:
        counts = known.setdefault(network, {})
        if (height, width) not in counts:
            counts[height, width] = count(network, height, width)
        return counts[height, width]

    return remembered


@once
def count_detection(network: Network, height: int, width: int) -> int | None:
    """Macs of the first half of a network, or of a detector, on a picture of height x width pixels.

    None for LMD-ViT, as each of its predictors decides what the next one sees.
    """
    if isinstance(network, LMDViT):
        return None
    network, image = without_numbers(network, height, width)
    if isinstance(network, Detector):
        image = network.pad(image)
        cues = image.new_empty(1, CHANNELS, image.shape[-2] // CELL, image.shape[-1] // CELL)
        return counted(lambda: network.read(image, cues))
    return counted(lambda: first_half(cast(M2AENet, network), image))


@once
def count_restoration(network: Network, height: int, width: int) -> int:
    """Macs of both halves of a restorer on every pixel of a picture of height x width pixels."""
    if isinstance(network, LMDViT):
        with torch.device("meta"):  # and in the plain form, as the fast one chooses windows
            return counted(lambda: LMDViT(network.config)(torch.empty(1, 3, height, width)))
    if isinstance(network, RichardsonLucy):
        return 0
    restorer, image = without_numbers(cast(M2AENet, network), height, width)
    taps = sum(block.dconv.weight.numel() for block in restorer.deep_blocks() if restorer.config.motion)
    total = counted(lambda: restorer.restore(first_half(restorer, image)))
    return total + taps * cells(restorer, height, width)


def count_spared(network: M2AENet, height: int, width: int, mask: Tensor) -> int:
    """Macs that pruning by a mask spares, 1 1 H/8 W/8 of zeros and ones; none in a network without a mask."""
    config, spared = network.config, 0
    if not config.mask:
        return 0
    sharp, unseen = (cells(network, height, width) - int(part.sum()) for part in (mask, dilate(mask)))
    for block in network.deep_blocks():
        pruned = [block.conv2, *[block.conv3] * config.mask_conv3, *[block.conv4] * config.mask_conv4]
        spared += block.conv1.weight.numel() * unseen + sum(each.weight.numel() for each in pruned) * sharp
    return spared


def count_windows(network: LMDViT, height: int, width: int, kept: Sequence[float]) -> int:
    """Macs of LMD-ViT on a picture of height x width pixels where only some windows are computed.

    kept: share of the windows that each predictor keeps, in the order that they run.
    """
    total, shares = count_restoration(network, height, width), iter(kept)
    padded = math.prod(-(-side // network.multiple) * network.multiple for side in (height, width))
    bottom = network.config.halvings
    for number, name in enumerate(network.names):
        blocks = network.layer(name).blocks
        windows = (padded >> 2 * min(number, 2 * bottom - number)) // network.config.window**2
        everything = windows * count_window(cast(WindowBlock, blocks[0]))
        each = [next(shares) for _ in blocks[:PREDICTING]]
        total -= sum(everything - round(everything * each[one % PREDICTING]) for one in range(len(blocks)))
    return total


def count_window(block: WindowBlock) -> int:
    """Macs of a block for one window that is kept, its predictor left out."""
    weight = block.norm1.weight
    window = weight.new_empty(1, block.size**2, len(weight))
    return counted(lambda: (block.attend(window, None), block.mlp(window)))


def counted(action: Callable[[], object]) -> int:
    """Macs of the layers that run; those are two operations each."""
    # the plain form of attention, as the counter does not know the fused ones of all devices
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        action()
    return counter.get_total_flops() // 2


def without_numbers(network: N, height: int, width: int) -> tuple[N, Tensor]:
    """The network and a picture for it, 1 3 H W, that take no memory and no time to compute."""
    image = torch.empty(1, 3, height, width, dtype=network.input_dtype, device="meta")
    tensors = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor.to("meta") for tensor in tensors}), image


def first_half(network: M2AENet, image: Tensor) -> Detection:
    """What enters the second half, without mask and motion: every pixel counts as blurred and at rest."""
    if isinstance(network, GuidedM2AENet):
        size = (image.shape[-2], image.shape[-1])
        begun = network.follow(image, Detection(image, size), undone=image)
    else:
        begun = network.detect(image)
    return replace(begun, probability=None, start=None, end=None)


def cells(network: M2AENet, height: int, width: int) -> int:
    """Pixels of the stage that masks and motion guide, in a padded picture."""
    return math.prod(-(-side // network.multiple) * network.multiple // CELL for side in (height, width))
