"""File -> Photo: pixels upright, everything else of the file kept for the result."""

import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from deblur_cli.errors import DecodeError, PhotoError, PhotoTooLargeError
from deblur_cli.photo import jpeg, kinds, metadata, samples
from deblur_cli.photo.color import rgb_view
from deblur_cli.photo.kinds import is_picture_name
from deblur_cli.photo.photo import JpegSettings, Photo

__all__ = ["DEFAULT_MAX_MEGAPIXELS", "decode", "is_picture_name"]

logger = logging.getLogger(__name__)

DEFAULT_MAX_MEGAPIXELS = 250.0

# What Pillow and the codecs below it were seen to raise on damaged bytes.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
)

# Pillow's pixel limit and Python's warning filters are global: one picture at a time.
_MOTION_PHOTO = (b"MotionPhoto", b"MicroVideo")  # XMP properties of phones' photos with a video behind

_PILLOW_LOCK = threading.RLock()


def decode(path: Path, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Photo:
    """Reads a JPEG, PNG, WebP, TIFF, BMP or GIF with 8 bits per channel.

    Pixels are turned upright by the EXIF orientation; of files with further images behind the first
    (MPO, gain maps) the first is read. What the file holds but a result could not carry is logged.
    Safe to call from several threads, which then take turns.

    Raises DecodeError for what is missing, no picture, damaged or of a kind that is not read, and
    PhotoTooLargeError, before pixels are decoded, for more than `max_megapixels` million pixels.
    """
    path = Path(path)
    _check_file(path)
    with (
        _PILLOW_LOCK,
        _damage_explained(path, max_megapixels),
        _pillow_watched(path, max_megapixels),
        path.open("rb") as file,
    ):
        return _read(path, file, max_megapixels)


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise DecodeError(f"{path}: is a folder, not a picture")
        if not path.exists():
            raise DecodeError(f"{path}: there is no such file; check the name")
        if not path.is_file():
            raise DecodeError(f"{path}: is a device or pipe, not a picture file")
        if path.stat().st_size == 0:
            raise DecodeError(f"{path}: is empty (zero bytes); fetch a fresh copy")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DecodeError(f"{str(path)!r}: cannot be read ({_reason(error)})") from error


@contextmanager
def _damage_explained(path: Path, max_megapixels: float) -> Iterator[None]:
    """Turns whatever reading raises into one line from the tree in errors.py."""
    try:
        yield
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, f"more than {2 * max_megapixels:g}", max_megapixels) from error
    except MemoryError as error:
        raise DecodeError(f"{path}: there is not enough memory to open it") from error
    except PermissionError as error:
        raise DecodeError(f"{path}: there is no permission to read it; check its access rights") from error
    except _DAMAGE as error:
        raise DecodeError(
            f"{path}: is damaged or cut short ({_reason(error)}); fetch a fresh copy of the file"
        ) from error


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    text = strerror or str(error) or type(error).__name__
    return " ".join(text.split())


@contextmanager
def _pillow_watched(path: Path, max_megapixels: float) -> Iterator[None]:
    """Pillow's warnings go to the log, and its own pixel limit gives way to ours."""
    limit_before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max(1, int(max_megapixels * 1e6))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit_before
        for warning in caught:
            # The limit is checked by us, with a word about the option; others concern developers.
            if issubclass(warning.category, (UserWarning, RuntimeWarning)) and not issubclass(
                warning.category, Image.DecompressionBombWarning
            ):
                logger.warning("%s: %s", path, warning.message)


def _too_large(path: Path, megapixels: str, limit: float) -> PhotoTooLargeError:
    return PhotoTooLargeError(
        f"{path}: has {megapixels} megapixels, the limit is {limit:g}; raise it with --max-megapixels"
    )


def _read(path: Path, file: BinaryIO, max_megapixels: float) -> Photo:
    header = kinds.read_header(file)
    kinds.refuse_unread_kind(path, header)
    with _open(path, file, header) as image:
        megapixels = image.width * image.height / 1e6
        if megapixels > max_megapixels:
            raise _too_large(path, f"{megapixels:.4g}", max_megapixels)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            kinds.check_tiff(path, image)
        kinds.check_single(path, image)
        return _build(path, file, image, header)


def _open(path: Path, file: BinaryIO, header: bytes) -> Image.Image:
    try:
        return Image.open(file, formats=kinds.PILLOW_FORMATS)
    except UnidentifiedImageError as error:
        raise kinds.unidentified(path, header) from error


def _build(path: Path, file: BinaryIO, image: Image.Image, header: bytes) -> Photo:
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
    if is_tiff:
        block, orientation = metadata.read_tiff_exif(path, image, file)
    channels = _load_channels(path, image, header)
    if not is_tiff:
        # PNG may keep its EXIF behind the pixels. TIFF is turned by Pillow, the others by us.
        block, orientation = metadata.read_exif(path, image)
        channels = samples.upright_channels(channels, orientation)
    blocks = metadata.read_metadata(path, image, file, block, orientation)
    is_cmyk = channels.colour.shape[2] == 4
    _log_left_out(path, image)
    return Photo(
        pixels=rgb_view(path, channels.colour, blocks.icc) if is_cmyk else channels.colour,
        source=path,
        format="JPEG" if image.format == "MPO" else str(image.format),
        alpha=channels.alpha,
        cmyk=channels.colour if is_cmyk else None,
        orientation=orientation,
        lossless=_is_lossless(image, file),
        metadata=blocks,
        jpeg=_jpeg_settings(image, orientation),
    )


def _load_channels(path: Path, image: Image.Image, header: bytes) -> samples.Channels:
    try:
        samples.plain_mode(image)
        image.load()
        return samples.read_channels(image, kinds.png_bits(header) if image.format == "PNG" else 8)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from error


def _jpeg_settings(image: Image.Image, orientation: int) -> JpegSettings | None:
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    settings = jpeg.read_settings(image)
    return jpeg.turn_settings(settings) if orientation >= 5 else settings


def _is_lossless(image: Image.Image, file: BinaryIO) -> bool:
    if image.format == "WEBP":
        return _webp_is_lossless(file)
    return image.format not in ("JPEG", "MPO")


def _webp_is_lossless(file: BinaryIO) -> bool:
    """Whether the picture is a VP8L chunk of the RIFF container, not a VP8 one."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        file.seek(size + size % 2, 1)
    return False


def _log_left_out(path: Path, image: Image.Image) -> None:
    is_gain_map = "mp" in image.info and b"hdrgm:" in image.info.get("xmp", b"")
    if is_gain_map or getattr(image, "n_frames", 1) > 1:
        logger.warning(
            "%s: holds further images behind the first (%s); a restored copy will not carry them",
            path,
            "a gain map for HDR screens" if is_gain_map else "such as a second view, a gain map or a preview",
        )
    xmp = image.info.get("xmp", b"")
    if image.format in ("JPEG", "MPO") and any(mark in xmp for mark in _MOTION_PHOTO):
        logger.warning("%s: holds a short video behind the photo; a restored copy will not carry it", path)
    if image.mode in ("RGBX", "CMYKX"):
        logger.warning("%s: its extra channel has no stated meaning and is left out", path)
