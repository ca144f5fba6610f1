"""M²AENet, or NAFNet, that is told by a detector what is blurred and how it moved."""

from typing import cast

import torch
from torch import Tensor, nn

from deblur_cli.nets.m2aenet import M2AENet
from deblur_cli.nets.motion import SamplingPlan, from_double_angle, plan_sampling, to_double_angle
from deblur_cli.nets.network import CELL, Detection, fit
from deblur_cli.nets.richardson_lucy import enlarge, richardson_lucy

TOLD = 5  # maps of a detector: probability, and motion as a double angle
BYTES_TOLD = 256  # for each photo pixel: undoing the blur, and what is seen besides the photo


class GuidedM2AENet(M2AENet):
    """Has neither mask predictor nor motion analyzer, but `follow`s a detector.

    It sees the photo, the probability that a pixel is blurred, and the photo after some steps of
    Richardson-Lucy along the motion. What it changes is added to a mixture of photo and undone photo; how far
    the latter is trusted is learned. Untrained, it returns its input.
    """

    sees = 3 + 1 + 3  # photo, probability, undone photo

    def add_guides(self, channels: int, window: int | None) -> None:  # noqa: ARG002
        """The layer that is told mask and motion."""
        self.told = nn.Conv2d(TOLD, channels, 1)
        self.trust = nn.Parameter(torch.zeros(1))
        nn.init.zeros_(self.ending.weight)
        nn.init.zeros_(cast(Tensor, self.ending.bias))

    @property
    def detects(self) -> bool:
        return False

    @property
    def traces(self) -> bool:
        return False

    @property
    def guided(self) -> bool:
        return True

    @property
    def input_dtype(self) -> torch.dtype:
        return torch.float32  # blur is undone in the exact picture, whatever the layers run in

    @property
    def bytes_per_pixel(self) -> int:
        return super().bytes_per_pixel + BYTES_TOLD

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:  # noqa: ARG002
        """Raises RuntimeError: what is blurred is for a detector to find."""
        raise RuntimeError("a guided network finds nothing itself: it follows what a detector found")

    def follow(
        self,
        x: Tensor,
        detection: Detection,
        epsilon: float = 0.5,  # noqa: ARG002
        undone: Tensor | None = None,
    ) -> Detection:
        """The first half on x, B 3 H W in 0-1, with what a detector found in it.

        undone: B 3 H W, `richardson_lucy` of x and these findings, where the network need not work it out.
        Without a probability all is blurred, without start and end nothing moved.
        """
        image = self.pad(x)
        cells = (image.shape[-2] // CELL, image.shape[-1] // CELL)
        probability, start, end = told_maps(detection, cells)
        if undone is None:
            undone = richardson_lucy(x, probability, start, end)
        dtype = self.intro.weight.dtype
        seen = torch.cat([image, enlarge(probability, image).to(x.dtype), self.pad(undone.to(x.dtype))], 1)
        features, skips = self.encode(seen.to(dtype))
        maps = torch.cat([probability, to_double_angle(start, end)], 1)
        features = features + self.told(maps.to(dtype))
        mixture = torch.lerp(image.float(), self.pad(undone.float()), self.trust.float()).to(image.dtype)
        return Detection(mixture, features, skips, (x.shape[-2], x.shape[-1]), None, probability, start, end)

    def sampling(self, detection: Detection) -> SamplingPlan | None:
        """As ever, but motion has a direction in time for the taps of a kernel: always the same."""
        if not self.config.motion or detection.start is None or detection.end is None:
            return None
        return plan_sampling(*from_double_angle(to_double_angle(detection.start, detection.end)))


def told_maps(found: Detection, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Probability, start and end in float32, in cells of that shape, and what stands for those not told."""
    count, device = len(found.image), found.image.device
    probability, start, end = (
        torch.full((count, channels, *shape), value, device=device)
        if part is None
        else fit(part.float(), shape)
        for part, channels, value in ((found.probability, 1, 1.0), (found.start, 2, 0.0), (found.end, 2, 0.0))
    )
    return probability, start, end
