"""File -> Photo: pixels upright, everything else of the file kept for the result."""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from deblur_cli.errors import DecodeError
from deblur_cli.photo import bmff, codestream, items, jpeg, metadata, png, samples
from deblur_cli.photo.color import with_network_view
from deblur_cli.photo.containers import webp_chunks
from deblur_cli.photo.guards import (
    check_file,
    damage_explained,
    is_unchanged,
    pillow_watched,
    several,
    stamp_of,
    too_large,
)
from deblur_cli.photo.header import (
    damaged,
    identify,
    png_bits,
    read_as_raw,
    read_header,
)
from deblur_cli.photo.photo import ExtraChannels, JpegSettings, Metadata, Photo
from deblur_cli.photo.raw import RawOptions, read_raw
from deblur_cli.photo.samples import Channels, turn_upright
from deblur_cli.photo.tiff import TiffPages, open_tiff

__all__ = ["DEFAULT_MAX_MEGAPIXELS", "RawOptions", "decode"]

DEFAULT_MAX_MEGAPIXELS = 250.0

# Pillow's pixel limit and Python's warning filters are global: one picture at a time.
_PILLOW_LOCK = threading.RLock()


def decode(
    path: Path,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    raw: RawOptions = RawOptions(),  # noqa: B008 - frozen
    *,
    develop: bool = True,
) -> Photo:
    """Reads a JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC, AVIF, JPEG XL, JPEG 2000 or camera RAW file.

    What the file is comes from its bytes. More than 8 bits per channel become 16. Pixels are turned upright;
    of files with further images behind the first (MPO, gain maps) the first is read, of a TIFF the full-size
    page. Camera RAW is developed as `raw` says; without `develop` it is only tried out, in a fraction of the
    time, and is black. What the file holds and no result will is in `Photo.left_out`. Safe to call from
    several threads, which then take turns.

    Raises DecodeError for what is missing, no picture, damaged, of a kind that is not read, or changed
    while it was read, and PhotoTooLargeError, before pixels are decoded, for more than `max_megapixels`
    million pixels.
    """
    path = Path(path)
    check_file(path)
    with damage_explained(path):
        stamp = stamp_of(path)
        photo = _decode(path, identify(path), max_megapixels, raw, develop=develop)
        if not is_unchanged(path, stamp):
            raise DecodeError(f"{path}: was changed while it was read; try again when it is complete")
    return replace(photo, stamp=stamp)


def _decode(path: Path, format: str, max_megapixels: float, raw: RawOptions, *, develop: bool) -> Photo:
    if format == "RAW":

        def read() -> Photo:
            return read_raw(path, max_megapixels, raw, develop=develop)

        if (photo := read_as_raw(path, read)) is not None:
            return photo
        format = "TIFF"
    with path.open("rb") as file:
        source = _Source(path, file, read_header(file), max_megapixels)
        reader = _READERS.get(format)
        if reader is not None and (photo := reader(source)) is not None:
            return photo
        with _PILLOW_LOCK, pillow_watched(path):
            return _upright(*_read_by_pillow(source, format))


@dataclass(frozen=True)
class _Source:
    """An open file, its first bytes, and how many million pixels it may have."""

    path: Path
    file: BinaryIO
    header: bytes
    max_megapixels: float

    def content(self) -> bytes:
        self.file.seek(0)
        return self.file.read()

    def check_size(self, width: int, height: int) -> None:
        if not width * height:
            raise ValueError("a side of zero pixels")
        if width * height > self.max_megapixels * 1e6:
            raise too_large(self.path, width * height / 1e6, self.max_megapixels)


def _read_heic(source: _Source) -> Photo:
    heic = bmff.HeicFile(source.path, source.file)
    source.check_size(*heic.size)
    channels = heic.read()
    blocks, lost = metadata.read_heic_metadata(heic.info, heic.size)
    blocks = replace(blocks, light=heic.light)
    lost = (*lost, *items.left_out(source.content()))
    photo = _photo(source, "HEIF", channels, blocks, lost, bits=heic.bits, lossless=False, tag=heic.nclx)
    return _upright(photo)


def _read_avif(source: _Source) -> Photo:
    content = source.content()
    found = bmff.read_primary(content)
    if found.size is not None:
        source.check_size(*found.size)
    with _PILLOW_LOCK, pillow_watched(source.path):
        photo = _read_avif_by_pillow(source, content, found)
        return _upright(_cropped(photo, found.clap))


def _read_avif_by_pillow(source: _Source, content: bytes, found: bmff.PrimaryItem) -> Photo:
    image, broken = _open_avif(source, content)
    with image:
        source.check_size(image.width, image.height)
        _check_single(source.path, image)
        is_deep = found.bits > 8  # which Pillow would round
        channels = (
            bmff.read_deep_avif(content, found.bits) if is_deep else _load_channels(source.path, image, 8)
        )
        blocks, orientation, lost = metadata.read_metadata(image, source.file)
    blocks = replace(blocks, light=found.light)
    lost = (*broken, *lost, *items.left_out(content))
    photo = _photo(source, "AVIF", channels, blocks, lost, orientation, lossless=False, tag=found.nclx)
    return replace(photo, bits=found.bits)


def _open_avif(source: _Source, content: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """The opened file, and what is lost of it, as phrases."""
    try:
        return Image.open(io.BytesIO(content), formats=("AVIF",)), ()
    except (ValueError, UnidentifiedImageError):  # which broken EXIF is enough for
        readable = io.BytesIO(bmff.without_exif(content))
        return _open(source.path, readable, "AVIF"), (metadata.BROKEN_EXIF,)


def _cropped(photo: Photo, box: tuple[int, int, int, int] | None) -> Photo:
    """The part of a photo as stored that its file shows."""
    if box is None:
        return photo
    left, top, right, bottom = box
    alpha = None if photo.alpha is None else photo.alpha[top:bottom, left:right]
    return replace(photo, pixels=photo.pixels[top:bottom, left:right], alpha=alpha)


def _read_tiff(source: _Source) -> Photo | None:
    """A TIFF that tifffile reads; None for what Pillow shall read."""
    pages = open_tiff(source.path, source.file)
    if pages is None:
        return None
    pages.check_single()
    if not pages.is_read_here:
        return None
    source.check_size(pages.page.imagewidth, pages.page.imagelength)
    channels = pages.read()
    blocks, orientation, lost = _tiff_metadata(pages, source.file)
    lost = (*lost, *pages.left_out)
    bits = int(pages.page.bitspersample)
    return _upright(_photo(source, "TIFF", channels, blocks, lost, orientation, bits=bits))


def _tiff_metadata(pages: TiffPages, file: BinaryIO) -> tuple[Metadata, int, tuple[str, ...]]:
    return metadata.read_tiff_metadata(pages.tag, file, int(pages.page.offset))


def _read_jxl(source: _Source) -> Photo:
    content = source.content()
    found = codestream.read_jxl(content)
    source.check_size(found.width, found.height)
    channels = codestream.read_pixels(source.path, content, "JXL", found.bits)
    blocks = found.blocks | {"icc": codestream.jxl_profile(source.path, content)}
    carried, lost = metadata.read_blocks(blocks, (found.width, found.height), turned=True)
    lost = (*lost, *found.left_out)
    return _upright(_photo(source, "JXL", channels, carried, lost, bits=found.bits, lossless=False))


def _read_jp2(source: _Source) -> Photo:
    content = source.content()
    found = codestream.read_jp2(content)
    source.check_size(found.width, found.height)
    channels = codestream.read_pixels(source.path, content, "JP2", found.bits)
    carried, lost = metadata.read_blocks(found.blocks, (found.width, found.height), turned=False)
    lost = (*lost, *found.left_out)
    return _upright(_photo(source, "JP2", channels, carried, lost, bits=found.bits))


def _read_rare_jpeg(source: _Source) -> Photo:
    found = codestream.rare_jpeg_frame(source.file)
    assert found is not None  # since it was identified as one
    source.check_size(found.width, found.height)
    content = source.content()
    channels = codestream.read_pixels(source.path, content, "LJPEG", found.bits)
    # Pillow reads all the segments, as it does in any other JPEG.
    with Image.open(io.BytesIO(jpeg.without_pixels(content)), formats=("JPEG",)) as image:
        blocks, orientation, lost = metadata.read_metadata(image, source.file, (found.width, found.height))
    return _upright(_photo(source, "LJPEG", channels, blocks, lost, orientation, bits=found.bits))


_READERS: dict[str, Callable[[_Source], Photo | None]] = {
    "HEIF": _read_heic,
    "AVIF": _read_avif,
    "TIFF": _read_tiff,
    "JXL": _read_jxl,
    "JP2": _read_jp2,
    "LJPEG": _read_rare_jpeg,
}


def _photo(
    source: _Source,
    format: str,
    channels: Channels,
    blocks: Metadata,
    lost: tuple[str, ...],
    orientation: int = 1,
    *,
    bits: int = 8,
    lossless: bool = True,
    tag: bmff.Nclx | None = None,
) -> Photo:
    """A photo as stored. `tag` names its colors where it has no profile."""
    return Photo(
        pixels=channels.color,
        source=source.path,
        format=format,
        alpha=channels.alpha,
        extra=None if channels.extra is None else ExtraChannels(channels.extra, channels.kinds),
        orientation=orientation,
        bits=bits,
        lossless=lossless,
        metadata=metadata.with_color_tag(source.path, blocks, tag),
        left_out=lost,
    )


def _upright(photo: Photo, turn: int | None = None) -> Photo:
    """The photo as stored turned by its EXIF orientation or another, and seen as a network knows photos."""
    turn = photo.orientation if turn is None else turn
    pixels = turn_upright(photo.pixels, turn)
    alpha = None if photo.alpha is None else turn_upright(photo.alpha, turn)
    extra = photo.extra and ExtraChannels(turn_upright(photo.extra.samples, turn), photo.extra.kinds)
    return with_network_view(replace(photo, pixels=pixels, alpha=alpha, extra=extra))


def _read_by_pillow(source: _Source, format: str) -> tuple[Photo, int]:
    """The photo as stored, and the orientation to turn it by.

    Pillow's own copy of the pixels is gone when this returns.
    """
    with _open(source.path, source.file, format) as image:
        source.check_size(image.width, image.height)
        if format == "PNG" and png_bits(source.header) == 16:
            return _read_deep_png(source)
        return _read_loaded(source, image)


def _open(path: Path, file: BinaryIO, format: str) -> Image.Image:
    file.seek(0)
    try:
        return Image.open(png.picture(file) if format == "PNG" else file, formats=(format,))
    except UnidentifiedImageError as error:
        raise damaged(path, format) from error


def _read_loaded(source: _Source, image: Image.Image) -> tuple[Photo, int]:
    path, file = source.path, source.file
    beside = _left_out(image)
    bits = png_bits(source.header) if image.format == "PNG" else 8
    if image.format == "TIFF":  # before loading, after which Pillow forgets the orientation
        blocks, orientation, lost = _choose_page(source, image)
        source.check_size(image.width, image.height)
    elif image.format != "MPO":
        _check_single(path, image)
    channels = _load_channels(path, image, bits)
    if image.format != "TIFF":  # PNG may keep its EXIF behind the pixels
        blocks, orientation, lost = metadata.read_metadata(image, file)
    format = "JPEG" if image.format == "MPO" else str(image.format)
    lost, tag = (*lost, *beside), metadata.png_color_tag(blocks)
    photo = _photo(source, format, channels, blocks, lost, orientation, tag=tag)
    photo = replace(photo, lossless=_is_lossless(image, file), jpeg=_jpeg_settings(image, orientation))
    return photo, 1 if image.format == "TIFF" else orientation


def _check_single(path: Path, image: Image.Image) -> None:
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1:
        raise several(path, frames, "frames")


def _choose_page(source: _Source, image: Image.Image) -> tuple[Metadata, int, tuple[str, ...]]:
    """Turns Pillow to the page of a TIFF that is the photo, and reads what stands around it."""
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    pages = open_tiff(source.path, source.file)
    if pages is not None:
        image.seek(pages.number)
        blocks, orientation, lost = _tiff_metadata(pages, source.file)
        return blocks, orientation, (*lost, *pages.left_out)
    if image.n_frames > 1:
        raise several(source.path, image.n_frames, "pages")
    return metadata.read_tiff_metadata(image.tag_v2.get, source.file, None)


def _read_deep_png(source: _Source) -> tuple[Photo, int]:
    channels = png.read_deep(source.content())
    # Pillow reads EXIF and resolution, also those behind the pixels, as it does for 8 bits.
    with Image.open(io.BytesIO(png.without_pixels(source.file)), formats=("PNG",)) as image:
        image.load()
        size = (channels.color.shape[1], channels.color.shape[0])
        blocks, orientation, lost = metadata.read_metadata(image, source.file, size)
    tag = metadata.png_color_tag(blocks)
    return _photo(source, "PNG", channels, blocks, lost, orientation, bits=16, tag=tag), orientation


def _load_channels(path: Path, image: Image.Image, bits: int) -> Channels:
    try:
        samples.plain_mode(image)
        image.load()
        return samples.read_channels(image, bits)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from error


def _jpeg_settings(image: Image.Image, orientation: int) -> JpegSettings | None:
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    settings = jpeg.read_settings(image)
    return jpeg.turn_settings(settings) if orientation >= 5 else settings


def _is_lossless(image: Image.Image, file: BinaryIO) -> bool:
    if image.format == "WEBP":
        file.seek(0)
        return any(name == b"VP8L" for name, *_ in webp_chunks(file.read()))
    return image.format not in ("JPEG", "MPO")


def _left_out(image: Image.Image) -> tuple[str, ...]:
    """What a file holds beside its channels, and no result carries."""
    return ("its extra channel, which has no stated meaning",) if image.mode in ("RGBX", "CMYKX") else ()
