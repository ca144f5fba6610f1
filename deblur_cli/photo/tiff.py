"""TIFF: which page is the photo, its samples, and files written anew.

It is read by tifffile, which reads more than Pillow: 16 bits, further channels, BigTIFF, WebP, and JPEG XL
inside. What it reads less well (palettes, bilevel, JPEG in YCbCr, CIELAB) is left to Pillow.

It is written by hand, so that EXIF directories and maker notes survive byte for byte. An EXIF block is a
small TIFF file without a picture. The written file is that very block with the picture and a new main
directory behind it, so all offsets inside the block stay true. tifffile lays out its own file and has no way
to keep directories where they are.
"""

import logging
import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile

from deblur_cli.errors import DecodeError
from deblur_cli.photo import exif, tiff_pages
from deblur_cli.photo.containers import named_behind
from deblur_cli.photo.exif import ByteOrder
from deblur_cli.photo.guards import several
from deblur_cli.photo.metadata import holds_more_than_iptc, iptc_of
from deblur_cli.photo.photo import DEPTH_MAP, Metadata
from deblur_cli.photo.samples import Channels, Deep, Samples, divide_by_alpha, spread_bits

logger = logging.getLogger(__name__)
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # or else its lines go to stderr

_COLORS = {0: 1, 1: 1, 2: 3, 5: 4}  # PhotometricInterpretation -> color samples of a pixel
_WHITE_IS_ZERO = 0
_ASSOCIATED, UNASSOCIATED_ALPHA = 1, 2  # ExtraSamples: alpha multiplied into the colors, alpha by itself
DNG_VERSION = 50706
_BESIDE_RAW = {  # NewSubfileType of DNG -> what the page holds
    **dict.fromkeys((4, 5), "its mask page"),
    **dict.fromkeys((8, 9), DEPTH_MAP),
    16: "its enhanced picture",
    65540: "its masks of sky, skin, and the like",
}
_SENSOR_PHOTOMETRICS = (32803, 34892)  # color filter array, linear RAW
_LEFT_TO_PILLOW = (2, 3, 4, 6, 7, 32771, 32773, 32809, 34676, 34677)  # fax, JPEG, and what old programs wrote

_STRIP_BYTES = 1 << 20
_OFFSET_LIMIT = 1 << 32  # classic TIFF counts bytes in 32 bits
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 3, 4, 5, 7
_CODES = {_SHORT: "H", _LONG: "I"}
_GRAY, _RGB, _CMYK = 1, 2, 5  # PhotometricInterpretation
_DEFLATE, _DIFFERENCES = 8, 2  # Compression, Predictor

# What tifffile was seen to raise on damaged pages
UNFOLLOWED = (tifffile.TiffFileError, ValueError, TypeError, LookupError, OSError, struct.error)

# Tag -> type, number of values, value as bytes
_Fields = dict[int, tuple[int, int, bytes]]


class TiffPages:
    """An opened TIFF, and which of its pages is the photo.

    page, number   the photo's page, and its number from 0
    pages          how many pages are pictures of their own
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file, self.tiff = path, file, tifffile.TiffFile(file)
        pages = [page for page in self.tiff.pages if isinstance(page, tifffile.TiffPage)]
        self.number = tiff_pages.full_size(pages)
        self.page = pages[self.number]
        self.pages = sum(not tiff_pages.is_companion(page, self.page) for page in pages)

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """What other pages hold and no result carries, and what stands behind them, as phrases."""
        pages = list(self._all_pages())
        try:
            beside = tiff_pages.left_out(self.page, self.tiff.pages.first, pages)
            behind = tiff_pages.behind(self.file, pages)
        except UNFOLLOWED as error:
            return (f"what its further pages hold, which cannot be followed ({error})",)
        return (*beside, *named_behind(behind, 0))

    @property
    def is_dng(self) -> bool:
        """Whether the file says that it is a DNG."""
        return DNG_VERSION in self.tiff.pages.first.tags

    @property
    def is_raw(self) -> bool:
        """Whether it is camera RAW: a DNG, or a page that holds sensor values."""
        return self.is_dng or any(page.photometric in _SENSOR_PHOTOMETRICS for page in self._all_pages())

    @property
    def beside_raw(self) -> tuple[str, ...]:
        """What pages of camera RAW hold beside the picture and its copies, as phrases."""
        pages = list(self._all_pages())
        found = [_BESIDE_RAW.get(int(page.subfiletype), "") for page in pages]
        if sum(not int(page.subfiletype) and page.photometric in _SENSOR_PHOTOMETRICS for page in pages) > 1:
            found.append("a further RAW picture")
        if self.is_dng:
            found += named_behind(tiff_pages.behind(self.file, pages), 0)
        return tuple(dict.fromkeys(filter(None, found)))

    @property
    def compressions(self) -> set[int]:
        """The codes of all pages' compressions, pages within pages too."""
        return {int(page.compression) for page in self._all_pages()}

    def _all_pages(self) -> Iterator[tifffile.TiffPage]:
        for page in self.tiff.pages:
            if isinstance(page, tifffile.TiffPage):
                yield page
                yield from self._inner_pages(page)

    def _inner_pages(self, page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
        """The pages within a page (SubIFDs); those that cannot be followed are passed over."""
        try:
            return [inner for inner in page.pages or () if isinstance(inner, tifffile.TiffPage)]
        except UNFOLLOWED as error:
            logger.debug("%s: pages within a page cannot be followed (%s)", self.path, error)
            return []

    @property
    def is_read_here(self) -> bool:
        """Whether `read` reads the page, or says why nobody does; false for what Pillow shall read."""
        page = self.page
        if max(_bits_of(page)) > 8:
            return True
        plain = (
            page.photometric in _COLORS
            and set(_bits_of(page)) == {8}
            and page.compression not in _LEFT_TO_PILLOW
        )
        return plain and page.dtype is not None and page.dtype.kind == "u"

    def tag(self, number: int) -> Any:
        """A tag's value as tifffile gives it, or None. A thumbnail before the photo may have it instead."""
        tag = self.page.tags.get(number)
        if tag is None and tiff_pages.is_inherited(number):
            tag = self.tiff.pages.first.tags.get(number)
        return None if tag is None else tag.value

    def check_single(self) -> None:
        """Raises DecodeError for several pages that are pictures of their own. Tells which one is read."""
        if self.pages > 1:
            raise several(self.path, self.pages, "pages")
        if self.number:
            logger.info(
                "%s: page %d is the photo; what stands before it is a thumbnail", self.path, self.number + 1
            )

    def read(self) -> Channels:
        """Samples as stored, uint8, or uint16 with 65535 = full. 4 channels of color are CMYK.

        Raises DecodeError for samples that are not read, and EOFError for a file that is cut short.
        """
        page = self.page
        bits = self._bits()
        if page.photometric not in _COLORS or page.imagedepth != 1:
            raise DecodeError(
                f"{self.path}: its {bits}-bit pixels are of a kind that deblur does not read; save it as RGB"
                " first"
            )
        self._check_complete()
        array = np.asarray(page.asarray())
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            array = np.moveaxis(array, 0, -1)  # C H W -> H W C
        array = np.array(array.reshape(page.imagelength, page.imagewidth, page.samplesperpixel), order="C")
        if 8 < bits < 16:
            logger.info("%s: its %d bits per channel are spread over 16", self.path, bits)
            spread_bits(array, bits)
        if page.photometric == _WHITE_IS_ZERO:
            array[:, :, 0] = np.iinfo(array.dtype).max - array[:, :, 0]
        return _split(array, _COLORS[page.photometric], tuple(int(kind) for kind in page.extrasamples))

    def _bits(self) -> int:
        page, bits = self.page, self.page.bitspersample
        if page.sampleformat == 3:
            raise DecodeError(
                f"{self.path}: has {bits}-bit floating-point samples, which deblur does not read; save it as"
                " 16-bit TIFF first"
            )
        if page.dtype is None or page.dtype.kind != "u" or not isinstance(bits, int) or not 8 <= bits <= 16:
            raise DecodeError(
                f"{self.path}: has {bits} bits per channel of a kind that deblur does not read; save it as"
                " 16-bit TIFF first"
            )
        return int(bits)

    def _check_complete(self) -> None:
        """Raises EOFError: tifffile would give black for what a cut file lacks."""
        page = self.page
        ends = (start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=False))
        if not page.dataoffsets or max(ends, default=0) > self.tiff.filehandle.size:
            raise EOFError("its pixels end too early")


def _split(array: Deep, colors: int, meanings: tuple[int, ...]) -> Channels:
    """Color, alpha if it comes first behind that, and further channels with their ExtraSamples codes."""
    color = np.ascontiguousarray(array[:, :, :colors])
    further = array.shape[2] - colors
    if not further:
        return Channels(color, None)
    meanings = (*meanings, *[0] * further)[:further]
    if meanings[0] not in (_ASSOCIATED, UNASSOCIATED_ALPHA):
        return Channels(color, None, np.ascontiguousarray(array[:, :, colors:]), meanings)
    alpha = np.ascontiguousarray(array[:, :, colors])
    if meanings[0] == _ASSOCIATED:
        divide_by_alpha(color, alpha)
    if further == 1:
        return Channels(color, alpha)
    return Channels(color, alpha, np.ascontiguousarray(array[:, :, colors + 1 :]), meanings[1:])


def _bits_of(page: tifffile.TiffPage) -> tuple[int, ...]:
    bits = page.bitspersample
    return tuple(bits) if isinstance(bits, tuple) else (int(bits),)


def open_tiff(path: Path, file: BinaryIO) -> TiffPages | None:
    """The opened TIFF; None where tifffile cannot follow it, as Pillow may."""
    try:
        pages: TiffPages | None = TiffPages(path, file)
    except UNFOLLOWED as error:
        logger.debug("%s: tifffile cannot open it (%s)", path, error)
        pages = None
    file.seek(0)
    return pages


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
