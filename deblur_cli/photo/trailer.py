"""What stands behind the picture of a JPEG: blocks that go with the result, videos and further pictures."""

import re
import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from deblur_cli.photo.bmff import DEPTH_MAP, GAIN_MAP, MOTION_VIDEO
from deblur_cli.photo.footers import join_footers, split_footers
from deblur_cli.photo.markers import Stream, read_stream

ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_GAIN_MAP_SIGNS = (
    ISO_GAIN_MAP,
    b"http://ns.adobe.com/hdr-gain-map/1.0/",
    b"http://ns.apple.com/HDRGainMap/1.0/",
    b"urn:com:apple:photo:2020:aux:hdrgainmap",
)
_DEPTH_SIGNS = (b"http://ns.apple.com/depthData/1.0/", b"http://ns.google.com/photos/1.0/depthmap/")
_PICTURE_START = re.compile(rb"\xff\xd8\xff[\xc0-\xc2\xc4\xdb\xdd\xe0-\xef\xfe]")
_KNOWN_START = re.compile(_PICTURE_START.pattern + rb"|ftyp|RIFF....WAVE", re.DOTALL)
_MOST_TRIES = 16  # to read a picture among unknown bytes, each of which may look through all of them
_BOX_NAME = re.compile(rb"[0-9A-Za-z ._\xa9-]{4}")
_PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")
_NO_PADDING = re.compile(rb"[^\0]")
_VIDEO_TAIL = 128  # bytes behind a video that Huawei and Honor close with "LIVE_" and its length
_MP_ENTRIES = 0xB002


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


def read_trailer(
    data: bytes, start: int, pictures: Mapping[int, MpPicture], semantics: Sequence[str], *, turned: bool
) -> tuple[bytes, tuple[str, ...]]:
    """What of the bytes from `start` on goes with the result, for position 0; and names for the rest.

    `pictures` is the file's MPF index, `semantics` what XMP calls the items behind the picture, in order.
    """
    footers, end = split_footers(data, start, turned=turned)
    there = {place - start: picture for place, picture in pictures.items() if start <= place < end}
    names = _Others(data[start:end], there, semantics).names()
    left_out = [*names, *(name for footer in footers for name in footer.left_out)]
    return join_footers(footers, 0), tuple(dict.fromkeys(left_out))


def placed_trailer(trailer: bytes, position: int) -> bytes:
    """A trailer that `read_trailer` gave, for `position` in a file: absolute offsets are moved there."""
    footers, end = split_footers(trailer, 0, turned=False)
    return trailer[:end] + join_footers(footers, position + end)


class _Others:
    """Videos, pictures and unknown bytes, one behind another."""

    def __init__(self, data: bytes, pictures: Mapping[int, MpPicture], semantics: Sequence[str]) -> None:
        self._data = data
        self._pictures = pictures
        self._places = sorted(pictures)
        self._semantics = list(semantics)
        self._tries = _MOST_TRIES
        self._names: list[str] = []
        self._further = 0  # pictures of no special kind
        self._unknown = 0  # bytes

    def names(self) -> list[str]:
        position = 0
        while (match := _NO_PADDING.search(self._data, position)) is not None:
            position = self._read(self._box_start(position, match.start()))
        if self._further:
            index = " (MPF)" if self._pictures else ""
            what = "a second picture" if self._further == 1 else f"{self._further} further pictures"
            self._names.append(f"{what} behind the first{index}")
        if self._unknown:
            amount = "1 byte" if self._unknown == 1 else f"{self._unknown:,} bytes"
            self._names.append(f"{amount} of an unknown kind behind the picture")
        return self._names

    def _box_start(self, first: int, position: int) -> int:
        """Where the first box of a video begins, whose length begins with zeros; or else `position`."""
        for start in range(max(first, position - 4), position):
            if self._data.startswith(b"ftyp", start + 4):
                return start
        return position

    def _read(self, position: int) -> int:
        """Takes note of what begins at `position`, which is no padding, and says where it ends."""
        data, listed = self._data, self._pictures.get(position)
        kind = data[position + 4 : position + 8]
        if listed is not None or (self._tries > 0 and _PICTURE_START.match(data, position)):
            stream = read_stream(data, position)
            end = stream.end if stream.end is not None and stream.has_scan else position
            end = end if listed is None else max(end, position + listed.size)
            if end > position:
                self._note_picture(stream, listed)
                return end
            self._tries -= 1
        elif kind == b"ftyp":
            self._note_video(data[position + 8 : position + 12])
            return self._without_tail(self._video_end(position))
        elif data.startswith(b"RIFF", position) and data[position + 8 : position + 12] == b"WAVE":
            self._names.append("its sound recording")
            return position + 8 + int.from_bytes(kind, "little")
        after = self._next_known(position)
        self._unknown += after - position
        return after

    def _note_picture(self, stream: Stream, listed: MpPicture | None) -> None:
        semantic = self._next_semantic().lower()
        heads = [segment.content for segment in stream.segments if not segment.in_scans]
        if any(sign in head for head in heads for sign in _GAIN_MAP_SIGNS) or semantic == "gainmap":
            self._names.append(GAIN_MAP)
        elif any(sign in head for head in heads for sign in _DEPTH_SIGNS) or "depth" in semantic:
            self._names.append(DEPTH_MAP)
        elif listed is None or not listed.is_preview:  # previews show the photo as it was
            self._further += 1

    def _note_video(self, brand: bytes) -> None:
        self._next_semantic()
        if brand in _PICTURE_BRANDS:
            self._further += 1
        else:
            self._names.append(MOTION_VIDEO)

    def _next_semantic(self) -> str:
        return self._semantics.pop(0) if self._semantics else ""

    def _video_end(self, position: int) -> int:
        """Where the boxes of a video end; the last may be cut off."""
        data = self._data
        end = position + 8  # whatever the first says of its length
        while position + 8 <= len(data) and _BOX_NAME.match(data, position + 4):
            size = int.from_bytes(data[position : position + 4], "big")
            if size == 1:
                size = int.from_bytes(data[position + 8 : position + 16], "big")
            if 0 < size < 8:
                break
            position = end = min(position + size, len(data)) if size else len(data)
        return end

    def _without_tail(self, position: int) -> int:
        is_tail = len(self._data) - position <= _VIDEO_TAIL and self._data.find(b"LIVE_", position) >= 0
        return len(self._data) if is_tail else position

    def _next_known(self, position: int) -> int:
        """Where something known begins behind `position`, or the end."""
        later = self._places[bisect_right(self._places, position) :][:1]
        listed = later[0] if later else len(self._data)
        if self._tries <= 0:
            return listed
        for match in _KNOWN_START.finditer(self._data, position + 1, listed):
            start = match.start() - 4 if match[0] == b"ftyp" else match.start()
            if start > position:
                return start
        return listed
