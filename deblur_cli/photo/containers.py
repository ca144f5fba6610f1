"""What stands around the pixels of WebP, GIF, and BMP, which Pillow reads in part; and behind any picture."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from deblur_cli.photo.jpeg_trailer import read_trailer
from deblur_cli.photo.photo import CREDENTIALS


class Around(NamedTuple):
    """Blocks by the names that Pillow has for them, and what no result carries, as phrases."""

    info: dict[str, bytes]
    left_out: tuple[str, ...] = ()


def named_behind(data: bytes, start: int) -> tuple[str, ...]:
    """Phrases for all that stands from `start` on, behind a picture; zeros count as nothing."""
    trailer, names = read_trailer(data, start, {}, (), turned=False)
    return (*names, "what other programs keep behind the picture") if trailer else names


_WEBP_PARTS = frozenset({b"VP8X", b"VP8L", b"VP8 ", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_BLOCKS = {b"EXIF": "exif", b"XMP ": "xmp"}


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start, and end of each chunk of a WebP (its container specification), as far as they go."""
    position, end = 12, min(8 + int.from_bytes(data[4:8], "little"), len(data))
    while position + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, position)
        yield name, position + 8, min(position + 8 + size, end)
        position += 8 + size + size % 2


def _read_webp(data: bytes) -> Around:
    """Blocks that the header does not announce are read, too; but a profile would change the colors."""
    info: dict[str, bytes] = {}
    left_out: list[str] = []
    has_profile = data[12:16] == b"VP8X" and bool(data[20:21] and data[20] & 0x20)
    for name, start, end in webp_chunks(data):
        block = _WEBP_BLOCKS.get(name)
        if name == b"ICCP" and not has_profile:
            left_out.append("its color profile, which its header does not announce")
        elif block is not None and block in info:
            left_out.append(f"a further {block.upper()} block")
        elif block is not None:
            info[block] = data[start:end]
        elif name not in _WEBP_PARTS and name != b"ICCP":
            left_out.append(CREDENTIALS if name == b"C2PA" else f"its chunk {printable(name)}")
    return Around(info, (*left_out, *named_behind(data, 8 + int.from_bytes(data[4:8], "little"))))


def printable(name: bytes) -> str:
    """A name of four characters as a line can show it."""
    text = name.decode("latin-1").strip()
    return text if text.isascii() and text.isprintable() else f"0x{name.hex()}"


_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B
_GIF_CONTROL, _GIF_COMMENT, _GIF_APPLICATION = 0xF9, 0xFE, 0xFF
_GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_GIF_XMP, _GIF_ICC = b"XMP DataXMP", b"ICCRGBG1012"
_XMP_TAIL = 258  # bytes behind XMP that lead readers of blocks to its end (XMP specification, part 3, 1.1.2)


def _read_gif(data: bytes) -> Around:
    """The extensions of a GIF (GIF89a, 23 to 26)."""
    info: dict[str, bytes] = {}
    left_out: list[str] = []
    position = 13 + _color_table(data, 10)
    while position + 1 < len(data) and data[position] != _GIF_END:
        if data[position] == _GIF_IMAGE:
            position = _blocks_end(data, position + 11 + _color_table(data, position + 9))
            continue
        if data[position] != _GIF_EXTENSION:
            return Around(info, tuple(left_out))  # damaged
        label, start = data[position + 1], position + 2
        position = _blocks_end(data, start)
        content, name = _joined(data, start), data[start + 1 : start + 12]
        if label == _GIF_COMMENT:
            info["comment"] = b"\n".join(filter(None, (info.get("comment"), content)))
        elif label == _GIF_APPLICATION and name == _GIF_XMP:
            whole = data[start + 12 : position]
            info["xmp"] = whole[:-_XMP_TAIL] if whole[-_XMP_TAIL:][:2] == b"\1\xff" else content[11:]
        elif label == _GIF_APPLICATION and name == _GIF_ICC:
            info["icc_profile"] = content[11:]
        elif label == _GIF_APPLICATION and name not in _GIF_LOOPS:
            left_out.append(f"its extension {printable(name)}")
        elif label not in (_GIF_APPLICATION, _GIF_CONTROL):
            left_out.append("its plain text" if label == 1 else f"its extension {label}")
    return Around(info, (*left_out, *named_behind(data, position + 1)))


def _color_table(data: bytes, flags_at: int) -> int:
    """Bytes of the color table that a flag announces."""
    flags = int.from_bytes(data[flags_at : flags_at + 1], "big")
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(data: bytes, position: int) -> int:
    while position < len(data) and data[position]:
        position += data[position] + 1
    return position + 1


def _joined(data: bytes, position: int) -> bytes:
    parts = []
    while position < len(data) and (size := data[position]):
        parts.append(data[position + 1 : position + 1 + size])
        position += size + 1
    return b"".join(parts)


_V5_BYTES = 124
_EMBEDDED, _LINKED = b"DEBM", b"KNIL"  # kinds of profile, little-endian


def _read_bmp(data: bytes) -> Around:
    """The profile of a BITMAPV5HEADER, and what stands behind pixels and profile."""
    whole, pixels_at, head = struct.unpack_from("<I4xII", data, 2)
    end = max(whole, pixels_at) if whole or head >= 40 else len(data)  # where nothing tells
    if head >= 40 and len(data) >= 54:
        width, height, _, bits, _, size = struct.unpack_from("<iiHHII", data, 18)
        rows = (width * bits + 31) // 32 * 4 * abs(height)
        end = max(end, pixels_at + (size or rows))
    if head < _V5_BYTES or len(data) < 14 + _V5_BYTES:
        return Around({}, named_behind(data, end))
    start, size = struct.unpack_from("<II", data, 14 + 112)
    profile = data[14 + start : 14 + start + size]
    end = max(end, 14 + start + size)
    kind = data[14 + 56 : 14 + 60]
    lost = ("its color profile, which is a file of its own",) if kind == _LINKED else ()
    info = {"icc_profile": profile} if kind == _EMBEDDED and profile else {}
    return Around(info, (*lost, *named_behind(data, end)))


READERS: dict[str, Callable[[bytes], Around]] = {"WEBP": _read_webp, "GIF": _read_gif, "BMP": _read_bmp}
