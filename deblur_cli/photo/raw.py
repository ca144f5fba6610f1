"""Camera RAW: developed by LibRaw into 16 bits of a named colour space."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import rawpy

from deblur_cli.errors import DecodeError, UsageError
from deblur_cli.photo import profiles
from deblur_cli.photo.guards import too_large
from deblur_cli.photo.photo import Metadata, Photo
from deblur_cli.photo.raw_exif import read_raw_exif

logger = logging.getLogger(__name__)

WhiteBalance = Literal["camera", "auto", "daylight"]
ColourSpace = Literal["srgb", "adobe", "prophoto", "p3"]

WHITE_BALANCES: tuple[WhiteBalance, ...] = ("camera", "auto", "daylight")
# LibRaw's space and its curve: exponent and slope of the linear start, 0 for none
_SPACES: dict[ColourSpace, tuple[rawpy.ColorSpace, tuple[float, float]]] = {
    "srgb": (rawpy.ColorSpace.sRGB, (2.4, 12.92)),
    "adobe": (rawpy.ColorSpace.Adobe, (563 / 256, 0)),
    "prophoto": (rawpy.ColorSpace.ProPhoto, (1.8, 0)),
    "p3": (rawpy.ColorSpace.P3D65, (2.4, 12.92)),
}
COLOUR_SPACES: tuple[ColourSpace, ...] = tuple(_SPACES)
LARGEST_EXPOSURE = 5.0  # stops in either direction
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's flip -> EXIF orientation

_LIBRAW_LOCK = threading.Lock()  # memory for one development at a time


class UnsupportedRawError(DecodeError):
    """LibRaw does not know the file for camera RAW that it can read."""


@dataclass(frozen=True)
class RawOptions:
    """How camera RAW is developed.

    white_balance  "camera" as set when the picture was taken, "auto" from the picture, "daylight"
    exposure       stops, -5 to 5; values beyond white are clipped
    colour_space   "srgb", "adobe" (Adobe RGB 1998), "prophoto" (ProPhoto RGB) or "p3" (Display P3),
                   each with its own curve

    Raises UsageError for other values.
    """

    white_balance: WhiteBalance = "camera"
    exposure: float = 0.0
    colour_space: ColourSpace = "srgb"

    def __post_init__(self) -> None:
        if self.white_balance not in WHITE_BALANCES:
            raise UsageError(f"white balance {self.white_balance!r} is unknown: {', '.join(WHITE_BALANCES)}")
        if self.colour_space not in COLOUR_SPACES:
            raise UsageError(f"colour space {self.colour_space!r} is unknown: {', '.join(COLOUR_SPACES)}")
        if not -LARGEST_EXPOSURE <= self.exposure <= LARGEST_EXPOSURE:
            raise UsageError(f"exposure {self.exposure:g} is out of range; choose -5 to 5 stops")


def read_raw(path: Path, max_megapixels: float, options: RawOptions) -> Photo:
    """Develops a RAW file: upright RGB (or grey) uint16 with the profile of its space.

    Raises UnsupportedRawError for what LibRaw does not read, DecodeError for damage,
    PhotoTooLargeError before pixels are read.
    """
    with _LIBRAW_LOCK, _named_errors(path), rawpy.imread(str(path)) as raw:
        sizes = raw.sizes
        megapixels = sizes.iwidth * sizes.iheight / 1e6
        if megapixels > max_megapixels:
            raise too_large(path, megapixels, max_megapixels)
        space, curve = _SPACES[options.colour_space]
        balance = _balance(path, raw, options.white_balance)
        pixels = raw.postprocess(
            use_camera_wb=balance == "camera",
            use_auto_wb=balance == "auto",
            bright=2.0**options.exposure,
            no_auto_bright=True,  # which would make brightness a matter of what is in the picture
            output_color=space,
            gamma=curve,
            output_bps=16,
        )
        orientation = _ORIENTATIONS.get(sizes.flip, 1)
        block = read_raw_exif(path, raw)
    pixels = np.atleast_3d(pixels)
    if pixels.shape[2] != 3:
        raise DecodeError(
            f"{path}: is RAW of {pixels.shape[2]} channels, which is not read; develop it to TIFF"
        )
    return Photo(
        pixels=pixels,
        source=path,
        format="RAW",
        orientation=orientation,
        metadata=Metadata(icc=profiles.space_profile(options.colour_space), exif=block),
    )


def raw_size(path: Path) -> tuple[int, int]:
    """Width and height of the developed, upright picture, from the header alone. Raises as `read_raw`."""
    with _named_errors(path), rawpy.imread(str(path)) as raw:
        width, height = raw.sizes.iwidth, raw.sizes.iheight
        return (height, width) if raw.sizes.flip in (5, 6) else (width, height)


def _balance(path: Path, raw: rawpy.RawPy, choice: WhiteBalance) -> WhiteBalance:
    """What can be had of the choice."""
    if choice == "camera" and not min(raw.camera_whitebalance[:3]) > 0:
        logger.warning("%s: names no white balance of its camera; it is taken from the picture", path)
        return "auto"
    return choice


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (rawpy.LibRawFileUnsupportedError, rawpy.NotSupportedError) as error:
        raise UnsupportedRawError(
            f"{path}: is no camera RAW that LibRaw {'.'.join(map(str, rawpy.libraw_version))} reads;"
            " convert it to DNG or TIFF first"
        ) from error
    except (rawpy.LibRawTooBigError, rawpy.LibRawUnsufficientMemoryError, MemoryError) as error:
        raise DecodeError(f"{path}: there is not enough memory to develop it") from error
    except rawpy.LibRawError as error:
        raise DecodeError(
            f"{path}: is damaged or cut short ({_text(error)}); fetch a fresh copy of the file"
        ) from error


def _text(error: rawpy.LibRawError) -> str:
    words = error.args[0] if error.args else type(error).__name__
    return words.decode("ascii", "replace") if isinstance(words, bytes) else str(words)
