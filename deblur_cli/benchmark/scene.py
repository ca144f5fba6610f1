"""A made-up photo, of which a given share counts as blurred by a motion of a given length."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblur_cli.errors import UsageError
from deblur_cli.nets.network import CELL, cells_of
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration import SCALES, Tiling
from deblur_cli.restoration.deblurrer import Deblurrer, Request, Result
from deblur_cli.restoration.findings import Findings, Floats
from deblur_cli.restoration.scales import ScaledPhoto, merge_scales
from deblur_cli.weights import LoadedWeights

REQUEST = Request()  # findings are sure or not at all, so that any epsilon would do


@dataclass(frozen=True)
class Setting:
    """What is timed: weights on a device, and how photos are cut."""

    weights: LoadedWeights
    tiling: Tiling
    device: str = "auto"
    precision: str = "auto"

    def deblurrer(self, scales: Sequence[int] = SCALES) -> Deblurrer:
        """The tool at these scales. Raises DeviceError."""
        return Deblurrer(self.weights, self.device, self.precision, self.tiling, scales)


@dataclass(frozen=True)
class Scene:
    """A photo, and what is taken for found in it.

    What detection finds in a made-up picture depends on the weights; what is restored should not.
    """

    photo: Photo
    findings: Findings

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.findings.size

    @property
    def level(self) -> ScaledPhoto:
        """The photo at its own scale, to cut tiles from."""
        return ScaledPhoto(self.photo.pixels, 1)

    def run(self, deblurrer: Deblurrer) -> Result:
        """Look for blur, and restore what is taken for blurred."""
        deblurrer.detect(self.photo)
        return self.restore(deblurrer)

    def restore(self, deblurrer: Deblurrer) -> Result:
        """Restore what is taken for blurred."""
        return deblurrer.restore(self.photo, self.findings, REQUEST)


def stage(deblurrer: Deblurrer, size: tuple[int, int], share: float, length: float) -> Scene:
    """A photo of size (width, height), in which a share moved by so many pixels.

    Raises UsageError for impossible values.
    """
    if not 0 <= share <= 1 or not length > 0 or min(size) < CELL:
        raise UsageError("the share must be 0-1, the length above 0, and the photo at least 8x8 pixels")
    photo = Photo(pixels=test_picture(*size), source=Path("test picture"), format="PNG")
    scales = deblurrer.scales_for(photo.height, photo.width)
    return Scene(photo, forced(photo.height, photo.width, share, length, scales))


def forced(height: int, width: int, share: float, length: float, scales: Sequence[int]) -> Findings:
    """Findings of a photo in which a disc of a share of the area surely moved sideways by so many pixels."""
    cells = cells_of((height, width))
    start = np.zeros((2, *cells), np.float32)
    start[1] = -length / 2
    scale = np.full(cells, suited_scale(length, scales), np.float32)
    return Findings((height, width), disc(*cells, share), start, -start, scale)


def suited_scale(length: float, scales: Sequence[int]) -> float:
    """The scale at which blur of a length is restored, where detection is sure of it at all of the scales."""
    side = CELL * max(scales)  # cells, more than `merge_scales` looks at around each
    found = {}
    for scale in scales:
        maps = np.zeros((5, side // scale, side // scale), np.float32)
        maps[0], maps[2], maps[4] = 1, -length / 2 / scale, length / 2 / scale
        found[scale] = maps
    chosen = merge_scales(found, (side * CELL, side * CELL))
    return float(chosen.scale[side // 2, side // 2])


def disc(height: int, width: int, share: float) -> Floats:
    """Probability of blur: one in a disc (cut off at the borders) that covers the share, zero elsewhere."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    covered = distance.argsort(axis=None)[: round(share * height * width)]
    probability = np.zeros(height * width, np.float32)
    probability[covered] = 1
    return probability.reshape(height, width)


def test_picture(width: int, height: int) -> NDArray[np.uint8]:
    """A picture H W 3 with detail at every scale, the same every time."""
    rng = np.random.default_rng(2026)
    picture = np.zeros((height, width, 3), np.float32)
    for scale in (1, 4, 16, 64, 256):
        shape = (-(-height // scale), -(-width // scale), 3)
        coarse = rng.random(shape, dtype=np.float32)
        picture += coarse.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
    return np.asarray(picture / 5 * 255, np.uint8)
