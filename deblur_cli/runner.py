"""A network on a device in a precision, and what happens to tiles whose numbers go wrong."""

import copy
import logging
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.device import Precision
from deblur_cli.nets import Detection, Network, accelerate, place

LOG = logging.getLogger(__name__)

DRIFT_BLOCK = 64  # pixels: over a block this large, motion blur hardly moves the mean of a picture
DRIFT_LIMIT = 0.25  # of the value range; farther apart, the network has failed, whatever it shows


class Runner:
    """Runs detection and restoration of single tiles.

    A tile whose result is not finite, or whose local mean drifts from the input's, is run again in
    float32 where the first run was not.
    """

    def __init__(self, network: Network, device: str, precision: Precision) -> None:
        self.device, self.precision = device, precision
        self.reference = network.eval()  # float32, where it was built
        self.network = self.build(precision.dtype)
        self.exact: Network | None = self.network if precision.name == "fp32" else None

    @property
    def detects(self) -> bool:
        """Whether the network tells what is blurred; NAFNet does not."""
        return self.reference.detects

    @property
    def traces(self) -> bool:
        """Whether the network tells how it moved."""
        return self.reference.traces

    @property
    def keeps_features(self) -> bool:
        """Whether what `find` gives is worth keeping for `restore`."""
        return self.reference.keeps_features

    @torch.inference_mode()
    def find(self, image: Tensor, epsilon: float) -> Detection:
        """What is found in a tile 1 3 h w (float32, on the CPU), with the features that `restore` needs.

        Displacements are in stage pixels; sides are rounded up to what the network needs.
        """
        return self.network.detect(self.upload(image, self.network), epsilon)

    @torch.inference_mode()
    def restore(
        self, image: Tensor, maps: Tensor, epsilon: float, found: Detection | None = None
    ) -> Tensor | None:
        """Restored tile 1 3 h w in 0-1, float32 on the CPU; None where that failed in float32 too.

        `maps` are the photo's probability, start and end on the tile, 1 5 h/8 w/8, displacements in
        stage pixels. They replace the tile's own, so that all tiles agree on what is blurred.
        `found` is what `find` gave for the tile, if it was kept.
        """
        restored = self.attempt(self.network, image, maps, epsilon, found)
        if restored is None and self.precision.name != "fp32":
            LOG.warning("a tile went wrong in %s: it is run again in fp32", self.precision.name)
            restored = self.attempt(self.exact_network(), image, maps, epsilon)
        return restored

    def attempt(
        self, network: Network, image: Tensor, maps: Tensor, epsilon: float, found: Detection | None = None
    ) -> Tensor | None:
        """One run of the network on a tile; None where the result cannot be trusted."""
        detection = network.prepare(self.upload(image, network), epsilon) if found is None else found
        detection = agree(detection, maps.to(self.device))
        restored = network.restore(detection, epsilon).image.float().cpu()
        if not restored.isfinite().all() or drift(restored, image) > DRIFT_LIMIT:
            return None
        return restored.clamp(0, 1)

    def exact_network(self) -> Network:
        """The network in float32, put on the device when it is first needed."""
        if self.exact is None:
            self.exact = self.build(torch.float32)
        return self.exact

    def build(self, dtype: torch.dtype) -> Network:
        """A copy of the network on the device, in a precision, set up for speed."""
        return place(accelerate(copy.deepcopy(self.reference)), self.device, dtype)

    def upload(self, image: Tensor, network: Network) -> Tensor:
        """A tile on the device in the number format that the network takes, channels-last."""
        return image.to(self.device, network.input_dtype).contiguous(memory_format=torch.channels_last)


def maps_of(detection: Detection) -> NDArray[np.float32]:
    """Probability, start and end of a tile, as far as the network tells them: 5 h/8 w/8."""
    parts = (detection.probability, detection.start, detection.end)
    return np.asarray(torch.cat([part.float() for part in parts if part is not None], 1)[0].cpu().numpy())


def agree(detection: Detection, maps: Tensor) -> Detection:
    """A tile's detection with the photo's maps 1 5 h w in the place of its own."""
    if detection.probability is None:
        return detection
    shape = detection.probability.shape[-2:]
    return replace(
        detection,
        probability=extend(maps[:, :1], shape),
        start=None if detection.start is None else extend(maps[:, 1:3], shape),
        end=None if detection.end is None else extend(maps[:, 3:5], shape),
    )


def extend(field: Tensor, shape: torch.Size) -> Tensor:
    """Continue a map B C h w to the size of the padded tile: what lies beyond the photo is sharp."""
    return F.pad(field, (0, shape[1] - field.shape[-1], 0, shape[0] - field.shape[-2]))


def drift(restored: Tensor, image: Tensor) -> float:
    """Largest difference of the local means of two pictures 1 3 h w."""
    block = min(DRIFT_BLOCK, *image.shape[-2:])
    return float(F.avg_pool2d(restored - image, block, ceil_mode=True, count_include_pad=False).abs().max())
