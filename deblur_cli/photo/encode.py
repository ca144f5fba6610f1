"""Photo -> file: atomically, with everything of the source that the format can hold."""

import io
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import PngImagePlugin

from deblur_cli.errors import EncodeError
from deblur_cli.photo import exif, jpeg
from deblur_cli.photo.color import icc_space
from deblur_cli.photo.files import check_target, write_file
from deblur_cli.photo.metadata import PNG_XMP_PREFIX
from deblur_cli.photo.photo import Metadata, Photo
from deblur_cli.photo.samples import Samples, to_image
from deblur_cli.photo.tiff import TooLargeForTiffError, write_tiff

logger = logging.getLogger(__name__)

_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "png": "PNG", "webp": "WEBP"}
_FORMATS |= {"tif": "TIFF", "tiff": "TIFF"}
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "PNG": 2**31 - 1, "TIFF": 2**32 - 1}  # in pixels
# Effort, not loss: a seventh of the time of Pillow's own choice for files a fifth larger (8 megapixels).
_WEBP_LOSSLESS = {"lossless": True, "quality": 20, "method": 0}
_XMP_OVERHEAD = 29  # the namespace before XMP in its JPEG segment
_EXIF_PREFIX = b"Exif\0\0"

_PILLOW_FAILURES = (OSError, ValueError, TypeError, MemoryError, OverflowError, struct.error)


def format_of(name: str | Path) -> str:
    """Pillow's name of the format that a file name, a suffix or a format's name stands for.

    "photo.jpeg", ".jpg", "jpg" and "JPEG" are all "JPEG". Raises EncodeError for an unknown one.
    """
    path = Path(name)
    word = (path.suffix or path.name).lower().lstrip(".")
    if word not in _FORMATS:
        raise EncodeError(f"{name}: is no format that deblur writes; use .jpg, .png, .webp or .tif")
    return _FORMATS[word]


def output_suffix(format: str) -> str:
    """The file suffix, such as ".jpg", for a format; ".png" for those that are read but not written."""
    return _SUFFIXES.get(format.upper(), ".png")


def encode(
    photo: Photo,
    path: Path,
    *,
    format: str | None = None,
    quality: int | None = None,
    overwrite: bool = False,
) -> None:
    """Writes the photo to `path`, complete or not at all; lacking folders are made.

    `format` is a name that `format_of` takes, by default the suffix of `path`. PNG and TIFF are
    lossless; WebP is unless the source was lossy WebP or `quality` (1-100) is given. A JPEG is
    written with the source's own tables, or with `quality`, 95 for sources of other formats. What a
    format cannot hold is logged, but for alpha.

    Raises EncodeError if the target is the source, exists without `overwrite`, or cannot be written;
    if the format cannot hold the picture or its alpha; if `quality` is out of range.
    """
    path = Path(path)
    name = format_of(format or path)
    check_target(path, photo.source, overwrite=overwrite)
    check_fits(photo, path, name, quality)
    try:
        content = _WRITERS[name](photo, path, quality)
    except (exif.BrokenExifError, TooLargeForTiffError, *_PILLOW_FAILURES) as error:
        raise EncodeError(f"{path}: the {name} encoder failed ({error}); try another format") from error
    write_file(path, content, overwrite=overwrite)


def is_copy_possible(photo: Photo, format: str) -> bool:
    """Whether the source's bytes should stand for the photo in `format`, if nothing in it was restored.

    Turning a lossless photo upright changes no pixel. A lossy one would be compressed anew, so it is
    better left as it is, orientation tag and all.
    """
    return photo.format == format_of(format) and (photo.orientation == 1 or not photo.lossless)


def copy_unchanged(photo: Photo, path: Path, *, overwrite: bool = False) -> None:
    """Writes the source's own bytes to `path`, for a photo in which nothing was restored.

    Raises EncodeError as `encode` does, and if the source cannot be read any more.
    """
    path = Path(path)
    check_target(path, photo.source, overwrite=overwrite)
    try:
        content = photo.source.read_bytes()
    except OSError as error:
        raise EncodeError(f"{photo.source}: cannot be read any more ({error.strerror})") from error
    write_file(path, content, overwrite=overwrite)


def check_fits(photo: Photo, path: Path, format: str, quality: int | None = None) -> None:
    """Raises EncodeError if a file of this format cannot hold the photo; cheap, before any work."""
    name = format_of(format)
    if photo.pixels.dtype != np.uint8:
        raise EncodeError(f"{path}: {photo.pixels.dtype} pixels are not written yet, only 8 bits per channel")
    if quality is not None and not 1 <= quality <= 100:
        raise EncodeError(f"{path}: quality {quality} is out of range; choose 1 to 100")
    if photo.alpha is not None and name == "JPEG":
        raise EncodeError(f"{path}: JPEG cannot hold transparency; choose PNG, WebP or TIFF")
    if max(photo.width, photo.height) > _LONGEST_SIDE[name]:
        raise EncodeError(
            f"{path}: {photo.width}x{photo.height} pixels are more than {name} can hold"
            f" ({_LONGEST_SIDE[name]} a side); choose PNG or TIFF"
        )


def _channels(photo: Photo) -> Samples:
    """Colour and alpha in one array, H W C."""
    pixels = photo.pixels.astype(np.uint8, copy=False)
    if photo.alpha is None:
        return pixels
    return np.concatenate([pixels, photo.alpha.astype(np.uint8, copy=False)[:, :, np.newaxis]], axis=2)


def _mode(channels: Samples) -> str:
    return {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels.shape[2]]


def _save(array: Samples, mode: str, format: str, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    given = {key: value for key, value in options.items() if value is not None}
    to_image(array, mode).save(stream, format, **given)
    return stream.getvalue()


def _fitting_icc(metadata: Metadata, path: Path, *, written_as_rgb: bool) -> bytes | None:
    """The ICC profile, unless it describes other channels than those written."""
    if metadata.icc and written_as_rgb and icc_space(metadata.icc) in ("CMYK", "GRAY"):
        space = icc_space(metadata.icc)
        logger.warning("%s: written as RGB, so the file's %s profile is left out", path, space)
        return None
    return metadata.icc


def _log_losses(path: Path, name: str, losses: dict[str, object]) -> None:
    """Names every block of `losses` that is there."""
    for what, block in losses.items():
        if block:
            logger.warning("%s: %s cannot hold %s; left out", path, name, what)


def _log_idle_quality(path: Path, name: str, quality: int | None) -> None:
    if quality is not None:
        logger.warning("%s: %s is written without loss, so --quality has no part in it", path, name)


def _png_losses(metadata: Metadata) -> dict[str, object]:
    names = {name for name, _ in metadata.png_chunks}
    untagged = metadata.icc is None and b"sRGB" not in names
    return {
        "PNG text chunks": names & {b"tEXt", b"zTXt", b"iTXt"},
        "PNG colour chunks (gAMA, cHRM, cICP)": untagged and names & {b"gAMA", b"cHRM", b"cICP"},
    }


def _write_png(photo: Photo, path: Path, quality: int | None) -> bytes:
    _log_idle_quality(path, "PNG", quality)
    metadata = photo.metadata
    _log_losses(
        path,
        "PNG",
        {"a comment": metadata.comment, "Photoshop's blocks (IPTC captions)": metadata.photoshop},
    )
    chunks = PngImagePlugin.PngInfo()
    for name, content in metadata.png_chunks:
        chunks.add(name, content)
    if metadata.xmp:
        # Not compressed, without language or translation
        chunks.add(b"iTXt", PNG_XMP_PREFIX + b"\0\0\0\0" + metadata.xmp)
    channels = _channels(photo)
    options = {
        "icc_profile": _fitting_icc(metadata, path, written_as_rgb=channels.shape[2] >= 3),
        "exif": metadata.exif,
        "dpi": metadata.dpi,
        "pnginfo": chunks,
    }
    return _save(channels, _mode(channels), "PNG", options)


def _write_webp(photo: Photo, path: Path, quality: int | None) -> bytes:
    metadata = photo.metadata
    _log_losses(
        path,
        "WebP",
        {
            "a comment": metadata.comment,
            "Photoshop's blocks (IPTC captions)": metadata.photoshop,
            "the resolution": metadata.dpi is not None and metadata.exif is None,
            **_png_losses(metadata),
        },
    )
    if quality is None and photo.format == "WEBP" and not photo.lossless:
        quality = jpeg.DEFAULT_QUALITY
    channels = _channels(photo)
    if channels.shape[2] < 3:  # WebP knows no grey: grey three times
        channels = np.concatenate([channels[:, :, :1]] * 2 + [channels], axis=2)
    options = {
        **(_WEBP_LOSSLESS if quality is None else {"quality": quality}),
        "exact": True,  # keep the colours under full transparency
        "icc_profile": _fitting_icc(metadata, path, written_as_rgb=True),
        "exif": metadata.exif,
        "xmp": metadata.xmp,
    }
    return _save(channels, _mode(channels), "WEBP", options)


def _write_tiff(photo: Photo, path: Path, quality: int | None) -> bytes:
    _log_idle_quality(path, "TIFF", quality)
    _log_losses(path, "TIFF", {"a comment": photo.metadata.comment, **_png_losses(photo.metadata)})
    if photo.cmyk is not None:
        return write_tiff(photo.cmyk, photo.metadata, cmyk=True, alpha=False)
    return write_tiff(_channels(photo), photo.metadata, cmyk=False, alpha=photo.alpha is not None)


def _write_jpeg(photo: Photo, path: Path, quality: int | None) -> bytes:
    metadata = photo.metadata
    exif_block = _EXIF_PREFIX + metadata.exif if metadata.exif else b""
    too_long_xmp = len(metadata.xmp or b"") > jpeg.SEGMENT_BYTES - _XMP_OVERHEAD
    too_long_exif = len(exif_block) > jpeg.SEGMENT_BYTES
    losses = {"an EXIF block above 64 KB": too_long_exif, "an XMP block above 64 KB": too_long_xmp}
    _log_losses(path, "JPEG", losses | _png_losses(metadata))
    array, mode = (photo.pixels.astype(np.uint8, copy=False), "RGB" if photo.pixels.shape[2] == 3 else "L")
    if photo.cmyk is not None:
        array, mode = photo.cmyk, "CMYK"
    options = {
        "icc_profile": metadata.icc,
        "exif": None if too_long_exif else exif_block,
        "xmp": None if too_long_xmp else metadata.xmp,
        "dpi": metadata.dpi,
        "comment": metadata.comment,
        "extra": jpeg.photoshop_segments(metadata.photoshop),
        "optimize": True,
        **jpeg.write_options(photo.jpeg, quality),
    }
    with jpeg.whole_file_buffer(array.size, options):
        return _save(array, mode, "JPEG", options)


_WRITERS: dict[str, Callable[[Photo, Path, int | None], bytes]] = {
    "JPEG": _write_jpeg,
    "PNG": _write_png,
    "WEBP": _write_webp,
    "TIFF": _write_tiff,
}
