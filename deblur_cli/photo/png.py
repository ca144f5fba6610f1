"""PNG's chunks: those around the pixels, apart from the pixels."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]  # name, content

# Bound to how the pixels are stored: sides, palette, pixels, transparent color, animation.
_PIXEL_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"hIST", b"sBIT", b"bKGD", b"acTL", b"fcTL", b"fdAT"}
)
_ONE_PIXEL = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)  # 1 x 1, 8 bits, gray


def read_chunks(file: BinaryIO, names: Iterable[bytes] | None = None) -> Iterator[Chunk]:
    """The complete chunks of an open PNG in order, by default those that do not hold pixels."""
    wanted = None if names is None else frozenset(names)
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name in _PIXEL_CHUNKS if wanted is None else name not in wanted:
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
