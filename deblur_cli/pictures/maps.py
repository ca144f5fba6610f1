"""What pictures read of findings, and how values of cells are brought to a picture of any size."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.cells import CELL

BAND = 256  # rows that are worked on at once, which bounds the memory

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Pixels8 = NDArray[np.uint8]


class Maps(Protocol):
    """What the overlays read of findings: one value for each cell of the photo.

    probability  h w, 0-1;  start, end  2 h w, displacement (dy, dx) in photo pixels from mid-exposure
    """

    @property
    def probability(self) -> Floats: ...
    @property
    def start(self) -> Floats: ...
    @property
    def end(self) -> Floats: ...


def upsample(values: Floats, rows: tuple[int, int], width: int, scale: float = 1.0) -> Floats:
    """Interpolate a map bilinearly at pixel centers: rows [first, last), columns [0, width).

    scale: pixels of the picture per pixel of the photo.
    """
    above, below, down = _neighbors(np.arange(*rows), values.shape[0], CELL * scale)
    left, right, across = _neighbors(np.arange(width), values.shape[1], CELL * scale)
    lines = values[above] + down[:, None] * (values[below] - values[above])
    return lines[:, left] + across * (lines[:, right] - lines[:, left])


def _neighbors(
    places: NDArray[np.int64], count: int, cell: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The map values before and after each pixel center, and the share of the latter."""
    at = np.clip((places + 0.5) / cell - 0.5, 0, count - 1)
    before = at.astype(np.int64)
    return before, np.minimum(before + 1, count - 1), (at - before).astype(np.float32)


def bands(height: int) -> Iterator[tuple[int, int]]:
    """Cut rows into bands: the first row of each, and the one after its last."""
    return ((top, min(top + BAND, height)) for top in range(0, height, BAND))


def reduced(pixels: Pixels8, longest: int) -> tuple[Pixels8, float]:
    """A picture (H W 3 or 1) no longer than that, as H W 3, and its pixels per photo pixel."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image), scale
