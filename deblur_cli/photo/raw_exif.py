"""EXIF of camera RAW as a block for the result: exifread's tags, else what LibRaw knows."""

import logging
import struct
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import exifread
import rawpy
from exifread.core.exceptions import ExifError
from exifread.core.ifd_tag import IfdTag
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import IFD, Base

from deblur_cli.photo import exif

logger = logging.getLogger(__name__)

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


def read_raw_exif(path: Path, raw: rawpy.RawPy) -> bytes | None:
    """An EXIF block with orientation 1: camera, lens, time, exposure, GPS. What is lacking is logged."""
    block = Image.Exif()
    try:
        with path.open("rb") as file:
            tags = exifread.process_file(file, details=False, extract_thumbnail=False)
        _take_over(block, tags)
    except (*_FAILURES, AssertionError, RecursionError, ExifError) as error:
        logger.warning("%s: its EXIF tags cannot be read (%s)", path, error)
        block = Image.Exif()
    try:
        _add_known(block, raw)
        if Base.Make not in block:
            logger.warning("%s: its camera's name cannot be read and is left out", path)
        block[Base.Orientation] = 1
        written = block.tobytes()[6:]
        exif.main_directory(written)
    except (*_FAILURES, exif.BrokenExifError) as error:
        logger.warning("%s: its EXIF tags cannot be written (%s) and are left out", path, error)
        return None
    return written


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
