"""Camera RAW: developed by LibRaw into 16 bits of a named color space."""

import logging
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import exifread
import numpy as np
import rawpy
from exifread.core.exceptions import ExifError
from exifread.core.ifd_tag import IfdTag
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import IFD, Base

from deblur_cli.errors import DecodeError, UsageError
from deblur_cli.photo import exif, profiles
from deblur_cli.photo.bmff import canon_xmp
from deblur_cli.photo.guards import too_large
from deblur_cli.photo.metadata import XMP_TAG, read_blocks, read_iptc
from deblur_cli.photo.photo import Photo
from deblur_cli.photo.samples import turn_upright
from deblur_cli.photo.tiff_pages import open_tiff

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


def read_raw(path: Path, max_megapixels: float, options: RawOptions) -> Photo:
    """Develops a RAW file: upright RGB uint16 with the profile of its space.

    Raises UnsupportedRawError for what LibRaw does not read, DecodeError for damage,
    PhotoTooLargeError before pixels are read.
    """
    with _LIBRAW_LOCK, _named_errors(path), rawpy.imread(str(path)) as raw:
        sizes = raw.sizes
        megapixels = sizes.iwidth * sizes.iheight / 1e6
        if megapixels > max_megapixels:
            raise too_large(path, megapixels, max_megapixels)
        pixels = _develop(path, raw, options)
        block, lost = read_raw_exif(path, raw)
    orientation = _ORIENTATIONS.get(sizes.flip, 1)
    blocks, is_dng = _tiff_blocks(path)
    if is_dng and (box := _default_crop(sizes)) is not None:
        left, top, right, bottom = box
        pixels = pixels[top:bottom, left:right]
    others, lost_others = read_blocks(blocks, turned=orientation != 1)
    return Photo(
        pixels=turn_upright(pixels, orientation),
        source=path,
        format="RAW",
        orientation=orientation,
        bits=16,
        metadata=replace(others, icc=profiles.space_profile(options.color_space), exif=block),
        left_out=(*lost, *lost_others),
    )


def _develop(path: Path, raw: rawpy.RawPy, options: RawOptions) -> NDArray[np.uint16]:
    """H W 3 as the sensor lay. Raises DecodeError for other numbers of channels."""
    space, curve = _SPACES[options.color_space]
    balance = _balance(path, raw, options.white_balance)
    pixels = raw.postprocess(
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
        sizes = raw.sizes
        width, height = sizes.iwidth, sizes.iheight
        if (box := _default_crop(sizes)) is not None and _tiff_blocks(path)[1]:
            width, height = box[2] - box[0], box[3] - box[1]
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


def _tiff_blocks(path: Path) -> tuple[dict[str, bytes], bool]:
    """XMP and IPTC of RAW that is a TIFF, or Canon's XMP, by name; and whether it is a DNG."""
    with path.open("rb") as file:
        if canon := canon_xmp(file):
            return {"xmp": canon}, False
        pages = open_tiff(path, file)
        if pages is None:
            return {}, False
        first = pages.tiff.pages.first.tags
        xmp = first[XMP_TAG].value if XMP_TAG in first else None
        blocks = {"xmp": xmp, "iptc": read_iptc(file, None)}
        return {name: bytes(block) for name, block in blocks.items() if block}, pages.is_dng


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


# Of the main directory only what is about the photo; all else describes the RAW file's own layout.
_MAIN_TAGS = frozenset(
    {
        *(Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist),
        *(Base.HostComputer, Base.Rating, Base.RatingPercent, Base.Copyright),
        *(Base.XResolution, Base.YResolution, Base.ResolutionUnit),
    }
)
_UNFIT_TAGS = frozenset(
    {
        *(Base.MakerNote, Base.UserComment),  # the first has offsets into the RAW file
        *(Base.ExifImageWidth, Base.ExifImageHeight, Base.ExifInteroperabilityOffset, Base.ColorSpace),
    }
)
_ASCII, _RATIONALS, _BYTES = 2, (5, 10), (1, 7)
_FAILURES = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error)


def read_raw_exif(path: Path, raw: rawpy.RawPy) -> tuple[bytes | None, tuple[str, ...]]:
    """An EXIF block with orientation 1: camera, lens, time, exposure, GPS; and what it lacks, as phrases."""
    block, lost = Image.Exif(), []
    try:
        with path.open("rb") as file:
            tags = exifread.process_file(file, details=False, extract_thumbnail=False)
            skipped = exif.exif_directory(file)  # exifread passes over maker notes and comments
        _take_over(block, tags)
        if Base.MakerNote in skipped:
            lost.append("its maker notes, whose offsets hold in the RAW file alone")
        if any(skipped.get(Base.UserComment, b"")[8:].strip(b"\0 ")):  # behind the name of a character set
            block.get_ifd(IFD.Exif)[Base.UserComment] = skipped[Base.UserComment]
    except (*_FAILURES, AssertionError, RecursionError, ExifError) as error:
        lost.append(f"its EXIF tags, which cannot be read ({error})")
        block = Image.Exif()
    try:
        _add_known(block, raw)
        if Base.Make not in block and not lost:
            lost.append("the name of its camera, which cannot be read")
        block[Base.Orientation] = 1
        written = block.tobytes()[6:]
        exif.main_directory(written)
    except (*_FAILURES, exif.BrokenExifError) as error:
        return None, (*lost, f"its EXIF tags, which cannot be written ({error})")
    return written, tuple(lost)


def _take_over(block: Image.Exif, tags: dict[str, Any]) -> None:
    directories: dict[str, dict[int, Any]] = {"EXIF": {}, "GPS": {}}
    for name, tag in tags.items():
        directory = name.split(" ")[0]
        if not isinstance(tag, IfdTag) or tag.tag in _UNFIT_TAGS:
            continue
        value = _pillow_value(tag)
        if value is None:
            continue
        if directory == "Image" and tag.tag in _MAIN_TAGS:
            block[tag.tag] = value
        elif directory in directories:
            directories[directory][tag.tag] = value
    for ifd, content in ((IFD.Exif, directories["EXIF"]), (IFD.GPSInfo, directories["GPS"])):
        if content:
            block.get_ifd(ifd).update(content)


def _pillow_value(tag: Any) -> Any:
    """A tag's value as Pillow writes it, or None for an empty one."""
    kind = int(tag.field_type)
    if kind == _ASCII:
        return str(tag.values).strip("\0 ") or None
    values = list(tag.values)
    if not values:
        return None
    if kind in _BYTES:
        return bytes(int(value) for value in values)
    if kind in _RATIONALS:
        values = [TiffImagePlugin.IFDRational(*_terms(value)) for value in values]
    return values[0] if len(values) == 1 else tuple(values)


def _terms(value: Any) -> tuple[int, int]:
    return (int(value), 1) if isinstance(value, int) else (int(value.numerator), int(value.denominator))


def _add_known(block: Image.Exif, raw: rawpy.RawPy) -> None:
    """What LibRaw read of the exposure, where exifread found nothing."""
    other, lens = raw.other, raw.lens
    found: dict[int, Any] = {}
    if other.iso_speed > 0:
        found[Base.ISOSpeedRatings] = min(65535, round(other.iso_speed))
        found[Base.ExposureTime] = _ratio(other.shutter_speed)
        found[Base.FNumber] = _ratio(other.aperture)
        found[Base.FocalLength] = _ratio(other.focal_length)
    if isinstance(other.timestamp, datetime) and other.timestamp.year > 1970:
        found[Base.DateTimeOriginal] = other.timestamp.strftime("%Y:%m:%d %H:%M:%S")
    found[Base.LensModel] = lens.model
    exposure = block.get_ifd(IFD.Exif)
    for tag, value in found.items():
        if value:
            exposure.setdefault(tag, value)
    if other.artist and Base.Artist not in block:
        block[Base.Artist] = other.artist


def _ratio(value: float) -> TiffImagePlugin.IFDRational | None:
    if not 0 < value < 1e6:
        return None
    ratio = Fraction(value).limit_denominator(10_000)
    return TiffImagePlugin.IFDRational(ratio.numerator, ratio.denominator)
