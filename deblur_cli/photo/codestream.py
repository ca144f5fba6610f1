"""JPEG XL, JPEG 2000 and rare JPEG, whose pixels imagecodecs decodes but does not describe.

Their headers give size and depth before any pixel is decoded; the boxes around the codestream hold metadata.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np

from deblur_cli.errors import DecodeError, how_to_install
from deblur_cli.photo import exif
from deblur_cli.photo.bmff import XMP_UUID, boxes
from deblur_cli.photo.guards import UnreadKindError
from deblur_cli.photo.items import unread_boxes
from deblur_cli.photo.samples import Channels, split_alpha, spread_bits

JXL_SIGNATURES = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
JP2_SIGNATURES = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")

_UUIDS = {
    b"JpgTiffExif->JP2": "exif",
    XMP_UUID: "xmp",
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "iptc",
}
# Boxes that hold the picture, say how it is stored, or are read elsewhere
_JXL_BOXES = frozenset({b"JXL ", b"ftyp", b"jxll", b"jxlc", b"jxlp", b"jxli", b"jbrd", b"Exif", b"xml "})
_JP2_BOXES = frozenset({b"jP  ", b"ftyp", b"rreq", b"jp2h", b"jp2c", b"uuid", b"free"})
_ICC_METHODS = (2, 3)  # of a colr box: restricted and any ICC profile
_SYCC = 18
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame, apart from tables and an extension
_JPEG_LS = 0xF7
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_ARITHMETIC = (0xC9, 0xCA)
_UNREAD_FRAMES = {
    _JPEG_LS: "a JPEG-LS picture",
    **dict.fromkeys(_ARITHMETIC, "an arithmetic-coded JPEG of 12 bits"),
    0xCB: "an arithmetic-coded lossless JPEG",
}


@dataclass(frozen=True)
class Codestream:
    """Width and height as shown, bits per sample, and blocks of metadata by name: exif, xmp, icc, iptc.

    left_out: what else the file holds, as phrases
    """

    width: int
    height: int
    bits: int
    blocks: dict[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read_jxl(content: bytes) -> Codestream:
    """A JPEG XL's header (ISO/IEC 18181-1, D.1 to D.3) and boxes (18181-2). The profile is not in them.

    Raises UnreadKindError for animations, and ValueError for what cannot be followed.
    """
    blocks: dict[str, bytes] = {}
    stream = content
    lost: tuple[str, ...] = ()
    if not content.startswith(JXL_SIGNATURES[0]):
        parts = list(_jxl_boxes(content))
        stream = b"".join(data for name, data in parts if name in (b"jxlc", b"jxlp"))
        lost = unread_boxes(content, _JXL_BOXES)
        for name, data in parts:
            if name == b"Exif":
                lost += _keep(blocks, "exif", _without_offset(data))
            elif name == b"xml ":
                lost += _keep(blocks, "xmp", data)
    if not stream.startswith(JXL_SIGNATURES[0]):
        raise ValueError("there is no codestream in it")
    bits = _Bits(stream[2:])
    width, height = _jxl_size(bits)
    depth, turned = _jxl_depth(bits)
    return Codestream(*((height, width) if turned else (width, height)), depth, blocks, lost)


def _without_offset(data: bytes) -> bytes:
    """EXIF from its TIFF header on; some programs leave out the offset before it."""
    return data if data.startswith(exif.HEADERS) else data[4 + int.from_bytes(data[:4], "big") :]


def _keep(blocks: dict[str, bytes], name: str, data: bytes) -> tuple[str, ...]:
    """Puts a block among the others, or names it if there is such a block already."""
    return () if blocks.setdefault(name, data) is data else (f"a further {name.upper()} block",)


def _jxl_boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    for name, start, end in boxes(content, 0, len(content)):
        data = content[start:end]
        if name == b"brob":
            yield data[:4], bytes(imagecodecs.brotli_decode(data[4:]))
        else:
            yield name, data[4:] if name == b"jxlp" else data


class _Bits:
    """Reads fields of JPEG XL, least significant bit first. Raises ValueError at the end."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content[:256], "little"), 8 * len(content[:256])

    def u(self, count: int) -> int:
        if count > self._left:
            raise ValueError("its header is cut short")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def u32(self, *choices: tuple[int, int]) -> int:
        """One of four (least value, number of bits)."""
        least, count = choices[self.u(2)]
        return least + self.u(count)


_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIDES = ((1, 9), (1, 13), (1, 18), (1, 30))


def _jxl_size(bits: _Bits) -> tuple[int, int]:
    small = bits.u(1)
    height = 8 * (1 + bits.u(5)) if small else bits.u32(*_SIDES)
    ratio = bits.u(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return (8 * (1 + bits.u(5)) if small else bits.u32(*_SIDES)), height


def _jxl_depth(bits: _Bits) -> tuple[int, bool]:
    """Bits per sample, and whether the picture is shown turned by 90 degrees."""
    if bits.u(1):  # everything is as usual
        return 8, False
    turned = False
    if bits.u(1):
        turned = bits.u(3) >= 4
        if bits.u(1):
            _jxl_size(bits)  # as which it wants to be shown
        if bits.u(1):
            raise UnreadKindError("a JPEG XL with a preview")
        if bits.u(1):
            raise UnreadKindError("an animated JPEG XL")
    if bits.u(1):
        return 32, turned  # floating point
    return bits.u32((8, 0), (10, 0), (12, 0), (1, 6)), turned


def read_jp2(content: bytes) -> Codestream:
    """A JPEG 2000's header (ISO/IEC 15444-1, A.5.1) and boxes (annex I). Raises as `read_jxl`."""
    blocks: dict[str, bytes] = {}
    lost: tuple[str, ...] = ()
    if not content.startswith(JP2_SIGNATURES[0]):
        lost = unread_boxes(content, _JP2_BOXES)
        for name, start, end in boxes(content, 0, len(content)):
            if name == b"uuid":
                kind, data = content[start : start + 16], content[start + 16 : end]
                known = _UUIDS.get(kind)
                lost += (f"its box {name.decode()}",) if known is None else _keep(blocks, known, data)
            elif name == b"jp2h":
                blocks |= _of_color(content, start, end)
    start = content.find(JP2_SIGNATURES[0])
    if start < 0:
        raise ValueError("there is no codestream in it")
    right, bottom, left, top = struct.unpack_from(">4I", content, start + 8)
    bits = (content[start + 42] & 0x7F) + 1
    return Codestream(right - left, bottom - top, bits, blocks, tuple(dict.fromkeys(lost)))


def _of_color(content: bytes, start: int, end: int) -> dict[str, bytes]:
    for name, first, last in boxes(content, start, end):
        if name == b"colr" and content[first] in _ICC_METHODS:
            return {"icc": content[first + 3 : last]}
        if name == b"colr" and content[first] == 1 and content[first + 3 : last] == struct.pack(">I", _SYCC):
            raise UnreadKindError("a JPEG 2000 with colors stored as YCC")
    return {}


def rare_jpeg_frame(file: BinaryIO) -> Codestream | None:
    """The header of a JPEG's frame if it is of a kind that Pillow does not read: lossless or 12 bits.

    None for any other JPEG, also one that cannot be followed. Raises UnreadKindError for JPEG-LS and kinds
    that nothing reads. `file` is left at its start.
    """
    try:
        return _rare_frame(file)
    finally:
        file.seek(0)


def _rare_frame(file: BinaryIO) -> Codestream | None:
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        if head[1] == 0xFF:  # fill byte
            file.seek(-3, 1)
            continue
        size = int.from_bytes(head[2:], "big")
        if head[1] == 0xDA:
            return None
        if head[1] not in _FRAMES and head[1] != _JPEG_LS:
            file.seek(size - 2, 1)
            continue
        frame = file.read(5)
        if len(frame) < 5:
            return None
        bits, height, width = struct.unpack(">BHH", frame)
        if head[1] == _BASELINE or (head[1] in (_EXTENDED, _PROGRESSIVE, *_ARITHMETIC) and bits == 8):
            return None
        if head[1] not in (_EXTENDED, _PROGRESSIVE, 0xC3):
            raise UnreadKindError(_UNREAD_FRAMES.get(head[1], "a hierarchical JPEG"))
        return Codestream(width, height, bits)
    return None


def read_pixels(path: Path, content: bytes, format: str, bits: int) -> Channels:
    """Color and alpha of a JPEG XL ("JXL"), upright, a JPEG 2000 ("JP2") or a rare JPEG ("LJPEG").

    8 bits per sample stay 8, more are spread over 16. Raises RuntimeError (imagecodecs' errors) for damage,
    DecodeError for samples that are not read.
    """
    decoders: dict[str, Callable[..., Any]] = {
        "JXL": imagecodecs.jpegxl_decode,
        "JP2": lambda content: imagecodecs.jpeg2k_decode(content[: _jp2_end(content)]),
        "LJPEG": imagecodecs.jpeg8_decode,
    }
    array = np.array(np.atleast_3d(decoders[format](content)))
    if array.ndim != 3 or array.shape[2] > 4 or array.dtype not in (np.uint8, np.uint16):
        raise DecodeError(f"{path}: its {array.dtype} samples are not read by deblur; save it as TIFF first")
    if array.dtype == np.uint16 and bits < 16:
        spread_bits(array, bits)
    return split_alpha(array)


def _jp2_end(content: bytes) -> int:
    """Where the codestream ends: decoders stumble over another file behind it."""
    ends = (end for name, _, end in boxes(content, 0, len(content)) if name == b"jp2c")
    return next(ends, len(content))


def jxl_profile(path: Path, content: bytes) -> bytes:
    """The ICC profile of a JPEG XL as it is decoded. Raises DecodeError without pillow-jxl-plugin."""
    try:
        from pillow_jxl import Decoder
    except ImportError as error:
        raise DecodeError(
            f"{path}: is JPEG XL, which needs pillow-jxl-plugin; run {how_to_install('jxl')}"
        ) from error
    _, _, _, profile, _ = Decoder(num_threads=-1)(content)
    return bytes(profile or b"")
