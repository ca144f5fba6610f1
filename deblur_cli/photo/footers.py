"""Blocks of data that programs and cameras append to a JPEG and find again from the end of the file.

What is known of their layout is that of ExifTool's modules of the same names.
"""

import re
import struct
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

from deblur_cli.photo.bmff import MOTION_VIDEO

_AFCP_PREVIEWS = (b"Nail", b"PrVw")
_FOTOSTATION_END = b"\xa1\xb2\xc3\xd4"
_FOTOSTATION_SOFT_EDIT, _FOTOSTATION_PREVIEWS = 2, (3, 4)
_CANON = b"CANON OPTIONAL DATA\0"
_MIE_END = re.compile(rb"~\0\0(?:\x06.{4}[\x10\x18]\x04|\x0a.{8}[\x10\x18]\x08)\Z", re.DOTALL)
_INSTA360 = b"8db42d694ccc418790edff439fe026bf"
_NIKON_APP = b"\0\0\0\0\0\0/NIKON APP"
_SAMSUNG_VIDEO, _SAMSUNG_SOUND = 0x0A30, 0x0100
_SAMSUNG_DEPTH = (b"DualShot", b"SingleShot", b"SingeShot")  # the last is how cameras spell it
_SOUND_POINTER = 30  # bytes of the block that says where the sound of a "Sound & Shot" stands in the file


class Footer(NamedTuple):
    """A block that is appended to a file.

    `content` lacks what `left_out` names, and is empty where nothing remains. At `places` in it stand 32-bit
    positions in the file, as `struct` writes them with `order`; they count from the start of `content`.
    """

    start: int
    content: bytes
    left_out: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    order: str = "<"


def split_footers(data: bytes, start: int, *, turned: bool) -> tuple[list[Footer], int]:
    """The footers at the end of `data`, in order, and where they begin; zero padding counts as nothing.

    None begins before `start`. With `turned`, what would not fit the picture turned upright is left out.
    """
    footers: list[Footer] = []
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


def join_footers(footers: list[Footer], position: int) -> bytes:
    """Footers one behind another, for `position` in a file: absolute offsets are written anew."""
    parts: list[bytes] = []
    for footer in footers:
        parts.append(_shifted(footer, position))
        position += len(footer.content)
    return b"".join(parts)


def _shifted(footer: Footer, by: int) -> bytes:
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


def _find_afcp(data: bytes, start: int, end: int, _turned: bool) -> Footer | None:
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


def _read_afcp(data: bytes, header: int, end: int, moved: int) -> Footer | None:
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
        return Footer(header, b"", left_out)
    *starts, _ = accumulate((size for _, _, size in kept), initial=12 + 12 * len(kept))
    placed = [(name, start, size) for (name, _, size), start in zip(kept, starts, strict=True)]
    head = signature + struct.pack(f"{order}HHI", version, len(kept), 0) + bytes(12 * len(kept))
    values = b"".join(block[start : start + size] for _, start, size in kept)
    return _afcp_footer(header, head, placed, values + signature, order)._replace(left_out=left_out)


def _afcp_footer(
    header: int, head: bytes, entries: list[tuple[bytes, int, int]], values: bytes, order: str
) -> Footer:
    """A block with its directory and its end, which points to its start, written anew without a checksum."""
    directory = b"".join(struct.pack(f"{order}4sII", name, size, start) for name, start, size in entries)
    content = head[:12] + directory + values + bytes(8)
    return Footer(header, content, (), (*range(20, len(head), 12), len(content) - 8), order)


def _find_fotostation(data: bytes, start: int, end: int, turned: bool) -> Footer | None:
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
    return Footer(position, b"".join(reversed(kept)), tuple(dict.fromkeys(left_out)))


def _find_sized(data: bytes, start: int, end: int, _turned: bool) -> Footer | None:
    """A block without absolute offsets, whose end says how long it is."""
    last = data[max(start, end - 78) : end]
    for size_of in (_photo_mechanic_size, _canon_size, _mie_size, _insta360_size, _nikon_app_size):
        size = size_of(last)
        first = end - size
        if size and first >= start:
            return Footer(first, data[first:end])
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


def _find_samsung(data: bytes, start: int, end: int, turned: bool) -> Footer | None:
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
        return Footer(first, b"", (*left_out, "Samsung's data behind it (SEF), which cannot be followed"))
    elif kept:
        content, places = _packed_entries(data, kept, data[directory : directory + 8])
    else:
        return Footer(first, b"", left_out)
    pointer = _sound_pointer(places, kept, data[stop:end]) if has_pointer else b""
    starts = (len(content) + 12, len(content) + 16) if pointer else ()
    return Footer(first, content + pointer, left_out, starts)


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
_FINDERS: tuple[Callable[[bytes, int, int, bool], Footer | None], ...] = (
    _find_afcp,
    _find_fotostation,
    _find_sized,
    _find_samsung,
)
