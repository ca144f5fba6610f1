"""What a file is, told by its bytes, and the size of its picture without its pixels.

To read a new format: name its signature here in `_kind`, its suffixes in `names.py`, and its reader in
`decode.py`.
"""

import io
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError

from deblur_cli.errors import DecodeError
from deblur_cli.photo import codestream, containers, png
from deblur_cli.photo.bmff import HeicFile, brands, read_primary
from deblur_cli.photo.exif import ORIENTATION, BrokenExifError, orientation_of
from deblur_cli.photo.guards import DAMAGE, UnreadKindError, reason_of, unread
from deblur_cli.photo.metadata import known_orientation
from deblur_cli.photo.names import RAW_SUFFIXES
from deblur_cli.photo.raw import UnsupportedRawError, raw_size
from deblur_cli.photo.tiff import open_tiff

# Pillow tells MPO from JPEG after opening.
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
HEADER_BYTES = 64

T = TypeVar("T")

# What people call the formats, by what `Photo.format` calls them
NAMES = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "TIFF": "TIFF", "BMP": "BMP", "GIF": "GIF"}
NAMES |= {"HEIF": "HEIC", "AVIF": "AVIF", "JXL": "JPEG XL", "JP2": "JPEG 2000", "RAW": "camera RAW"}
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
    **dict.fromkeys(codestream.JXL_SIGNATURES, "JXL"),
    **dict.fromkeys(codestream.JP2_SIGNATURES, "JP2"),
}
# First bytes of RAW that is no TIFF: Olympus, Panasonic, Fujifilm, Minolta, Sigma
_RAW_SIGNATURES = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"\0MRM", b"FOVb")
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_VIDEO_BRANDS = frozenset({b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"qt  ", b"3gp4", b"3gp5", b"avc1"})
_CANON_BRAND = b"crx "
_UNREAD = {  # what people give to such a tool, too
    b"8BPS": "a Photoshop document",
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance HDR picture",
    b"#?RGBE": "a Radiance HDR picture",
    b"%PDF": "a PDF document",
    b"gimp xcf": "a GIMP document",
    b"II\xbc": "a JPEG XR picture",
    b"qoif": "a QOI picture",
    b"SIMPLE  =": "a FITS file",
    b"\0\0\1\0": "an icon",
    b"DDS ": "a DirectDraw texture",
    b"\0\xffKA": "an Affinity document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file",
    b"PK\3\4": "a ZIP archive or an office document",
    b"\x1aE\xdf\xa3": "a video",
    b"<!DOCTYPE html": "a web page",
    b"<html": "a web page",
    b"\xff\xd8": "a broken JPEG",
    **{b"P%d%b" % (digit, space): "a PNM picture" for digit in range(1, 8) for space in (b"\n", b" ")},
}


def identify(path: Path) -> str:
    """The format of a file as `Photo.format` has it, told by its bytes whatever its name.

    The name counts for camera RAW alone, where the first bytes are those of a TIFF or of nothing known.
    Raises DecodeError, with the true kind of the file, for what deblur does not read or cannot follow,
    and OSError.
    """
    return _identified(path, lambda: path.open("rb"))


def identify_head(name: str, head: bytes) -> str:
    """The same by the first bytes of a file, which may not go far enough for DecodeError to be right."""
    return _identified(Path(name), lambda: io.BytesIO(head))


def _identified(path: Path, open_file: Callable[[], BinaryIO]) -> str:
    try:
        with open_file() as file:
            return _identified_by(path, file)
    except OSError:
        raise
    except DAMAGE as error:
        raise _unfollowed(path, error) from error


def _identified_by(path: Path, file: BinaryIO) -> str:
    header = read_header(file)
    kind = _kind(header)
    if kind == "TIFF":
        return "RAW" if _is_raw_tiff(path, file, header) else "TIFF"
    if kind is None and path.suffix.lower() in RAW_SUFFIXES:
        return "RAW"
    if kind is None:
        raise _unread(path, header)
    if kind == "JPEG" and codestream.rare_jpeg_frame(file) is not None:
        return "LJPEG"
    return kind


def _kind(header: bytes) -> str | None:
    if header.startswith(_RAW_SIGNATURES) or header[6:14] == b"HEAPCCDR":
        return "RAW"
    if found := brands(header):
        if _CANON_BRAND in found:
            return "RAW"
        return "AVIF" if found & _AVIF_BRANDS else "HEIF" if found & _HEIC_BRANDS else None
    if header.startswith(b"RIFF") and header[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for start, kind in _SIGNATURES.items() if header.startswith(start)), None)


def _is_raw_tiff(path: Path, file: BinaryIO, header: bytes) -> bool:
    if path.suffix.lower() in RAW_SUFFIXES or header[8:10] == b"CR":
        return True
    pages = open_tiff(path, file)
    return pages is not None and pages.is_raw


def read_as_raw(path: Path, read: Callable[[], T]) -> T | None:
    """What `read` makes of camera RAW; None for a TIFF without sensor values that is only named like it.

    Raises UnsupportedRawError as `read` does, for any other file that is no camera RAW it knows.
    """
    try:
        return read()
    except UnsupportedRawError:
        with path.open("rb") as file:
            pages = open_tiff(path, file)
            if pages is None or pages.is_raw:
                raise
        return None


def _unread(path: Path, header: bytes) -> DecodeError:
    """The error for a file of a kind that is not read, as which it is told."""
    kind = next((kind for start, kind in _UNREAD.items() if header.startswith(start)), None)
    if brands(header) & _VIDEO_BRANDS or (header.startswith(b"RIFF") and header[8:12] == b"AVI "):
        kind = "a video"
    if kind is not None:
        return unread(path, kind)
    *names, last = NAMES.values()
    return DecodeError(f"{path}: is not a picture that deblur knows; it reads {', '.join(names)} and {last}")


def damaged(path: Path, kind: str) -> DecodeError:
    """The error for a file that begins as a kind of picture but that its reader cannot open."""
    return DecodeError(
        f"{path}: starts like a {kind} but its header is damaged or unusual;"
        " fetch a fresh copy or save it again from an image editor"
    )


def png_bits(header: bytes) -> int:
    """Bits per sample that a PNG's header names."""
    return header[24] if len(header) > 24 else 8


def read_header(file: BinaryIO) -> bytes:
    """The first bytes of a file, which is left at its start."""
    header = file.read(HEADER_BYTES)
    file.seek(0)
    return header


class Header(NamedTuple):
    """A format as `Photo.format` has it, and the size of the upright picture in pixels."""

    format: str
    width: int
    height: int


def probe(path: Path) -> Header:
    """The format and upright size of a photo, from its header.

    Safe beside threads that decode: leaves Pillow's settings alone. Raises DecodeError for a file that cannot
    be opened or followed.
    """
    try:
        format = identify(path)
        if format == "RAW":
            if (size := read_as_raw(path, lambda: raw_size(path))) is not None:
                return Header(format, *size)
            format = "TIFF"
        return Header(format, *_size(path, format))
    except UnidentifiedImageError as error:
        raise damaged(path, format) from error
    except DAMAGE as error:
        raise _unfollowed(path, error) from error


def _unfollowed(path: Path, error: Exception) -> DecodeError:
    if isinstance(error, UnreadKindError):
        return unread(path, str(error))
    return DecodeError(f"{path}: its header cannot be read ({reason_of(error)})")


def _size(path: Path, format: str) -> tuple[int, int]:
    with path.open("rb") as file:
        size = _SIZES[format](path, file) if format in _SIZES else None
    return size or _size_by_pillow(path)


def _heic_size(path: Path, file: BinaryIO) -> tuple[int, int]:
    return HeicFile(path, file).size


def _tiff_size(path: Path, file: BinaryIO) -> tuple[int, int] | None:
    if (pages := open_tiff(path, file)) is None:
        return None
    width, height = int(pages.page.imagewidth), int(pages.page.imagelength)
    return (height, width) if known_orientation(pages.tag(ORIENTATION)) >= 5 else (width, height)


def _avif_size(_: Path, file: BinaryIO) -> tuple[int, int] | None:
    found = read_primary(file.read())
    if found.size is None:
        return None
    left, top, right, bottom = found.clap or (0, 0, *found.size)
    return (bottom - top, right - left) if found.is_turned else (right - left, bottom - top)


def _png_size(_: Path, file: BinaryIO) -> tuple[int, int] | None:
    """Also right where EXIF stands behind the pixels, which Pillow would decode to get there."""
    found = dict(png.read_chunks(file, (b"IHDR", b"eXIf").__contains__))
    if len(found.get(b"IHDR", b"")) < 8:
        return None
    width, height = struct.unpack_from(">II", found[b"IHDR"])
    return (height, width) if _is_turned(found.get(b"eXIf")) else (width, height)


def _webp_size(path: Path, file: BinaryIO) -> tuple[int, int]:
    """Also right where the header does not announce the EXIF."""
    block = containers.READERS["WEBP"](file.read()).info.get("exif")
    with _opened(path) as image:
        return image.size[::-1] if _is_turned(block) else image.size


def _is_turned(block: bytes | None) -> bool:
    """Whether an EXIF block turns the picture by 90 degrees."""
    try:
        return block is not None and orientation_of(block.removeprefix(b"Exif\0\0")) >= 5
    except BrokenExifError:
        return False


def _rare_jpeg_size(_: Path, file: BinaryIO) -> tuple[int, int] | None:
    found = codestream.rare_jpeg_frame(file)
    return None if found is None else (found.width, found.height)


def _jxl_size(_: Path, file: BinaryIO) -> tuple[int, int]:
    found = codestream.read_jxl(file.read())
    return found.width, found.height


def _jp2_size(_: Path, file: BinaryIO) -> tuple[int, int]:
    found = codestream.read_jp2(file.read())
    return found.width, found.height


_SIZES: dict[str, Callable[[Path, BinaryIO], tuple[int, int] | None]] = {
    "HEIF": _heic_size,
    "TIFF": _tiff_size,
    "AVIF": _avif_size,
    "PNG": _png_size,
    "WEBP": _webp_size,
    "LJPEG": _rare_jpeg_size,
    "JXL": _jxl_size,
    "JP2": _jp2_size,
}


def _size_by_pillow(path: Path) -> tuple[int, int]:
    with warnings.catch_warnings(action="ignore"), _opened(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) in range(5, 9)
        return image.size[::-1] if turned else image.size


def megapixels(path: Path) -> float | None:
    """Return how many million pixels a photo has; None where its header does not tell."""
    try:
        header = probe(path)
    except Exception:  # noqa: BLE001 - whatever is wrong with the photo, decoding it will say so
        return None
    return header.width * header.height / 1e6


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture of any size. `Image.open` would hold it to a limit that all threads share."""
    Image.init()
    with path.open("rb") as file:
        header = file.read(16)
        for name in PILLOW_FORMATS:
            factory, accept = Image.OPEN[name]
            accepted = True if accept is None else accept(header)
            if accepted and not isinstance(accepted, str):  # a string says why not
                file.seek(0)
                with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as in `Image.open`
                    image = factory(file, str(path))
                    break
        else:
            raise UnidentifiedImageError(str(path))
        yield image
