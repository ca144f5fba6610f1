"""The markers of a JPEG stream (ITU-T T.81, annex B): its segments, and where the picture ends."""

import re
from typing import NamedTuple

APP0, APP15, COM = 0xE0, 0xEF, 0xFE
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# What may stand between two scans: frames, tables, restart intervals, applications' data and comments
_BETWEEN_SCANS = frozenset({*range(0xC0, 0xD0), _SOS, *range(0xDB, 0xE0), *range(APP0, APP15 + 1), COM})
# Not fill bytes, nor what has no length: stuffed bytes (FF 00), TEM and restart markers
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")


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
