"""PNG's chunks: those around the pixels, apart from the pixels."""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]  # name, content

# Bound to how the pixels are stored: sides, palette, pixels, transparent color, animation.
_PIXEL_CHUNKS = frozenset(
    {
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"hIST",
        b"sBIT",
        b"bKGD",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"iDOT",
    }
)
# Read and written as blocks of metadata of their own
_BLOCKS = frozenset({b"eXIf", b"iCCP", b"pHYs"})
# What a change of pixels leaves true, though a writer who did not know the chunk would drop it. sBIT and
# bKGD hold as long as the kind of samples does.
_STILL_TRUE = frozenset(
    {b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"mDCv", b"cLLi", b"sBIT", b"bKGD"}
)
_ONE_PIXEL = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)  # 1 x 1, 8 bits, gray


def is_carried(name: bytes) -> bool:
    """Whether a chunk is neither one of the picture's own nor a block of metadata that is read elsewhere."""
    own = _PIXEL_CHUNKS - _STILL_TRUE
    return name not in own and name not in _BLOCKS


def is_kept(name: bytes) -> bool:
    """Whether a chunk holds for a picture with other pixels (PNG specification, 5.4 and 14.2)."""
    return name in _STILL_TRUE or bool(name[3] & 0x20)


def holds_no_pixels(name: bytes) -> bool:
    """Whether a chunk says nothing of how pixels are stored."""
    return name not in _PIXEL_CHUNKS


def read_chunks(file: BinaryIO, wanted: Callable[[bytes], bool] = holds_no_pixels) -> Iterator[Chunk]:
    """The complete chunks of an open PNG in order, as far as they are wanted."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if not wanted(name):
            file.seek(size + 4, 1)  # content and checksum
            continue
        content = file.read(size)
        file.seek(4, 1)
        if len(content) == size:
            yield name, content


def without_pixels(file: BinaryIO) -> bytes:
    """The same PNG with one gray pixel for its picture, to read all other chunks with any reader."""
    pixel = (b"IDAT", zlib.compress(b"\0\0"))
    chunks = [(b"IHDR", _ONE_PIXEL), *read_chunks(file), pixel, (b"IEND", b"")]
    return SIGNATURE + b"".join(map(_packed, chunks))


def with_chunks_of(content: bytes | bytearray, other: bytes | bytearray) -> list[bytes | bytearray]:
    """A PNG with the chunks of another put between its header and its pixels, in parts to be written.

    `other` is small; only its chunks that do not hold pixels count.
    """
    header_end = len(SIGNATURE) + 12 + 13  # IHDR with length, name and checksum
    position, extra = len(SIGNATURE), []
    while position + 8 <= len(other):
        size, name = struct.unpack_from(">I4s", other, position)
        if name not in _PIXEL_CHUNKS:
            extra.append(other[position : position + size + 12])
        position += size + 12
    return [content[:header_end], *extra, memoryview(content)[header_end:].tobytes()]


def _packed(chunk: Chunk) -> bytes:
    name, content = chunk
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
