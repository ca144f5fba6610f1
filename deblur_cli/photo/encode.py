"""Photo -> file, complete or not at all, with everything of the source that the format can hold.

To write a new format: name it in `cli/run/options.py` and add its writer to `WRITERS` in `writers.py`.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from deblur_cli import __version__
from deblur_cli.errors import EncodeError
from deblur_cli.files import Content, check_target, write_file
from deblur_cli.photo import exif
from deblur_cli.photo.guards import is_unchanged
from deblur_cli.photo.metadata import BROKEN_EXIF, without_extension_mark
from deblur_cli.photo.names import HEIC_SUFFIXES, RAW_SUFFIXES
from deblur_cli.photo.photo import Metadata, Photo, white
from deblur_cli.photo.tiff import TooLargeForTiffError
from deblur_cli.photo.writers import FAILURES, WRITERS, is_long_exif, lost_in

_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "png": "PNG", "webp": "WEBP"}
_FORMATS |= {"tif": "TIFF", "tiff": "TIFF", "avif": "AVIF"}
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "AVIF": ".avif"}
# RAW has 12 bits and more, which TIFF keeps. HEIC becomes AVIF, the one format that is as small and holds
# all that it may hold: 10 bits, transparency, wide gamut and HDR; JPEG could not hold every HEIC.
_SUFFIXES |= {"RAW": ".tif", "HEIF": ".avif", "JXL": ".avif", "MPO": ".jpg"}
_SUFFIXES |= dict.fromkeys((suffix[1:].upper() for suffix in RAW_SUFFIXES), ".tif")
_SUFFIXES |= dict.fromkeys((suffix[1:].upper() for suffix in HEIC_SUFFIXES), ".avif")
_LONGEST_SIDE = {
    "JPEG": 65_500,
    "WEBP": 16_383,
    "AVIF": 65_536,
    "PNG": 2**31 - 1,
    "TIFF": 2**32 - 1,
}  # pixels
# What colors need, of the chunks of a PNG
_COLOR_CHUNKS = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"mDCv", b"cLLi", b"sBIT", b"bKGD")


# What a result bears in EXIF's Software, by which it is known again
_NOTE = re.compile(r"(?:^|; )(deblur \d\S* \([^;]*\))(?:; |$)")


def format_of(name: str | Path) -> str:
    """Pillow's name of the format that a file name, a suffix or a format's name stands for.

    "photo.jpeg", ".jpg", "jpg" and "JPEG" are all "JPEG". Raises EncodeError for an unknown one.
    """
    path = Path(name)
    word = (path.suffix or path.name).lower().lstrip(".")
    if word not in _FORMATS:
        raise EncodeError(f"{name}: deblur does not write this format; use .jpg, .png, .webp, .tif or .avif")
    return _FORMATS[word]


def output_suffix(format: str) -> str:
    """The file suffix, such as ".jpg", for the result of a photo in a format, given by name or suffix.

    ".tif" for camera RAW, ".avif" for HEIC and JPEG XL, ".png" for others that are read but not written.
    """
    return _SUFFIXES.get(_FORMATS.get(format.lower().lstrip("."), format.upper().lstrip(".")), ".png")


def encode(
    photo: Photo,
    path: Path,
    *,
    format: str | None = None,
    quality: int | None = None,
    overwrite: bool = False,
    note: str | None = None,
    strip: bool = False,
    strict: bool = False,
) -> tuple[str, ...]:
    """Writes the photo to `path`, complete or not at all; lacking folders are made.

    `format` is a name that `format_of` takes, by default the suffix of `path`. PNG and TIFF are
    lossless; WebP is unless the source was lossy WebP or `quality` (1-100) is given. A JPEG is
    written with the source's own tables, or with `quality`, 95 for sources of other formats; 95 is
    AVIF's quality, too. 16 bits become 10 in AVIF and 8 in JPEG and WebP. `note` is one line on what was
    done, added to EXIF's Software tag where there is room. With `strip` no metadata is written, nor a
    note, but the ICC profile and other statements on color. Returns what the photo's file holds and this
    one does not, as phrases such as "its depth map".

    Raises EncodeError if the target is the source, exists without `overwrite`, or cannot be written; if the
    format cannot hold the picture or its alpha; if `quality` is out of range; if the source is no longer the
    file that was read; with `strict`, before anything is written, if something would be left out.
    """
    path = Path(path)
    name = format_of(format or path)
    check_target(path, photo.source, overwrite=overwrite)
    check_fits(photo, path, name, quality)
    check_source(photo)
    lost = left_out(photo, name, strip=strip, strict=strict)
    blocks = _color_only(photo.metadata) if strip else _with_note(_sound(photo.metadata), note, name)
    try:
        _write(replace(photo, metadata=blocks), path, name, quality, overwrite=overwrite)
    except FAILURES as error:
        bare = _color_only(blocks)
        if strict or isinstance(error, TooLargeForTiffError) or bare == blocks:
            raise _failed(path, name, error) from error
        lost = (*lost, f"all its metadata, which cannot be written ({error})")
        try:
            _write(replace(photo, metadata=bare), path, name, quality, overwrite=overwrite)
        except FAILURES as again:
            raise _failed(path, name, again) from again
    return lost


def left_out(photo: Photo, format: str, *, strip: bool = False, strict: bool = False) -> tuple[str, ...]:
    """What a file of a format would lack of what the photo's file holds, as phrases such as "its comment".

    With `strict`, raises EncodeError if that is anything.
    """
    name = format_of(format)
    metadata = _color_only(photo.metadata) if strip else photo.metadata
    broken = () if _sound(metadata) == metadata else (BROKEN_EXIF,)
    lost = (*photo.left_out, *broken, *lost_in(replace(photo, metadata=metadata), name))
    if strict and lost:
        raise EncodeError(
            f"{photo.source}: would lose {'; '.join(lost)}; nothing is written, as --strict asks"
        )
    return lost


def check_source(photo: Photo) -> None:
    """Raises EncodeError if the photo's file is gone or no longer the one that was read."""
    if photo.stamp is None:
        return
    try:
        same = is_unchanged(photo.source, photo.stamp)
    except OSError as error:
        raise EncodeError(f"{photo.source}: cannot be read any more ({error.strerror})") from error
    if not same:
        raise _changed(photo)


def _changed(photo: Photo) -> EncodeError:
    return EncodeError(
        f"{photo.source}: was changed after it was read, so no result is written; "
        "start over with the photo as it is now"
    )


def _write(photo: Photo, path: Path, name: str, quality: int | None, *, overwrite: bool) -> None:
    fitted = replace(photo, metadata=_fitted(photo.metadata, name))
    content: Content = WRITERS[name](fitted, path, quality)
    write_file(path, content, overwrite=overwrite)


def _fitted(metadata: Metadata, name: str) -> Metadata:
    """The metadata in the terms of a format: where it keeps resolutions, and how much XMP."""
    if metadata.dpi is not None and name in ("WEBP", "AVIF"):
        metadata = replace(metadata, exif=exif.with_resolution(metadata.exif, metadata.dpi))
    if metadata.xmp_extension and name != "JPEG":
        metadata = replace(metadata, xmp=without_extension_mark(metadata.xmp), xmp_extension=())
    return metadata


def _failed(path: Path, name: str, error: Exception) -> EncodeError:
    return EncodeError(f"{path}: the {name} encoder failed ({error}); try another format")


def _color_only(metadata: Metadata) -> Metadata:
    chunks = tuple(chunk for chunk in metadata.png_chunks if chunk[0] in _COLOR_CHUNKS)
    return Metadata(icc=metadata.icc, png_chunks=chunks, cicp=metadata.cicp, light=metadata.light)


def _sound(metadata: Metadata) -> Metadata:
    """The metadata without an EXIF block that no reader could follow."""
    try:
        if metadata.exif is not None:
            exif.main_directory(metadata.exif)
    except exif.BrokenExifError:
        return replace(metadata, exif=None)
    return metadata


def _with_note(metadata: Metadata, note: str | None, name: str) -> Metadata:
    """The metadata with a note, unless that would make the EXIF block longer than the format can hold."""
    text = " ".join((note or "").split())
    noted = replace(metadata, exif=exif.with_software(metadata.exif, text)) if text else metadata
    return metadata if name == "JPEG" and is_long_exif(noted) else noted


def is_copy_possible(photo: Photo, format: str, *, strip: bool = False) -> bool:
    """Whether the source's bytes should stand for the photo in `format`, if nothing in it was restored.

    Turning a lossless photo upright changes no pixel. A lossy one would be compressed anew, so it is
    better left as it is, orientation tag and all. With `strip` metadata shall go, so never.
    """
    upright = photo.orientation == 1 or not photo.lossless
    return not strip and photo.format == format_of(format) and upright


def copy_unchanged(photo: Photo, path: Path, *, overwrite: bool = False) -> None:
    """Writes the source's own bytes to `path`, for a photo in which nothing was restored.

    Raises EncodeError as `encode` does, also where the source cannot be read any more or was changed.
    """
    path = Path(path)
    check_target(path, photo.source, overwrite=overwrite)
    try:
        content = photo.source.read_bytes()
    except OSError as error:
        raise EncodeError(f"{photo.source}: cannot be read any more ({error.strerror})") from error
    if photo.stamp is not None and hashlib.blake2b(content).digest() != photo.stamp.digest:
        raise _changed(photo)
    write_file(path, [content], overwrite=overwrite)


def check_fits(photo: Photo, path: Path, format: str, quality: int | None = None) -> None:
    """Raises EncodeError if a file of this format cannot hold the photo; cheap, before any work."""
    name = format_of(format)
    if quality is not None and not 1 <= quality <= 100:
        raise EncodeError(f"{path}: quality {quality} is out of range; choose 1 to 100")
    if name == "JPEG" and photo.alpha is not None and photo.alpha.min() < white(photo.alpha):
        raise EncodeError(f"{path}: JPEG cannot hold transparency; choose PNG, WebP, TIFF or AVIF")
    if max(photo.width, photo.height) > _LONGEST_SIDE[name]:
        raise EncodeError(
            f"{path}: {photo.width}x{photo.height} pixels are more than {name} can hold"
            f" ({_LONGEST_SIDE[name]} a side); choose PNG or TIFF"
        )


def note_on(what: str) -> str:
    """The note of a result: which deblur did what."""
    return f"deblur {__version__} ({what})"


def note_of(photo: Photo) -> str | None:
    """The last note that a photo bears, None for a photo that is no result."""
    if photo.metadata.exif is None:
        return None
    try:
        notes = _NOTE.findall(exif.software_of(photo.metadata.exif))
    except exif.BrokenExifError:  # the result will lack it
        return None
    return str(notes[-1]) if notes else None
