"""The detector: a small network that detects what moved and along which path, for any restorer to follow."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.blocks import NAFBlock, zero_initialized
from deblur_cli.nets.motion import from_double_angle
from deblur_cli.nets.motion_cues import CHANNELS, FULL_SIZE, LOGARITHMS, MotionCues
from deblur_cli.nets.network import CELL, Detection, Network, Restoration, pad_to

BYTES_PER_CHANNEL = 5  # at the peak, for each photo pixel and each channel of the width, in float32


def cells_as_channels(x: Tensor) -> Tensor:
    """What `F.pixel_unshuffle` by 8 gives, channels-last and in one copy: B 3 H W -> B 192 H/8 W/8."""
    cells = x.unflatten(3, (-1, CELL)).unflatten(2, (-1, CELL))  # B 3 H/8 8 W/8 8
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class DetectorConfig:
    """Everything that shapes the detector; travels with the weights.

    width: channels at 1/8; before, context, after: blocks at 1/8, at 1/16, and at 1/8 again
    wide: blocks at 1/32, within those at 1/16; none without
    edges: channels at 1/2 of the layers that look at the edges themselves; none without
    pooling: averaging window of the blocks in full-resolution pixels, None for the whole picture
    """

    width: int = 96
    before: int = 2
    context: int = 4
    after: int = 2
    wide: int = 0
    edges: int = 0
    pooling: int | None = None


class Edges(nn.Sequential):
    """What the profiles of edges say: derivatives at an energy of one, B 2 H W -> B width H/8 W/8.

    Its output starts at zero, so that a detector trained without it can go on with it.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(2, channels, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.ReLU(inplace=True),
            zero_initialized(nn.Conv2d(2 * channels, width, 3, stride=2, padding=1)),
        )


class Wide(nn.Module):
    """Blocks that look at a picture at half its size, added to it: B C H W -> B C H W. They start at zero."""

    def __init__(self, channels: int, count: int, pooling: int | None) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 2, stride=2)
        self.blocks = nn.Sequential(*[NAFBlock(channels, pooling) for _ in range(count)])
        self.up = nn.Sequential(zero_initialized(nn.Conv2d(channels, 4 * channels, 1)), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.blocks(self.down(x)))


@torch.no_grad()
def slopes(image: Tensor, cues: Tensor) -> Tensor:
    """Derivatives of the luma of B 3 H W across and down, at an energy of about one around: B 2 H W."""
    luma = image.float().mean(1, keepdim=True)
    right, down = luma.new_zeros(luma.shape), luma.new_zeros(luma.shape)
    torch.sub(luma[..., 2:], luma[..., :-2], out=right[..., 1:-1])
    torch.sub(luma[..., 2:, :], luma[..., :-2, :], out=down[..., 1:-1, :])
    gain = cues[:, FULL_SIZE : FULL_SIZE + 1].mul(-LOGARITHMS / 2).exp()  # one over the root of the energy
    return torch.cat([right, down], 1).mul_(F.interpolate(gain, scale_factor=CELL))


class Detector(Network):
    """Motion cues, edges, and the picture itself, read by a few blocks at 1/8, 1/16, and 1/32.

    It gives the confidence that a cell of 8 x 8 pixels is blurred by motion, and the displacements at the
    start and end of the exposure. As blur looks the same forwards and backwards in time, the displacements
    are learned as a field without that sign and given with a fixed one (`from_double_angle`).
    """

    config: DetectorConfig
    architecture = "detector"
    multiple = 2 * CELL
    detects = traces = True
    input_dtype = torch.float32  # half precision would round away the faint derivatives of the cues

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config, self.bytes_per_pixel = config, BYTES_PER_CHANNEL * config.width
        width, pooling = config.width, config.pooling
        near, far = (pooling and pooling // CELL), (pooling and pooling // self.multiple)
        self.cues = MotionCues()
        self.read_cues = nn.Conv2d(CHANNELS, width, 1)
        self.read_image = nn.Conv2d(3 * CELL**2, width, 1)
        self.before = nn.Sequential(*[NAFBlock(width, near) for _ in range(config.before)])
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.context = nn.Sequential(*[NAFBlock(2 * width, far) for _ in range(config.context)])
        if config.wide:
            self.multiple = 4 * CELL
            self.wide = Wide(2 * width, config.wide, pooling and pooling // self.multiple)
        if config.edges:
            self.edges = Edges(config.edges, width)
        self.up = nn.Sequential(nn.Conv2d(2 * width, 4 * width, 1), nn.PixelShuffle(2))
        self.after = nn.Sequential(*[NAFBlock(width, near) for _ in range(config.after)])
        self.head = nn.Conv2d(width, 5, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Logit of blur B 1 H/8 W/8 and motion B 4 H/8 W/8 as a double-angle field in cells, both float32.

        x: B 3 H W in 0-1, sides whole multiples of `multiple`, best in float32 whatever the layers run in.
        """
        return self.read(x, self.cues(x))

    def read(self, x: Tensor, cues: Tensor) -> tuple[Tensor, Tensor]:
        """The same from a picture B 3 H W and its motion cues B CHANNELS H/8 W/8."""
        dtype = self.read_image.weight.dtype
        image = cells_as_channels(x).to(dtype)
        given = cues.to(dtype).contiguous(memory_format=torch.channels_last)
        features = self.read_cues(given) + self.read_image(image)
        if self.config.edges:
            features = features + self.edges(slopes(x, cues).to(dtype))
        features = self.before(features)
        features = self.after(features + self.up(self.around(self.down(features))))
        logit, field = self.head(features).float().split([1, 4], 1)
        return logit, field

    def around(self, x: Tensor) -> Tensor:
        """The blocks at 1/16, with those at 1/32 in their middle."""
        middle = len(self.context) // 2
        x = self.context[:middle](x)
        return self.context[middle:](self.wide(x) if self.config.wide else x)

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:  # noqa: ARG002
        """Detect what moved, and how: x B 3 H W in 0-1. The same for every epsilon; no features are kept."""
        size, image = (x.shape[-2], x.shape[-1]), self.pad(x)
        logit, field = self(image)
        start, end = from_double_angle(field)
        logits = torch.cat([logit, -logit], 1) / 2  # the softmax of Eq. 1 over both is the sigmoid of the one
        return Detection(image, size, logit.sigmoid(), start, end, logits)

    def pad(self, x: Tensor) -> Tensor:
        """A picture continued below and to the right up to whole multiples of what the network halves."""
        return pad_to(x, self.multiple)

    def restore(self, *_: Any, **__: Any) -> Restoration:
        """Raises RuntimeError: a detector restores nothing."""
        raise RuntimeError("a detector restores nothing: give its detection to a restorer")
