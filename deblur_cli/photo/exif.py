"""The TIFF directories inside EXIF blocks and TIFF files, read and patched byte by byte.

Everything that is not patched survives as it was, maker notes with their absolute offsets included.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, NamedTuple

from deblur_cli.photo.samples import turn_point

ORIENTATION = 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
SOFTWARE = 0x0131
EXIF_POINTER, GPS_POINTER, INTEROP_POINTER = 0x8769, 0x8825, 0xA005
_POINTERS = frozenset({EXIF_POINTER, GPS_POINTER, INTEROP_POINTER})

# Width and height as the main and the Exif directory repeat them, swapped in a photo turned by 90 degrees.
_SIDES = (0x0100, 0x0101)
_EXIF_SIDES = (0xA002, 0xA003)
_FOCAL_PLANE, _SUBJECTS = (0xA20E, 0xA20F), (0x9214, 0xA214)  # resolutions; area and location in pixels

# Bytes per value of TIFF 6.0's types 1-12, plus 13 (IFD) and BigTIFF's 16-18.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
_MOST_ENTRIES = 65_535
_INTEGER_CODES = {1: "B", 3: "H", 4: "I"}
_ASCII, _SHORT, _LONG, _RATIONAL = 2, 3, 4, 5
_INCH = 2  # as the unit of resolutions
_EMPTY = b"II*\0\x08\0\0\0\0\0\0\0\0\0"

# Tags that describe how a TIFF file stores its samples, or blocks that `Metadata` holds elsewhere.
STRUCTURAL_TAGS = frozenset(
    {
        *range(254, 260),  # kind of page, sides, bits, compression
        *range(262, 267),  # photometric interpretation, thresholding, fill order
        *(273, 277, 278, 279, 280, 281, 284),  # strips, samples, planes
        *range(288, 294),  # free space, fax options, gray response
        *(301, 317, 320, 321, 322, 323, 324, 325, 330),  # transfer, predictor, palette, tiles, sub-pages
        *(332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 347),  # inks, extra samples, sample format
        *range(512, 522),  # old-style JPEG, embedded thumbnail
        *range(529, 533),  # YCbCr
        *(700, 33723, 34377, 34675),  # XMP, IPTC, Photoshop resources, ICC profile
        37724,  # Photoshop layers, which no longer match the picture once it is restored
    }
)


class BrokenExifError(ValueError):
    """The block's directories cannot be followed."""


class Entry(NamedTuple):
    """One 12-byte directory entry: where it stands, and its four fields."""

    position: int
    tag: int
    type: int
    length: int
    value: bytes

    @property
    def size(self) -> int:
        """Bytes of the value; above 4 the value is stored elsewhere. 0 for an unknown type."""
        return _TYPE_BYTES.get(self.type, 0) * self.length


Reader = Callable[[int, int], bytes]
ByteOrder = Literal["<", ">"]
_ORDERS: dict[bytes, ByteOrder] = {b"II*\0": "<", b"MM\0*": ">"}
HEADERS = tuple(_ORDERS)  # how a block begins


def byte_order(header: bytes) -> ByteOrder:
    """The struct prefix of a TIFF header, "<" or ">". Raises BrokenExifError."""
    order = _ORDERS.get(header[:4])
    if order is None or len(header) < 8:
        raise BrokenExifError("no classic TIFF header")
    return order


def _read_directory(read: Reader, order: str, offset: int) -> dict[int, Entry]:
    count_bytes = read(offset, 2)
    if offset < 8 or len(count_bytes) < 2:
        raise BrokenExifError("a directory lies outside the block")
    (count,) = struct.unpack(order + "H", count_bytes)
    raw = read(offset + 2, 12 * count)
    if len(raw) < 12 * count:
        raise BrokenExifError("a directory is cut short")
    entries = [
        Entry(offset + 2 + start, *struct.unpack_from(order + "HHI4s", raw, start))
        for start in range(0, 12 * count, 12)
    ]
    return {entry.tag: entry for entry in reversed(entries)}  # the first counts where a tag comes twice


def _reader(block: bytes | bytearray) -> Reader:
    return lambda offset, size: bytes(block[offset : offset + size])


def file_reader(file: BinaryIO) -> Reader:
    """What reads a number of bytes, or all that there are, at an offset of an open file."""
    whole = file.seek(0, os.SEEK_END)

    def read(offset: int, size: int) -> bytes:
        if offset >= whole:
            return b""
        file.seek(offset)
        return file.read(min(size, whole))

    return read


def main_directory(block: bytes | bytearray) -> dict[int, Entry]:
    """The entries of an EXIF block's first directory by tag. Raises BrokenExifError."""
    order = byte_order(bytes(block[:8]))
    (offset,) = struct.unpack_from(order + "I", block, 4)
    return _read_directory(_reader(block), order, offset)


def _sub_directory(block: bytes | bytearray, pointer: Entry | None) -> dict[int, Entry]:
    if pointer is None:
        return {}
    order = byte_order(bytes(block[:8]))
    (offset,) = struct.unpack(order + "I", pointer.value)
    try:
        return _read_directory(_reader(block), order, offset)
    except BrokenExifError:
        return {}  # its sides cannot be swapped, which is no reason to lose the rest


def orientation_of(block: bytes) -> int:
    """EXIF orientation, 1-8; 1 where the tag is absent or meaningless. Raises BrokenExifError."""
    value = next(iter(_integers_of(block, main_directory(block).get(ORIENTATION))), 1)
    return value if 1 <= value <= 8 else 1


def mark_upright(block: bytes, size: tuple[int, int] | None = None) -> bytes:
    """The block with orientation 1, and the subject's place and the sides turned; only those bytes change.

    size: width and height of the stored picture, where the block lacks them. Raises BrokenExifError.
    """
    orientation = orientation_of(block)
    if orientation == 1:
        return block
    patched = bytearray(block)
    main = main_directory(block)
    entry = main[ORIENTATION]
    struct.pack_into(byte_order(block) + _INTEGER_CODES[entry.type], patched, entry.position + 8, 1)
    exposure = _sub_directory(block, main.get(EXIF_POINTER))
    sides = [_integers_of(block, exposure.get(tag)) for tag in _EXIF_SIDES]
    if all(sides):
        size = (sides[0][0], sides[1][0])
    if size is not None:
        for tag in _SUBJECTS:
            _turn_subject(patched, exposure.get(tag), orientation, size)
    if orientation >= 5:
        _swap_values(patched, main, _SIDES)
        _swap_values(patched, main, (X_RESOLUTION, Y_RESOLUTION))
        _swap_values(patched, exposure, _EXIF_SIDES)
        _swap_values(patched, exposure, _FOCAL_PLANE)
    return bytes(patched)


def _integers_of(block: bytes | bytearray, entry: Entry | None) -> tuple[int, ...]:
    """An entry's values; none where it is absent, of another type, or outside the block."""
    if entry is None or entry.type not in _INTEGER_CODES:
        return ()
    order = byte_order(bytes(block[:8]))
    place = _place_of(order, entry)
    if place + entry.size > len(block):
        return ()
    return struct.unpack_from(f"{order}{entry.length}{_INTEGER_CODES[entry.type]}", block, place)


def _place_of(order: str, entry: Entry) -> int:
    """Where an entry's value begins."""
    return entry.position + 8 if entry.size <= 4 else int(struct.unpack(order + "I", entry.value)[0])


def _turn_subject(block: bytearray, entry: Entry | None, orientation: int, size: tuple[int, int]) -> None:
    """Turns the center of a subject, and the width and height behind it (EXIF 2.32, 4.6.5, SubjectArea)."""
    values = _integers_of(block, entry)
    if entry is None or not 2 <= len(values) <= 4:
        return
    order, code = byte_order(bytes(block[:8])), _INTEGER_CODES[entry.type]
    center = turn_point(values[0], values[1], orientation, size[0] - 1, size[1] - 1)
    sides = values[:1:-1] if orientation >= 5 else values[2:]
    if min(center) >= 0:
        struct.pack_into(f"{order}{len(values)}{code}", block, _place_of(order, entry), *center, *sides)


def without_thumbnail(block: bytes) -> bytes:
    """The block without its second directory, a thumbnail that would show the photo as it was before.

    Only the offset that leads there changes. Raises BrokenExifError.
    """
    order = byte_order(block)
    (offset,) = struct.unpack_from(order + "I", block, 4)
    _read_directory(_reader(block), order, offset)
    (count,) = struct.unpack_from(order + "H", block, offset)
    following = offset + 2 + 12 * count
    patched = bytearray(block)
    patched[following : following + 4] = bytes(len(block[following : following + 4]))
    return bytes(patched)


def software_of(block: bytes) -> str:
    """What stands in the block's Software tag; "" where there is none. Raises BrokenExifError."""
    entry = main_directory(block).get(SOFTWARE)
    if entry is None or entry.type != _ASCII:
        return ""
    start = _place_of(byte_order(block), entry)
    return block[start : start + entry.size].split(b"\0")[0].decode("latin-1").strip()


def with_software(block: bytes | None, note: str) -> bytes:
    """The block with `note` in its Software tag, behind what stands there already ("Camera 1.0; note").

    The main directory moves to the end of the block; everything else stays where it was, maker notes
    with their absolute offsets included. Raises BrokenExifError.
    """
    block = block or _EMPTY
    text = "; ".join(filter(None, (software_of(block), note))).encode("ascii", "replace") + b"\0"
    return _with_values(block, {SOFTWARE: (_ASCII, text)})


def with_resolution(block: bytes | None, dpi: tuple[float, float]) -> bytes:
    """The block with dots per inch, unless it names a resolution already. Raises BrokenExifError."""
    block = block or _EMPTY
    if X_RESOLUTION in main_directory(block):
        return block
    order = byte_order(block)
    across, down = (struct.pack(order + "II", round(value * 1000), 1000) for value in dpi)
    unit = struct.pack(order + "H", _INCH)
    values = {X_RESOLUTION: (_RATIONAL, across), Y_RESOLUTION: (_RATIONAL, down)}
    return _with_values(block, values | {RESOLUTION_UNIT: (_SHORT, unit)})


def _with_values(block: bytes, values: dict[int, tuple[int, bytes]]) -> bytes:
    """The block with values, by tag as type and bytes, in its main directory, which moves to the end."""
    order = byte_order(block)
    content = bytearray(block)
    content += b"\0" * (len(content) % 2)
    heads = {
        known: struct.pack(order + "HHI", known, entry.type, entry.length) + entry.value
        for known, entry in main_directory(block).items()
    }
    for tag, (type, value) in values.items():
        place = struct.pack(order + "I", len(content)) if len(value) > 4 else value.ljust(4, b"\0")
        if len(value) > 4:
            content += value + b"\0" * (len(value) % 2)
        heads[tag] = struct.pack(order + "HHI", tag, type, len(value) // _TYPE_BYTES[type]) + place
    struct.pack_into(order + "I", content, 4, len(content))
    content += struct.pack(order + "H", len(heads)) + b"".join(heads[key] for key in sorted(heads)) + bytes(4)
    return bytes(content)


def _swap_values(block: bytearray, directory: dict[int, Entry], tags: tuple[int, int]) -> None:
    if not all(tag in directory for tag in tags):
        return
    first, second = (slice(directory[tag].position + 2, directory[tag].position + 12) for tag in tags)
    block[first], block[second] = block[second], block[first]


def extract_from_tiff(
    read: Reader, offset: int | None = None, is_inherited: Callable[[int], bool] = lambda _: False
) -> bytes | None:
    """An EXIF block of all that a TIFF's or BigTIFF's page says beside how its samples are stored.

    offset: of the page's directory; the first one by default. `is_inherited` tells which tags are taken from
    the first page where the page itself lacks them. Returns None if nothing is left. Raises
    BrokenExifError for directories that cannot be followed, or that a block of 4 GB could not hold.
    """
    order, layout, entries = _page(read, offset)
    if offset is not None:
        *_, first = _page(read, None)
        entries = {tag: entry for tag, entry in first.items() if is_inherited(tag)} | entries
    kept = {tag: entry for tag, entry in entries.items() if tag not in STRUCTURAL_TAGS}
    if not kept:
        return None
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return start + _copy_directory(read, order, layout, kept, 8)


def tag_bytes(file: BinaryIO, tag: int, offset: int | None = None) -> bytes | None:
    """A tag's value as it stands in a TIFF or BigTIFF, or None. Raises as `extract_from_tiff`."""
    read = file_reader(file)
    order, layout, entries = _page(read, offset)
    entry = entries.get(tag)
    return None if entry is None else _content_of(read, order, layout, entry)


class Value(NamedTuple):
    """A tag's type, and its values as they stand in a file."""

    type: int
    content: bytes


@dataclass(frozen=True)
class Directories:
    """What a TIFF's main, Exif, and GPS directories hold, by tag.

    unread  tags whose values lie outside the file
    """

    order: ByteOrder
    main: dict[int, Value] = field(default_factory=dict)
    exif: dict[int, Value] = field(default_factory=dict)
    gps: dict[int, Value] = field(default_factory=dict)
    unread: frozenset[int] = frozenset()


def read_directories(read: Reader) -> Directories:
    """The first page's directories of a TIFF or BigTIFF. Raises BrokenExifError."""
    order, layout, entries = _page(read, None)
    unread: set[int] = set()

    def values_of(directory: dict[int, Entry]) -> dict[int, Value]:
        found = {}
        for tag, entry in directory.items():
            try:
                found[tag] = Value(entry.type, _content_of(read, order, layout, entry))
            except (BrokenExifError, OverflowError):
                unread.add(tag)
        return found

    def sub_directory(pointer: int) -> dict[int, Value]:
        if pointer not in entries:
            return {}
        try:
            target = layout.offset(order, entries[pointer].value)
            return values_of(_directory_of(read, order, layout, target))
        except (BrokenExifError, struct.error):
            unread.add(pointer)
            return {}

    plain = {tag: entry for tag, entry in entries.items() if tag not in _POINTERS}
    return Directories(
        order, values_of(plain), sub_directory(EXIF_POINTER), sub_directory(GPS_POINTER), frozenset(unread)
    )


def build(directories: Directories) -> bytes:
    """An EXIF block of these directories, which `read_directories` reads back."""
    order, main, position = directories.order, dict(directories.main), 8
    tail = b""
    for pointer, inner in ((EXIF_POINTER, directories.exif), (GPS_POINTER, directories.gps)):
        if inner:
            tail_at = position + len(tail)
            tail += _directory_bytes(order, inner, tail_at)
            main[pointer] = Value(_LONG, struct.pack(order + "I", tail_at))
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", position + len(tail))
    return start + tail + _directory_bytes(order, main, position + len(tail))


def _directory_bytes(order: str, values: dict[int, Value], start: int) -> bytes:
    """A classic directory with its values behind it, laid out to stand at byte `start`, even in length."""
    tail_start = start + 2 + 12 * len(values) + 4
    heads, tail = [], b""
    for tag, (kind, content) in sorted(values.items()):
        place = content.ljust(4, b"\0")
        if len(content) > 4:
            place = struct.pack(order + "I", tail_start + len(tail))
            tail += content + b"\0" * (len(content) % 2)
        heads.append(struct.pack(order + "HHI", tag, kind, len(content) // _TYPE_BYTES[kind]) + place)
    return struct.pack(order + "H", len(heads)) + b"".join(heads) + b"\0\0\0\0" + tail


class _Layout(NamedTuple):
    """How directories are laid out: struct codes of the number of entries, an entry, and an offset."""

    size: str
    entry: str
    pointer: str

    def offset(self, order: str, value: bytes) -> int:
        return int(struct.unpack(order + self.pointer, value[: struct.calcsize(self.pointer)])[0])

    @property
    def inline(self) -> int:
        """Bytes of a value that stand in its entry."""
        return struct.calcsize(self.pointer)


_CLASSIC = _Layout("H", "HHI4s", "I")
_BIG = _Layout("Q", "HHQ8s", "Q")


def _page(read: Reader, offset: int | None) -> "tuple[ByteOrder, _Layout, dict[int, Entry]]":
    """Byte order, layout and entries of a page of a TIFF."""
    header = read(0, 16)
    order: ByteOrder = "<" if header[:2] == b"II" else ">"
    layout = _BIG if header[2:4] in (b"+\0", b"\0+") else _CLASSIC
    if layout is _CLASSIC:
        byte_order(header)
    if offset is None:
        offset = layout.offset(order, header[4:8] if layout is _CLASSIC else header[8:16])
    return order, layout, _directory_of(read, order, layout, offset)


def _directory_of(read: Reader, order: str, layout: _Layout, offset: int) -> dict[int, Entry]:
    if layout is _CLASSIC:
        return _read_directory(read, order, offset)
    try:
        (count,) = struct.unpack(order + layout.size, read(offset, 8))
        raw = read(offset + 8, 20 * min(count, _MOST_ENTRIES))
        entries = [Entry(0, *fields) for fields in struct.iter_unpack(order + layout.entry, raw)]
    except (struct.error, OverflowError) as error:
        raise BrokenExifError("a directory is cut short") from error
    if len(entries) < count:
        raise BrokenExifError("a directory is cut short")
    return {entry.tag: entry for entry in reversed(entries)}


def _copy_directory(
    read: Reader, order: str, layout: _Layout, entries: dict[int, Entry], start: int
) -> bytes:
    """A classic directory plus everything it points at, laid out to stand at byte `start` of a new block."""
    heads: list[bytes] = []
    tail = bytearray()
    tail_start = start + 2 + 12 * len(entries) + 4
    for tag, entry in sorted(entries.items()):
        position = tail_start + len(tail)
        kind, value = entry.type, entry.value[:4]
        if tag in _POINTERS:
            target = layout.offset(order, entry.value)
            inner = _directory_of(read, order, layout, target)
            tail += _copy_directory(read, order, layout, inner, position)
            kind, value = _LONG, struct.pack(order + "I", position)
        elif entry.size > 4:
            tail += _content_of(read, order, layout, entry)
            value = struct.pack(order + "I", position)
        tail += b"\0" * (len(tail) % 2)  # TIFF wants values at even offsets
        heads.append(struct.pack(order + "HHI", tag, kind, entry.length) + value)
    return struct.pack(order + "H", len(heads)) + b"".join(heads) + b"\0\0\0\0" + bytes(tail)


def _content_of(read: Reader, order: str, layout: _Layout, entry: Entry) -> bytes:
    """The bytes of an entry's values, wherever they stand. Raises BrokenExifError."""
    if entry.size <= layout.inline:
        return entry.value[: entry.size]
    content = read(layout.offset(order, entry.value), entry.size)
    if len(content) < entry.size:
        raise BrokenExifError("a value lies outside the file")
    return content
