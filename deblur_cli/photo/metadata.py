"""The blocks around the pixels: EXIF, XMP, ICC, resolution and comments of an opened file.

Readers give the blocks in terms of the upright picture, and phrases for what had to be left out.
"""

import logging
import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, JpegImagePlugin, PngImagePlugin

from deblur_cli.photo import containers, exif, png, tiff_pages
from deblur_cli.photo.bmff import Nclx
from deblur_cli.photo.jpeg import PER_CM, PHOTOSHOP_PREFIX
from deblur_cli.photo.jpeg_segments import JpegParts, read_parts
from deblur_cli.photo.photo import CREDENTIALS, Metadata
from deblur_cli.photo.places import turn_places
from deblur_cli.photo.profiles import cicp_profile
from deblur_cli.photo.xmp import BrokenXmpError, upright_xmp

logger = logging.getLogger(__name__)

Lost = tuple[str, ...]  # phrases
BROKEN_EXIF = "its EXIF block, which is broken"

_NOTHING: Lost = ()
_EXIF_PREFIX = b"Exif\0\0"
_PNG_XMP = b"XML:com.adobe.xmp"
PNG_XMP_PREFIX = _PNG_XMP + b"\0"
XMP_TAG, IPTC_TAG, _PHOTOSHOP_TAG, _ICC_TAG = 700, 33723, 34377, 34675
_WIDTH, _HEIGHT, _BITS, _RESOLUTION_UNIT = 256, 257, 258, 296
_C2PA_TAG = 52545
_LAYERS_TAG = 37724
_TEXT_EXIF = b"Raw profile type exif"  # how ImageMagick stored EXIF in PNG before the eXIf chunk existed
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENSION_MARK = re.compile(
    rb"""\sxmpNote:HasExtendedXMP\s*=\s*("[^"]*"|'[^']*')|<xmpNote:HasExtendedXMP>[^<]*</xmpNote:HasExtendedXMP>"""
)
# Numbers of Photoshop's image resources
_CAPTIONS, _THUMBNAILS = 0x0404, (1033, 1036)  # thumbnails of Photoshop 4, and of 5 and later
_IPTC_MARK = b"\x1c"  # before each record


def known_orientation(value: Any) -> int:
    """An orientation tag's value, 1-8; 1 for a meaningless one."""
    return int(value) if value in range(1, 9) else 1


def _read_exif(info: dict[Any, Any]) -> tuple[bytes | None, int, Lost]:
    """The EXIF block without its "Exif" prefix, the orientation in it, and what is lost of it."""
    block = info.get("exif")
    try:
        if block is None and "exif_text" in info:
            block = _from_hexadecimal(info["exif_text"])
        if not block:
            return None, 1, ()
        block = _without_prefix(block)
        return block, exif.orientation_of(block), ()
    except (exif.BrokenExifError, struct.error) as error:
        return None, 1, (_broken_exif(error),)


def _jpeg_exif(image: JpegImagePlugin.JpegImageFile) -> bytes:
    """The first EXIF block of a JPEG, with the segments that carry it on, but no other block."""
    segments = [part for name, part in image.applist if name == "APP1" and part.startswith(_EXIF_PREFIX)]
    parts = [segment.removeprefix(_EXIF_PREFIX) for segment in segments]
    return b"".join([*parts[:1], *(part for part in parts[1:] if not part.startswith(exif.HEADERS))])


def _from_hexadecimal(text: bytes) -> bytes:
    """The block of a text: an empty line, its kind, its length, and the block. Raises BrokenExifError."""
    *_, digits = (text.strip(b"\0\n") + b"\n\n").split(b"\n", 2)
    try:
        block = bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:  # which stands for text that is not ASCII, too
        raise exif.BrokenExifError("not in hexadecimal digits") from error
    if text and not block:
        raise exif.BrokenExifError("nothing but a heading")
    return block


def _without_prefix(block: bytes) -> bytes:
    while block.startswith(_EXIF_PREFIX):  # some writers put it twice
        block = block[len(_EXIF_PREFIX) :]
    return block


def _broken_exif(error: Exception) -> str:
    return f"{BROKEN_EXIF} ({error})"


def read_metadata(
    image: Image.Image, file: BinaryIO, size: tuple[int, int] | None = None
) -> tuple[Metadata, int, Lost]:
    """Everything to carry over from a loaded picture that is no TIFF, and the orientation to turn by.

    image: as Pillow opened `file`, or what stands around its pixels; size: width and height of the picture,
    as stored, where `image` has others
    """
    size = size or image.size
    info: dict[Any, Any] = image.info
    lost_info = _NOTHING
    if image.format == "PNG":
        info, lost_info = _read_png_info(image, file)
    elif image.format in containers.READERS:
        file.seek(0)
        around = containers.READERS[image.format](file.read())
        info, lost_info = info | around.info, around.left_out
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        info = info | {"exif": _jpeg_exif(image)}
    block, orientation, broken = _read_exif(info)
    upright, lost = _upright_exif(block, size)
    xmp, lost_xmp = _upright_xmp(info.get("xmp"), orientation, size, turned=orientation != 1)
    resources, lost_resources = _jpeg_resources(image)
    chunks, lost_chunks = _read_png_chunks(file) if image.format == "PNG" else ((), ())
    is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile)
    parts = read_parts(file, turned=orientation != 1) if is_jpeg else JpegParts()
    dpi, density = _resolution(image)
    metadata = Metadata(
        icc=info.get("icc_profile"),
        exif=upright,
        xmp=xmp,
        xmp_extension=_xmp_extension(image),
        dpi=_turned_dpi(dpi, orientation),
        density=_turned(density, orientation),
        dots_per_cm=_turned(_dots_per_cm(image), orientation),
        comment=_read_comment(info),
        photoshop=resources,
        jpeg_segments=parts.segments,
        jpeg_trailer=parts.trailer,
        png_chunks=chunks,
    )
    lost_blocks = (*lost_info, *broken, *lost, *lost_xmp, *lost_resources)
    return metadata, orientation, (*lost_blocks, *lost_chunks, *parts.left_out)


def read_tiff_metadata(
    tag: Callable[[int], Any], file: BinaryIO, offset: int | None
) -> tuple[Metadata, int, Lost]:
    """As `read_metadata`, of a TIFF whose tags `tag` gives by number.

    offset: of the page's directory, None for the first one, from which other pages take what they lack
    """
    orientation = known_orientation(tag(exif.ORIENTATION))
    broken: Lost = ()
    try:
        block = exif.extract_from_tiff(exif.file_reader(file), offset, tiff_pages.is_inherited)
    except (exif.BrokenExifError, struct.error, RecursionError) as error:
        block, broken = None, (f"its tags, which cannot be read ({error})",)
    size = int(tag(_WIDTH)), int(tag(_HEIGHT))
    upright, lost = _upright_exif(block, size)
    icc = tag(_ICC_TAG)
    xmp, lost_xmp = _upright_xmp(tag(XMP_TAG), orientation, size, turned=orientation != 1)
    resources, lost_resources = _tiff_resources(tag, read_iptc(file, offset) or read_iptc(file, None))
    metadata = Metadata(
        icc=icc if isinstance(icc, bytes) and icc else None,
        exif=upright,
        xmp=xmp,
        dpi=_turned_dpi(_tiff_dpi(tag), orientation),
        photoshop=resources,
    )
    credentials = (CREDENTIALS,) if tag(_C2PA_TAG) is not None else ()
    bits = tag(_BITS)
    meanings = tiff_pages.meanings(tag, int(bits[0] if isinstance(bits, tuple) else bits or 1))
    return metadata, orientation, (*broken, *lost, *lost_xmp, *lost_resources, *credentials, *meanings)


def read_heic_metadata(info: dict[str, Any], shown: tuple[int, int]) -> tuple[Metadata, Lost]:
    """Everything to carry over from a HEIC file, whose pixels are turned by whoever decodes them."""
    blocks = {"exif": info.get("exif"), "xmp": info.get("xmp"), "icc": info.get("icc_profile")}
    return read_blocks({name: block for name, block in blocks.items() if block}, shown, turned=True)


def read_blocks(
    blocks: dict[str, bytes], shown: tuple[int, int], *, turned: bool, orientation: int | None = None
) -> tuple[Metadata, Lost]:
    """The metadata of blocks by name: exif, xmp, icc, and iptc.

    shown: width and height of the picture; turned: its pixels are turned upright, by `orientation` or, where
    that is None, by the one in its EXIF block
    """
    if orientation is None:
        orientation = _read_exif(dict(blocks))[1] if turned else 1
    size = shown[::-1] if orientation >= 5 else shown
    upright, lost = _upright_exif(_without_prefix(blocks.get("exif", b"")) or None, size)
    xmp, lost_xmp = _upright_xmp(blocks.get("xmp"), orientation, size, turned=turned)
    iptc = blocks.get("iptc")
    resources = resources_of_iptc(iptc) if iptc else None
    return Metadata(icc=blocks.get("icc"), exif=upright, xmp=xmp, photoshop=resources), (*lost, *lost_xmp)


def with_color_tag(path: Path, metadata: Metadata, nclx: Nclx | None) -> Metadata:
    """The metadata with what an nclx tag says of color: as a profile, or for HDR as the tag itself."""
    if nclx is None or metadata.icc is not None:
        return metadata
    if nclx.is_hdr:
        logger.warning("%s: is HDR; its values are restored as they are coded", path)
        return replace(metadata, cicp=(nclx.primaries, nclx.transfer, nclx.matrix))
    return replace(metadata, icc=cicp_profile(nclx.primaries, nclx.transfer))


def png_color_tag(metadata: Metadata) -> Nclx | None:
    """What the cICP chunk of a PNG says, which is the same as an nclx tag."""
    return next((Nclx(*content[:3]) for name, content in metadata.png_chunks if name == b"cICP"), None)


def _upright_xmp(
    xmp: Any, orientation: int, size: tuple[int, int], *, turned: bool
) -> tuple[bytes | None, Lost]:
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes) or not xmp:
        return None, ()
    try:
        return turn_places(upright_xmp(xmp, turned=turned), orientation, size)
    except BrokenXmpError as error:
        logger.info("an XMP block is broken (%s) and is kept as it is", error)
        return xmp, ()


def _xmp_extension(image: Image.Image) -> tuple[bytes, ...]:
    """The APP1 segments behind the first of an XMP packet, whole (XMP specification part 3, 1.1.3.1)."""
    segments = getattr(image, "applist", ())
    return tuple(content for _, content in segments if content.startswith(_XMP_EXTENSION))


def without_extension_mark(xmp: bytes | None) -> bytes | None:
    """The XMP packet without the pointer to its extension, for formats that cannot hold that."""
    return _EXTENSION_MARK.sub(b"", xmp) if xmp else xmp


def _upright_exif(block: bytes | None, size: tuple[int, int]) -> tuple[bytes | None, Lost]:
    if block is None:
        return None, ()
    try:
        return exif.without_thumbnail(exif.mark_upright(block, size)), ()
    except (exif.BrokenExifError, struct.error) as error:
        return None, (_broken_exif(error),)


def _resolution(image: Image.Image) -> tuple[tuple[float, float] | None, tuple[int, int] | None]:
    """Dots per inch, or two numbers without a unit. Pillow makes up the former where there is no unit."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.info.get("jfif_unit") not in (1, 2):
        density = image.info.get("jfif_density", (1, 1))
        return None, density if density != (1, 1) and min(density) > 0 else None
    if isinstance(image, PngImagePlugin.PngImageFile) and "aspect" in image.info:
        return None, image.info["aspect"]
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None, None
    return (across, down), None


def _turned_dpi(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    if dpi is None or not all(math.isfinite(value) and 0 < value < 65536 for value in dpi):
        return None
    return (dpi[1], dpi[0]) if orientation >= 5 else dpi


def _turned(density: tuple[int, int] | None, orientation: int) -> tuple[int, int] | None:
    return density if density is None or orientation < 5 else (density[1], density[0])


def _dots_per_cm(image: Image.Image) -> tuple[int, int] | None:
    """What a JPEG says in dots per centimeter, which Pillow gives in inches."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.info.get("jfif_unit") != PER_CM:
        return None
    across, down = image.info["jfif_density"]
    return (across, down) if min(across, down) > 0 else None


def _tiff_dpi(tag: Callable[[int], Any]) -> tuple[float, float] | None:
    """Dots per inch of two rationals; a unit that is no length gives none."""
    unit = tag(_RESOLUTION_UNIT)
    per_inch = {1: 0.0, 2: 1.0, 3: 2.54}.get(2 if unit is None else int(unit), 0.0)
    try:
        across, down = (
            _quotient(tag(number)) * per_inch for number in (exif.X_RESOLUTION, exif.Y_RESOLUTION)
        )
    except (TypeError, LookupError, ZeroDivisionError):
        return None
    return across, down


def _quotient(value: Any) -> float:
    """A rational as tifffile gives it (two numbers), or as Pillow does."""
    return float(value[0] / value[1] if isinstance(value, tuple) else value)


def _read_comment(info: dict[Any, Any]) -> bytes | None:
    comment = info.get("comment")
    return comment if isinstance(comment, bytes) and comment else None


def _jpeg_resources(image: Image.Image) -> tuple[bytes | None, Lost]:
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None, ()
    parts = [
        content[len(PHOTOSHOP_PREFIX) :]
        for name, content in image.applist
        if name == "APP13" and content.startswith(PHOTOSHOP_PREFIX)
    ]
    return _sound_resources(b"".join(parts) or None)


def _tiff_resources(tag: Callable[[int], Any], iptc: bytes | None) -> tuple[bytes | None, Lost]:
    """Photoshop's resources of a TIFF, with its IPTC block among them."""
    lost = ("its Photoshop layers; the flat picture is kept",) if tag(_LAYERS_TAG) is not None else ()
    resources, broken = tag(_PHOTOSHOP_TAG), _NOTHING
    if isinstance(resources, bytes) and resources:
        resources, broken = _sound_resources(resources)
    else:
        resources = None
    if iptc and not (resources and iptc_of(resources)):
        resources = (resources or b"") + resources_of_iptc(iptc)
    return resources, (*lost, *broken)


def read_iptc(file: BinaryIO, offset: int | None) -> bytes | None:
    """The IPTC block of a TIFF's page, or None."""
    try:
        block = exif.tag_bytes(file, IPTC_TAG, offset)
    except (exif.BrokenExifError, struct.error):
        return None
    return mended_iptc(block) if block else None


def mended_iptc(block: bytes) -> bytes | None:
    """An IPTC block of a TIFF as it was meant; None for one of nothing but zeros.

    Many writers declare it as 32-bit numbers, so that it is padded with zeros, and even swapped.
    """
    if block[:1] != _IPTC_MARK and block[3:4] == _IPTC_MARK:
        words = len(block) // 4
        block = struct.pack(f">{words}I", *struct.unpack(f"<{words}I", block[: 4 * words]))
    return block.rstrip(b"\0") or None


def _sound_resources(resources: bytes | None) -> tuple[bytes | None, Lost]:
    if resources is None:
        return None, ()
    try:
        return without_thumbnails(resources) or None, ()
    except ValueError as error:
        logger.warning("a Photoshop block is broken (%s) and is kept as it is", error)
        return resources, ()


def without_thumbnails(resources: bytes) -> bytes:
    """All resources but thumbnails, which would show the photo as it was.

    Raises ValueError for resources that cannot be followed.
    """
    return b"".join(content for number, content in _resources(resources) if number not in _THUMBNAILS)


def resources_of_iptc(iptc: bytes) -> bytes:
    """Resources that hold an IPTC block alone."""
    return b"8BIM" + struct.pack(">HHI", _CAPTIONS, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def iptc_of(resources: bytes) -> bytes | None:
    """The IPTC block among resources, or None; also where they cannot be followed."""
    try:
        blocks = [content for number, content in _resources(resources) if number == _CAPTIONS]
    except ValueError:
        return None
    if not blocks:
        return None
    name_end = 6 + (blocks[0][6] + 2) // 2 * 2
    (size,) = struct.unpack_from(">I", blocks[0], name_end)
    return blocks[0][name_end + 4 : name_end + 4 + size]


def holds_more_than_iptc(resources: bytes) -> bool:
    """Whether there are other resources, or none that can be followed."""
    try:
        return any(number != _CAPTIONS for number, _ in _resources(resources))
    except ValueError:
        return True


def _resources(resources: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each of Photoshop's image resources.

    One is "8BIM", a number, a padded Pascal name, and padded content with its length before it.
    """
    position = 0
    while position < len(resources):
        start = position
        if len(resources) - position < 12:
            if resources[position:].strip(b"\0"):
                raise ValueError("they end within a resource")
            return  # padding
        signature, number, name = struct.unpack_from(">4sHB", resources, position)
        if signature not in (b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa"):
            raise ValueError("a resource has no signature")
        position += 6 + (name + 2) // 2 * 2  # length and name, padded to an even number
        if position + 4 > len(resources):
            raise ValueError("they end within a resource")
        (size,) = struct.unpack_from(">I", resources, position)
        position += 4 + size
        if position > len(resources):
            raise ValueError("they end within a resource")
        position = min(position + size % 2, len(resources))
        yield number, resources[start:position]


def _read_png_info(image: Image.Image, file: BinaryIO) -> tuple[dict[Any, Any], Lost]:
    """`image.info` with the profile and those texts of a PNG that are blocks; and what of them is broken."""
    info, lost = dict(image.info), []
    texts = {_PNG_XMP: ("xmp", "its XMP block"), _TEXT_EXIF: ("exif_text", "its EXIF block")}
    for chunk in png.read_chunks(file):
        if chunk[0] == b"pHYs" and png.is_too_short(chunk):
            lost.append("its resolution, which is cut short")
        name, what = texts.get(png.keyword_of(chunk), (None, ""))
        if chunk[0] == b"iCCP":
            name, what = "icc_profile", "its color profile"
        if name is None:
            continue
        try:
            info[name] = png.unpacked(chunk)
        except ValueError as error:
            lost.append(f"{what}, which is broken ({error})")
    return info, (*lost, *containers.named_behind(png.behind(file), 0))


def _read_png_chunks(file: BinaryIO) -> tuple[tuple[png.Chunk, ...], Lost]:
    """The chunks that a result takes over, verbatim, but for text that holds EXIF or XMP; and the others."""
    kept, lost = [], []
    for name, content in png.read_chunks(file, png.is_carried):
        if name == b"caBX":
            lost.append(CREDENTIALS)
        elif not png.is_kept(name):
            lost.append(f"its PNG chunk {containers.printable(name)}")
        elif png.is_too_short((name, content)):
            lost.append(f"its PNG chunk {name.decode()}, which is cut short")
        elif png.keyword_of((name, content)) not in (_PNG_XMP, _TEXT_EXIF):
            kept.append((name, content))
    return tuple(kept), tuple(dict.fromkeys(lost))
