"""Restorers that follow a detector: M²AENet or NAFNet made to be told, and any restorer behind one."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from deblur_cli.nets.blocks import threshold_mask, zero_initialized
from deblur_cli.nets.detector import Detector
from deblur_cli.nets.m2aenet import Config, M2AENet
from deblur_cli.nets.motion import SamplingPlan, from_double_angle, plan_sampling, to_double_angle
from deblur_cli.nets.network import CELL, Detection, Network, Restoration, cells_of, fit
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
    guided = True
    input_dtype = torch.float32  # blur is undone in the exact picture, whatever the layers run in

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.detects = self.traces = False
        self.bytes_per_pixel += BYTES_TOLD

    def add_guides(self, channels: int, window: int | None) -> None:  # noqa: ARG002
        """The layer that is told mask and motion."""
        self.told = nn.Conv2d(TOLD, channels, 1)
        self.trust = nn.Parameter(torch.zeros(1))
        zero_initialized(self.ending)

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:  # noqa: ARG002
        """Raises RuntimeError: only a detector knows what is blurred."""
        raise RuntimeError("a guided network detects nothing itself: it follows a detector")

    def follow(
        self,
        x: Tensor,
        detection: Detection,
        epsilon: float = 0.5,  # noqa: ARG002
        undone: Tensor | None = None,
    ) -> Detection:
        """The first half on x, B 3 H W in 0-1, with what a detector detected in it.

        undone: B 3 H W, `richardson_lucy` of x and this detection, where that is known already.
        Without a probability all is blurred, without start and end nothing moved.
        """
        image, size = self.pad(x), (x.shape[-2], x.shape[-1])
        probability, start, end = told_maps(detection, (image.shape[-2] // CELL, image.shape[-1] // CELL))
        if undone is None:
            undone = richardson_lucy(x, probability, start, end)
        dtype = self.intro.weight.dtype
        seen = torch.cat([image, enlarge(probability, image).to(x.dtype), self.pad(undone.to(x.dtype))], 1)
        features, skips = self.encode(seen.to(dtype))
        maps = torch.cat([probability, to_double_angle(start, end)], 1)
        features = features + self.told(maps.to(dtype))
        mixture = torch.lerp(image.float(), self.pad(undone.float()), self.trust.float()).to(image.dtype)
        return Detection(mixture, size, probability, start, end, None, features, skips)

    def sampling(self, detection: Detection) -> SamplingPlan | None:
        """As ever, but since taps of a kernel have a direction in time, motion always has the same."""
        if not self.config.motion or detection.start is None or detection.end is None:
            return None
        return plan_sampling(*from_double_angle(to_double_angle(detection.start, detection.end)))


def told_maps(detection: Detection, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Probability, start and end in float32, in cells of that shape, and what stands for those not told."""
    count, device = len(detection.image), detection.image.device

    def told(part: Tensor | None, channels: int, otherwise: float) -> Tensor:
        if part is None:
            return torch.full((count, channels, *shape), otherwise, device=device)
        return fit(part.float(), shape)

    return told(detection.probability, 1, 1.0), told(detection.start, 2, 0.0), told(detection.end, 2, 0.0)


class WholeFrame(Network):
    """In the place of a detector: everything counts as blurred, by an unknown motion."""

    detects = traces = False
    multiple, bytes_per_pixel = CELL, 0
    input_dtype = torch.float32

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:  # noqa: ARG002
        size = (x.shape[-2], x.shape[-1])
        return Detection(x, size, x.new_ones(len(x), 1, *cells_of(size)))


class Guided(Network):
    """A detector and a restorer that takes mask and motion from it, as one network.

    Sizes and name are the restorer's.
    """

    input_dtype = Detector.input_dtype

    def __init__(self, detector: Detector | WholeFrame, restorer: Network) -> None:
        super().__init__()
        self.detector, self.restorer = detector, restorer
        self.detects, self.traces = detector.detects, detector.traces
        self.config, self.architecture = restorer.config, restorer.architecture
        self.multiple = math.lcm(detector.multiple, restorer.multiple)
        self.bytes_per_pixel = max(detector.bytes_per_pixel, restorer.bytes_per_pixel)
        self.smallest_part = restorer.smallest_part

    def config_as_stored(self) -> dict[str, Any]:
        return self.restorer.config_as_stored()

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:
        """What the detector detects in x, B 3 H W in 0-1; the restorer has not seen it yet."""
        return self.detector.detect(x, epsilon)

    def restore(self, detection: Detection, epsilon: float = 0.5, mask: Tensor | None = None) -> Restoration:
        """What the restorer makes of it: both of its halves, under the detector's mask and motion.

        A restorer without a mask (NAFNet) works on everything. The mask of the result is the detector's.
        """
        assert detection.probability is not None  # a detector gives it
        restorer, image = self.restorer, detection.image
        mask = threshold_mask(detection.probability, epsilon) if mask is None else mask
        followed = restorer.follow(image.to(restorer.input_dtype), detection, epsilon)
        result = restorer.restore(followed, epsilon, mask if restorer.masks else None)
        height, width = detection.size
        return replace(result, image=result.image[..., :height, :width], mask=mask, detection=detection)


def restorer_of(network: Network) -> Network:
    """The network that restores: behind a detector, or the network itself."""
    return network.restorer if isinstance(network, Guided) else network
