"""The network's findings as the pictures read them: at an eighth of the photo, brought to any size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.cells import CELL

BAND = 256  # rows that are worked on at once, which bounds the memory
_LEAST_MOTION = 0.25  # photo pixels; what moved less has no direction to draw

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Pixels8 = NDArray[np.uint8]


class Maps(Protocol):
    """What the overlays read of the network's findings: maps of 1/8 of the photo's size.

    probability  h w, 0-1;  start, end  2 h w, displacement (dy, dx) in photo pixels from mid-exposure
    """

    @property
    def probability(self) -> Floats: ...
    @property
    def start(self) -> Floats: ...
    @property
    def end(self) -> Floats: ...


@dataclass(frozen=True, eq=False)
class Motion:
    """Where something moved far enough to draw, and how far.

    moving  h w, over epsilon with a displacement that can be;  length  h w, photo pixels from start to
    end, 0 where the displacement cannot be
    """

    moving: Bools
    length: Floats


def find_motion(maps: Maps, epsilon: float, size: tuple[int, int]) -> Motion:
    """Leave out what is sharp, still, not a number, or moved farther than a photo of that size is wide."""
    reach = float(np.hypot(*size))
    ends = np.concatenate([maps.start, maps.end])
    sane = (np.abs(ends) <= reach).all(axis=0)  # false for NaN
    length = np.hypot(*np.where(sane, maps.end - maps.start, 0)).astype(np.float32)
    return Motion((maps.probability > epsilon) & (length >= _LEAST_MOTION), length)


def upsample(values: Floats, rows: tuple[int, int], width: int, scale: float = 1.0) -> Floats:
    """Interpolate a map bilinearly at pixel centres: rows [first, last), columns [0, width).

    scale: pixels of the picture per pixel of the photo.
    """
    above, below, down = _neighbours(np.arange(*rows), values.shape[0], CELL * scale)
    left, right, across = _neighbours(np.arange(width), values.shape[1], CELL * scale)
    lines = values[above] + down[:, None] * (values[below] - values[above])
    return lines[:, left] + across * (lines[:, right] - lines[:, left])


def _neighbours(
    places: NDArray[np.int64], count: int, cell: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return the map values before and after each pixel centre, and the share of the latter."""
    at = np.clip((places + 0.5) / cell - 0.5, 0, count - 1)
    before = at.astype(np.int64)
    return before, np.minimum(before + 1, count - 1), (at - before).astype(np.float32)


def bands(height: int) -> Iterator[tuple[int, int]]:
    """Cut rows into bands: the first row of each, and the one after its last."""
    return ((top, min(top + BAND, height)) for top in range(0, height, BAND))


def reduced(pixels: Pixels8, longest: int) -> tuple[Pixels8, float]:
    """Return a picture (H W 3 or 1) no longer than that, as H W 3, and its pixels per photo pixel."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image), scale
