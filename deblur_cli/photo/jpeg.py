"""How a JPEG was written: its quantization tables and subsampling, read, turned and written again."""

import io
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from deblur_cli.photo.markers import read_stream
from deblur_cli.photo.photo import JpegSettings
from deblur_cli.photo.photoshop import SEGMENT_PREFIX

DEFAULT_QUALITY = 95  # of 100, where there is no lossy source whose settings could be kept
SEGMENT_BYTES = 65_533  # what a segment holds beside its length

_SUBSAMPLING_422 = 1
_BUFFER_LOCK = threading.Lock()  # Pillow's buffer size is global


def read_settings(image: JpegImagePlugin.JpegImageFile) -> JpegSettings:
    """The settings of an opened JPEG, as stored (not yet upright). Raises KeyError on a lacking table."""
    numbers = [component[3] for component in image.layer]
    if image.info.get("adobe_transform") == 2:
        # Pillow writes CMYK without the YCCK transform: no ink deserves the coarse chroma tables.
        numbers = numbers[:1]
    while len(numbers) > 1 and numbers[-1] == numbers[-2]:
        numbers.pop()
    return JpegSettings(
        quantization={index: list(image.quantization[number]) for index, number in enumerate(numbers)},
        subsampling=JpegImagePlugin.get_sampling(image),
        progressive=bool(image.info.get("progressive")),
        rgb=_stores_rgb(image),
    )


def _stores_rgb(image: JpegImagePlugin.JpegImageFile) -> bool:
    """The rule of libjpeg for three components: JFIF says YCbCr, then Adobe's marker, then the names."""
    if image.layers != 3 or "jfif" in image.info:
        return False
    if "adobe" in image.info:
        return image.info.get("adobe_transform") == 0
    return [component[0] for component in image.layer] == list(b"RGB")


def turn_settings(settings: JpegSettings) -> JpegSettings:
    """The settings for the picture turned by 90 degrees, where rows of each block become columns.

    4:2:2 becomes 4:4:4: halved rows instead of columns are a scheme that Pillow cannot write.
    """
    tables = {
        index: np.reshape(table, (8, 8)).T.ravel().tolist() for index, table in settings.quantization.items()
    }
    subsampling = 0 if settings.subsampling == _SUBSAMPLING_422 else settings.subsampling
    return replace(settings, quantization=tables, subsampling=subsampling)


def write_options(settings: JpegSettings | None, quality: int | None) -> dict[str, Any]:
    """Pillow's options for tables, subsampling and kind of JPEG: the source's own where it was one."""
    if settings is None:
        return {"quality": quality or DEFAULT_QUALITY, "subsampling": 0}
    options: dict[str, Any] = {
        "subsampling": 0 if settings.rgb else max(settings.subsampling, 0),
        "progressive": settings.progressive,
        "keep_rgb": settings.rgb,
    }
    if quality is not None:
        return options | {"quality": quality}
    return options | {"qtables": [settings.quantization[key] for key in sorted(settings.quantization)]}


def photoshop_segments(resources: bytes | None) -> bytes:
    """Image resources as APP13 segments, continued in the next one where they are long."""
    room = SEGMENT_BYTES - len(SEGMENT_PREFIX)
    segments = b""
    for start in range(0, len(resources or b""), room):
        content = SEGMENT_PREFIX + (resources or b"")[start : start + room]
        segments += b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    return segments


def xmp_segments(parts: tuple[bytes, ...]) -> bytes:
    """The parts of an extended XMP packet as APP1 segments."""
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)


def without_pixels(content: bytes) -> bytes:
    """The same JPEG with one gray pixel for its picture, to read all other segments with any reader."""
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "JPEG")
    pixel = stream.getvalue()
    segments = b"".join(segment.whole for segment in read_stream(content).segments if not segment.in_scans)
    return content[:2] + segments + pixel[pixel.index(b"\xff\xdb") :]


def with_density(content: bytes, density: tuple[int, int]) -> bytes:
    """A JPEG as Pillow writes it, with a ratio of sides of its pixels in its JFIF header."""
    if content[2:4] != b"\xff\xe0" or content[6:11] != b"JFIF\0":
        return content
    return content[:13] + struct.pack(">BHH", 0, *density) + content[18:]


@contextmanager
def whole_file_buffer(samples: int, options: dict[str, Any]) -> Iterator[None]:
    """Room for the whole JPEG, which libjpeg needs to optimize and Pillow estimates too small.

    Noise at the finest quantization takes a little more than a byte per sample.
    """
    blocks = sum(len(block) for block in options.values() if isinstance(block, bytes))
    with _BUFFER_LOCK:
        before = ImageFile.MAXBLOCK
        ImageFile.MAXBLOCK = max(before, 2 * samples + blocks + 65_536)
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = before
