"""A mask that the user painted: where something is restored, besides or instead of what was detected."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from deblur_cli.errors import DecodeError
from deblur_cli.nets.network import CELL, cells_of
from deblur_cli.photo.decode import decode
from deblur_cli.photo.photo import Photo, to_eight_bits

BLACK = 1 / 16  # darker paint counts as none, so that the noise of a JPEG restores nothing
COLORED = 32  # of 255: pixels whose channels differ by more are in color
MOSTLY_GRAY = 1e-3  # share of a mask that may be in color all the same

Floats = NDArray[np.float32]


class MaskMode(StrEnum):
    """How a painted mask and what was detected go together."""

    only = "only"  # what is painted
    add = "add"  # what is painted, and what was detected
    limit = "limit"  # what was detected, as far as it is painted


@dataclass(frozen=True, eq=False)
class PaintedMask:
    """opacity: 0-1 for each cell of a photo, h w, how much of the change it gets; mode: how it counts."""

    opacity: Floats
    mode: MaskMode = MaskMode.only

    def join(self, found: Floats, mask: Floats) -> tuple[Floats, Floats]:
        """Confidence and opacity of each cell, h w of 0-1 each; painted cells have full confidence.

        found: the confidence that was detected; mask: zeros and ones, which cells it makes count
        """
        painted = self.opacity > 0
        if self.mode is MaskMode.limit:
            return found * painted, np.minimum(mask, self.opacity)
        if self.mode is MaskMode.add:
            return np.maximum(found, painted), np.maximum(mask, self.opacity)
        return painted.astype(np.float32), self.opacity


def read_mask(
    path: Path, height: int, width: int, max_megapixels: float, mode: MaskMode = MaskMode.only
) -> PaintedMask:
    """The mask of a photo of that size, from a gray picture of any size; its transparent parts are black.

    A cell gets the lightest of the paint in it, so that thin strokes count in full; one of a limit the
    darkest in and around it, so that nothing black changes. Raises DecodeError for what is no picture,
    no mask, or of another shape than the photo, and PhotoTooLargeError.
    """
    picture = decode(path, max_megapixels)
    if not is_alike((picture.height, picture.width), (height, width)):
        raise DecodeError(
            f"the mask {path} has {picture.width} x {picture.height} pixels, which is not the shape of the "
            f"photo with {width} x {height}: make one as large as the photo, or of the same proportions"
        )
    gray = gray_values(picture)
    rows, columns = (
        np.minimum(np.arange(count) * CELL * own // full, own - 1)
        for count, own, full in zip(cells_of((height, width)), gray.shape, (height, width), strict=True)
    )
    extreme = np.minimum if mode is MaskMode.limit else np.maximum
    cells = extreme.reduceat(extreme.reduceat(gray, rows, axis=0), columns, axis=1)
    if mode is MaskMode.limit:
        cells = sliding_window_view(np.pad(cells, 1, mode="edge"), (3, 3)).min((2, 3))
    return PaintedMask(np.where(cells < BLACK, 0, cells).astype(np.float32), mode)


def gray_values(picture: Photo) -> Floats:
    """How light the pixels of a mask are, H W of 0-1. Raises DecodeError for a picture in color."""
    pixels = to_eight_bits(picture.pixels)
    colored = pixels.max(2).astype(np.int16) - pixels.min(2) > COLORED
    if colored.mean() > MOSTLY_GRAY:
        raise DecodeError(
            f"{picture.source} is in color, but a mask is gray: white where the photo is to be restored, "
            "black elsewhere"
        )
    gray = pixels.mean(2, dtype=np.float32) / 255
    return gray if picture.alpha is None else gray * to_eight_bits(picture.alpha).astype(np.float32) / 255


def is_alike(mask: tuple[int, int], photo: tuple[int, int]) -> bool:
    """Whether sizes are those of one picture at two scales, each side rounded up or down."""
    (height, width), (full_height, full_width) = mask, photo
    least = max(full_height / (height + 1), full_width / (width + 1))
    most = min(full_height / max(height - 1, 0.5), full_width / max(width - 1, 0.5))
    return least <= most
