"""Samples of an opened picture: whatever Pillow's mode, as arrays, and turned upright."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.errors import DecodeError

Samples = NDArray[np.uint8]

# Mode that a file may open in -> mode whose channels are what `Photo` holds.
_PLAIN_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "PA": "RGBA",
    "YCbCr": "RGB",
    "CMYK": "CMYK",
}


class Channels(NamedTuple):
    """Colour (H W C; C is 1, 3, or 4 for CMYK) and alpha (H W or None)."""

    colour: Samples
    alpha: Samples | None


def plain_mode(image: Image.Image) -> str:
    """The mode to read `image` in. Raises DecodeError (without a file name) for an unknown mode."""
    if image.mode == "P":
        return "RGBA" if image.has_transparency_data else "RGB"
    if image.mode not in _PLAIN_MODES:
        raise DecodeError(f"its pixels are of the kind {image.mode}, which is not read; save it as RGB first")
    return _PLAIN_MODES[image.mode]


def read_channels(image: Image.Image, grey_bits: int = 8) -> Channels:
    """The samples of a loaded picture, stored orientation.

    `grey_bits` are the bits per sample of a grey PNG, the scale on which it names its transparent grey.
    Raises DecodeError for a mode that is not read.
    """
    mode = plain_mode(image)
    key = image.info.get("transparency") if image.mode in ("1", "L", "RGB") else None
    # A copy, since Pillow's own buffer goes away with the picture.
    array = np.array(image if image.mode == mode else image.convert(mode), dtype=np.uint8, ndmin=2)
    if array.ndim == 2:
        array = array[:, :, np.newaxis]  # H W -> H W 1
    if mode in ("LA", "RGBA"):
        return Channels(array[:, :, :-1].copy(), array[:, :, -1].copy())
    return Channels(array, None if key is None else _key_alpha(array, key, grey_bits))


def _key_alpha(colour: Samples, key: Any, grey_bits: int) -> Samples:
    """Alpha of a picture in which one colour, `key`, is declared transparent."""
    if grey_bits in (2, 4):
        key = key * 255 // (2**grey_bits - 1)
    transparent = np.all(colour == np.asarray(key, dtype=np.int64), axis=2)
    return np.where(transparent, 0, 255).astype(np.uint8)


def to_image(array: Samples, mode: str) -> Image.Image:
    """The inverse of `read_channels`: H W C, C as the mode has it, as a Pillow picture."""
    height, width = array.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(array).tobytes())


def upright_channels(channels: Channels, orientation: int) -> Channels:
    """Colour and alpha turned upright."""
    alpha = None if channels.alpha is None else turn_upright(channels.alpha, orientation)
    return Channels(turn_upright(channels.colour, orientation), alpha)


def turn_upright(array: Samples, orientation: int) -> Samples:
    """Applies an EXIF orientation, 1-8, to an array H W ... and returns a contiguous one."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)  # mirrored at the main diagonal, that is orientation 5
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
