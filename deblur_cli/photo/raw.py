"""Camera RAW: developed by LibRaw into 16 bits of a named color space."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import rawpy
from numpy.typing import NDArray

from deblur_cli.errors import DecodeError, UsageError
from deblur_cli.photo import exif, profiles
from deblur_cli.photo.bmff import read_canon
from deblur_cli.photo.guards import too_large
from deblur_cli.photo.metadata import IPTC_TAG, XMP_TAG, mended_iptc, read_blocks
from deblur_cli.photo.photo import Photo
from deblur_cli.photo.raw_tags import TAG_FAILURES, read_raw_exif, read_tags
from deblur_cli.photo.samples import turn_upright
from deblur_cli.photo.tiff import DNG_VERSION, open_tiff

logger = logging.getLogger(__name__)

WhiteBalance = Literal["camera", "auto", "daylight"]
ColorSpace = Literal["srgb", "adobe", "prophoto", "p3"]

WHITE_BALANCES: tuple[WhiteBalance, ...] = ("camera", "auto", "daylight")
# LibRaw's space and its curve: exponent and slope of the linear start, 0 for none
_SPACES: dict[ColorSpace, tuple[rawpy.ColorSpace, tuple[float, float]]] = {
    "srgb": (rawpy.ColorSpace.sRGB, (2.4, 12.92)),
    "adobe": (rawpy.ColorSpace.Adobe, (563 / 256, 0)),
    "prophoto": (rawpy.ColorSpace.ProPhoto, (1.8, 0)),
    "p3": (rawpy.ColorSpace.P3D65, (2.4, 12.92)),
}
COLOR_SPACES: tuple[ColorSpace, ...] = tuple(_SPACES)
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
    color_space   "srgb", "adobe" (Adobe RGB 1998), "prophoto" (ProPhoto RGB) or "p3" (Display P3),
                   each with its own curve

    Raises UsageError for other values.
    """

    white_balance: WhiteBalance = "camera"
    exposure: float = 0.0
    color_space: ColorSpace = "srgb"

    def __post_init__(self) -> None:
        if self.white_balance not in WHITE_BALANCES:
            raise UsageError(f"white balance {self.white_balance!r} is unknown: {', '.join(WHITE_BALANCES)}")
        if self.color_space not in COLOR_SPACES:
            raise UsageError(f"color space {self.color_space!r} is unknown: {', '.join(COLOR_SPACES)}")
        if not -LARGEST_EXPOSURE <= self.exposure <= LARGEST_EXPOSURE:
            raise UsageError(f"exposure {self.exposure:g} is out of range; choose -5 to 5 stops")


def read_raw(path: Path, max_megapixels: float, options: RawOptions, *, develop: bool = True) -> Photo:
    """Develops a RAW file: upright RGB uint16 with the profile of its space.

    develop: False to develop it at half size, which skips the demosaicing, and give a black picture instead;
    all else, and all that is raised, is the same

    Raises UnsupportedRawError for what LibRaw does not read, DecodeError for damage,
    PhotoTooLargeError before pixels are read.
    """
    with _LIBRAW_LOCK, _named_errors(path), rawpy.imread(str(path)) as raw:
        sizes = raw.sizes
        megapixels = sizes.iwidth * sizes.iheight / 1e6
        if megapixels > max_megapixels:
            raise too_large(path, megapixels, max_megapixels)
        pixels = _develop(path, raw, options, half_size=not develop)
        orientation = _ORIENTATIONS.get(sizes.flip, 1)
        block, lost = read_raw_exif(path, raw, orientation)
    beside = _read_beside(path)
    crop = _default_crop(sizes) if beside.is_dng else None
    if not develop:
        width, height = _upright_size(sizes, crop)
        pixels = np.broadcast_to(np.uint16(0), (height, width, 3))  # which takes no memory
    else:
        left, top, right, bottom = crop or (0, 0, pixels.shape[1], pixels.shape[0])
        pixels = turn_upright(pixels[top:bottom, left:right], orientation)
    shown = (pixels.shape[1], pixels.shape[0])
    others, lost_others = read_blocks(beside.blocks, shown, turned=orientation != 1, orientation=orientation)
    upright = exif.mark_upright(block, shown[::-1] if orientation >= 5 else shown)
    return Photo(
        pixels=pixels,
        source=path,
        format="RAW",
        orientation=orientation,
        bits=16,
        metadata=replace(others, icc=profiles.space_profile(options.color_space), exif=upright),
        left_out=(*lost, *lost_others, *beside.left_out),
    )


def _develop(path: Path, raw: rawpy.RawPy, options: RawOptions, *, half_size: bool) -> NDArray[np.uint16]:
    """H W 3 as the sensor lay. Raises DecodeError for other numbers of channels."""
    space, curve = _SPACES[options.color_space]
    balance = _balance(path, raw, options.white_balance)
    pixels = raw.postprocess(
        half_size=half_size,
        use_camera_wb=balance == "camera",
        use_auto_wb=balance == "auto",
        bright=2.0**options.exposure,
        no_auto_bright=True,  # which would make brightness a matter of what is in the picture
        output_color=space,
        gamma=curve,
        output_bps=16,
        user_flip=0,
    )
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DecodeError(f"{path}: is RAW without color, which deblur does not read; develop it to TIFF")
    return pixels.astype(np.uint16, copy=False)


def raw_size(path: Path) -> tuple[int, int]:
    """Width and height of the developed, upright picture, from the header alone. Raises as `read_raw`."""
    with _named_errors(path), rawpy.imread(str(path)) as raw:
        return _upright_size(raw.sizes, _default_crop(raw.sizes) if _read_beside(path).is_dng else None)


def _upright_size(sizes: rawpy.ImageSizes, crop: tuple[int, int, int, int] | None) -> tuple[int, int]:
    left, top, right, bottom = crop or (0, 0, sizes.iwidth, sizes.iheight)
    width, height = right - left, bottom - top
    return (height, width) if sizes.flip in (5, 6) else (width, height)


def _default_crop(sizes: rawpy.ImageSizes) -> tuple[int, int, int, int] | None:
    """The part that a DNG wants shown, of the developed picture before it is turned; None for all of it."""
    left, top = sizes.crop_left_margin - sizes.left_margin, sizes.crop_top_margin - sizes.top_margin
    right, bottom = left + sizes.crop_width, top + sizes.crop_height
    width, height = (sizes.iheight, sizes.iwidth) if sizes.flip in (5, 6) else (sizes.iwidth, sizes.iheight)
    unscaled = {width, height} == {sizes.width, sizes.height}
    inside = 0 <= left < right <= sizes.width and 0 <= top < bottom <= sizes.height
    whole = (left, top, right, bottom) == (0, 0, sizes.width, sizes.height)
    return (left, top, right, bottom) if unscaled and inside and not whole else None


class _Beside(NamedTuple):
    """What a RAW file holds beside the sensor's data and EXIF.

    blocks: XMP and IPTC by name; left_out: what no result carries, as phrases
    """

    blocks: dict[str, bytes]
    is_dng: bool = False
    left_out: tuple[str, ...] = ()


def _read_beside(path: Path) -> _Beside:
    with path.open("rb") as file:
        if canon := read_canon(file):
            return _Beside({name: block for name, block in canon.items() if name == "xmp"})
        try:
            main = read_tags(file).main
        except TAG_FAILURES:  # which `read_raw_exif` names
            return _Beside({})
        file.seek(0)
        pages = open_tiff(path, file)
        lost = pages.beside_raw if pages is not None else ()
    found = {
        "xmp": main[XMP_TAG].content.rstrip(b"\0") if XMP_TAG in main else None,
        "iptc": mended_iptc(main[IPTC_TAG].content) if IPTC_TAG in main else None,
    }
    blocks = {name: block for name, block in found.items() if block}
    return _Beside(blocks, DNG_VERSION in main, lost)


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
        raise UnsupportedRawError(_why_unsupported(path)) from error
    except (rawpy.LibRawTooBigError, rawpy.LibRawUnsufficientMemoryError, MemoryError) as error:
        raise DecodeError(f"{path}: there is not enough memory to develop it") from error
    except rawpy.LibRawError as error:
        raise DecodeError(
            f"{path}: is damaged or cut short ({_text(error)}); fetch a fresh copy of the file"
        ) from error


_COMPRESSIONS = {52546: "JPEG XL", 50002: "JPEG XL", 34892: "lossy JPEG"}


def _why_unsupported(path: Path) -> str:
    libraw = f"LibRaw {'.'.join(map(str, rawpy.libraw_version))}"
    with path.open("rb") as file:
        pages = open_tiff(path, file)
        if pages is None or not pages.is_dng:
            return f"{path}: is not a camera RAW that {libraw} reads; convert it to DNG or TIFF first"
        kinds = (_COMPRESSIONS[code] for code in pages.compressions if code in _COMPRESSIONS)
    inside = next((f" with {kind} inside" for kind in kinds), "")
    return (
        f"{path}: is a DNG{inside}, which {libraw} does not read; export it as TIFF, or as DNG without lossy"
        " compression"
    )


def _text(error: rawpy.LibRawError) -> str:
    words = error.args[0] if error.args else type(error).__name__
    return words.decode("ascii", "replace") if isinstance(words, bytes) else str(words)
