"""LMD-ViT: a transformer that computes only the windows in which it finds motion blur.

Li et al., "Adaptive Window Pruning for Efficient Local Motion Deblurring", ICLR 2024. Written anew after the
architecture that its authors publish at https://github.com/LeiaLi/LMD-ViT, with the parameter names of their
checkpoint.
"""

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.lmd_blocks import WindowAttention, WindowLayer, offsets
from deblur_cli.nets.mask import threshold_mask
from deblur_cli.nets.network import CELL, Detection, Network, Restoration

LEAST_GATE = 0.1  # the output gate is never closed further
BYTES_PER_CHANNEL = 96  # at the peak, for each pixel and each channel of the embedding, in float32


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
            raise ValueError("depths and heads are positive numbers, one for each of an odd number of layers")
        if self.window < 2 or self.window % 2 or (self.window << self.halvings) % CELL:
            raise ValueError("windows are an even number of pixels wide")
        if any(self.channels(layer) % heads for layer, heads in enumerate(self.heads)):
            raise ValueError("the channels of a layer are a multiple of its heads")

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

    epsilon: float
    decisions: tuple[Tensor, ...]


@dataclass(frozen=True)
class WindowRestoration(Restoration):
    """Result of LMD-ViT. gate: B 1 H W in 0.1-1, how much of the change is let through.

    decisions: those of all predictors, as in WindowDetection
    """

    gate: Tensor
    decisions: tuple[Tensor, ...]


class LMDViT(Network):
    """Transformer of windows, pruned by the confidence of predictors that each layer has.

    epsilon is the threshold of all predictors (0.5 in the authors' code), so what is detected depends on it.
    """

    config: LMDConfig

    def __init__(self, config: LMDConfig) -> None:
        super().__init__()
        self.config, embed, halvings = config, config.embed, config.halvings
        self.multiple = config.window << halvings
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
            self.add_module(f"dowsample_{step}", named("conv", halve))  # spelt as in the checkpoint
            self.add_module(f"upsample_{step}", named("deconv", double))

    @property
    def architecture(self) -> str:
        return "lmd_vit"

    @property
    def detects(self) -> bool:
        return True

    @property
    def traces(self) -> bool:
        return False

    @property
    def bytes_per_pixel(self) -> int:
        return BYTES_PER_CHANNEL * self.config.embed

    def constants(self) -> dict[str, Tensor]:
        return {
            f"{name}.relative_position_index": offsets(self.config.window)
            for name, module in self.named_modules()
            if isinstance(module, WindowAttention)
        }

    def config_as_stored(self) -> dict[str, Any]:
        return asdict(self.config)

    def detect(self, x: Tensor, epsilon: float = 0.5) -> WindowDetection:
        """Which windows are blurred? x: B 3 H W in 0-1, padded with zeros below and to the right."""
        size = (x.shape[-2], x.shape[-1])
        image = F.pad(x, (0, -size[1] % self.multiple, 0, -size[0] % self.multiple))
        cells = (image.shape[-2] // CELL, image.shape[-1] // CELL)
        features, skips, verdicts = self.input_proj(image).permute(0, 2, 3, 1), [], []
        for step, name in enumerate(self.names[: self.config.halvings + 1]):
            if step:
                skips.append(features)
                features = self.resample(f"dowsample_{step - 1}", features)
            features, found = self.layer(name)(features, epsilon)
            verdicts += found
        maps = [F.interpolate(verdict.map, cells, mode="area") for verdict in verdicts]
        probability = torch.stack(maps).mean(0)
        decisions = tuple(verdict.decision for verdict in verdicts)
        guidance = (None, probability, None, None)
        return WindowDetection(image, features, tuple(skips), size, *guidance, epsilon, decisions)

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
        found = self.at(detection, epsilon)
        features, decisions = found.features, list(found.decisions)
        for step, skip in enumerate(reversed(found.skips)):
            features = torch.cat([self.resample(f"upsample_{step}", features), skip], -1)
            name = self.names[self.config.halvings + 1 + step]
            features, verdicts = self.layer(name)(features, epsilon)
            decisions += [verdict.decision for verdict in verdicts]
        change, gate = self.output_proj(features.permute(0, 3, 1, 2)).split((3, 1), 1)
        gate = gate.sigmoid().clamp(min=LEAST_GATE)
        height, width = found.size
        image, gate = (part[..., :height, :width] for part in (found.image + change * gate, gate))
        if mask is None and found.probability is not None:
            mask = threshold_mask(found.probability, epsilon)
        return WindowRestoration(image, mask, found, gate, tuple(decisions))

    def layer(self, name: str) -> WindowLayer:
        """A layer by its name."""
        return cast(WindowLayer, self.get_submodule(name))

    def resample(self, name: str, x: Tensor) -> Tensor:
        """A convolution that halves or doubles the size: B H W C -> B H W C."""
        return self.get_submodule(name)(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def named(name: str, *layers: nn.Module) -> nn.Sequential:
    """Layers in turn whose parameters are called name.0, name.1 ..."""
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))
