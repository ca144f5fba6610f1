"""Ways to run weights over a picture: whole, as papers do it, or tiled, as `deblur run` does it.

Both detect once for a picture and restore once for each epsilon.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.device import memory_errors
from deblur_cli.errors import OutOfMemoryError
from deblur_cli.feather import overlay_weights
from deblur_cli.hysteresis import settle
from deblur_cli.nets import (
    STAGE_SCALE,
    Detection,
    Guided,
    LMDViT,
    M2AENet,
    Network,
    Restoration,
    WindowRestoration,
    accelerate,
    place,
    restorer_of,
)
from deblur_cli.nets.network import fit
from deblur_cli.photo.photo import Photo
from deblur_cli.restore import Deblurrer, Floats, Settings
from deblur_cli.task import Task
from deblur_cli.work import (
    count,
    count_detection,
    count_detector,
    count_pruned,
    count_restoration,
    count_windows,
)


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
        dtype = deblurrer.runner.precision.dtype
        network = copy.deepcopy(deblurrer.weights.network)
        self.network = place(accelerate(network, exact=True), self.device, dtype)

    @torch.inference_mode()
    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self.device)  # H W 3 -> 1 3 H W
        image = (image.float() / 255).to(self.network.input_dtype)
        image = image.contiguous(memory_format=torch.channels_last)
        with advice():
            return self.network.detect(image)

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
            weights = overlay_weights(mask[0, 0].float().cpu().numpy(), slice(0, height), slice(0, width))
            image = blurred + (image - blurred) * torch.from_numpy(weights)
        return Outcome(
            image,
            None if mask is None else mask.float().cpu(),
            None if found.start is None else found.start.float().cpu() * STAGE_SCALE,
            None if found.end is None else found.end.float().cpu() * STAGE_SCALE,
            *whole_work(self.network, result),
        )

    def choose(self, found: Detection, probability: Tensor, epsilon: float) -> Tensor:
        """What counts as blurred, 1 1 h w: single cells, or regions with keep_sharp.

        Cells of the padding have no part in a region.
        """
        if not self.keep_sharp:
            return (probability.float() > epsilon).to(probability)
        rows, columns = (-(-side // STAGE_SCALE) for side in found.size)
        regions = settle(probability[0, 0, :rows, :columns].float().cpu().numpy(), epsilon)
        mask = torch.from_numpy(regions > epsilon)[None, None].to(probability)
        return fit(mask, probability.shape[-2:])


class Tiled:
    """What `deblur run` does: tiles, one mask for the whole picture, 8 bits."""

    def __init__(self, deblurrer: Deblurrer, settings: Settings) -> None:
        self.deblurrer, self.settings = deblurrer, settings

    def detect(self, pixels: NDArray[np.uint8]) -> tuple[Task, Floats]:
        photo = Photo(pixels=pixels, source=Path("picture"), format="PNG")
        size = self.deblurrer.grid(photo.height, photo.width, self.settings).size
        task = Task(self.deblurrer.runner, photo, self.settings, size, lambda *_: None, [])
        with advice():
            return task, task.detect()

    def restore(self, found: tuple[Task, Floats], epsilon: float) -> Outcome:
        task, detected = found
        if task.runner.reference.follows_epsilon and epsilon != task.settings.epsilon:
            task.forget()
            task.settings = replace(self.settings, epsilon=epsilon)
            with advice():
                detected = task.detect()
        task.settings = replace(self.settings, epsilon=epsilon)
        with advice():
            result = task.finish(task.judge(detected.copy()))
        pixels = torch.from_numpy(result.photo.pixels.astype(np.float32) / 255)
        probability = torch.from_numpy(result.maps.probability)[None, None]
        detects = task.runner.detects
        mask = (probability > epsilon).float()
        macs, dense = tiled_work(task, mask[0, 0].numpy())
        return Outcome(
            pixels.permute(2, 0, 1)[None],
            mask if detects else None,
            torch.from_numpy(result.maps.start)[None] if task.runner.traces else None,
            torch.from_numpy(result.maps.end)[None] if task.runner.traces else None,
            macs,
            dense,
        )


def whole_work(network: Network, result: Restoration) -> tuple[int, int]:
    """Multiply-accumulates of a restored picture, and those of the network run densely.

    Densely, a network needs no detector; its detector counts where it prunes.
    """
    height, width = result.detection.size
    if isinstance(network, Guided):
        restoring, densely = whole_work(network.restorer, result)
        return count_detector(network.detector, height, width) + restoring, densely
    if isinstance(network, LMDViT) and isinstance(result, WindowRestoration):
        shares = [float(decision.mean()) for decision in result.decisions]
        return count_windows(network, height, width, shares), count_windows(network, height, width)
    assert isinstance(network, M2AENet)
    dense = count(network, height, width)
    pruned = dense if result.mask is None else count_pruned(network, (height, width), result.mask)
    return pruned.total, dense.total


def tiled_work(task: Task, mask: Floats) -> tuple[int | None, int | None]:
    """Multiply-accumulates of a tiled run with a mask h/8 w/8, and of the network over all tiles densely.

    Not counted where windows are pruned, since each tile has its own. Densely, a network needs no detector.
    """
    network = task.runner.network
    restorer = restorer_of(network)
    if not isinstance(restorer, M2AENet):
        return None, None
    macs = dense = 0
    for tile in task.grid:
        dense += count(restorer, *tile.size).total
        looking = count_detection(network, *tile.size)
        macs += looking if task.runner.detects else 0
        if part := task.part(tile, mask):
            cells = torch.from_numpy(mask[part.scaled(STAGE_SCALE)])[None, None]
            macs += count_restoration(network, part.size, cells)
            macs += looking if network.keeps_features and not task.keeps(tile, part) else 0
    return macs, dense


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
