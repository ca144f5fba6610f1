"""The blocks around the pixels: EXIF, XMP, ICC, resolution and comments of an opened file."""

import logging
import math
import re
import struct
from pathlib import Path
from typing import BinaryIO

from PIL import Image, JpegImagePlugin, TiffImagePlugin

from deblur_cli.photo import exif
from deblur_cli.photo.photo import Metadata

logger = logging.getLogger(__name__)

_EXIF_PREFIX = b"Exif\0\0"
PHOTOSHOP_PREFIX = b"Photoshop 3.0\0"
PNG_XMP_PREFIX = b"XML:com.adobe.xmp\0"
_PHOTOSHOP_TAG = 34377
_LAYERS_TAG = 37724
_TEXT_EXIF = "Raw profile type exif"  # how ImageMagick stored EXIF in PNG before the eXIf chunk existed
_PNG_CHUNKS = frozenset({b"cHRM", b"gAMA", b"sRGB", b"cICP", b"tEXt", b"zTXt", b"iTXt"})
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)[2-8]""")


def read_tiff_exif(path: Path, image: Image.Image, file: BinaryIO) -> tuple[bytes | None, int]:
    """A TIFF's own tags as an EXIF block, and the orientation that Pillow will turn it by on loading.

    To be called before loading, after which Pillow forgets the orientation.
    """
    orientation = image.getexif().get(exif.ORIENTATION, 1)
    position = file.tell()
    try:
        block = exif.extract_from_tiff(file)
    except (exif.BrokenExifError, struct.error, RecursionError) as error:
        logger.warning("%s: its tags cannot be read (%s) and are left out", path, error)
        block = None
    file.seek(position)
    return block, orientation if orientation in range(1, 9) else 1


def read_exif(path: Path, image: Image.Image) -> tuple[bytes | None, int]:
    """The EXIF block, without its "Exif" prefix, and the orientation in it; broken ones are left out."""
    block = image.info.get("exif")
    try:
        if block is None and _TEXT_EXIF in image.info:
            block = bytes.fromhex("".join(image.info[_TEXT_EXIF].split("\n")[3:]))
        if not block:
            return None, 1
        while block.startswith(_EXIF_PREFIX):  # some writers put it twice
            block = block[len(_EXIF_PREFIX) :]
        return block, exif.orientation_of(block)
    except (exif.BrokenExifError, ValueError, struct.error) as error:
        logger.warning("%s: its EXIF block is broken (%s) and is left out", path, error)
        return None, 1


def read_metadata(
    path: Path, image: Image.Image, file: BinaryIO, block: bytes | None, orientation: int
) -> Metadata:
    """Everything to carry over from a loaded picture, in terms of the upright picture.

    `block` and `orientation` are what `read_exif` or `read_tiff_exif` gave.
    """
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if xmp and orientation != 1:
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    return Metadata(
        icc=image.info.get("icc_profile") or None,
        exif=_upright_exif(path, block),
        xmp=xmp or None,
        dpi=_read_dpi(image, orientation),
        comment=_read_comment(image),
        photoshop=_read_photoshop(path, image),
        png_chunks=_read_png_chunks(file) if image.format == "PNG" else (),
    )


def _upright_exif(path: Path, block: bytes | None) -> bytes | None:
    if block is None:
        return None
    try:
        return exif.without_thumbnail(exif.mark_upright(block))
    except (exif.BrokenExifError, struct.error) as error:
        logger.warning("%s: its EXIF block is broken (%s) and is left out", path, error)
        return None


def _read_dpi(image: Image.Image, orientation: int) -> tuple[float, float] | None:
    if isinstance(image, TiffImagePlugin.TiffImageFile) and exif.X_RESOLUTION not in image.tag_v2:
        return None  # Pillow then makes up 1 dpi
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not all(math.isfinite(value) and 0 < value < 65536 for value in (across, down)):
        return None
    return (down, across) if orientation >= 5 else (across, down)


def _read_comment(image: Image.Image) -> bytes | None:
    comment = image.info.get("comment")
    return comment if isinstance(comment, bytes) and comment else None


def _read_photoshop(path: Path, image: Image.Image) -> bytes | None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if _LAYERS_TAG in image.tag_v2:
            logger.warning("%s: its Photoshop layers are left out, only the flat picture is kept", path)
        resources = image.tag_v2.get(_PHOTOSHOP_TAG)
        return bytes(resources) if isinstance(resources, bytes) and resources else None
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        parts = [
            content[len(PHOTOSHOP_PREFIX) :]
            for name, content in image.applist
            if name == "APP13" and content.startswith(PHOTOSHOP_PREFIX)
        ]
        return b"".join(parts) or None
    return None


def _read_png_chunks(file: BinaryIO) -> tuple[tuple[bytes, bytes], ...]:
    """Text and colour chunks, verbatim, but for text that holds EXIF or XMP."""
    chunks = []
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name not in _PNG_CHUNKS:
            file.seek(size + 4, 1)  # content and checksum
            continue
        content = file.read(size)
        file.seek(4, 1)
        if len(content) == size and not content.startswith((PNG_XMP_PREFIX, _TEXT_EXIF.encode())):
            chunks.append((name, content))
    return tuple(chunks)
