"""PNG's chunks, apart from the pixels; and pixels of 16 bits, which Pillow does not read."""

import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from deblur_cli.photo.samples import Channels, Deep, key_alpha, split_alpha

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
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_LONGEST_TEXT = 1 << 26  # bytes, unpacked
# Content in bytes of the chunks that programs refuse where it is shorter
_LEAST_BYTES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"pHYs": 9, b"mDCV": 24, b"cLLI": 8}
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
        if wanted(name):
            content = file.read(size)
            file.seek(4, 1)  # checksum
            if len(content) == size:
                yield name, content
        else:
            file.seek(size + 4, 1)
        if name == b"IEND":
            return


def behind(file: BinaryIO) -> bytes:
    """What stands behind the last chunk of an open PNG."""
    for _ in read_chunks(file, lambda _: False):
        pass
    return file.read()


def is_too_short(chunk: Chunk) -> bool:
    """Whether a chunk lacks a part of its values."""
    name, content = chunk
    return len(content) < _LEAST_BYTES.get(name, 0)


def keyword_of(chunk: Chunk) -> bytes:
    """The keyword of a text, such as b"Comment"; empty for a chunk that is no text."""
    name, content = chunk
    return content.partition(b"\0")[0] if name in _TEXTS else b""


def unpacked(chunk: Chunk) -> bytes:
    """The text of a tEXt, zTXt, or iTXt chunk, or the profile of iCCP.

    Raises ValueError for a chunk that breaks its own form, or holds more than 64 MB.
    """
    name, content = chunk
    _, _, rest = content.partition(b"\0")
    if name == b"tEXt":
        return rest
    if name == b"iTXt":
        flag, method = rest[:1], rest[1:2]
        _language, _translated, rest = rest[2:].split(b"\0", 2)
        if flag == b"\0":
            return rest
    else:
        method, rest = rest[:1], rest[1:]
    if method != b"\0":
        raise ValueError("packed in an unknown way")
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(rest, _LONGEST_TEXT)
    except zlib.error as error:
        raise ValueError("it cannot be unpacked") from error
    if not unpacker.eof:
        raise ValueError("cut short" if len(text) < _LONGEST_TEXT else "more than 64 MB")
    return text


def picture(file: BinaryIO) -> BinaryIO:
    """The same PNG with the chunks of its picture as they are, and no others but EXIF and resolution.

    Pillow refuses a PNG for a text that is too long or a chunk that is too short.
    """
    whole = file.seek(0, io.SEEK_END)
    file.seek(len(SIGNATURE))
    kept = [SIGNATURE]
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        content = file.read(min(size + 4, whole))  # with the checksum
        if name in _PIXEL_CHUNKS - _STILL_TRUE:
            kept.append(head + content)
        elif _is_for_pillow((name, content[:size])):
            kept.append(_packed((name, content[:size])))
    return io.BytesIO(b"".join(kept))


def without_pixels(file: BinaryIO) -> bytes:
    """As `picture`, with one gray pixel."""
    pixel = (b"IDAT", zlib.compress(b"\0\0"))
    around = filter(_is_for_pillow, read_chunks(file))
    chunks = [(b"IHDR", _ONE_PIXEL), *around, pixel, (b"IEND", b"")]
    return SIGNATURE + b"".join(map(_packed, chunks))


def _is_for_pillow(chunk: Chunk) -> bool:
    return chunk[0] in (b"eXIf", b"pHYs") and not is_too_short(chunk)


def with_chunks_of(content: bytes | bytearray, other: bytes | bytearray) -> list[bytes | bytearray]:
    """A PNG with the chunks of another put between its header and its pixels, in parts to be written.

    `other` is small; only its chunks that do not hold pixels count.
    """
    header_end = len(SIGNATURE) + 12 + 13  # IHDR with length, name and checksum
    position, extra = len(SIGNATURE), []
    while position + 8 <= len(other):
        size, name = struct.unpack_from(">I4s", other, position)
        if name not in _PIXEL_CHUNKS - _STILL_TRUE:
            extra.append(other[position : position + size + 12])
        position += size + 12
    return [content[:header_end], *extra, memoryview(content)[header_end:].tobytes()]


def with_chunks(content: bytes | bytearray, chunks: Iterable[Chunk]) -> list[bytes | bytearray]:
    """A PNG with chunks put behind its header, in parts to be written; Pillow writes only those it knows."""
    header_end = len(SIGNATURE) + 12 + 13
    return [content[:header_end], *map(_packed, chunks), memoryview(content)[header_end:].tobytes()]


def _packed(chunk: Chunk) -> bytes:
    name, content = chunk
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def read_deep(content: bytes) -> Channels:
    """Color and alpha of a 16-bit PNG, H W C and H W uint16, as stored, a transparent color as alpha.

    Raises RuntimeError (imagecodecs' PngError) for damaged bytes.
    """
    array = np.atleast_3d(imagecodecs.png_decode(content))  # H W -> H W 1
    if array.dtype != np.uint16:
        raise ValueError("its header promises 16 bits but its pixels have 8")
    color, alpha, *_ = split_alpha(array)
    return Channels(color, _transparent_color(content, color) if alpha is None else alpha)


def _transparent_color(content: bytes, color: Deep) -> NDArray[np.uint16] | None:
    """Alpha of a 16-bit PNG that declares one color transparent (tRNS), or None without it."""
    start = content.find(b"tRNS", 0, max(0, content.find(b"IDAT")))
    if start < 0:
        return None
    (size,) = struct.unpack_from(">I", content, start - 4)
    channels = color.shape[2]
    if size != 2 * channels:
        return None
    key = struct.unpack_from(f">{channels}H", content, start + 4)
    return key_alpha(color, key)
