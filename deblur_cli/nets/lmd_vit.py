"""LMD-ViT: a transformer that computes only the windows in which it detects motion blur.

Li et al., "Adaptive Window Pruning for Efficient Local Motion Deblurring", ICLR 2024. Written anew after the
architecture that its authors publish at https://github.com/LeiaLi/LMD-ViT, with the parameter names of their
checkpoint.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.blocks import MaskPredictor, threshold_mask
from deblur_cli.nets.network import CELL, Detection, Network, Restoration, pad_to

LEAST_GATE = 0.1  # the output gate is never closed further
BYTES_PER_CHANNEL = 96  # at the peak, for each pixel and each channel of the embedding, in float32
PREDICTING = 2  # the first blocks of a layer predict: one for plain, one for shifted windows
APART = -100.0  # added to the attention between pixels of different borders, as in Swin Transformer
KINDS = 4  # of windows: in the middle, at the right border, at the lower border, in the corner
TOGETHER = 256  # windows computed at once, which bounds the memory; more are no faster on a processor
EXPANSION = 4  # hidden channels of the feed-forward part, in channels of the block


@dataclass(frozen=True)
class LMDConfig:
    """Everything that shapes LMD-ViT; travels with the weights.

    embed: channels at full resolution; they double with every halving
    depths, heads: blocks and attention heads of each layer: encoder, the one at the bottom, decoder
    window: pixels of a window's side, at every scale
    """

    embed: int = 32
    depths: tuple[int, ...] = (1, 2, 8, 8, 2, 8, 8, 2, 1)
    heads: tuple[int, ...] = (1, 2, 4, 8, 16, 16, 8, 4, 2)
    window: int = 8

    def __post_init__(self) -> None:
        if (
            len(self.depths) % 2 == 0
            or len(self.depths) != len(self.heads)
            or min(*self.depths, *self.heads, self.embed) < 1
        ):
            raise ValueError("depths and heads need a positive number for each of an odd number of layers")
        if self.window < 2 or self.window % 2 or (self.window << self.halvings) % CELL:
            raise ValueError(
                "windows must be an even number of pixels, the deepest a multiple of 8 in the photo"
            )
        if any(self.channels(layer) % heads for layer, heads in enumerate(self.heads)):
            raise ValueError("the channels of each layer must be a multiple of its heads")

    @property
    def halvings(self) -> int:
        """How often the picture is halved."""
        return len(self.depths) // 2

    def channels(self, layer: int) -> int:
        """Channels of a layer; the decoder's hold those of the encoder as well."""
        if layer <= self.halvings:
            return self.embed << layer
        return self.embed << len(self.depths) - layer


@dataclass(frozen=True)
class WindowDetection(Detection):
    """First half of LMD-ViT: encoder and the layer at the bottom. Features and skips are B H W C.

    probability: the mean of what the predictors so far think of the windows that hold a pixel. Each of them
    keeps a window above epsilon, so where the mean is above epsilon, at least one window is kept.
    decisions: windows that were kept, B 1 h w of zeros and ones, in the order in which the predictors ran
    """

    epsilon: float = 0.5
    decisions: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class WindowRestoration(Restoration):
    """Result of LMD-ViT. gate: B 1 H W in 0.1-1, how much of the change is let through.

    decisions: those of all predictors, as in WindowDetection
    """

    gate: Tensor
    decisions: tuple[Tensor, ...]


@dataclass(frozen=True)
class WindowGrid:
    """The windows of B feature maps of height x width pixels, both whole multiples of `size`.

    Windows are size x size pixels and tile the map; N windows of one map are counted row by row, those of
    further maps follow. With a shift they lie that many pixels further down and right, and those at the lower
    and right border hold pixels of both borders (the cyclic shift of Liu et al., "Swin Transformer", 2021),
    which then do not attend to each other.
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
        return self.partition(pixels.view(self.batch, self.height, self.width, 1)).flatten(1)

    @cached_property
    def kinds(self) -> Tensor:
        """Kind of each window, (B N): 1 is added at the right border and 2 at the lower one, if shifted."""
        kind = torch.zeros(self.shape, dtype=torch.long, device=self.device)
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

    def partition(self, x: Tensor) -> Tensor:
        """All windows: B H W C -> (B N) w*w C."""
        batch, down, across = self.shape
        x = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        x = x.view(batch, down, self.size, across, self.size, -1)
        return x.transpose(2, 3).reshape(-1, self.size**2, x.shape[-1])  # B h w h' w' C, h' w' within windows

    def merge(self, windows: Tensor) -> Tensor:
        """The inverse: (B N) w*w C -> B H W C."""
        x = windows.view(*self.shape, self.size, self.size, -1).transpose(2, 3)
        x = x.reshape(self.batch, self.height, self.width, -1)
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x

    def means(self, values: Tensor) -> Tensor:
        """Mean over each window of values B C H W: (B N) C."""
        return values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])[self.rows].mean(1)

    def spread(self, values: Tensor) -> Tensor:
        """One value for each window, (B N), at all its pixels: B 1 H W."""
        picture = values.new_empty(self.batch * self.height * self.width)
        picture[self.rows] = values[:, None].expand(self.rows.shape)
        return picture.view(self.batch, 1, self.height, self.width)

    def groups(self, kept: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Kept windows, (B N) of booleans, in groups of one kind, each small enough for the memory.

        For each its pixels as rows of (B H W) C, K w*w, and what is added to the attention, w*w w*w.
        """
        groups = []
        for kind in range(KINDS if self.shift else 1):
            chosen = (kept & (self.kinds == kind)).nonzero().squeeze(1)
            barrier = self.barriers[kind] if kind else None
            groups += [(self.rows[part], barrier) for part in chosen.split(TOGETHER) if len(part)]
        return groups


@dataclass(frozen=True)
class KeptWindows:
    """Which windows of a grid are computed.

    confidence: (B N) in 0-1, that a window is blurred; kept: (B N) of booleans, those over epsilon
    """

    grid: WindowGrid
    confidence: Tensor
    kept: Tensor

    @cached_property
    def groups(self) -> list[tuple[Tensor, Tensor | None]]:
        """Kept windows as they are computed: their pixels, and what is added to the attention."""
        return self.grid.groups(self.kept)

    @property
    def map(self) -> Tensor:
        """The confidence at each pixel of the layer: B 1 H W."""
        return self.grid.spread(self.confidence)

    @property
    def decision(self) -> Tensor:
        """Kept windows as a map, B 1 h w of zeros and ones."""
        return self.kept.view(self.grid.shape).unsqueeze(1).float()


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
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.permute(2, 0, 1).contiguous()  # n n heads -> heads n n; kernels of CUDA want it in order
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

    A block that predicts chooses the windows itself. With a `modulator`, as in the decoder, each place in a
    window has a learned vector of its own.
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

    def choose(self, x: Tensor, epsilon: float) -> KeptWindows:
        """The windows of x, B H W C, that are blurred with a confidence above epsilon."""
        assert self.score_predictor is not None
        batch, height, width = x.shape[:3]
        grid = WindowGrid(batch, height, width, self.size, self.shift, x.device)
        scores = grid.means(self.score_predictor(x.permute(0, 3, 1, 2)))
        confidence = scores.float().softmax(1)[:, 0]
        return KeptWindows(grid, confidence, confidence > epsilon)

    def attend(self, windows: Tensor, barrier: Tensor | None) -> Tensor:
        """What attention adds: K n C -> K n C."""
        normed = self.norm1(windows)
        if self.modulator is not None:
            normed = normed + self.modulator.weight
        return self.attn(normed, barrier)

    def forward(self, x: Tensor, chosen: KeptWindows) -> Tensor:
        grid, kept = chosen.grid, chosen.kept[:, None, None]
        windows = grid.partition(x)
        windows = windows + kept * self.attend(windows, grid.barriers[grid.kinds][:, None])
        windows = windows + kept * self.mlp(self.norm2(windows))
        return grid.merge(windows)


class WindowLayer(nn.Module):
    """Blocks of one size of the picture, in turn with plain and shifted windows: B H W C -> B H W C.

    The first block of each kind predicts for all of its kind.
    """

    def __init__(self, channels: int, depth: int, heads: int, size: int, modulated: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            WindowBlock(channels, heads, size, number % 2 * (size // 2), number < PREDICTING, modulated)
            for number in range(depth)
        )

    def forward(self, x: Tensor, epsilon: float) -> tuple[Tensor, list[KeptWindows]]:
        """The layer's output and what its predictors chose."""
        chosen: list[KeptWindows] = []
        for number, module in enumerate(self.blocks):
            block = cast(WindowBlock, module)
            if number < PREDICTING:
                chosen.append(block.choose(x, epsilon))
            x = block(x, chosen[number % PREDICTING])
        return x, chosen


def offsets(size: int) -> Tensor:
    """Row of the bias table for each pair of pixels of a window, n n: one for each offset between them."""
    line = torch.arange(size)
    y, x = (place.flatten() for place in torch.meshgrid(line, line, indexing="ij"))
    down, across = (place[:, None] - place + size - 1 for place in (y, x))
    return down * (2 * size - 1) + across


class LMDViT(Network):
    """Transformer of windows, pruned by the confidence of predictors that each layer has.

    epsilon is the threshold of all predictors (0.5 in the authors' code), so what is detected depends on it.
    """

    config: LMDConfig
    architecture = "lmd_vit"
    detects, traces = True, False

    def __init__(self, config: LMDConfig) -> None:
        super().__init__()
        self.config, embed, halvings = config, config.embed, config.halvings
        self.multiple = config.window << halvings
        self.bytes_per_pixel = BYTES_PER_CHANNEL * embed
        self.names = [
            *(f"encoderlayer_{number}" for number in range(halvings)),
            *("conv", *(f"decoderlayer_{number}" for number in range(halvings))),
        ]
        self.input_proj = named("proj", nn.Conv2d(3, embed, 3, padding=1), nn.LeakyReLU())
        self.output_proj = named("proj", nn.Conv2d(2 * embed, 4, 3, padding=1))
        for layer, (name, depth, heads) in enumerate(
            zip(self.names, config.depths, config.heads, strict=True)
        ):
            sizes = (config.channels(layer), depth, heads, config.window)
            self.add_module(name, WindowLayer(*sizes, modulated=layer > halvings))
        for step in range(halvings):
            channels, below = config.channels(step), config.channels(halvings + step)
            halve = nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1)
            double = nn.ConvTranspose2d(below, embed << halvings - 1 - step, 2, stride=2)
            self.add_module(f"dowsample_{step}", named("conv", halve))  # spelled as in the checkpoint
            self.add_module(f"upsample_{step}", named("deconv", double))

    def constants(self) -> dict[str, Tensor]:
        return {
            f"{name}.relative_position_index": offsets(self.config.window)
            for name, module in self.named_modules()
            if isinstance(module, WindowAttention)
        }

    def detect(self, x: Tensor, epsilon: float = 0.5) -> WindowDetection:
        """Detect which windows are blurred: x B 3 H W in 0-1, padded with zeros below and to the right."""
        size = (x.shape[-2], x.shape[-1])
        image = pad_to(x, self.multiple, "constant")
        cells = (image.shape[-2] // CELL, image.shape[-1] // CELL)
        features, skips, chosen = self.input_proj(image).permute(0, 2, 3, 1), [], []
        for step, name in enumerate(self.names[: self.config.halvings + 1]):
            if step:
                skips.append(features)
                features = self.resample(f"dowsample_{step - 1}", features)
            features, windows = self.layer(name)(features, epsilon)
            chosen += windows
        maps = [F.interpolate(windows.map, cells, mode="area") for windows in chosen]
        return WindowDetection(
            image,
            size,
            probability=torch.stack(maps).mean(0),
            features=features,
            skips=tuple(skips),
            epsilon=epsilon,
            decisions=tuple(windows.decision for windows in chosen),
        )

    def at(self, detection: Detection, epsilon: float) -> WindowDetection:
        assert isinstance(detection, WindowDetection)
        if detection.epsilon == epsilon:
            return detection
        height, width = detection.size
        return self.detect(detection.image[..., :height, :width], epsilon)

    def restore(
        self, detection: Detection, epsilon: float = 0.5, mask: Tensor | None = None
    ) -> WindowRestoration:
        """Second half: the decoder, in windows that its own predictors keep.

        A mask B 1 H/8 W/8 of zeros and ones is handed on; it does not change which windows are kept.
        """
        detected = self.at(detection, epsilon)
        assert detected.features is not None
        features, decisions = detected.features, list(detected.decisions)
        for step, skip in enumerate(reversed(detected.skips)):
            features = torch.cat([self.resample(f"upsample_{step}", features), skip], -1)
            name = self.names[self.config.halvings + 1 + step]
            features, chosen = self.layer(name)(features, epsilon)
            decisions += [windows.decision for windows in chosen]
        change, gate = self.output_proj(features.permute(0, 3, 1, 2)).split((3, 1), 1)
        gate = gate.sigmoid().clamp(min=LEAST_GATE)
        height, width = detected.size
        image, gate = (part[..., :height, :width] for part in (detected.image + change * gate, gate))
        if mask is None and detected.probability is not None:
            mask = threshold_mask(detected.probability, epsilon)
        return WindowRestoration(image, mask, detected, gate, tuple(decisions))

    def layer(self, name: str) -> WindowLayer:
        """A layer by its name."""
        return cast(WindowLayer, self.get_submodule(name))

    def resample(self, name: str, x: Tensor) -> Tensor:
        """A convolution that halves or doubles the size: B H W C -> B H W C."""
        return self.get_submodule(name)(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def named(name: str, *layers: nn.Module) -> nn.Sequential:
    """Layers in turn whose parameters are called name.0, name.1 ..."""
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))
