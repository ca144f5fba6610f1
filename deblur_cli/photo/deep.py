"""Pictures of more than 8 bits per sample: PNG through imagecodecs, TIFF through tifffile.

Pillow has no 16-bit colour. Both libraries give arrays; the blocks around the pixels are read elsewhere.
"""

import logging
import struct
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from deblur_cli.errors import DecodeError
from deblur_cli.photo.samples import Channels, Deep, divide_by_alpha, key_alpha, spread_bits

logger = logging.getLogger(__name__)

# PhotometricInterpretation -> colour samples of a pixel
_COLOURS = {0: 1, 1: 1, 2: 3, 5: 4}
_WHITE_IS_ZERO = 0
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples: alpha multiplied into the colours, alpha by itself
_REDUCED_COPY = 1  # bit of NewSubfileType


def read_png(content: bytes) -> Channels:
    """Colour and alpha of a 16-bit PNG, H W C and H W uint16, as stored.

    Raises RuntimeError (imagecodecs' PngError) for damaged bytes.
    """
    array = np.atleast_3d(imagecodecs.png_decode(content))  # H W -> H W 1
    if array.dtype != np.uint16:
        raise ValueError("its header promises 16 bits but its pixels have 8")
    if array.shape[2] in (2, 4):
        return Channels(np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1]))
    return Channels(array, None)


def transparent_colour(content: bytes, colour: Deep) -> NDArray[np.uint16] | None:
    """Alpha of a 16-bit PNG that declares one colour transparent (tRNS), or None without it."""
    start = content.find(b"tRNS", 0, max(0, content.find(b"IDAT")))
    if start < 0:
        return None
    (size,) = struct.unpack_from(">I", content, start - 4)
    channels = colour.shape[2]
    if size != 2 * channels:
        return None
    key = struct.unpack_from(f">{channels}H", content, start + 4)
    return key_alpha(colour, key)


class DeepTiff:
    """The first page of a TIFF with more than 8 bits per sample."""

    def __init__(self, path: Path, tiff: tifffile.TiffFile) -> None:
        self.path, self.tiff = path, tiff
        self.page: tifffile.TiffPage = tiff.pages.first

    @property
    def tags(self) -> dict[int, Any]:
        """All tags by number."""
        return {tag.code: tag.value for tag in self.page.tags}

    def tag(self, number: int) -> Any:
        """A tag's value as tifffile gives it, or None."""
        tag = self.page.tags.get(number)
        return None if tag is None else tag.value

    def count_pages(self) -> int:
        """Pages that are pictures of their own, not reduced copies of the first."""
        others = [page for page in self.tiff.pages[1:] if isinstance(page, tifffile.TiffPage)]
        return 1 + sum(not int(page.subfiletype) & _REDUCED_COPY for page in others)

    def read(self) -> Channels:
        """Colour (4 channels are CMYK) and alpha as stored, uint16 with 65535 = full.

        Raises DecodeError for samples that are not read, and for a file that is cut short.
        """
        page = self.page
        bits = self._bits()
        if page.photometric not in _COLOURS or page.imagedepth != 1:
            raise DecodeError(
                f"{self.path}: its {bits}-bit pixels are of a kind that is not read; save it as RGB first"
            )
        self._check_complete()
        array = np.asarray(page.asarray())
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            array = np.moveaxis(array, 0, -1)  # C H W -> H W C
        array = np.ascontiguousarray(array.reshape(page.imagelength, page.imagewidth, page.samplesperpixel))
        if bits < 16:
            logger.info("%s: its %d bits per channel are spread over 16", self.path, bits)
            spread_bits(array, bits)
        if page.photometric == _WHITE_IS_ZERO:
            array[:, :, 0] = 65535 - array[:, :, 0]
        return self._split(array, _COLOURS[page.photometric])

    def _bits(self) -> int:
        page = self.page
        bits = page.bitspersample
        if page.sampleformat == 3:
            raise DecodeError(
                f"{self.path}: has {bits}-bit floating-point samples, which are not read; save it as"
                " 16-bit TIFF first"
            )
        if page.dtype is None or page.dtype.kind != "u" or not 8 < bits <= 16:
            raise DecodeError(
                f"{self.path}: has {bits} bits per channel of a kind that is not read; save it as"
                " 16-bit TIFF first"
            )
        return int(bits)

    def _check_complete(self) -> None:
        """Raises EOFError: tifffile would give black for what a cut file lacks."""
        page = self.page
        end = max(
            (start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=False)),
            default=0,
        )
        if not page.dataoffsets or end > self.tiff.filehandle.size:
            raise EOFError("its pixels end too early")

    def _split(self, array: Deep, colours: int) -> Channels:
        if array.shape[2] == colours:
            return Channels(array, None)
        meaning = (*self.page.extrasamples, 0)[0]
        colour = np.ascontiguousarray(array[:, :, :colours])
        if meaning not in (_ASSOCIATED, _UNASSOCIATED):
            logger.warning("%s: its extra channel has no stated meaning and is left out", self.path)
            return Channels(colour, None)
        alpha = np.ascontiguousarray(array[:, :, colours])
        if meaning == _ASSOCIATED:
            divide_by_alpha(colour, alpha)
        return Channels(colour, alpha)


def open_deep_tiff(path: Path, file: BinaryIO) -> DeepTiff | None:
    """The TIFF if it holds more than 8 bits per sample; None otherwise, also where it cannot be opened."""
    try:
        tiff = tifffile.TiffFile(file)
        first = tiff.pages.first
        bits = first.bitspersample if isinstance(first, tifffile.TiffPage) else 0
        deepest = max(bits) if isinstance(bits, tuple) else int(bits)
    except (tifffile.TiffFileError, ValueError, TypeError, LookupError, OSError, struct.error) as error:
        logger.debug("%s: tifffile cannot open it (%s)", path, error)
        deepest = 0
    file.seek(0)
    return DeepTiff(path, tiff) if deepest > 8 else None
