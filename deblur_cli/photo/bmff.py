"""The ISO base media file format of HEIC and AVIF (ISO/IEC 14496-12, 23008-12): what it is, color, items.

imagecodecs writes AVIF pixels of 10 bits but no blocks around them; they are added here as items.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_PRIMARY_COLR = b"colrnclx"


class Nclx(NamedTuple):
    """Color primaries, transfer characteristics and matrix, as code points of ITU-T H.273."""

    primaries: int
    transfer: int
    matrix: int

    @property
    def is_hdr(self) -> bool:
        """Whether values stand for brightness beyond white: PQ or HLG."""
        return self.transfer in (16, 18)


def brands(header: bytes) -> frozenset[bytes]:
    """The major and compatible brands of a file that begins with an ftyp box; empty for any other."""
    if header[4:8] != b"ftyp":
        return frozenset()
    (size,) = struct.unpack_from(">I", header)
    listed = header[16 : min(size, len(header))]
    return frozenset([header[8:12], *(listed[start : start + 4] for start in range(0, len(listed), 4))])


def read_nclx(content: bytes) -> Nclx | None:
    """The nclx color tag of a HEIC or AVIF file, or None without one."""
    meta = _meta_of(content)
    start = meta.find(_PRIMARY_COLR)
    if start < 0 or start + 14 > len(meta):
        return None
    return Nclx(*struct.unpack_from(">3H", meta, start + len(_PRIMARY_COLR)))


def av1_bits(content: bytes) -> int:
    """Bits per sample of an AVIF file by its configuration box; 8 where there is none."""
    meta = _meta_of(content)
    start = meta.find(b"av1C")
    if start < 0 or start + 7 > len(meta):
        return 8
    flags = meta[start + 6]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def without_exif(content: bytes) -> bytes:
    """The file with its EXIF items renamed, so that readers pass them over."""
    meta = _meta_of(content)
    start = content.find(meta)
    return content[:start] + meta.replace(b"Exif", b"free") + content[start + len(meta) :]


def _meta_of(content: bytes) -> bytes:
    return next(
        (content[start:end] for name, start, end in _boxes(content, 0, len(content)) if name == b"meta"), b""
    )


def _boxes(content: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and end of each box; stops at one that does not fit."""
    while position + 8 <= end:
        size, name = struct.unpack_from(">I4s", content, position)
        head = 8
        if size == 1 and position + 16 <= end:
            (size,) = struct.unpack_from(">Q", content, position + 8)
            head = 16
        size = size or end - position
        if size < head or position + size > end:
            return
        yield name, position + head, position + size
        position += size


def _box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", len(content) + 8, name) + content


def with_items(content: bytes, *, exif: bytes | None, xmp: bytes | None, icc: bytes | None) -> bytes:
    """An AVIF of libavif with EXIF (from its TIFF header on), XMP and an ICC profile added.

    Raises ValueError where the file is not laid out as libavif does it.
    """
    items = []
    if exif:
        items.append((b"Exif\0", b"\0\0\0\0" + exif))  # its TIFF header begins 0 bytes further on
    if xmp:
        items.append((b"mime\0application/rdf+xml\0", xmp))
    if not items and not icc:
        return content
    top = {name: (start, end) for name, start, end in _boxes(content, 0, len(content))}
    if not {b"meta", b"mdat"} <= set(top) or top[b"meta"][0] > top[b"mdat"][0]:
        raise ValueError("the AVIF encoder gave a file of an unknown layout")
    start, end = top[b"meta"]
    parts = {name: content[first:last] for name, first, last in _boxes(content, start + 4, end)}
    parts.setdefault(b"iref", b"\0\0\0\0")
    primary = int.from_bytes(parts[b"pitm"][4:6], "big")
    ids = [_highest_id(parts[b"iinf"]) + 1 + number for number in range(len(items))]
    parts[b"iinf"] = _more_infos(parts[b"iinf"], ids, [kind for kind, _ in items])
    for number in ids:
        parts[b"iref"] += _box(b"cdsc", struct.pack(">HHH", number, 1, primary))
    if icc:
        parts[b"iprp"] = _more_properties(parts[b"iprp"], primary, _box(b"colr", b"prof", icc))
    locations = parts[b"iloc"]
    # The new table is as long as the old one and an entry for each item, so the shift is known beforehand.
    parts[b"iloc"] = _more_locations(locations, 0, ids, [(0, 0)] * len(ids))
    order = [name for name in parts if name != b"iref" or len(parts[name]) > 4]
    length = 12 + sum(len(parts[name]) + 8 for name in order)
    shift = length - (end - start + 8)
    places, position = [], len(content) + shift + 8
    for _, data in items:
        places.append((position, len(data)))
        position += len(data)
    parts[b"iloc"] = _more_locations(locations, shift, ids, places)
    meta = _box(b"meta", content[start : start + 4], *(_box(name, parts[name]) for name in order))
    extra = _box(b"mdat", *(data for _, data in items)) if items else b""
    return content[: start - 8] + meta + content[end:] + extra


def _highest_id(infos: bytes) -> int:
    entries = [infos[start:end] for _, start, end in _boxes(infos, 6, len(infos))]
    return max(int.from_bytes(entry[4:6], "big") for entry in entries)


def _more_infos(infos: bytes, ids: list[int], kinds: list[bytes]) -> bytes:
    """Item information entries of version 2; `kinds` are type, name and what else the type wants."""
    (count,) = struct.unpack_from(">H", infos, 4)
    entries = [
        _box(b"infe", struct.pack(">IHH", 2 << 24, number, 0), kind[:4], b"\0", kind[5:])
        for number, kind in zip(ids, kinds, strict=True)
    ]
    return infos[:4] + struct.pack(">H", count + len(ids)) + infos[6:] + b"".join(entries)


def _more_locations(table: bytes, shift: int, ids: list[int], places: list[tuple[int, int]]) -> bytes:
    """The item location table with its offsets shifted and items of one extent added."""
    version, sizes, bases = table[0], table[4], table[5]
    if version not in (0, 1) or sizes != 0x44 or bases not in (0x00, 0x40):
        raise ValueError("the AVIF encoder gave an item table of an unknown kind")
    (count,) = struct.unpack_from(">H", table, 6)
    head = 6 if version else 4  # item, construction method in version 1, data reference
    base = 4 if bases else 0
    entries, position = [], 8
    for _ in range(count):
        begin = position
        extents_at = position + head + base
        (extents,) = struct.unpack_from(">H", table, extents_at)
        position = extents_at + 2 + 8 * extents
        entry = bytearray(table[begin:position])
        for place in range(head + base + 2, len(entry), 8):
            (offset,) = struct.unpack_from(">I", entry, place)
            struct.pack_into(">I", entry, place, offset + shift)
        entries.append(bytes(entry))
    for number, (offset, length) in zip(ids, places, strict=True):
        entries.append(
            struct.pack(">H", number) + bytes(head - 2 + base) + struct.pack(">HII", 1, offset, length)
        )
    return table[:6] + struct.pack(">H", count + len(ids)) + b"".join(entries)


def _more_properties(container: bytes, item: int, box: bytes) -> bytes:
    """The property container with one more property, tied to `item`."""
    parts = {name: container[start:end] for name, start, end in _boxes(container, 0, len(container))}
    index = len(list(_boxes(parts[b"ipco"], 0, len(parts[b"ipco"])))) + 1
    parts[b"ipco"] += box
    ties = parts[b"ipma"]
    if ties[0] != 0 or ties[3] & 1 or index > 127:
        raise ValueError("the AVIF encoder gave a property table of an unknown kind")
    (count,) = struct.unpack_from(">I", ties, 4)
    changed, position = ties[:8], 8
    for _ in range(count):
        number, tied = struct.unpack_from(">HB", ties, position)
        after = position + 3 + tied
        own = ties[position + 3 : after]
        if number == item:
            own += bytes([index])
        changed += struct.pack(">HB", number, len(own)) + own
        position = after
    return b"".join(_box(name, content) for name, content in (parts | {b"ipma": changed}).items())
