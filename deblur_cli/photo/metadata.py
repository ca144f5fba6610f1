"""The blocks around the pixels: EXIF, XMP, ICC, resolution and comments of an opened file."""

import logging
import math
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, JpegImagePlugin, TiffImagePlugin

from deblur_cli.photo import exif, photoshop, png
from deblur_cli.photo.bmff import Nclx
from deblur_cli.photo.photo import Metadata
from deblur_cli.photo.profiles import cicp_profile

logger = logging.getLogger(__name__)

_EXIF_PREFIX = b"Exif\0\0"
PNG_XMP_PREFIX = b"XML:com.adobe.xmp\0"
_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG, _ICC_TAG = 700, 33723, 34377, 34675
_RESOLUTION_UNIT = 296
_LAYERS_TAG = 37724
_TEXT_EXIF = "Raw profile type exif"  # how ImageMagick stored EXIF in PNG before the eXIf chunk existed
_PNG_CHUNKS = frozenset({b"cHRM", b"gAMA", b"sRGB", b"cICP", b"tEXt", b"zTXt", b"iTXt"})
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENSION_MARK = re.compile(
    rb"""\sxmpNote:HasExtendedXMP\s*=\s*("[^"]*"|'[^']*')|<xmpNote:HasExtendedXMP>[^<]*</xmpNote:HasExtendedXMP>"""
)
# What points to a gain map or a video behind the photo, which no result carries (Ultra HDR, Motion Photo)
_TRAILERS = re.compile(
    rb"""\s(?:hdrgm:\w+|GCamera:(?:MotionPhoto|MicroVideo)\w*)\s*=\s*(?:"[^"]*"|'[^']*')"""
    rb"""|<(Container:Directory|GContainer:Directory)\b.*?</\1>""",
    re.DOTALL,
)
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)[2-8]""")


def read_tiff_exif(path: Path, file: BinaryIO) -> bytes | None:
    """A TIFF's own tags as an EXIF block."""
    position = file.tell()
    try:
        block = exif.extract_from_tiff(file)
    except (exif.BrokenExifError, struct.error, RecursionError) as error:
        logger.warning("%s: its tags cannot be read (%s) and are left out", path, error)
        block = None
    file.seek(position)
    return block


def known_orientation(value: Any) -> int:
    """An orientation tag's value, 1-8; 1 for a meaningless one."""
    return int(value) if value in range(1, 9) else 1


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
    return Metadata(
        icc=image.info.get("icc_profile") or None,
        exif=_upright_exif(path, block),
        xmp=_upright_xmp(image.info.get("xmp"), turned=orientation != 1),
        xmp_extension=_xmp_extension(image),
        dpi=_read_dpi(image, orientation),
        comment=_read_comment(image),
        photoshop=_read_photoshop(path, image),
        png_chunks=_read_png_chunks(file) if image.format == "PNG" else (),
    )


def read_deep_tiff_metadata(path: Path, tag: Callable[[int], Any], file: BinaryIO) -> tuple[Metadata, int]:
    """As `read_metadata`, of a TIFF whose tags `tag` gives by number; and the orientation to turn by."""
    block, orientation = read_tiff_exif(path, file), known_orientation(tag(exif.ORIENTATION))
    icc, xmp = tag(_ICC_TAG), tag(_XMP_TAG)
    resources = _tiff_resources(path, tag)
    metadata = Metadata(
        icc=icc if isinstance(icc, bytes) and icc else None,
        exif=_upright_exif(path, block),
        xmp=_upright_xmp(xmp, turned=orientation != 1),
        dpi=_turned_dpi(_tiff_dpi(tag), orientation),
        photoshop=resources,
    )
    return metadata, orientation


def read_heic_metadata(path: Path, info: dict[str, Any]) -> Metadata:
    """Everything to carry over from a HEIC file, whose pixels are turned by whoever decodes them."""
    block = info.get("exif")
    if block:
        block = block[len(_EXIF_PREFIX) :] if block.startswith(_EXIF_PREFIX) else block
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=_upright_exif(path, block or None),
        xmp=_upright_xmp(info.get("xmp"), turned=True),
    )


def with_color_tag(path: Path, metadata: Metadata, nclx: Nclx | None) -> Metadata:
    """The metadata with what an nclx tag says of color: as a profile, or for HDR as the tag itself."""
    if nclx is None or metadata.icc is not None:
        return metadata
    if nclx.is_hdr:
        logger.warning("%s: is HDR; its values are restored as they are coded", path)
        return replace(metadata, cicp=(nclx.primaries, nclx.transfer, nclx.matrix))
    return replace(metadata, icc=cicp_profile(nclx.primaries, nclx.transfer))


def _upright_xmp(xmp: Any, *, turned: bool) -> bytes | None:
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes) or not xmp:
        return None
    xmp = _TRAILERS.sub(b"", xmp)
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if turned else xmp


def _xmp_extension(image: Image.Image) -> tuple[bytes, ...]:
    """The APP1 segments behind the first of an XMP packet, whole (XMP specification part 3, 1.1.3.1)."""
    segments = getattr(image, "applist", ())
    return tuple(content for _, content in segments if content.startswith(_XMP_EXTENSION))


def without_extension_mark(xmp: bytes | None) -> bytes | None:
    """The XMP packet without the pointer to its extension, for formats that cannot hold that."""
    return _EXTENSION_MARK.sub(b"", xmp) if xmp else xmp


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
    return _turned_dpi((across, down), orientation)


def _turned_dpi(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    if dpi is None or not all(math.isfinite(value) and 0 < value < 65536 for value in dpi):
        return None
    return (dpi[1], dpi[0]) if orientation >= 5 else dpi


def _tiff_dpi(tag: Callable[[int], Any]) -> tuple[float, float] | None:
    """Dots per inch of two rationals; a unit that is no length gives none."""
    per_inch = {1: 0.0, 2: 1.0, 3: 2.54}.get(int(tag(_RESOLUTION_UNIT) or 2), 0.0)
    try:
        across, down = (
            tag(number)[0] / tag(number)[1] * per_inch for number in (exif.X_RESOLUTION, exif.Y_RESOLUTION)
        )
    except (TypeError, LookupError, ZeroDivisionError):
        return None
    return across, down


def _read_comment(image: Image.Image) -> bytes | None:
    comment = image.info.get("comment")
    return comment if isinstance(comment, bytes) and comment else None


def _read_photoshop(path: Path, image: Image.Image) -> bytes | None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _tiff_resources(path, image.tag_v2.get)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        prefix = photoshop.SEGMENT_PREFIX
        parts = [
            content[len(prefix) :]
            for name, content in image.applist
            if name == "APP13" and content.startswith(prefix)
        ]
        return _without_thumbnails(path, b"".join(parts) or None)
    return None


def _tiff_resources(path: Path, tag: Callable[[int], Any]) -> bytes | None:
    """Photoshop's resources of a TIFF, made from its IPTC block where it has that alone."""
    if tag(_LAYERS_TAG) is not None:
        logger.warning("%s: its Photoshop layers are left out, only the flat picture is kept", path)
    resources, iptc = tag(_PHOTOSHOP_TAG), tag(_IPTC_TAG)
    if isinstance(resources, bytes) and resources:
        return _without_thumbnails(path, resources)
    return photoshop.from_iptc(iptc) if isinstance(iptc, bytes) and iptc else None


def _without_thumbnails(path: Path, resources: bytes | None) -> bytes | None:
    if resources is None:
        return None
    try:
        return photoshop.without_thumbnails(resources) or None
    except ValueError as error:
        logger.warning("%s: its Photoshop block is broken (%s) and is kept as it is", path, error)
        return resources


def _read_png_chunks(file: BinaryIO) -> tuple[png.Chunk, ...]:
    """Text and color chunks, verbatim, but for text that holds EXIF or XMP."""
    return tuple(
        (name, content)
        for name, content in png.read_chunks(file, _PNG_CHUNKS)
        if not content.startswith((PNG_XMP_PREFIX, _TEXT_EXIF.encode()))
    )
