"""Each format's writer: pixels and metadata of a photo as a file's content."""

import io
import logging
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin

from deblur_cli.files import Content
from deblur_cli.photo import bmff, jpeg, png
from deblur_cli.photo.color import icc_space
from deblur_cli.photo.containers import printable
from deblur_cli.photo.jpeg_trailer import placed_trailer
from deblur_cli.photo.metadata import PNG_XMP_PREFIX
from deblur_cli.photo.photo import Metadata, Photo, to_eight_bits
from deblur_cli.photo.samples import Samples, gather_bits, joined, to_image
from deblur_cli.photo.tiff import UNASSOCIATED_ALPHA, write_tiff

logger = logging.getLogger(__name__)

# Effort, not loss: a seventh of the time of Pillow's own choice for files a fifth larger (8 megapixels).
_WEBP_LOSSLESS = {"lossless": True, "quality": 20, "method": 0}
# A quarter of the time of AVIF's usual 6 for files a tenth larger (8 megapixels).
_AVIF_SPEED = 8
_AVIF_QUALITY = 95
_PNG_LEVEL = 4  # of 16-bit PNG
_AVIF_BITS = 10  # of 16-bit photos
_UNSPECIFIED, _BT709, _SRGB, _BT601 = 2, 1, 13, 6  # code points of ITU-T H.273
# Megapixels from which JPEG is coded in one pass, as baseline: libjpeg would hold all coefficients, 6 bytes
# a pixel, to choose shorter codes.
_JPEG_ONE_PASS = 100
_XMP_OVERHEAD = 29  # the namespace before XMP in its JPEG segment
_EXIF_PREFIX = b"Exif\0\0"

# What Pillow and imagecodecs were seen to raise on what they cannot write
FAILURES = (OSError, ValueError, TypeError, MemoryError, OverflowError, RuntimeError, struct.error)


def _channels(photo: Photo) -> Samples:
    """Color and alpha in one array, H W C: the file's own samples but for inks, whose view is taken."""
    color = photo.pixels if photo.is_cmyk or photo.stored is None else photo.stored
    return joined(color, photo.alpha)


def _eight_bits(array: Samples, path: Path, name: str, photo: Photo) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        logger.info("%s: %s holds 8 bits per channel, those of the photo are rounded", path, name)
        if photo.stored is not None and not photo.is_cmyk:
            logger.warning("%s: linear light may show bands in 8 bits; choose TIFF or PNG", path)
    return to_eight_bits(array)


def _mode(channels: Samples) -> str:
    return {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels.shape[2]]


def _save(
    array: NDArray[np.uint8], mode: str, format: str, options: dict[str, Any]
) -> list[bytes | bytearray]:
    stream = io.BytesIO()
    given = {key: value for key, value in options.items() if value is not None}
    to_image(array, mode).save(stream, format, **given)
    return [stream.getvalue()]


def _fitting_icc(metadata: Metadata, *, written_as_rgb: bool) -> bytes | None:
    """The ICC profile, unless it describes other channels than those written."""
    fits = not (metadata.icc and written_as_rgb and icc_space(metadata.icc) in ("CMYK", "GRAY"))
    return metadata.icc if fits else None


def _log_idle_quality(path: Path, name: str, quality: int | None) -> None:
    if quality is not None:
        logger.info("%s: %s is lossless, so quality has no effect", path, name)  # a run says it once


def lost_in(photo: Photo, name: str) -> tuple[str, ...]:
    """What a file of the format cannot hold of the photo, as phrases such as "its comment"."""
    metadata = photo.metadata
    chunks = {chunk for chunk, _ in metadata.png_chunks}
    untagged = metadata.icc is None and metadata.cicp is None and b"sRGB" not in chunks
    lost: dict[str, object] = {
        "its comment": name not in ("JPEG", "PNG") and metadata.comment,
        "its IPTC captions and Photoshop blocks": name not in ("JPEG", "TIFF") and metadata.photoshop,
        "its EXIF block above 64 KB": name == "JPEG" and is_long_exif(metadata),
        "its XMP block above 64 KB": name == "JPEG" and _is_long_xmp(metadata),
        "the part of its XMP block above 64 KB": name != "JPEG" and metadata.xmp_extension,
        "what other programs keep in segments of the JPEG": name != "JPEG" and metadata.jpeg_segments,
        "what other programs keep behind the JPEG": name != "JPEG" and metadata.jpeg_trailer,
        "its text chunks": name != "PNG" and chunks & _PNG_TEXTS,
        "its color chunks (gAMA, cHRM, cICP)": name != "PNG" and untagged and chunks & _PNG_COLORS,
        "its HDR chunks (mDCV, cLLI)": name != "PNG" and chunks & _PNG_HDR,
        "its HDR light levels": name != "AVIF" and metadata.light,
        "the tag of its HDR colors, so that it will look wrong": name not in ("PNG", "AVIF")
        and metadata.cicp,
    }
    lost |= dict.fromkeys((f"its PNG chunk {chunk}" for chunk in _unfit_chunks(photo, name)), True)
    if photo.extra is not None and name != "TIFF":
        count = len(photo.extra.kinds)
        lost["its extra channel" if count == 1 else f"its {count} extra channels"] = True
    if photo.is_cmyk and name not in ("JPEG", "TIFF"):
        lost[f"its inks and their profile, as {name} holds RGB"] = True
    elif metadata.icc and name == "WEBP" and icc_space(metadata.icc) == "GRAY":
        lost["its gray profile"] = True
    depth = {"JPEG": 8, "WEBP": 8, "AVIF": _avif_bits(photo)}.get(name, 16)
    if photo.pixels.dtype == np.uint16 and depth < photo.bits:
        lost[f"its {photo.bits}-bit depth (reduced to {depth} bits per channel)"] = True
    return tuple(phrase for phrase, is_lost in lost.items() if is_lost)


_PNG_COLORS = frozenset({b"gAMA", b"cHRM", b"cICP"})
_PNG_HDR = frozenset({b"mDCV", b"cLLI", b"mDCv", b"cLLi"})
_PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PHRASED = _PNG_COLORS | _PNG_HDR | _PNG_TEXTS | {b"sRGB"}


def is_long_exif(metadata: Metadata) -> bool:
    """Whether the EXIF block is longer than JPEG can hold."""
    return len(_EXIF_PREFIX) + len(metadata.exif or b"") > jpeg.SEGMENT_BYTES


def _is_long_xmp(metadata: Metadata) -> bool:
    return len(metadata.xmp or b"") > jpeg.SEGMENT_BYTES - _XMP_OVERHEAD


def _avif_bits(photo: Photo) -> int:
    """Bits per sample in AVIF: 12 are read by few programs, so only a photo of 12 keeps them."""
    if photo.pixels.dtype == np.uint8:
        return 8
    return 12 if photo.bits == 12 and photo.format in ("AVIF", "HEIF", "JXL") else _AVIF_BITS


def _fitting_chunks(metadata: Metadata, channels: int) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG that fit samples of so many channels, color and alpha."""
    lengths = {b"sBIT": channels, b"bKGD": 2 * (channels if channels in (1, 3) else channels - 1)}
    for name, content in metadata.png_chunks:
        if lengths.get(name, len(content)) == len(content):
            yield name, content


def _unfit_chunks(photo: Photo, name: str) -> list[str]:
    """The chunks that do not fit the format or its samples, and are not in a phrase of their own."""
    samples = (1 if photo.pixels.shape[2] == 1 else 3) + (photo.alpha is not None)
    fitting = {chunk for chunk, _ in _fitting_chunks(photo.metadata, samples)} if name == "PNG" else _PHRASED
    return [printable(chunk) for chunk, _ in photo.metadata.png_chunks if chunk not in fitting]


def _write_png(photo: Photo, path: Path, quality: int | None) -> Content:
    _log_idle_quality(path, "PNG", quality)
    metadata = photo.metadata
    chunks = PngImagePlugin.PngInfo()
    channels = _channels(photo)
    own = _fitting_chunks(metadata, channels.shape[2])
    if metadata.comment and b"\0" not in metadata.comment:
        chunks.add(b"tEXt", b"Comment\0" + metadata.comment)
    if metadata.density:
        chunks.add(b"pHYs", struct.pack(">IIB", *metadata.density, 0))
    if metadata.xmp:
        # Not compressed, without language or translation
        chunks.add(b"iTXt", PNG_XMP_PREFIX + b"\0\0\0\0" + metadata.xmp)
    if metadata.cicp is not None and b"cICP" not in {name for name, _ in metadata.png_chunks}:
        primaries, transfer, _ = metadata.cicp
        chunks.add(b"cICP", bytes([primaries, transfer, 0, 1]))  # RGB itself, full range
    options = {
        "icc_profile": _fitting_icc(metadata, written_as_rgb=channels.shape[2] >= 3),
        "exif": metadata.exif,
        "dpi": metadata.dpi,
        "pnginfo": chunks,
    }
    if channels.dtype == np.uint8:
        (content,) = _save(channels.astype(np.uint8, copy=False), _mode(channels), "PNG", options)
        return png.with_chunks(content, own)
    # Pillow has no 16-bit color, but writes the chunks around it.
    (around,) = _save(np.zeros((1, 1, 1), np.uint8), "L", "PNG", options)
    plain = channels[:, :, 0] if channels.shape[2] == 1 else channels
    content = imagecodecs.png_encode(np.ascontiguousarray(plain), _PNG_LEVEL)
    return png.with_chunks_of(content, b"".join(png.with_chunks(around, own)))


def _write_webp(photo: Photo, path: Path, quality: int | None) -> Content:
    metadata = photo.metadata
    if quality is None and photo.format == "WEBP" and not photo.lossless:
        quality = jpeg.DEFAULT_QUALITY
    channels = _as_rgb(_eight_bits(_channels(photo), path, "WebP", photo))  # which knows no gray
    options = {
        **(_WEBP_LOSSLESS if quality is None else {"quality": quality}),
        "exact": True,  # keep the colors under full transparency
        "icc_profile": _fitting_icc(metadata, written_as_rgb=True),
        "exif": metadata.exif,
        "xmp": metadata.xmp,
    }
    return _save(channels, _mode(channels), "WEBP", options)


def _write_tiff(photo: Photo, path: Path, quality: int | None) -> Content:
    _log_idle_quality(path, "TIFF", quality)

    def write(file: BinaryIO) -> None:
        color = photo.pixels if photo.stored is None else photo.stored
        array = joined(color, photo.alpha)
        kinds: tuple[int, ...] = () if photo.alpha is None else (UNASSOCIATED_ALPHA,)
        if photo.extra is not None:
            array = np.concatenate([array, photo.extra.samples], axis=2)
            kinds += photo.extra.kinds
        write_tiff(file, array, photo.metadata, cmyk=photo.is_cmyk, extra=kinds)

    return write


def _write_jpeg(photo: Photo, path: Path, quality: int | None) -> Content:
    metadata = photo.metadata
    exif_block = _EXIF_PREFIX + metadata.exif if metadata.exif else b""
    array = _eight_bits(photo.pixels if photo.stored is None else photo.stored, path, "JPEG", photo)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[array.shape[2]]
    options = {
        "icc_profile": metadata.icc,
        "exif": None if is_long_exif(metadata) else exif_block,
        "xmp": None if _is_long_xmp(metadata) else metadata.xmp,
        "dpi": metadata.dpi,
        "comment": metadata.comment,
        "extra": b"".join(
            (
                *metadata.jpeg_segments,
                jpeg.xmp_segments(metadata.xmp_extension),
                jpeg.photoshop_segments(metadata.photoshop),
            )
        ),
        "optimize": True,
        **jpeg.write_options(photo.jpeg, quality),
    }
    if photo.megapixels > _JPEG_ONE_PASS:
        options |= {"optimize": False, "progressive": False}
    with jpeg.whole_file_buffer(array.size, options):
        (content,) = _save(array, mode, "JPEG", options)
    if metadata.density:
        content = jpeg.with_density(bytes(content), metadata.density, jpeg.NO_UNIT)
    if metadata.dots_per_cm:
        content = jpeg.with_density(bytes(content), metadata.dots_per_cm, jpeg.PER_CM)
    return [content, placed_trailer(metadata.jpeg_trailer, len(content))]


def _write_avif(photo: Photo, _: Path, quality: int | None) -> Content:
    metadata = photo.metadata
    channels = _channels(photo)
    bits = _avif_bits(photo)
    if channels.dtype == np.uint16:
        channels = gather_bits(channels.astype(np.uint16, copy=False), bits)
    channels = channels[:, :, 0] if channels.shape[2] == 1 else _as_rgb(channels)
    icc = _fitting_icc(metadata, written_as_rgb=channels.ndim == 3)
    primaries, transfer, matrix = metadata.cicp or (
        (_UNSPECIFIED, _UNSPECIFIED, _BT601) if icc else (_BT709, _SRGB, _BT601)
    )
    content = imagecodecs.avif_encode(
        np.ascontiguousarray(channels),
        quality or _AVIF_QUALITY,
        speed=_AVIF_SPEED,
        bitspersample=bits,
        pixelformat="400" if channels.ndim == 2 else "444",
        primaries=primaries,
        transfer=transfer,
        matrix=matrix or _BT601,
    )
    return [
        bmff.with_items(bytes(content), exif=metadata.exif, xmp=metadata.xmp, icc=icc, light=metadata.light)
    ]


def _as_rgb(channels: Any) -> Any:
    """Gray, with or without alpha, three times."""
    if channels.shape[2] >= 3:
        return channels
    return np.concatenate([channels[:, :, :1]] * 2 + [channels], axis=2)


WRITERS: dict[str, Callable[[Photo, Path, int | None], Content]] = {
    "JPEG": _write_jpeg,
    "PNG": _write_png,
    "WEBP": _write_webp,
    "TIFF": _write_tiff,
    "AVIF": _write_avif,
}
