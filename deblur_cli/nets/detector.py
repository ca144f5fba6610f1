"""The detector: a small network that detects what moved and along which path, for any restorer to follow."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.cells import CELL
from deblur_cli.nets.blocks import NAFBlock
from deblur_cli.nets.cues import CHANNELS, MotionCues
from deblur_cli.nets.motion import from_double_angle
from deblur_cli.nets.network import Detection, Network, Restoration

BYTES_PER_CHANNEL = 5  # at the peak, for each photo pixel and each channel of the width, in float32


@dataclass(frozen=True)
class DetectorConfig:
    """Everything that shapes the detector; travels with the weights.

    width: channels at 1/8; before, context, after: blocks at 1/8, at 1/16, and at 1/8 again
    pooling: averaging window of the blocks in full-resolution pixels, None for the whole picture
    """

    width: int = 96
    before: int = 2
    context: int = 4
    after: int = 2
    pooling: int | None = None


class Detector(Network):
    """Motion cues and the picture itself, read by a few blocks at 1/8 and 1/16.

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
        self.up = nn.Sequential(nn.Conv2d(2 * width, 4 * width, 1), nn.PixelShuffle(2))
        self.after = nn.Sequential(*[NAFBlock(width, near) for _ in range(config.after)])
        self.head = nn.Conv2d(width, 5, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Logit of blur B 1 H/8 W/8 and motion B 4 H/8 W/8 as a double-angle field in cells, both float32.

        x: B 3 H W in 0-1, sides whole multiples of 16, best in float32 whatever the layers run in.
        """
        return self.read(x, self.cues(x))

    def read(self, x: Tensor, cues: Tensor) -> tuple[Tensor, Tensor]:
        """The same from a picture B 3 H W and its motion cues B CHANNELS H/8 W/8."""
        dtype = self.read_image.weight.dtype
        image = F.pixel_unshuffle(x, CELL).to(dtype)  # B 3 H W -> B 192 H/8 W/8
        cues = cues.to(dtype).contiguous(memory_format=torch.channels_last)
        features = self.before(self.read_cues(cues) + self.read_image(image))
        features = self.after(features + self.up(self.context(self.down(features))))
        logit, field = self.head(features).float().split([1, 4], 1)
        return logit, field

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:  # noqa: ARG002
        """Detect what moved, and how: x B 3 H W in 0-1. The same for every epsilon; no features are kept."""
        size, image = (x.shape[-2], x.shape[-1]), self.pad(x)
        logit, field = self(image)
        start, end = from_double_angle(field)
        logits = torch.cat([logit, -logit], 1) / 2  # the softmax of Eq. 1 over both is the sigmoid of the one
        return Detection(image, size, logit.sigmoid(), start, end, logits)

    def pad(self, x: Tensor) -> Tensor:
        """A picture continued below and to the right up to whole multiples of what the network halves."""
        return F.pad(x, (0, -x.shape[-1] % self.multiple, 0, -x.shape[-2] % self.multiple), mode="replicate")

    def restore(self, *_: Any, **__: Any) -> Restoration:
        """Raises RuntimeError: a detector restores nothing."""
        raise RuntimeError("a detector restores nothing: give its detection to a restorer")
