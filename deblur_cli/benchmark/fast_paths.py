"""Every fast path of the networks beside the plain one, on small pictures, so that both can be compared.

The networks are those of the weights at hand, and small ones with random parameters.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblur_cli.benchmark.scene import disc, test_picture
from deblur_cli.nets import Detection, Guided, Network, accelerate, create, create_lmd_vit, place, restorer_of
from deblur_cli.nets.blocks import Guidance
from deblur_cli.nets.lmd_vit import KeptWindows, WindowBlock, WindowGrid
from deblur_cli.nets.m2aenet import M2AENet
from deblur_cli.nets.motion import deformable_reference, deformable_rows, plan_sampling, tap_positions
from deblur_cli.nets.motion_cues import cues_reference, motion_cues
from deblur_cli.nets.network import CELL, N
from deblur_cli.nets.richardson_lucy import richardson_lucy, richardson_lucy_reference
from deblur_cli.weights import LoadedWeights

CELLS = (24, 32)  # of the picture that all see, high and wide
REACH = 0.7  # cells, standard deviation of the motion that networks are told
SEED = 2026
SUMMATION = 1e-3  # more than another order of summation costs a network in float32, and less than TF32
ROUNDINGS = 32  # of the number format, one upon the other, through the layers of a network
BLUR = 13  # pixels that a disc in the picture moved, which covers this share of it:
BLURRED = 0.15

exactly = partial(accelerate, exact=True)

M = TypeVar("M", bound=nn.Module)
Put = Callable[[Tensor], Tensor]  # brings float32 of the CPU to where a path runs, in its layout


@dataclass(frozen=True)
class Limit:
    """How large an error may be, and why."""

    value: float
    reason: str


@dataclass(frozen=True)
class FastPath:
    """One way to compute something fast. The error is the largest, as a share of the largest value expected.

    plain: what is expected, float32 on the CPU; fast: the same from a device in a number format
    limit: of the error in a number format
    always_float32: whether it runs in float32 whatever the network does
    """

    what: str
    plain: Callable[[], Tensor]
    fast: Callable[[str, torch.dtype], Tensor]
    limit: Callable[[torch.dtype], Limit]
    always_float32: bool = False


def rounding(dtype: torch.dtype) -> Limit:
    """What numbers of a format may lose on their way through some layers."""
    if dtype == torch.float32:
        return Limit(SUMMATION, "float32 may sum in another order, but not in fewer bits")
    return Limit(ROUNDINGS * torch.finfo(dtype).eps, f"{ROUNDINGS} roundings to this number format")


def near(_: torch.dtype) -> Limit:
    """What may be lost where means of cells stand for those of pixels."""
    return Limit(0.1, "local means change slowly from pixel to pixel")


def fast_paths(weights: LoadedWeights) -> Iterator[FastPath]:
    """All of them: parts of networks, whole networks, and those of the weights."""
    yield from paths_of_blocks()
    yield from paths_in_float32()
    generator = torch.Generator().manual_seed(SEED)
    sizes = {"width": 8, "encoder": (1, 1, 1, 2), "decoder": (1, 1, 1, 1), "pooling": 96}
    nafnet = randomize(create("nafnet", **sizes), generator)
    yield path_of("NAFNet, channels-last", nafnet, restore, speed_up=lambda network: network)
    yield path_of("NAFNet", nafnet, restore)
    lmd_vit = create_lmd_vit(embed=4, depths=(1, 3, 2, 3, 2), heads=(1, 2, 2, 2, 1), window=4)
    yield path_of("LMD-ViT", randomize(lmd_vit, generator), restore)
    network = weights.network
    if network.detects:
        yield path_of("detector", network.detector if isinstance(network, Guided) else network, detect)
    yield path_of("restorer", restorer_of(network), restore)


def paths_of_blocks() -> Iterator[FastPath]:
    """What `accelerate` changes, one by one."""
    generator = torch.Generator().manual_seed(SEED)
    sizes = {"width": 8, "encoder": (1, 1, 1, 3), "decoder": (1, 1, 1, 1), "pooling": 96}
    network = randomize(create("m2aenet", mask_conv3=True, mask_conv4=True, **sizes), generator)
    for idle in network.deep_blocks()[1:]:
        nn.init.zeros_(idle.beta)
        nn.init.zeros_(idle.gamma)
    yield path_of("scales folded in", network, first_block)
    yield path_of("pooling in cells", network, first_block, speed_up=accelerate, limit=near)
    yield path_of("masked blocks, few pixels", network, partial(masked_block, share=0.05))
    yield path_of("masked blocks, many pixels", network, partial(masked_block, share=0.5))
    yield path_of("idle blocks left out", network, restore)
    yield deformable_path(generator)
    yield window_path(generator)


def path_of(
    what: str,
    network: N,
    run: Callable[[N, Put], Tensor],
    *,
    speed_up: Callable[[N], N] = exactly,
    limit: Callable[[torch.dtype], Limit] = rounding,
) -> FastPath:
    """A network, plain and made fast, with channels-last pictures as the tool has them."""

    def fast(device: str, dtype: torch.dtype) -> Tensor:
        quick = place(speed_up(copy.deepcopy(network)), device, dtype)
        return run(quick, lambda values: values.to(device, memory_format=torch.channels_last))

    return FastPath(what, lambda: run(network, lambda values: values), fast, limit)


def restore(network: Network, put: Put) -> Tensor:
    """How a network changes the picture under a mask, along a motion that it is told."""
    image = put(picture()).to(network.input_dtype)
    found = network.follow(image, told(image, put), -1.0)
    mask = put(cells_in(0.3)) if network.masks else None
    return network.restore(found, -1.0, mask).image.float() - image.float()


def detect(network: Network, put: Put) -> Tensor:
    """What a network detects in the picture: probability, start and end, as far as it does."""
    found = network.detect(put(picture()).to(network.input_dtype))
    parts = (found.probability, found.start, found.end)
    return torch.cat([part.float() for part in parts if part is not None], 1)


def first_block(network: M2AENet, put: Put) -> Tensor:
    """NAFNet's block at full resolution."""
    features = network.intro(put(picture()).to(network.intro.weight.dtype))
    return cast(Tensor, network.encoders[0][0](features))  # type: ignore[index]


def masked_block(network: M2AENet, put: Put, share: float) -> Tensor:
    """A mask-aware block in which a share of the pixels is blurred."""
    block = network.deep_blocks()[0]
    weight = block.conv1.weight
    features = put(noise(1, weight.shape[1], *CELLS)).to(weight.dtype)
    return cast(Tensor, block(features, Guidance(put(cells_in(share)))))


def deformable_path(generator: torch.Generator) -> FastPath:
    """The motion-aware convolution as sparse products of rows, against nine bilinear samplings."""
    channels = 16
    weight, bias = (
        torch.randn(channels, 1, 3, 3, generator=generator),
        torch.randn(channels, generator=generator),
    )
    x, start, end = (
        noise(1, channels, *CELLS),
        REACH * noise(1, 2, *CELLS),
        REACH * noise(1, 2, *CELLS, seed=1),
    )

    def fast(device: str, dtype: torch.dtype) -> Tensor:
        plan = plan_sampling(start.to(device), end.to(device))
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)  # 1 C H W -> (H W) C
        rows = deformable_rows(rows.to(device, dtype), plan, weight.to(device, dtype), bias.to(device, dtype))
        return rows.view(1, *CELLS, channels).permute(0, 3, 1, 2)

    def plain() -> Tensor:
        return deformable_reference(x, tap_positions(start, end), weight, bias)

    return FastPath("deformable rows", plain, fast, rounding)


def window_path(generator: torch.Generator) -> FastPath:
    """A block of LMD-ViT that computes some of its windows."""
    channels, size = 8, 4
    block = randomize(WindowBlock(channels, 2, size, size // 2, predicts=True, modulated=True), generator)
    x, chance = noise(1, *CELLS, channels), noise(CELLS[0] * CELLS[1] // size**2)

    def run(block: WindowBlock, device: str, dtype: torch.dtype) -> Tensor:
        confidence, features = chance.to(device), x.to(device, dtype, copy=True)
        grid = WindowGrid(1, *CELLS, size, size // 2, features.device)
        return cast(Tensor, block(features, KeptWindows(grid, confidence, confidence > 0)))

    def fast(device: str, dtype: torch.dtype) -> Tensor:
        holder = nn.ModuleList([copy.deepcopy(block)])
        accelerate(cast(Network, holder)).to(device, dtype)
        return run(cast(WindowBlock, holder[0]), device, dtype)

    return FastPath("windows kept", lambda: run(block, "cpu", torch.float32), fast, rounding)


def paths_in_float32() -> Iterator[FastPath]:
    """What runs in float32 whatever the networks do."""
    image, probability = picture(), cells_in(0.3)
    start, end = REACH * noise(1, 2, *CELLS), REACH * noise(1, 2, *CELLS, seed=1)

    def cues(device: str, _: torch.dtype) -> Tensor:
        return motion_cues(image.to(device))

    def undone(device: str, _: torch.dtype) -> Tensor:
        return richardson_lucy(image.to(device), probability.to(device), start.to(device), end.to(device))

    def known() -> Tensor:
        return richardson_lucy_reference(image, probability, start, end)

    faint = Limit(1e-3, "quotients of faint derivatives, of which the detector is told no more than that")
    unseen = Limit(1 / 255 / 2, "half a step of 8 bits, which nobody sees")
    yield FastPath("motion cues", lambda: cues_reference(image), cues, lambda _: faint, always_float32=True)
    yield FastPath("Richardson-Lucy", known, undone, lambda _: unseen, always_float32=True)


def picture() -> Tensor:
    """The picture that all see: 1 3 H W in 0-1."""
    pixels = moved_picture(CELL * CELLS[1], CELL * CELLS[0]).astype(np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()  # H W 3 -> 1 3 H W


def moved_picture(width: int, height: int) -> NDArray[np.uint8]:
    """A picture H W 3 with detail at every scale, of which a disc moved sideways while it was taken."""
    sharp = test_picture(width, height)
    moved = np.mean([np.roll(sharp, shift, 1) for shift in range(-(BLUR // 2), BLUR // 2 + 1)], 0)
    return np.where(disc(height, width, BLURRED)[..., None] > 0, moved, sharp).astype(np.uint8)


def cells_in(share: float) -> Tensor:
    """A mask of its cells, 1 1 h w: ones in a disc that covers a share."""
    return torch.from_numpy(disc(*CELLS, share))[None, None]


def told(image: Tensor, put: Put) -> Detection:
    """What a network is told of the picture: blur in a disc, and motions that differ from cell to cell."""
    start, end = (REACH * put(noise(1, 2, *CELLS, seed=seed)) for seed in (2, 3))
    return Detection(image, (image.shape[-2], image.shape[-1]), put(cells_in(0.3)), start, end)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """The same random numbers every time, float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED + seed))


@torch.no_grad()
def randomize(network: M, generator: torch.Generator) -> M:
    """Give a network random parameters under which each of its parts counts. Changes it in place."""
    for name, parameter in network.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("beta", "gamma")):
            parameter.copy_(0.3 * values)
        elif parameter.dim() > 1:
            parameter.copy_(values / parameter[0].numel() ** 0.5)
        else:
            parameter.copy_(0.1 * values + name.endswith("weight"))  # those of norms are about one
    return network.eval()
