"""TIFF written by hand, so that EXIF directories and maker notes survive byte for byte.

An EXIF block is a small TIFF file without a picture. The written file is that very block with the
picture and a new main directory behind it, so all offsets inside the block stay true.
"""

import struct
import zlib
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from deblur_cli.photo import exif
from deblur_cli.photo.photo import Metadata

_STRIP_BYTES = 1 << 20
_OFFSET_LIMIT = 1 << 32  # classic TIFF counts bytes in 32 bits
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 3, 4, 5, 7
_CODES = {_SHORT: "H", _LONG: "I"}
_GREY, _RGB, _CMYK = 1, 2, 5  # PhotometricInterpretation
_DEFLATE, _DIFFERENCES = 8, 2  # Compression, Predictor

# Tag -> type, number of values, value as bytes
_Fields = dict[int, tuple[int, int, bytes]]


class TooLargeForTiffError(ValueError):
    """The file would pass 4 GiB."""


def write_tiff(array: NDArray[np.uint8], metadata: Metadata, *, cmyk: bool, alpha: bool) -> bytes:
    """A deflated TIFF of H W C samples: grey, RGB or CMYK, with unassociated alpha last if `alpha`.

    Raises TooLargeForTiffError past 4 GiB, exif.BrokenExifError for an EXIF block without sense.
    """
    block = metadata.exif or b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    order = exif.byte_order(block)
    content = bytearray(block)
    rows = max(1, _STRIP_BYTES // (array.shape[1] * array.shape[2]))
    offsets, sizes = [], []
    for start in range(0, array.shape[0], rows):
        strip = _compress(array[start : start + rows])
        offsets.append(_append(content, strip))
        sizes.append(len(strip))
    fields = _inherited(block) | _metadata_fields(order, metadata)
    fields |= _picture_fields(order, array, rows, cmyk=cmyk, alpha=alpha)
    fields |= {273: _numbers(order, _LONG, *offsets), 279: _numbers(order, _LONG, *sizes)}
    struct.pack_into(order + "I", content, 4, _append_directory(content, order, fields))
    return bytes(content)


def _compress(strip: NDArray[np.uint8]) -> bytes:
    """Deflated differences to the left neighbour, modulo 256 (predictor 2)."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return zlib.compress(differences.tobytes(), 6)


def _append(content: bytearray, data: bytes) -> int:
    """Adds `data` at an even offset, which is returned."""
    content += b"\0" * (len(content) % 2)
    offset = len(content)
    if offset + len(data) >= _OFFSET_LIMIT:
        raise TooLargeForTiffError("the file would pass 4 GiB")
    content += data
    return offset


def _numbers(order: str, kind: int, *values: int) -> tuple[int, int, bytes]:
    return kind, len(values), struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)


def _inherited(block: bytes) -> _Fields:
    """The EXIF block's main entries, whose longer values stay where they are in the block."""
    return {
        tag: (entry.type, entry.length, entry.value)
        for tag, entry in exif.main_directory(block).items()
        if tag not in exif.STRUCTURAL_TAGS
    }


def _metadata_fields(order: str, metadata: Metadata) -> _Fields:
    fields: _Fields = {}
    if metadata.dpi is not None:
        for tag, dpi in zip((282, 283), metadata.dpi, strict=True):
            ratio = Fraction(dpi).limit_denominator(10_000)
            fields[tag] = (_RATIONAL, 1, struct.pack(order + "2I", ratio.numerator, ratio.denominator))
        fields[296] = _numbers(order, _SHORT, 2)  # per inch
    blobs = {
        700: (_BYTE, metadata.xmp),
        34377: (_BYTE, metadata.photoshop),
        34675: (_UNDEFINED, metadata.icc),
    }
    for tag, (kind, blob) in blobs.items():
        if blob:
            fields[tag] = (kind, len(blob), blob)
    return fields


def _picture_fields(order: str, array: NDArray[np.uint8], rows: int, *, cmyk: bool, alpha: bool) -> _Fields:
    height, width, samples = array.shape
    photometric = _CMYK if cmyk else _GREY if samples - alpha == 1 else _RGB
    fields = {
        256: _numbers(order, _LONG, width),
        257: _numbers(order, _LONG, height),
        258: _numbers(order, _SHORT, *([8] * samples)),
        259: _numbers(order, _SHORT, _DEFLATE),
        262: _numbers(order, _SHORT, photometric),
        277: _numbers(order, _SHORT, samples),
        278: _numbers(order, _LONG, rows),
        284: _numbers(order, _SHORT, 1),  # samples of a pixel side by side
        317: _numbers(order, _SHORT, _DIFFERENCES),
    }
    if alpha:
        fields[338] = _numbers(order, _SHORT, 2)  # not multiplied into the colours
    return fields


def _append_directory(content: bytearray, order: str, fields: _Fields) -> int:
    """Adds the directory with the values that do not fit into it, and returns its offset."""
    entries = []
    for tag, (kind, length, value) in sorted(fields.items()):
        inline = value.ljust(4, b"\0")
        if len(value) > 4:
            inline = struct.pack(order + "I", _append(content, value))
        entries.append(struct.pack(order + "HHI", tag, kind, length) + inline)
    return _append(content, struct.pack(order + "H", len(entries)) + b"".join(entries) + b"\0\0\0\0")
