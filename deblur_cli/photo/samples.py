"""Samples of an opened picture: whatever Pillow's mode, as arrays, and turned upright."""

from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.errors import DecodeError
from deblur_cli.photo.photo import white

Number = TypeVar("Number", int, Decimal)
Deep = NDArray[np.uint16]
Samples = NDArray[Any]  # uint8 or uint16

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
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
_BAND = 1 << 22  # pixels that pass from Pillow to numpy at once: its way there costs two copies


class Channels(NamedTuple):
    """Color (H W C; C is 1, 3, or 4 for CMYK), alpha (H W of the same type, or None), and further channels.

    extra: H W N of the same type, or None; kinds: their ExtraSamples codes in TIFF
    """

    color: Samples
    alpha: Samples | None
    extra: Samples | None = None
    kinds: tuple[int, ...] = ()


def plain_mode(image: Image.Image) -> str:
    """The mode to read `image` in. Raises DecodeError (without a file name) for an unknown mode."""
    if image.mode == "P":
        return "RGBA" if image.has_transparency_data else "RGB"
    if image.mode not in _PLAIN_MODES:
        raise DecodeError(
            f"its pixels are of the kind {image.mode}, which deblur does not read; save it as RGB first"
        )
    return _PLAIN_MODES[image.mode]


def read_channels(image: Image.Image, gray_bits: int = 8) -> Channels:
    """The samples of a loaded picture, stored orientation, uint8.

    `gray_bits` are the bits per sample of a gray PNG, the scale on which it names its transparent gray.
    Raises DecodeError for a mode that is not read.
    """
    mode = plain_mode(image)
    key = image.info.get("transparency") if image.mode in ("1", "L", "RGB") else None
    array = np.empty((image.height, image.width, _CHANNELS[mode]), dtype=np.uint8)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = image.crop((0, top, image.width, bottom))
        band = band if band.mode == mode else band.convert(mode)
        array[top:bottom] = np.asarray(band).reshape(bottom - top, image.width, -1)
    if mode in ("LA", "RGBA"):
        return Channels(array[:, :, :-1].copy(), array[:, :, -1].copy())
    if key is not None and gray_bits in (2, 4):
        key = key * 255 // (2**gray_bits - 1)
    return Channels(array, None if key is None else key_alpha(array, key))


def key_alpha(color: Samples, key: Any) -> Samples:
    """Alpha of a picture in which one color, `key`, is declared transparent."""
    transparent = np.all(color == np.asarray(key, dtype=np.int64), axis=2)
    return np.where(transparent, 0, white(color)).astype(color.dtype)


def spread_bits(array: Deep, bits: int) -> None:
    """Values of 9-15 bits over the whole range of 16, in place: 0 stays 0, full becomes 65535.

    `gather_bits` takes them back exactly, since the high bits are repeated below.
    """
    low = array >> (2 * bits - 16)
    array <<= 16 - bits
    array |= low


def gather_bits(array: Deep, bits: int) -> Deep:
    """The nearest values of 9-15 bits for those of 16; the inverse of `spread_bits`."""
    full = (1 << bits) - 1
    table = np.rint(np.arange(65536) * (full / 65535)).astype(np.uint16)
    gathered: Deep = table[array]
    return gathered


def divide_by_alpha(color: Samples, alpha: Samples) -> None:
    """Takes alpha out of colors that it was multiplied into, in place; H W C and H W."""
    full = np.float32(white(color))
    rows = max(1, _BAND // color.shape[1])
    for start in range(0, color.shape[0], rows):
        band = slice(start, start + rows)
        divisor = np.maximum(alpha[band], 1).astype(np.float32)[..., np.newaxis]
        plain = np.minimum(color[band] * full / divisor, full)
        color[band] = np.rint(plain).astype(color.dtype)


def to_image(array: NDArray[np.uint8], mode: str) -> Image.Image:
    """The inverse of `read_channels`: H W C, C as the mode has it, as a Pillow picture."""
    height, width = array.shape[:2]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(array), "raw", mode, 0, 1)


def turn_upright(array: Samples, orientation: int) -> Samples:
    """Applies an EXIF orientation, 1-8, to an array H W ... and returns a contiguous one."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)  # mirrored at the main diagonal, that is orientation 5
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def turn_point(
    x: Number, y: Number, orientation: int, width: Number, height: Number
) -> tuple[Number, Number]:
    """Where a point lies once its picture is turned upright; coordinates go up to `width` and `height`."""
    if orientation in (5, 6, 7, 8):
        x, y, width, height = y, x, height, width
    if orientation in (3, 4, 7, 8):
        y = height - y
    if orientation in (2, 3, 6, 7):
        x = width - x
    return x, y


def joined(color: Samples, alpha: Samples | None) -> Samples:
    """Color and alpha in one array, H W C; the very array without alpha."""
    return color if alpha is None else np.concatenate([color, alpha[:, :, np.newaxis]], axis=2)


def split_alpha(array: Samples) -> Channels:
    """The inverse of `joined`: color and alpha of H W C samples, gray or RGB."""
    if array.shape[2] in (2, 4):
        return Channels(np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1]))
    return Channels(array, None)
