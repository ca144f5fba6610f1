"""A detector and the restorer that follows it, as one network."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deblur_cli.nets.detector import Detector
from deblur_cli.nets.mask import threshold_mask
from deblur_cli.nets.network import Detection, Network, Restoration


class Guided(Network):
    """What moved is found by the detector; the restorer takes mask and motion from it.

    Sizes and name are the restorer's.
    """

    def __init__(self, detector: Detector, restorer: Network) -> None:
        super().__init__()
        self.detector, self.restorer = detector, restorer
        self.config = restorer.config
        self.multiple = math.lcm(detector.multiple, restorer.multiple)

    @property
    def architecture(self) -> str:
        return self.restorer.architecture

    @property
    def detects(self) -> bool:
        return True

    @property
    def traces(self) -> bool:
        return True

    @property
    def bytes_per_pixel(self) -> int:
        return max(self.detector.bytes_per_pixel, self.restorer.bytes_per_pixel)

    @property
    def smallest_part(self) -> int | None:
        return self.restorer.smallest_part

    @property
    def input_dtype(self) -> torch.dtype:
        return self.detector.input_dtype

    def config_as_stored(self) -> dict[str, Any]:
        return self.restorer.config_as_stored()

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:
        """What the detector finds in x, B 3 H W in 0-1; the restorer has not looked at it yet."""
        return self.detector.detect(x, epsilon)

    def restore(self, detection: Detection, epsilon: float = 0.5, mask: Tensor | None = None) -> Restoration:
        """What the restorer makes of it: both of its halves, under the detector's mask and motion.

        A restorer without a mask (NAFNet) works on everything. The mask of the result is the detector's.
        """
        assert detection.probability is not None  # a detector tells it
        restorer, image = self.restorer, detection.image
        mask = threshold_mask(detection.probability, epsilon) if mask is None else mask
        followed = restorer.follow(image.to(restorer.input_dtype), detection, epsilon)
        result = restorer.restore(followed, epsilon, mask if restorer.masks else None)
        height, width = detection.size
        return replace(result, image=result.image[..., :height, :width], mask=mask, detection=detection)


def restorer_of(network: Network) -> Network:
    """The network that restores: behind a detector, or the network itself."""
    return network.restorer if isinstance(network, Guided) else network
