"""Which page of a TIFF is the photo, and its samples, read by tifffile.

tifffile reads more than Pillow: 16 bits, further channels, BigTIFF, WebP, and JPEG XL inside. What it reads
less well (palettes, bilevel, JPEG in YCbCr, CIELAB) is left to Pillow.
"""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile

from deblur_cli.errors import DecodeError
from deblur_cli.photo.guards import several
from deblur_cli.photo.samples import Channels, Deep, divide_by_alpha, spread_bits

logger = logging.getLogger(__name__)

_COLORS = {0: 1, 1: 1, 2: 3, 5: 4}  # PhotometricInterpretation -> color samples of a pixel
_WHITE_IS_ZERO = 0
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples: alpha multiplied into the colors, alpha by itself
_REDUCED_COPY, _MASK = 1, 4  # bits of NewSubfileType
_DNG_VERSION = 50706
_SENSOR_PHOTOMETRICS = (32803, 34892)  # color filter array, linear RAW
_LEFT_TO_PILLOW = (2, 3, 4, 6, 7, 32771, 32773, 32809, 34676, 34677)  # fax, JPEG, and what old programs wrote
_THUMBNAIL_SHARE = 0.5  # of the sides of the photo, at most, for a page that is not marked as its copy


class TiffPages:
    """An opened TIFF, and which of its pages is the photo.

    page, number   the photo's page, and its number from 0
    left_out       what the other pages hold, if a result should have it
    """

    def __init__(self, path: Path, tiff: tifffile.TiffFile) -> None:
        self.path, self.tiff = path, tiff
        pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
        self.number = _full_size(pages)
        self.page = pages[self.number]
        masks = sum(bool(int(page.subfiletype) & _MASK) for page in pages)
        self.left_out = ("its mask page",) if masks else ()
        self.pages = sum(not _is_companion(page, self.page) for page in pages)

    @property
    def is_dng(self) -> bool:
        """Whether the file says that it is a DNG."""
        return _DNG_VERSION in self.tiff.pages.first.tags

    @property
    def is_raw(self) -> bool:
        """Whether it is camera RAW: a DNG, or a page that holds sensor values."""
        return self.is_dng or any(int(page.photometric) in _SENSOR_PHOTOMETRICS for page in self._all_pages())

    @property
    def compressions(self) -> set[int]:
        """The codes of all pages' compressions, pages within pages too."""
        return {int(page.compression) for page in self._all_pages()}

    def _all_pages(self) -> Iterator[tifffile.TiffPage]:
        for page in self.tiff.pages:
            if isinstance(page, tifffile.TiffPage):
                yield page
                yield from (inner for inner in page.pages or () if isinstance(inner, tifffile.TiffPage))

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
        """A tag's value as tifffile gives it, or None."""
        tag = self.page.tags.get(number)
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
    if meanings[0] not in (_ASSOCIATED, _UNASSOCIATED):
        return Channels(color, None, np.ascontiguousarray(array[:, :, colors:]), meanings)
    alpha = np.ascontiguousarray(array[:, :, colors])
    if meanings[0] == _ASSOCIATED:
        divide_by_alpha(color, alpha)
    if further == 1:
        return Channels(color, alpha)
    return Channels(color, alpha, np.ascontiguousarray(array[:, :, colors + 1 :]), meanings[1:])


class _Size(NamedTuple):
    width: int
    height: int


def _full_size(pages: list[tifffile.TiffPage]) -> int:
    """The number of the first page that is neither a copy nor a mask; of the largest if all are."""
    originals = [number for number, page in enumerate(pages) if not _is_marked(page)]
    candidates = originals or [
        number for number, page in enumerate(pages) if not int(page.subfiletype) & _MASK
    ]
    if not candidates:
        raise ValueError("there is no picture in it")
    return max(candidates, key=lambda number: (_area(pages[number]), -number))


def _is_marked(page: tifffile.TiffPage) -> bool:
    return bool(int(page.subfiletype) & (_REDUCED_COPY | _MASK))


def _area(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth) * int(page.imagelength)


def _is_companion(page: tifffile.TiffPage, photo: tifffile.TiffPage) -> bool:
    """Whether a page is a mask, or a reduced copy of the photo, marked as that or not."""
    if page is photo:
        return False
    if _is_marked(page):
        return True
    own, full = _Size(page.imagewidth, page.imagelength), _Size(photo.imagewidth, photo.imagelength)
    same_shape = abs(own.width * full.height - own.height * full.width) <= max(full)
    return same_shape and own.width <= full.width * _THUMBNAIL_SHARE


def _bits_of(page: tifffile.TiffPage) -> tuple[int, ...]:
    bits = page.bitspersample
    return tuple(bits) if isinstance(bits, tuple) else (int(bits),)


def open_tiff(path: Path, file: BinaryIO) -> TiffPages | None:
    """The opened TIFF; None where tifffile cannot follow it, as Pillow may."""
    try:
        pages: TiffPages | None = TiffPages(path, tifffile.TiffFile(file))
    except (tifffile.TiffFileError, ValueError, TypeError, LookupError, OSError, struct.error) as error:
        logger.debug("%s: tifffile cannot open it (%s)", path, error)
        pages = None
    file.seek(0)
    return pages
