"""File -> Photo: pixels upright, everything else of the file kept for the result."""

import io
import logging
import struct
import threading
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from deblur_cli.errors import DecodeError
from deblur_cli.photo import bmff, jpeg, metadata, png, samples
from deblur_cli.photo.color import with_network_view
from deblur_cli.photo.deep import DeepTiff, HeicFile, open_deep_tiff, read_deep_avif, transparent_color
from deblur_cli.photo.deep import read_png as read_deep_png
from deblur_cli.photo.exif import ORIENTATION
from deblur_cli.photo.guards import check_file, damage_explained, pillow_watched, reason_of, too_large
from deblur_cli.photo.header import (
    PILLOW_FORMATS,
    check_count,
    check_single,
    is_avif,
    is_deep_png,
    is_heic,
    is_picture_name,
    is_raw,
    is_raw_tiff,
    is_tiff,
    png_bits,
    read_header,
    unidentified,
)
from deblur_cli.photo.photo import JpegSettings, Photo
from deblur_cli.photo.raw import RawOptions, UnsupportedRawError, read_raw
from deblur_cli.photo.samples import turn_upright

__all__ = ["DEFAULT_MAX_MEGAPIXELS", "RawOptions", "decode", "is_picture_name"]

logger = logging.getLogger(__name__)

DEFAULT_MAX_MEGAPIXELS = 250.0

_MOTION_PHOTO = (b"MotionPhoto", b"MicroVideo")  # XMP properties of phones' photos with a video behind

# Pillow's pixel limit and Python's warning filters are global: one picture at a time.
_PILLOW_LOCK = threading.RLock()


def decode(
    path: Path,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    raw: RawOptions = RawOptions(),  # noqa: B008 - frozen
) -> Photo:
    """Reads a JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC, AVIF or camera RAW file.

    More than 8 bits per channel become 16. Pixels are turned upright; of files with further images
    behind the first (MPO, gain maps) the first is read. Camera RAW is developed as `raw` says. What the
    file holds but a result could not carry is logged. Safe to call from several threads, which then
    take turns.

    Raises DecodeError for what is missing, no picture, damaged or of a kind that is not read, and
    PhotoTooLargeError, before pixels are decoded, for more than `max_megapixels` million pixels.
    """
    path = Path(path)
    check_file(path)
    with damage_explained(path, max_megapixels), path.open("rb") as file:
        header = read_header(file)
        if is_raw(path, header):
            try:
                return read_raw(path, max_megapixels, raw)
            except UnsupportedRawError:
                if not is_tiff(header):  # else it may be a TIFF under a wrong name
                    raise
        if is_heic(header):
            return _read_heic(path, file, max_megapixels)
        if is_tiff(header) and (deep := open_deep_tiff(path, file)) is not None:
            if is_raw_tiff(deep.tags):
                return read_raw(path, max_megapixels, raw)
            return _read_deep_tiff(path, file, deep, max_megapixels)
        with _PILLOW_LOCK, pillow_watched(path, max_megapixels):
            found = _read(path, file, header, max_megapixels)
        return read_raw(path, max_megapixels, raw) if found is None else _upright(*found)


def _check_size(path: Path, width: int, height: int, limit: float) -> None:
    if not width * height:
        raise ValueError("a side of zero pixels")
    if width * height > limit * 1e6:
        raise too_large(path, width * height / 1e6, limit)


def _read_heic(path: Path, file: BinaryIO, max_megapixels: float) -> Photo:
    heic = HeicFile(path, file)
    _check_size(path, *heic.size, max_megapixels)
    channels = heic.read()
    blocks = metadata.read_heic_metadata(path, heic.info)
    blocks = metadata.with_color_tag(path, blocks, heic.nclx)
    heic.log_left_out()
    photo = Photo(
        pixels=channels.color,
        source=path,
        format="HEIF",
        alpha=channels.alpha,
        lossless=False,
        metadata=blocks,
    )
    return with_network_view(photo)


def _read_deep_tiff(path: Path, file: BinaryIO, deep: DeepTiff, max_megapixels: float) -> Photo:
    _check_size(path, deep.page.imagewidth, deep.page.imagelength, max_megapixels)
    check_count(path, deep.count_pages(), "pages")
    channels = deep.read()
    blocks, orientation = metadata.read_deep_tiff_metadata(path, deep.tag, file)
    photo = Photo(
        pixels=channels.color,
        source=path,
        format="TIFF",
        alpha=channels.alpha,
        orientation=orientation,
        metadata=blocks,
    )
    return _upright(photo, orientation)


def _upright(photo: Photo, turn: int) -> Photo:
    """The photo as stored turned by an EXIF orientation, and seen as a network knows photos."""
    pixels = turn_upright(photo.pixels, turn)
    alpha = None if photo.alpha is None else turn_upright(photo.alpha, turn)
    return with_network_view(replace(photo, pixels=pixels, alpha=alpha))


def _read(path: Path, file: BinaryIO, header: bytes, max_megapixels: float) -> tuple[Photo, int] | None:
    """The photo as stored, and the orientation to turn it by; None for camera RAW.

    Pillow's own copy of the pixels is gone when this returns.
    """
    with _open(path, file, header) as image:
        _check_size(path, image.width, image.height, max_megapixels)
        if isinstance(image, TiffImagePlugin.TiffImageFile) and is_raw_tiff(image.tag_v2):
            return None
        check_single(path, image)
        if is_deep_png(header):
            return _read_deep_png(path, file)
        return _read_loaded(path, file, image, header)


def _open(path: Path, file: BinaryIO, header: bytes) -> Image.Image:
    try:
        if is_avif(header):
            return _open_avif(path, file)
        return Image.open(file, formats=PILLOW_FORMATS)
    except UnidentifiedImageError as error:
        raise unidentified(path, header) from error


def _open_avif(path: Path, file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=("AVIF",))
    except ValueError as error:
        if "Exif" not in str(error):
            raise
        logger.warning("%s: its EXIF block is broken (%s) and is left out", path, reason_of(error))
        file.seek(0)
        return Image.open(io.BytesIO(bmff.without_exif(file.read())), formats=("AVIF",))


def _read_loaded(path: Path, file: BinaryIO, image: Image.Image, header: bytes) -> tuple[Photo, int]:
    is_tiff = image.format == "TIFF"
    if is_tiff:  # before loading, after which Pillow forgets the orientation
        block = metadata.read_tiff_exif(path, file)
        orientation = metadata.known_orientation(image.getexif().get(ORIENTATION))
    nclx, bits = _avif_tags(file) if image.format == "AVIF" else (None, 8)
    channels = _load_channels(path, image, header) if bits == 8 else _load_deep_avif(file, bits)
    if not is_tiff:  # PNG may keep its EXIF behind the pixels
        block, orientation = metadata.read_exif(path, image)
    blocks = metadata.read_metadata(path, image, file, block, orientation)
    _log_left_out(path, image)
    photo = Photo(
        pixels=channels.color,
        source=path,
        format="JPEG" if image.format == "MPO" else str(image.format),
        alpha=channels.alpha,
        orientation=orientation,
        lossless=_is_lossless(image, file),
        metadata=metadata.with_color_tag(path, blocks, nclx),
        jpeg=_jpeg_settings(image, orientation),
    )
    return photo, 1 if is_tiff else orientation


def _read_deep_png(path: Path, file: BinaryIO) -> tuple[Photo, int]:
    file.seek(0)
    content = file.read()
    channels = read_deep_png(content)
    alpha = channels.alpha if channels.alpha is not None else transparent_color(content, channels.color)
    del content
    # Pillow reads all the other chunks, also those behind the pixels, as it does for 8 bits.
    with Image.open(io.BytesIO(png.without_pixels(file)), formats=("PNG",)) as image:
        image.load()
        block, orientation = metadata.read_exif(path, image)
        blocks = metadata.read_metadata(path, image, file, block, orientation)
    photo = Photo(
        pixels=channels.color,
        source=path,
        format="PNG",
        alpha=alpha,
        orientation=orientation,
        metadata=blocks,
    )
    return photo, orientation


def _avif_tags(file: BinaryIO) -> tuple[bmff.Nclx | None, int]:
    """The color tag and the bits per sample of an AVIF."""
    file.seek(0)
    content = file.read()
    return bmff.read_nclx(content), bmff.av1_bits(content)


def _load_deep_avif(file: BinaryIO, bits: int) -> samples.Channels:
    file.seek(0)
    return read_deep_avif(file.read(), bits)


def _load_channels(path: Path, image: Image.Image, header: bytes) -> samples.Channels:
    try:
        samples.plain_mode(image)
        image.load()
        return samples.read_channels(image, png_bits(header) if image.format == "PNG" else 8)
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
    return image.format not in ("JPEG", "MPO", "AVIF")


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
