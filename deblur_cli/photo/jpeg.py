"""The JPEG stream: its segments (ITU-T T.81, annex B), its index of pictures, and its coding."""

import io
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from deblur_cli.photo.photo import JpegSettings

DEFAULT_QUALITY = 95  # of 100, where there is no lossy source whose settings could be kept
SEGMENT_BYTES = 65_533  # what a segment holds beside its length
PHOTOSHOP_PREFIX = b"Photoshop 3.0\0"  # of a segment with image resources

APP0, APP15, COM = 0xE0, 0xEF, 0xFE
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# What may stand between two scans: frames, tables, restart intervals, applications' data and comments
_BETWEEN_SCANS = frozenset({*range(0xC0, 0xD0), _SOS, *range(0xDB, 0xE0), *range(APP0, APP15 + 1), COM})
# Not fill bytes, nor what has no length: stuffed bytes (FF 00), TEM and restart markers
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_MP_ENTRIES = 0xB002

_SUBSAMPLING_422 = 1
_BUFFER_LOCK = threading.Lock()  # Pillow's buffer size is global


class Segment(NamedTuple):
    """A segment of a JPEG stream, with its marker and length."""

    marker: int
    position: int  # of the marker, from the start of the file
    content: bytes
    whole: bytes
    in_scans: bool  # it stands behind the header of the first scan


class Stream(NamedTuple):
    """The APPn and COM segments of a JPEG stream; and the position behind it, or None if it has no end."""

    segments: tuple[Segment, ...]
    end: int | None
    has_scan: bool = False


def read_stream(data: bytes, start: int = 0) -> Stream:
    """The JPEG stream that begins at `start`, as far as it can be followed. Takes linear time."""
    if data[start : start + 2] != b"\xff\xd8":
        return Stream((), None)
    segments: list[Segment] = []
    position, in_scans = start + 2, False
    while (found := _next_marker(data, position, in_scans=in_scans)) is not None:
        position, marker = found
        if marker == _EOI:
            return Stream(tuple(segments), position + 2, in_scans)
        after = _segment_end(data, position)
        if marker == _SOI:
            return Stream(tuple(segments), position if in_scans else None, in_scans)
        if after is None:
            break
        if APP0 <= marker <= APP15 or marker == COM:
            content, whole = data[position + 4 : after], data[position:after]
            segments.append(Segment(marker, position, content, whole, in_scans))
        in_scans = in_scans or marker == _SOS
        position = after
    return Stream(tuple(segments), None, in_scans)


def _next_marker(data: bytes, position: int, *, in_scans: bool) -> tuple[int, int] | None:
    """Position and code of the next marker."""
    for match in _MARKER.finditer(data, position):
        marker = match[0][1]
        if not in_scans or marker == _EOI or _ends_scan(data, match.start(), marker):
            return match.start(), marker
    return None


def _ends_scan(data: bytes, position: int, marker: int) -> bool:
    """Whether a marker in entropy-coded data is one, and not a fault in the data."""
    if marker == _SOI:  # a stream without its end, and the next one
        follows = data[position + 2 : position + 4]
        return follows[:1] == b"\xff" and follows[1:] != b"" and follows[1] in _BETWEEN_SCANS
    after = _segment_end(data, position)
    if marker not in _BETWEEN_SCANS or after is None:
        return False
    if marker == _SOS:
        components = int.from_bytes(data[position + 4 : position + 5], "big")
        return after - position == 8 + 2 * components
    return data[after : after + 1] == b"\xff"


def _segment_end(data: bytes, position: int) -> int | None:
    length = int.from_bytes(data[position + 2 : position + 4], "big")
    after = position + 2 + length
    return after if length >= 2 and after <= len(data) else None


class MpPicture(NamedTuple):
    """An entry of a Multi-Picture Format index (CIPA DC-007): its type and size in bytes."""

    kind: int
    size: int

    @property
    def is_preview(self) -> bool:
        return self.kind >> 16 == 1


def read_mp_index(content: bytes, position: int) -> dict[int, MpPicture]:
    """The pictures behind the first by place in the file, of an MPF segment that begins at `position`.

    Empty for an index that cannot be followed.
    """
    block, start = content[4:], position + 8  # offsets count from the block's byte order on
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return {}
    pictures: dict[int, MpPicture] = {}
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, directory)
        for place in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, size, offset = struct.unpack_from(f"{order}HHII", block, place)
            if tag != _MP_ENTRIES:
                continue
            for entry in range(offset, min(offset + size, len(block)), 16):
                kind, length, where = struct.unpack_from(f"{order}III", block, entry)
                if where:  # the first picture has none
                    pictures[start + where] = MpPicture(kind & 0xFFFFFF, length)
    except struct.error:
        return {}
    return pictures


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
    room = SEGMENT_BYTES - len(PHOTOSHOP_PREFIX)
    segments = b""
    for start in range(0, len(resources or b""), room):
        content = PHOTOSHOP_PREFIX + (resources or b"")[start : start + room]
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


NO_UNIT, PER_CM = 0, 2  # of a density in a JFIF header


def with_density(content: bytes, density: tuple[int, int], unit: int) -> bytes:
    """A JPEG as Pillow writes it, with another density in its JFIF header."""
    if content[2:4] != b"\xff\xe0" or content[6:11] != b"JFIF\0":
        return content
    return content[:13] + struct.pack(">BHH", unit, *density) + content[18:]


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
