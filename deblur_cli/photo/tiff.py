"""TIFF written by hand, so that EXIF directories and maker notes survive byte for byte.

An EXIF block is a small TIFF file without a picture. The written file is that very block with the
picture and a new main directory behind it, so all offsets inside the block stay true. tifffile, which
reads TIFF for us, lays out its own file and has no way to keep directories where they are.
"""

import struct
from fractions import Fraction
from typing import BinaryIO

import imagecodecs

from deblur_cli.photo import exif
from deblur_cli.photo.exif import ByteOrder
from deblur_cli.photo.metadata import holds_more_than_iptc, iptc_of
from deblur_cli.photo.photo import Metadata
from deblur_cli.photo.samples import Samples

_STRIP_BYTES = 1 << 20
_OFFSET_LIMIT = 1 << 32  # classic TIFF counts bytes in 32 bits
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 3, 4, 5, 7
_CODES = {_SHORT: "H", _LONG: "I"}
_GRAY, _RGB, _CMYK = 1, 2, 5  # PhotometricInterpretation
_DEFLATE, _DIFFERENCES = 8, 2  # Compression, Predictor

UNASSOCIATED_ALPHA = 2  # of ExtraSamples: not multiplied into the colors

# Tag -> type, number of values, value as bytes
_Fields = dict[int, tuple[int, int, bytes]]


class TooLargeForTiffError(ValueError):
    """The file would pass 4 GiB."""


def write_tiff(
    file: BinaryIO, array: Samples, metadata: Metadata, *, cmyk: bool, extra: tuple[int, ...]
) -> None:
    """A deflated TIFF of H W C samples: gray, RGB or CMYK, and extra channels with these ExtraSamples codes.

    `file` is empty and is written strip by strip, so that the whole file is never in memory.
    Raises TooLargeForTiffError past 4 GiB, exif.BrokenExifError for an EXIF block without sense.
    """
    block = metadata.exif or b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    order = exif.byte_order(block)
    fields = _inherited(block) | _metadata_fields(order, metadata)
    file.write(block)
    rows = max(1, _STRIP_BYTES // (array.shape[1] * array.shape[2] * array.itemsize))
    offsets, sizes = [], []
    for start in range(0, array.shape[0], rows):
        strip = _compress(array[start : start + rows], order)
        offsets.append(_append(file, strip))
        sizes.append(len(strip))
    fields |= _picture_fields(order, array, rows, cmyk=cmyk, extra=extra)
    fields |= {273: _numbers(order, _LONG, *offsets), 279: _numbers(order, _LONG, *sizes)}
    directory = _append_directory(file, order, fields)
    file.seek(4)
    file.write(struct.pack(order + "I", directory))


def _compress(strip: Samples, order: ByteOrder) -> bytes:
    """Deflated differences to the left neighbor, modulo 256 or 65536 (predictor 2)."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    ordered = differences.astype(differences.dtype.newbyteorder(order), copy=False)
    return bytes(imagecodecs.deflate_encode(ordered.tobytes(), 6))


def _append(file: BinaryIO, data: bytes) -> int:
    """Adds `data` at an even offset, which is returned."""
    offset = file.tell()
    file.write(b"\0" * (offset % 2))
    offset += offset % 2
    if offset + len(data) >= _OFFSET_LIMIT:
        raise TooLargeForTiffError("the file would pass 4 GiB")
    file.write(data)
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
    resources = metadata.photoshop
    blobs = {
        700: (_BYTE, metadata.xmp),
        33723: (_UNDEFINED, iptc_of(resources) if resources else None),
        34377: (_BYTE, resources if resources and holds_more_than_iptc(resources) else None),
        34675: (_UNDEFINED, metadata.icc),
    }
    for tag, (kind, blob) in blobs.items():
        if blob:
            fields[tag] = (kind, len(blob), blob)
    return fields


def _picture_fields(order: str, array: Samples, rows: int, *, cmyk: bool, extra: tuple[int, ...]) -> _Fields:
    height, width, samples = array.shape
    photometric = _CMYK if cmyk else _GRAY if samples - len(extra) == 1 else _RGB
    fields = {
        256: _numbers(order, _LONG, width),
        257: _numbers(order, _LONG, height),
        258: _numbers(order, _SHORT, *([8 * array.itemsize] * samples)),
        259: _numbers(order, _SHORT, _DEFLATE),
        262: _numbers(order, _SHORT, photometric),
        277: _numbers(order, _SHORT, samples),
        278: _numbers(order, _LONG, rows),
        284: _numbers(order, _SHORT, 1),  # samples of a pixel side by side
        317: _numbers(order, _SHORT, _DIFFERENCES),
    }
    if extra:
        fields[338] = _numbers(order, _SHORT, *extra)
    return fields


def _append_directory(file: BinaryIO, order: str, fields: _Fields) -> int:
    """Adds the directory with the values that do not fit into it, and returns its offset."""
    entries = []
    for tag, (kind, length, value) in sorted(fields.items()):
        inline = value.ljust(4, b"\0")
        if len(value) > 4:
            inline = struct.pack(order + "I", _append(file, value))
        entries.append(struct.pack(order + "HHI", tag, kind, length) + inline)
    return _append(file, struct.pack(order + "H", len(entries)) + b"".join(entries) + b"\0\0\0\0")
