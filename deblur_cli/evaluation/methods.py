"""Ways to run weights over a picture: whole, as papers do it, or tiled, as `deblur run` does it.

Both detect once for a picture and restore once for each epsilon.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.errors import OutOfMemoryError
from deblur_cli.nets import (
    Detection,
    Guided,
    LMDViT,
    M2AENet,
    Network,
    Restoration,
    WindowRestoration,
    accelerate,
    place,
)
from deblur_cli.nets.macs import count_detection, count_restoration, count_spared, count_windows
from deblur_cli.nets.network import CELL, cells_of, fit
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.deblurrer import Deblurrer, Request, Result
from deblur_cli.restoration.device import memory_errors, whole_float32
from deblur_cli.restoration.findings import Findings
from deblur_cli.restoration.forecast import dense_macs, detection_macs, parts_macs, restored_parts
from deblur_cli.restoration.mask import feather_weights, region_confidence


@dataclass(frozen=True)
class Outcome:
    """A restored picture.

    image: 1 3 H W float32 in 0-1, on the CPU; mask: 1 1 h/8 w/8 of zeros and ones, what was restored
    start, end: 1 2 h/8 w/8, displacements in photo pixels; all three None where the network has none
    macs: multiply-accumulates; dense: those of the network without pruning or detector; None where they are
    not counted
    """

    image: Tensor
    mask: Tensor | None
    start: Tensor | None
    end: Tensor | None
    macs: int | None
    dense: int | None


class Method(Protocol):
    """Runs one network over pictures."""

    def detect(self, pixels: NDArray[np.uint8]) -> Any:
        """Where a picture H W 3 is blurred; to be handed to `restore`."""

    def restore(self, found: Any, epsilon: float) -> Outcome:
        """What the picture becomes with an epsilon."""


class Whole:
    """The whole picture at once, in the weights' own pooling, not rounded to 8 bits.

    `keep_sharp` lays the result over the picture through the feathered mask of regions, as the tool does.
    """

    def __init__(self, deblurrer: Deblurrer, keep_sharp: bool) -> None:
        self.device, self.keep_sharp = deblurrer.device, keep_sharp
        network = accelerate(copy.deepcopy(deblurrer.weights.network), exact=True)
        self.network = place(network, self.device, deblurrer.restorer.precision.dtype)

    @whole_float32()
    @torch.inference_mode()
    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self.device)  # H W 3 -> 1 3 H W
        image = (image.float() / 255).to(self.network.input_dtype)
        image = image.contiguous(memory_format=torch.channels_last)
        with advice():
            return self.network.detect(image)

    @whole_float32()
    @torch.inference_mode()
    def restore(self, found: Detection, epsilon: float) -> Outcome:
        found = self.network.at(found, epsilon)
        mask = None if found.probability is None else self.choose(found, found.probability, epsilon)
        with advice():
            result = self.network.restore(found, epsilon, mask=mask)
        height, width = found.size
        image = result.image.float().clamp(0, 1).cpu()
        if self.keep_sharp and mask is not None:
            blurred = found.image[..., :height, :width].float().cpu()
            weights = feather_weights(mask[0, 0].float().cpu().numpy(), slice(0, height), slice(0, width))
            image = blurred + (image - blurred) * torch.from_numpy(weights)
        return Outcome(
            image,
            None if mask is None else mask.float().cpu(),
            None if found.start is None else found.start.float().cpu() * CELL,
            None if found.end is None else found.end.float().cpu() * CELL,
            *whole_macs(self.network, result),
        )

    def choose(self, found: Detection, probability: Tensor, epsilon: float) -> Tensor:
        """What counts as blurred, 1 1 h w: single cells, or regions with keep_sharp.

        Cells of the padding have no part in a region.
        """
        if not self.keep_sharp:
            return (probability.float() > epsilon).to(probability)
        rows, columns = cells_of(found.size)
        regions = region_confidence(probability[0, 0, :rows, :columns].float().cpu().numpy(), epsilon)
        mask = torch.from_numpy(regions > epsilon)[None, None].to(probability)
        return fit(mask, probability.shape[-2:])


class Tiled:
    """What `deblur run` does: tiles at several scales, one mask for the whole picture, 8 bits."""

    def __init__(self, deblurrer: Deblurrer, keep_sharp: bool) -> None:
        self.deblurrer, self.keep_sharp = deblurrer, keep_sharp

    def detect(self, pixels: NDArray[np.uint8]) -> tuple[Photo, Findings]:
        photo = Photo(pixels=pixels, source=Path("picture"), format="PNG")
        with advice():
            return photo, self.deblurrer.detect(photo)

    def restore(self, found: tuple[Photo, Findings], epsilon: float) -> Outcome:
        (photo, findings), network = found, self.deblurrer.detector.reference
        restorer = self.deblurrer.restorer
        request = Request(epsilon, self.keep_sharp)
        with advice():
            result = self.deblurrer.restore(photo, findings, request)
        pixels = torch.from_numpy(result.photo.pixels.astype(np.float32) / 255)
        mask = torch.from_numpy(result.mask)[None, None]
        return Outcome(
            pixels.permute(2, 0, 1)[None],  # H W 3 -> 1 3 H W
            mask if network.detects else None,
            torch.from_numpy(findings.start)[None] if network.traces else None,
            torch.from_numpy(findings.end)[None] if network.traces else None,
            tiled_macs(self.deblurrer, photo, findings, request, result),
            dense_macs(restorer.network, restorer.grid(photo.height, photo.width)),
        )


def whole_macs(network: Network, result: Restoration) -> tuple[int, int]:
    """Multiply-accumulates of a restored picture, and those of the network run densely.

    Densely, a network needs no detector; its detector counts where it prunes.
    """
    height, width = result.detection.size
    if isinstance(network, Guided):
        restoring, densely = whole_macs(network.restorer, result)
        looking = count_detection(network.detector, height, width) if network.detects else 0
        return (looking or 0) + restoring, densely
    dense = count_restoration(network, height, width)
    if isinstance(network, LMDViT) and isinstance(result, WindowRestoration):
        shares = [float(decision.mean()) for decision in result.decisions]
        return count_windows(network, height, width, shares), dense
    if not isinstance(network, M2AENet):  # Richardson-Lucy, which has no layers
        return dense, dense
    spared = 0 if result.mask is None else count_spared(network, height, width, result.mask)
    return dense - spared, dense


def tiled_macs(
    deblurrer: Deblurrer, photo: Photo, findings: Findings, request: Request, result: Result
) -> int | None:
    """Multiply-accumulates of a tiled run over all scales.

    None where windows are pruned, and where tiles were made smaller or run again because they had to be.
    """
    looking = detection_macs(deblurrer, photo.height, photo.width)
    parts = list(restored_parts(deblurrer, photo, findings, request))
    restoring = parts_macs(deblurrer, parts)
    if looking is None or restoring is None or findings.notes or result.tiles_restored != len(parts):
        return None
    return looking + restoring


@contextmanager
def advice() -> Iterator[None]:
    """Say what to do where memory runs out."""
    try:
        with memory_errors():
            yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError(
            "out of memory: evaluate in tiles (--tiled), with a smaller --tile, or on --device cpu"
        ) from error
