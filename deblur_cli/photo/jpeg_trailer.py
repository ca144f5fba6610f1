"""What stands behind the picture of a JPEG: blocks that go with the result, videos and further pictures.

The blocks, called footers here, are what cameras and programs append and find again from the end of the
file. What is known of their layout is that of ExifTool's modules of the same names.
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from deblur_cli.photo.jpeg import MpPicture, Stream, read_stream
from deblur_cli.photo.photo import DEPTH_MAP, GAIN_MAP, MOTION_VIDEO

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

_AFCP_PREVIEWS = (b"Nail", b"PrVw")
_FOTOSTATION_END, _FOTOSTATION_SOFT_EDIT, _FOTOSTATION_PREVIEWS = b"\xa1\xb2\xc3\xd4", 2, (3, 4)
_MIE_END = re.compile(rb"~\0\0(?:\x06.{4}[\x10\x18]\x04|\x0a.{8}[\x10\x18]\x08)\Z", re.DOTALL)
_INSTA360 = b"8db42d694ccc418790edff439fe026bf"
_CANON, _NIKON_APP = b"CANON OPTIONAL DATA\0", b"\0\0\0\0\0\0/NIKON APP"
_SAMSUNG_VIDEO, _SAMSUNG_SOUND = 0x0A30, 0x0100
_SAMSUNG_DEPTH = (b"DualShot", b"SingleShot", b"SingeShot")  # the last is how cameras spell it
_SOUND_POINTER = 30  # bytes of the block that says where the sound of a "Sound & Shot" stands in the file


def read_trailer(
    data: bytes, start: int, pictures: Mapping[int, MpPicture], semantics: Sequence[str], *, turned: bool
) -> tuple[bytes, tuple[str, ...]]:
    """What of the bytes from `start` on goes with the result, for position 0; and names for the rest.

    `pictures` is the file's MPF index, `semantics` what XMP calls the items behind the picture, in order.
    """
    footers, end = _split_footers(data, start, turned=turned)
    there = {place - start: picture for place, picture in pictures.items() if start <= place < end}
    names = _Others(data[start:end], there, semantics).names()
    left_out = [*names, *(name for footer in footers for name in footer.left_out)]
    return _join_footers(footers, 0), tuple(dict.fromkeys(left_out))


def placed_trailer(trailer: bytes, position: int) -> bytes:
    """A trailer that `read_trailer` gave, for `position` in a file: absolute offsets are moved there."""
    footers, end = _split_footers(trailer, 0, turned=False)
    return trailer[:end] + _join_footers(footers, position + end)


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


class _Footer(NamedTuple):
    """A block that is appended to a file.

    `content` lacks what `left_out` names, and is empty where nothing remains. At `places` in it stand 32-bit
    positions in the file, as `struct` writes them with `order`; they count from the start of `content`.
    """

    start: int
    content: bytes
    left_out: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    order: str = "<"


def _split_footers(data: bytes, start: int, *, turned: bool) -> tuple[list[_Footer], int]:
    """The footers at the end of `data`, in order, and where they begin; zero padding counts as nothing.

    None begins before `start`. With `turned`, what would not fit the picture turned upright is left out.
    """
    footers: list[_Footer] = []
    end = len(data)
    while end > start:
        footer = next(
            (found for find in _FINDERS if (found := find(data, start, end, turned)) is not None), None
        )
        if footer is not None:
            footers.append(footer)
            end = footer.start
            continue
        unpadded = _without_padding(data, start, end)
        if unpadded == end:
            break
        end = unpadded
    return footers[::-1], end


def _join_footers(footers: list[_Footer], position: int) -> bytes:
    """Footers one behind another, for `position` in a file: absolute offsets are written anew."""
    parts: list[bytes] = []
    for footer in footers:
        parts.append(_shifted(footer, position))
        position += len(footer.content)
    return b"".join(parts)


def _shifted(footer: _Footer, by: int) -> bytes:
    content = bytearray(footer.content)
    for place in footer.places:
        (offset,) = struct.unpack_from(f"{footer.order}I", content, place)
        struct.pack_into(f"{footer.order}I", content, place, (offset + by) % 2**32)
    return bytes(content)


def _without_padding(data: bytes, start: int, end: int) -> int:
    while end > start:
        chunk = data[max(start, end - 4096) : end]
        kept = chunk.rstrip(b"\0")
        if kept:
            return end - len(chunk) + len(kept)
        end -= len(chunk)
    return end


def _afcp_order(footer: bytes) -> str:
    return ">" if footer[3:4] == b"!" else "<"


def _find_afcp(data: bytes, start: int, end: int, _turned: bool) -> _Footer | None:
    """The AXS File Concatenation Protocol: a header, a directory, values, and a pointer to the header."""
    last = data[max(start, end - 12) : end]
    if len(last) < 12 or last[:4] not in (b"AXS!", b"AXS*"):
        return None
    (pointer,) = struct.unpack_from(f"{_afcp_order(last)}I", last, 4)
    for header in (pointer, data.rfind(last[:4], start, end - 12)):  # programs move it without a thought
        footer = _read_afcp(data, header, end, header - pointer) if header >= start else None
        if footer is not None:
            return footer
    return None


def _read_afcp(data: bytes, header: int, end: int, moved: int) -> _Footer | None:
    signature, order = data[end - 12 : end - 8], _afcp_order(data[end - 12 : end])
    if header + 24 > end or data[header : header + 4] != signature:
        return None
    version, count = struct.unpack_from(f"{order}HH", data, header + 4)
    values_start, values_end = header + 12 + 12 * count, end - 12
    if values_start > values_end:
        return None
    entries: list[tuple[bytes, int, int]] = []  # name, start in the block, size
    for place in range(header + 12, values_start, 12):
        name, size, offset = struct.unpack_from(f"{order}4sII", data, place)
        entries.append((name, offset + moved - header, size))
    outside = any(start < 0 or header + start + size > values_end for _, start, size in entries)
    if outside or sum(size for _, _, size in entries) > values_end - values_start:
        return None  # overlapping values could be written out at any length
    block = data[header:end]
    kept = [entry for entry in entries if entry[0] not in _AFCP_PREVIEWS]
    if len(kept) == len(entries):
        return _afcp_footer(header, block[: 12 + 12 * count], kept, block[12 + 12 * count : -8], order)
    left_out = ("a preview in its AFCP data, which shows the photo as it was",)
    if not kept:
        return _Footer(header, b"", left_out)
    *starts, _ = accumulate((size for _, _, size in kept), initial=12 + 12 * len(kept))
    placed = [(name, start, size) for (name, _, size), start in zip(kept, starts, strict=True)]
    head = signature + struct.pack(f"{order}HHI", version, len(kept), 0) + bytes(12 * len(kept))
    values = b"".join(block[start : start + size] for _, start, size in kept)
    return _afcp_footer(header, head, placed, values + signature, order)._replace(left_out=left_out)


def _afcp_footer(
    header: int, head: bytes, entries: list[tuple[bytes, int, int]], values: bytes, order: str
) -> _Footer:
    """A block with its directory and its end, which points to its start, written anew without a checksum."""
    directory = b"".join(struct.pack(f"{order}4sII", name, size, start) for name, start, size in entries)
    content = head[:12] + directory + values + bytes(8)
    return _Footer(header, content, (), (*range(20, len(head), 12), len(content) - 8), order)


def _find_fotostation(data: bytes, start: int, end: int, turned: bool) -> _Footer | None:
    """Records of FotoWare's FotoStation, each with its tag, its size and a signature behind it."""
    kept: list[bytes] = []
    left_out: list[str] = []
    position = end
    while position - start >= 10 and data[position - 4 : position] == _FOTOSTATION_END:
        tag, size = struct.unpack_from(">HI", data, position - 10)
        if not 10 <= size <= position - start:
            break
        if tag in _FOTOSTATION_PREVIEWS:
            left_out.append("a preview in its FotoStation data, which shows the photo as it was")
        elif tag == _FOTOSTATION_SOFT_EDIT and turned:
            left_out.append("its FotoStation crop, which would not fit the turned picture")
        else:
            kept.append(data[position - size : position])
        position -= size
    if position == end:
        return None
    return _Footer(position, b"".join(reversed(kept)), tuple(dict.fromkeys(left_out)))


def _find_sized(data: bytes, start: int, end: int, _turned: bool) -> _Footer | None:
    """A block without absolute offsets, whose end says how long it is."""
    last = data[max(start, end - 78) : end]
    for size_of in (_photo_mechanic_size, _canon_size, _mie_size, _insta360_size, _nikon_app_size):
        size = size_of(last)
        first = end - size
        if size and first >= start:
            return _Footer(first, data[first:end])
    return None


def _photo_mechanic_size(last: bytes) -> int:
    if len(last) < 12 or not last.endswith(b"cbipcbbl"):
        return 0
    return 12 + int.from_bytes(last[-12:-8], "big")


def _canon_size(last: bytes) -> int:
    """Digital Photo Professional's recipe (VRD), with a header of 28 and a footer of 64 bytes."""
    if len(last) < 64 or not last[-64:].startswith(_CANON):
        return 0
    return 28 + int.from_bytes(last[-44:-40], "big") + 64


def _mie_size(last: bytes) -> int:
    """Meta Information Encapsulation: the length of the group, its byte order and the length's own size."""
    match = _MIE_END.search(last)
    if match is None:
        return 0
    size = last[-1]  # in bytes, of the length itself
    return int.from_bytes(last[-2 - size : -2], "big" if last[-2] == 0x10 else "little")


def _insta360_size(last: bytes) -> int:
    if len(last) < 78 or not last.endswith(_INSTA360):
        return 0
    return int.from_bytes(last[-40:-36], "little")


def _nikon_app_size(last: bytes) -> int:
    if len(last) < 20 or not last.endswith(_NIKON_APP):
        return 0
    return int.from_bytes(last[-20:-16], "big")


class _Entry(NamedTuple):
    """An entry of Samsung's directory, with the bytes it stands for."""

    zero: int
    kind: int
    start: int
    size: int
    name: bytes


def _find_samsung(data: bytes, start: int, end: int, turned: bool) -> _Footer | None:
    """Samsung's entries, then a directory of them (SEFH to SEFT), which counts backwards from its start."""
    has_pointer = data[end - 6 : end] == b"QDIOBS" and data.startswith(b"QDIO", end - _SOUND_POINTER)
    stop = end - _SOUND_POINTER if has_pointer else end
    directory = _samsung_directory(data, start, stop)
    entries = None if directory is None else _read_entries(data, start, directory)
    if directory is None or entries is None:
        return None
    first = min((entry.start for entry in entries), default=directory)
    kept, left_out = _kept_entries(entries, turned=turned)
    if len(kept) == len(entries):
        content, places = data[first:stop], [entry.start - first for entry in kept]
    elif sum(entry.size for entry in entries) != directory - first:
        return _Footer(first, b"", (*left_out, "Samsung's data behind it (SEF), which cannot be followed"))
    elif kept:
        content, places = _packed_entries(data, kept, data[directory : directory + 8])
    else:
        return _Footer(first, b"", left_out)
    pointer = _sound_pointer(places, kept, data[stop:end]) if has_pointer else b""
    starts = (len(content) + 12, len(content) + 16) if pointer else ()
    return _Footer(first, content + pointer, left_out, starts)


def _samsung_directory(data: bytes, start: int, end: int) -> int | None:
    if end - start < 20 or data[end - 4 : end] != b"SEFT":
        return None
    size = int.from_bytes(data[end - 8 : end - 4], "little")
    directory = end - 8 - size
    if not 12 <= size < 65_536 or directory < start or data[directory : directory + 4] != b"SEFH":
        return None
    count = int.from_bytes(data[directory + 8 : directory + 12], "little")
    return directory if 12 + 12 * count <= size else None


def _read_entries(data: bytes, start: int, directory: int) -> list[_Entry] | None:
    (count,) = struct.unpack_from("<I", data, directory + 8)
    entries = []
    for place in range(directory + 12, directory + 12 + 12 * count, 12):
        zero, kind, back, size = struct.unpack_from("<HHII", data, place)
        first = directory - back
        if first < start or not 8 <= size <= back:
            return None
        named = int.from_bytes(data[first + 4 : first + 8], "little")
        entries.append(_Entry(zero, kind, first, size, data[first + 8 : first + min(8 + named, size)]))
    return entries


def _kept_entries(entries: list[_Entry], *, turned: bool) -> tuple[list[_Entry], tuple[str, ...]]:
    """The entries that fit the result, in order of their bytes, and what the others hold."""
    dropped: tuple[bytes, ...] = ()
    left_out: list[str] = []
    has_video = any(entry.kind == _SAMSUNG_VIDEO or entry.name == b"MotionPhoto_Data" for entry in entries)
    if has_video:
        dropped += (b"MotionPhoto_",)
        left_out.append(MOTION_VIDEO)
    if turned and any(entry.name.startswith(_SAMSUNG_DEPTH) for entry in entries):
        dropped += _SAMSUNG_DEPTH
        left_out.append("its depth map, which would not fit the turned picture")
    kept = [entry for entry in entries if entry.kind != _SAMSUNG_VIDEO and not entry.name.startswith(dropped)]
    return sorted(kept, key=lambda entry: entry.start), tuple(left_out)


def _packed_entries(data: bytes, entries: list[_Entry], head: bytes) -> tuple[bytes, list[int]]:
    """Entries with a directory of their own, which begins with `head`, and where each begins."""
    *places, total = accumulate((entry.size for entry in entries), initial=0)
    directory = [head, struct.pack("<I", len(entries))]
    for entry, place in zip(entries, places, strict=True):
        directory.append(struct.pack("<HHII", entry.zero, entry.kind, total - place, entry.size))
    directory.append(struct.pack("<I", 12 + 12 * len(entries)) + b"SEFT")
    values = [data[entry.start : entry.start + entry.size] for entry in entries]
    return b"".join(values + directory), places


def _sound_pointer(places: list[int], entries: list[_Entry], pointer: bytes) -> bytes:
    """The block that says where the first sound starts and ends, written anew; none without a sound."""
    for place, entry in zip(places, entries, strict=True):
        if entry.kind == _SAMSUNG_SOUND:
            start = place + 8 + len(entry.name)
            return pointer[:12] + struct.pack("<II", start, place + entry.size) + pointer[20:]
    return b""


# Each finds a footer of one kind that ends at `end`, and begins at `start` or later
_FINDERS: tuple[Callable[[bytes, int, int, bool], _Footer | None], ...] = (
    _find_afcp,
    _find_fotostation,
    _find_sized,
    _find_samsung,
)
