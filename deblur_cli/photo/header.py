"""Which files are read as photos, told by their first bytes, and their format and size without their pixels.

To read a new format: name its bytes and suffixes here, and open it in `decode.py`.
"""

import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from deblur_cli.errors import DecodeError
from deblur_cli.photo.bmff import brands
from deblur_cli.photo.deep import REDUCED_COPY, HeicFile, open_deep_tiff
from deblur_cli.photo.exif import ORIENTATION
from deblur_cli.photo.guards import DAMAGE, reason_of
from deblur_cli.photo.metadata import known_orientation
from deblur_cli.photo.raw import UnsupportedRawError, raw_size

# Pillow tells MPO from JPEG after opening.
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
HEADER_BYTES = 64

RAW_SUFFIXES = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef"),
        *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"),
        *(".srw", ".x3f"),
    }
)
HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif"}
)
_UNREAD_SUFFIXES = frozenset(  # GIF is read where a file is named; in folders it is nearly always animated
    {".gif", ".jxl", ".jp2", ".j2k", ".jpf", ".psd", ".psb", ".exr", ".hdr", ".heics", ".avifs"}
)
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
}
# First bytes of RAW that is no TIFF: Olympus, Panasonic, Fujifilm, Minolta, Sigma
_RAW_SIGNATURES = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"\0MRM", b"FOVb")
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_CANON_BRAND = b"crx "

_SUBFILE_TYPE, _PHOTOMETRIC, _DNG_VERSION = 254, 262, 50706
_SENSOR_PHOTOMETRICS = (32803, 34892)  # color filter array, linear RAW


def is_picture_name(path: Path) -> bool:
    """Whether a folder walk should take the file: by suffix, in any case, hidden files left out.

    Hidden files go since the `._IMG.JPG` that macOS strews over memory cards are no pictures.
    """
    suffixes = _PICTURE_SUFFIXES | RAW_SUFFIXES | HEIC_SUFFIXES
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def is_unread_name(path: Path) -> bool:
    """Whether a file's suffix is that of a picture that no folder is searched for: JPEG XL, PSD, GIF ..."""
    return path.suffix.lower() in _UNREAD_SUFFIXES


def is_raw(path: Path, header: bytes) -> bool:
    """Whether to take the file for camera RAW by its first bytes, or by its name if they say no other kind.

    Many kinds of RAW are TIFF files; those under another name are told by `is_raw_tiff`.
    """
    if header.startswith(_RAW_SIGNATURES) or header[6:14] == b"HEAPCCDR" or _CANON_BRAND in brands(header):
        return True
    if is_tiff(header):
        return path.suffix.lower() in RAW_SUFFIXES or header[8:10] == b"CR"
    return path.suffix.lower() in RAW_SUFFIXES and not is_known(header)


def is_known(header: bytes) -> bool:
    """Whether the first bytes are those of a kind of picture that is no RAW."""
    return header.startswith(tuple(_SIGNATURES)) or is_heic(header) or is_avif(header)


def is_tiff(header: bytes) -> bool:
    """Whether a file begins as a TIFF or BigTIFF."""
    return header[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_avif(header: bytes) -> bool:
    """Whether a file begins as an AVIF."""
    return bool(brands(header) & _AVIF_BRANDS)


def is_heic(header: bytes) -> bool:
    """Whether a file begins as a HEIC."""
    return bool(brands(header) & _HEIC_BRANDS) and not is_avif(header)


def is_deep_png(header: bytes) -> bool:
    """Whether a file begins as a PNG of 16 bits per sample."""
    return header.startswith(b"\x89PNG") and header[12:16] == b"IHDR" and png_bits(header) == 16


def png_bits(header: bytes) -> int:
    """Bits per sample that a PNG's header names."""
    return header[24] if len(header) > 24 else 8


def is_raw_tiff(tags: Mapping[int, Any]) -> bool:
    """Whether a TIFF's first directory is that of camera RAW: sensor values, or a preview of them."""
    preview_first = int(tags.get(_SUBFILE_TYPE) or 0) & REDUCED_COPY
    return _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR_PHOTOMETRICS or bool(preview_first)


def unidentified(path: Path, header: bytes) -> DecodeError:
    """The error for a file that Pillow opens as none of the formats."""
    for signature, kind in _SIGNATURES.items():
        if header.startswith(signature):
            return DecodeError(
                f"{path}: starts like a {kind} but its header is damaged or unusual;"
                " fetch a fresh copy or save it again from an image editor"
            )
    if is_avif(header):
        return DecodeError(
            f"{path}: starts like an AVIF but is damaged, or this Pillow was built without AVIF"
        )
    return DecodeError(
        f"{path}: is not a picture; deblur reads JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC, AVIF and camera RAW"
    )


def check_single(path: Path, image: Image.Image) -> None:
    """Raises DecodeError for animations and documents of several pages."""
    frames = int(getattr(image, "n_frames", 1))
    if image.format == "MPO" or frames == 1:
        return
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        frames = _count_pages(image, frames)
    check_count(path, frames, "pages" if image.format == "TIFF" else "frames")


def check_count(path: Path, count: int, what: str) -> None:
    """Raises DecodeError for more than one of `what`."""
    if count > 1:
        raise DecodeError(
            f"{path}: has {count} {what}; only single pictures are handled, save the one you want by itself"
        )


def _count_pages(image: TiffImagePlugin.TiffImageFile, frames: int) -> int:
    """Pages that are pictures of their own, not reduced copies of the first."""
    pages = 1
    for number in range(1, frames):
        image.seek(number)
        pages += not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & REDUCED_COPY
    image.seek(0)
    return pages


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


def probe(path: Path) -> Header | None:
    """The header of camera RAW, HEIC or TIFF of more than 8 bits; None for all other files.

    Leaves Pillow's global settings alone. Raises DecodeError for a file that cannot be opened or followed.
    """
    try:
        return _probe(path)
    except DAMAGE as error:
        raise DecodeError(f"{path}: its header cannot be read ({reason_of(error)})") from error


def _probe(path: Path) -> Header | None:
    with path.open("rb") as file:
        header = read_header(file)
        if is_raw(path, header):
            try:
                return Header("RAW", *raw_size(path))
            except UnsupportedRawError:
                if not is_tiff(header):
                    raise
        if is_heic(header):
            return Header("HEIF", *HeicFile(path, file).size)
        if not is_tiff(header):
            return None
        deep = open_deep_tiff(path, file)
        if deep is None:
            return None
        if is_raw_tiff(deep.tags):
            return Header("RAW", *raw_size(path))
        width, height = int(deep.page.imagewidth), int(deep.page.imagelength)
        turned = known_orientation(deep.tag(ORIENTATION)) >= 5
        return Header("TIFF", height, width) if turned else Header("TIFF", width, height)


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height as the photo is shown. Raises DecodeError for a header that cannot be read."""
    try:
        if header := probe(path):
            return header.width, header.height
        with warnings.catch_warnings(action="ignore"), _opened(path) as image:
            width, height = image.size
            # Pillow would decode a whole PNG in search of EXIF behind its pixels.
            headless = image.format == "PNG" and "exif" not in image.info
            turned = not headless and image.getexif().get(ORIENTATION, 1) in range(5, 9)
    except UnidentifiedImageError as error:
        raise DecodeError(f"{path}: is not a picture that deblur reads") from error
    except DAMAGE as error:
        raise DecodeError(f"{path}: its header cannot be read ({reason_of(error)})") from error
    return (height, width) if turned else (width, height)


def megapixels(path: Path) -> float | None:
    """Return how many million pixels a photo has; None where its header does not tell.

    Safe beside threads that decode: it leaves Pillow's settings and Python's warning filters alone.
    """
    try:
        if header := probe(path):
            return header.width * header.height / 1e6
        with _opened(path) as image:
            return image.width * image.height / 1e6
    except Exception:  # noqa: BLE001 - whatever is wrong with the photo, decoding it will say so
        return None


def picture_format(path: Path) -> str | None:
    """Return the format that a file begins like, as `Photo.format` has it; None where none is read."""
    try:
        if header := probe(path):
            return header.format
        with warnings.catch_warnings(action="ignore"), _opened(path) as image:
            return "JPEG" if image.format == "MPO" else image.format
    except (*DAMAGE, DecodeError):
        return None


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
