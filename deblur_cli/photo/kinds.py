"""Which files are read as photos, and what to tell about those that are not."""

from pathlib import Path
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from deblur_cli.errors import DecodeError

# Pillow tells MPO from JPEG after opening.
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
HEADER_BYTES = 32

_PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp"})
_RAW_SUFFIXES = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef"),
        *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"),
        *(".srw", ".x3f"),
    }
)
_UNREAD_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _DNG_VERSION = 254, 258, 262, 50706
_SENSOR_PHOTOMETRICS = (32803, 34892)  # colour filter array, linear RAW
_REDUCED_COPY = 1  # bit of the subfile type


def is_picture_name(path: Path) -> bool:
    """Whether a folder walk should take the file: by suffix, in any case, hidden files left out.

    Hidden files go since the `._IMG.JPG` that macOS strews over memory cards are no pictures.
    """
    return path.suffix.lower() in _PICTURE_SUFFIXES and not path.name.startswith(".")


def is_unread_name(path: Path) -> bool:
    """Whether a file's suffix is that of a photo which cannot be read yet: camera RAW, HEIC, AVIF."""
    return path.suffix.lower() in _RAW_SUFFIXES | _UNREAD_SUFFIXES


def refuse_unread_kind(path: Path, header: bytes) -> None:
    """Raises DecodeError for camera RAW, HEIC, AVIF and 16-bit PNG, told by name and first bytes."""
    if path.suffix.lower() in _RAW_SUFFIXES or header[8:10] == b"CR" or header[6:14] == b"HEAPCCDR":
        raise DecodeError(f"{path}: camera RAW is not read yet; develop it to TIFF or JPEG first")
    if header[4:8] == b"ftyp" and header[8:12] in _HEIC_BRANDS + _AVIF_BRANDS:
        kind = "AVIF" if header[8:12] in _AVIF_BRANDS else "HEIC"
        raise DecodeError(f"{path}: {kind} is not read yet; convert it to JPEG or PNG first")
    if header.startswith(b"\x89PNG") and header[12:16] == b"IHDR" and png_bits(header) == 16:
        raise _too_deep(path, 16)


def png_bits(header: bytes) -> int:
    """Bits per sample that a PNG's header names."""
    return header[24] if len(header) > 24 else 8


def _too_deep(path: Path, bits: int) -> DecodeError:
    return DecodeError(f"{path}: has {bits} bits per channel, only 8 are read yet; save it with 8 bits first")


def unidentified(path: Path, header: bytes) -> DecodeError:
    """The error for a file that Pillow opens as none of the formats."""
    for signature, kind in _SIGNATURES.items():
        if header.startswith(signature):
            return DecodeError(
                f"{path}: starts like a {kind} but its header is damaged or of a rare kind;"
                " fetch a fresh copy or save it anew from an image editor"
            )
    return DecodeError(f"{path}: is not a picture; deblur reads JPEG, PNG, WebP, TIFF, BMP and GIF")


def check_tiff(path: Path, image: TiffImagePlugin.TiffImageFile) -> None:
    """Raises DecodeError if a TIFF is camera RAW in disguise, or deeper than 8 bits."""
    tags = image.tag_v2
    preview_first = int(tags.get(_SUBFILE_TYPE, 0)) & _REDUCED_COPY
    if _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR_PHOTOMETRICS or preview_first:
        raise DecodeError(f"{path}: camera RAW is not read yet; develop it to TIFF or JPEG first")
    bits = max(tags.get(_BITS, (1,)))
    if bits > 8:
        raise _too_deep(path, bits)


def check_single(path: Path, image: Image.Image) -> None:
    """Raises DecodeError for animations and documents of several pages."""
    frames = int(getattr(image, "n_frames", 1))
    if image.format == "MPO" or frames == 1:
        return
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        frames = _count_pages(image, frames)
    if frames > 1:
        what = "pages" if image.format == "TIFF" else "frames"
        raise DecodeError(
            f"{path}: has {frames} {what}; only single pictures are handled, save the one you want by itself"
        )


def _count_pages(image: TiffImagePlugin.TiffImageFile, frames: int) -> int:
    """Pages that are pictures of their own, not reduced copies of the first."""
    pages = 1
    for number in range(1, frames):
        image.seek(number)
        pages += not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _REDUCED_COPY
    image.seek(0)
    return pages


def read_header(file: BinaryIO) -> bytes:
    """The first bytes of a file, which is left at its start."""
    header = file.read(HEADER_BYTES)
    file.seek(0)
    return header
