"""The ISO base media file format of HEIC and AVIF (ISO/IEC 14496-12, 23008-12): color, items, and pixels.

HEIC goes through pillow-heif, an optional dependency. imagecodecs reads and writes AVIF pixels of 10 bits but
no blocks around them; they are added here as items.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import imagecodecs
import numpy as np

from deblur_cli.errors import DecodeError, how_to_install
from deblur_cli.photo.samples import Channels, divide_by_alpha, split_alpha, spread_bits


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


@dataclass(frozen=True)
class PrimaryItem:
    """What a HEIC or AVIF file says of its main picture, before its pixels are decoded.

    size   width and height as stored, None where the file does not tell; bits  per sample
    clap   the part that is shown: left, top, right, bottom in stored pixels; None for all of it
    is_turned  shown turned by 90 degrees
    light  name and content of the properties on the brightness of HDR
    """

    size: tuple[int, int] | None = None
    bits: int = 8
    nclx: Nclx | None = None
    clap: tuple[int, int, int, int] | None = None
    is_turned: bool = False
    light: tuple[tuple[bytes, bytes], ...] = ()


# Mastering display, content light level, content color volume, ambient light
_LIGHT_PROPERTIES = frozenset({b"mdcv", b"clli", b"cclv", b"amve"})


def read_primary(content: bytes) -> PrimaryItem:
    """The main picture's properties (ISO/IEC 23008-12, 6.5). Raises ValueError where they make no sense."""
    size, bits, nclx, clap, is_turned, light = None, 8, None, None, False, []
    for name, value in _properties(content):
        if name == b"ispe":
            size = struct.unpack_from(">II", value, 4)
        elif name == b"av1C":
            bits = (12 if value[2] & 0x20 else 10) if value[2] & 0x40 else 8
        elif name == b"colr" and value[:4] == b"nclx":
            nclx = Nclx(*struct.unpack_from(">3H", value, 4))
        elif name == b"clap" and size is not None:
            clap = _clean_aperture(value, *size)
        elif name == b"irot":
            is_turned = bool(value[0] & 1)
        elif name in _LIGHT_PROPERTIES:
            light.append((name, value))
    return PrimaryItem(size, bits, nclx, clap, is_turned, tuple(light))


def _properties(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each property of the primary item, in order."""
    meta = meta_of(content)
    pitm = next((meta[start:end] for name, start, end in boxes(meta, 4, len(meta)) if name == b"pitm"), None)
    if pitm is None:
        return
    wide = pitm[0] > 0
    yield from properties_of(meta, int.from_bytes(pitm[4 : 8 if wide else 6], "big"))


def properties_of(meta: bytes, item: int) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each property of an item, in order, of the content of a meta box."""
    iprp = next((meta[start:end] for name, start, end in boxes(meta, 4, len(meta)) if name == b"iprp"), b"")
    inner = {name: iprp[start:end] for name, start, end in boxes(iprp, 0, len(iprp))}
    ipco = inner.get(b"ipco", b"")
    known = [(name, ipco[start:end]) for name, start, end in boxes(ipco, 0, len(ipco))]
    for number in _ties(inner.get(b"ipma", bytes(8)), item):
        if 0 < number <= len(known):
            yield known[number - 1]


def _ties(table: bytes, item: int) -> list[int]:
    """The numbers of the properties that are tied to an item, from 1."""
    id_bytes, tie_bytes = (4 if table[0] else 2), (2 if table[3] & 1 else 1)
    (count,) = struct.unpack_from(">I", table, 4)
    position = 8
    for _ in range(count):
        number = int.from_bytes(table[position : position + id_bytes], "big")
        begin = position + id_bytes + 1
        position = begin + table[begin - 1] * tie_bytes
        if number == item:
            essential = 0x8000 if tie_bytes == 2 else 0x80
            ties = [table[start : start + tie_bytes] for start in range(begin, position, tie_bytes)]
            return [int.from_bytes(tie, "big") & ~essential for tie in ties]
    return []


def _clean_aperture(value: bytes, width: int, height: int) -> tuple[int, int, int, int]:
    """The part of the picture that a clap box shows; its center is given from that of the picture."""
    terms = struct.unpack_from(">8i", value)
    if min(terms[1::2]) <= 0:
        raise ValueError("its clean aperture makes no sense")
    shown_width, shown_height, across, down = (
        Fraction(top, bottom) for top, bottom in zip(terms[::2], terms[1::2], strict=True)
    )
    left = Fraction(width - 1, 2) + across - (shown_width - 1) / 2
    top = Fraction(height - 1, 2) + down - (shown_height - 1) / 2
    box = (round(left), round(top), round(left + shown_width), round(top + shown_height))
    if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise ValueError("its clean aperture lies outside the picture")
    return box


C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


class HeicFile:
    """An opened HEIC file, its pixels not yet decoded. Raises DecodeError without pillow-heif."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        try:
            import pillow_heif
        except ImportError as error:
            raise DecodeError(
                f"{path}: is HEIC, which needs pillow-heif; run {how_to_install('heif')}"
            ) from error
        self.path = path
        content = file.read()
        # Values stay as deep as they are coded, so that they can be spread over 16 bits without a gap.
        self.file: Any = pillow_heif.open_heif(content, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        if not len(self.file):
            raise ValueError("there is no picture in it")
        primary = read_primary(content)
        self.nclx, self.light = primary.nclx, primary.light

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture as it is shown."""
        width, height = self.file.size
        return width, height

    @property
    def info(self) -> dict[str, Any]:
        """pillow-heif's findings: exif, xmp, icc_profile and others."""
        info: dict[str, Any] = self.file[self.file.primary_index].info
        return info

    @property
    def bits(self) -> int:
        """Bits per sample."""
        return int(self.info["bit_depth"])

    def read(self) -> Channels:
        """Color and alpha, upright: libheif turns pixels as the file's irot and imir boxes say."""
        array = np.asarray(self.file)
        mode = {"I": "L"}.get(self.file.mode.split(";")[0], self.file.mode.split(";")[0])
        # The first columns: rows may be padded.
        array = np.array(np.atleast_3d(array)[:, : self.file.size[0]])
        if array.dtype == np.uint16:
            spread_bits(array, self.bits)
        if mode not in ("L", "LA", "La", "RGB", "RGBA", "RGBa"):
            raise DecodeError(f"{self.path}: its pixels are of the kind {mode}, which deblur does not read")
        if mode in ("L", "RGB"):
            return Channels(array, None)
        color, alpha = np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1])
        if mode in ("La", "RGBa"):
            divide_by_alpha(color, alpha)
        return Channels(color, alpha)


def read_deep_avif(content: bytes, bits: int) -> Channels:
    """Color and alpha of an AVIF of 10 or 12 bits as stored, spread over 16 bits.

    Raises RuntimeError (imagecodecs' AvifError) for damaged bytes.
    """
    array = np.array(np.atleast_3d(imagecodecs.avif_decode(content)))
    if array.dtype != np.uint16:
        raise ValueError(f"its header promises {bits} bits but its pixels have 8")
    spread_bits(array, bits)
    return split_alpha(array)


_CANON_UUID = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_CANON_BRAND = b"crx "
_CANON_DIRECTORIES = (b"CMT1", b"CMT2", b"CMT3", b"CMT4")
_LARGEST_BOX = 1 << 24  # bytes, of those that are read; larger ones hold pictures


def read_canon(file: BinaryIO) -> dict[str, bytes]:
    """Blocks of a Canon CR3 by name; empty for another file. Leaves the file at its start.

    "xmp" is a packet; "CMT1" to "CMT4" are small TIFFs whose main directories are EXIF's main and Exif
    directories, the maker notes, and GPS (https://github.com/lclevy/canon_cr3).
    """
    found: dict[str, bytes] = {}
    for name, start, end in _top_boxes(file):
        if end - start > _LARGEST_BOX:
            continue
        content = file.read(end - start)
        if name == b"ftyp" and _CANON_BRAND not in content:
            break
        if name == b"moov":
            found |= _canon_blocks(content)
        elif name == b"uuid" and content.startswith(XMP_UUID):
            found["xmp"] = content[16:].rstrip(b"\0")
    file.seek(0)
    return {name: content for name, content in found.items() if content}


def _canon_blocks(moov: bytes) -> dict[str, bytes]:
    return {
        kind.decode(): moov[begin:stop]
        for name, start, end in boxes(moov, 0, len(moov))
        if name == b"uuid" and moov[start : start + 16] == _CANON_UUID
        for kind, begin, stop in boxes(moov, start + 16, end)
        if kind in _CANON_DIRECTORIES
    }


def _top_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """As `boxes`, of a file that begins with ftyp, which stands at the start of each box's content."""
    whole = file.seek(0, os.SEEK_END)
    position = 0
    while position + 8 <= whole:
        file.seek(position)
        head = file.read(16)
        size, name = struct.unpack_from(">I4s", head)
        length = 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            length = 16
        size = size or whole - position
        if size < length or position + size > whole or (position == 0 and name != b"ftyp"):
            return
        file.seek(position + length)
        yield name, position + length, position + size
        position += size


def without_exif(content: bytes) -> bytes:
    """The file with its EXIF items renamed, so that readers pass them over."""
    meta = meta_of(content)
    start = content.find(meta)
    return content[:start] + meta.replace(b"Exif", b"free") + content[start + len(meta) :]


def meta_of(content: bytes) -> bytes:
    """The content of the meta box, empty without one."""
    return next(
        (content[start:end] for name, start, end in boxes(content, 0, len(content)) if name == b"meta"), b""
    )


def boxes(content: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
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


def with_items(
    content: bytes,
    *,
    exif: bytes | None,
    xmp: bytes | None,
    icc: bytes | None,
    light: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """An AVIF of libavif with EXIF (from its TIFF header on), XMP, an ICC profile, and HDR brightness added.

    light: name and content of properties
    Raises ValueError where the file is not laid out as libavif does it.
    """
    items = []
    if exif:
        items.append((b"Exif\0", b"\0\0\0\0" + exif))  # its TIFF header begins 0 bytes further on
    if xmp:
        items.append((b"mime\0application/rdf+xml\0", xmp))
    properties = [*([_box(b"colr", b"prof", icc)] if icc else []), *(_box(*entry) for entry in light)]
    if not items and not properties:
        return content
    top = {name: (start, end) for name, start, end in boxes(content, 0, len(content))}
    if not {b"meta", b"mdat"} <= set(top) or top[b"meta"][0] > top[b"mdat"][0]:
        raise ValueError("the AVIF encoder gave a file of an unknown layout")
    start, end = top[b"meta"]
    parts = {name: content[first:last] for name, first, last in boxes(content, start + 4, end)}
    parts.setdefault(b"iref", b"\0\0\0\0")
    primary = int.from_bytes(parts[b"pitm"][4:6], "big")
    ids = [_highest_id(parts[b"iinf"]) + 1 + number for number in range(len(items))]
    parts[b"iinf"] = _more_infos(parts[b"iinf"], ids, [kind for kind, _ in items])
    for number in ids:
        parts[b"iref"] += _box(b"cdsc", struct.pack(">HHH", number, 1, primary))
    for box in properties:
        parts[b"iprp"] = _more_properties(parts[b"iprp"], primary, box)
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
    entries = [infos[start:end] for _, start, end in boxes(infos, 6, len(infos))]
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
    parts = {name: container[start:end] for name, start, end in boxes(container, 0, len(container))}
    index = len(list(boxes(parts[b"ipco"], 0, len(parts[b"ipco"])))) + 1
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
