"""Pictures that Pillow does not read: more than 8 bits per sample, and HEIC.

PNG and AVIF go through imagecodecs, TIFF through tifffile, HEIC through pillow-heif, an optional dependency.
All give arrays; the blocks around the pixels are read elsewhere.
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
from deblur_cli.photo import bmff
from deblur_cli.photo.samples import Channels, Deep, divide_by_alpha, key_alpha, spread_bits

logger = logging.getLogger(__name__)

# PhotometricInterpretation -> color samples of a pixel
_COLORS = {0: 1, 1: 1, 2: 3, 5: 4}
_WHITE_IS_ZERO = 0
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples: alpha multiplied into the colors, alpha by itself
REDUCED_COPY = 1  # bit of NewSubfileType


def read_png(content: bytes) -> Channels:
    """Color and alpha of a 16-bit PNG, H W C and H W uint16, as stored.

    Raises RuntimeError (imagecodecs' PngError) for damaged bytes.
    """
    array = np.atleast_3d(imagecodecs.png_decode(content))  # H W -> H W 1
    if array.dtype != np.uint16:
        raise ValueError("its header promises 16 bits but its pixels have 8")
    if array.shape[2] in (2, 4):
        return Channels(np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1]))
    return Channels(array, None)


def transparent_color(content: bytes, color: Deep) -> NDArray[np.uint16] | None:
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
        return 1 + sum(not int(page.subfiletype) & REDUCED_COPY for page in others)

    def read(self) -> Channels:
        """Color (4 channels are CMYK) and alpha as stored, uint16 with 65535 = full.

        Raises DecodeError for samples that are not read, and for a file that is cut short.
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
        array = np.ascontiguousarray(array.reshape(page.imagelength, page.imagewidth, page.samplesperpixel))
        if bits < 16:
            logger.info("%s: its %d bits per channel are spread over 16", self.path, bits)
            spread_bits(array, bits)
        if page.photometric == _WHITE_IS_ZERO:
            array[:, :, 0] = 65535 - array[:, :, 0]
        return self._split(array, _COLORS[page.photometric])

    def _bits(self) -> int:
        page = self.page
        bits = page.bitspersample
        if page.sampleformat == 3:
            raise DecodeError(
                f"{self.path}: has {bits}-bit floating-point samples, which deblur does not read; save it as"
                " 16-bit TIFF first"
            )
        if page.dtype is None or page.dtype.kind != "u" or not 8 < bits <= 16:
            raise DecodeError(
                f"{self.path}: has {bits} bits per channel of a kind that deblur does not read; save it as"
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

    def _split(self, array: Deep, colors: int) -> Channels:
        if array.shape[2] == colors:
            return Channels(array, None)
        meaning = (*self.page.extrasamples, 0)[0]
        color = np.ascontiguousarray(array[:, :, :colors])
        if meaning not in (_ASSOCIATED, _UNASSOCIATED):
            logger.warning("%s: its extra channel has no stated meaning and is left out", self.path)
            return Channels(color, None)
        alpha = np.ascontiguousarray(array[:, :, colors])
        if meaning == _ASSOCIATED:
            divide_by_alpha(color, alpha)
        return Channels(color, alpha)


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


class HeicFile:
    """An opened HEIC file, its pixels not yet decoded. Raises DecodeError without pillow-heif."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        try:
            import pillow_heif
        except ImportError as error:
            raise DecodeError(
                f'{path}: is HEIC, which needs pillow-heif; install it with pip install "deblur-cli[heif]"'
            ) from error
        self.path = path
        content = file.read()
        # Values stay as deep as they are coded, so that they can be spread over 16 bits without a gap.
        self.file: Any = pillow_heif.open_heif(content, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        if not len(self.file):
            raise ValueError("there is no picture in it")
        self.nclx = bmff.read_nclx(content)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture as it is shown."""
        width, height = self.file.size
        return width, height

    @property
    def info(self) -> dict[str, Any]:
        """pillow-heif's findings: exif, xmp, icc_profile and others."""
        info: dict[str, Any] = self.file[self.file.primary_index].info
        return info

    def read(self) -> Channels:
        """Color and alpha, upright: libheif turns pixels as the file's irot and imir boxes say."""
        array = np.asarray(self.file)
        mode = self.file.mode.split(";")[0]
        # The first columns: rows may be padded.
        array = np.array(np.atleast_3d(array)[:, : self.file.size[0]])
        bits = int(self.info["bit_depth"])
        if array.dtype == np.uint16:
            spread_bits(array, bits)
        if mode not in ("L", "LA", "La", "RGB", "RGBA", "RGBa"):
            raise DecodeError(f"{self.path}: its pixels are of the kind {mode}, which deblur does not read")
        if mode in ("L", "RGB"):
            return Channels(array, None)
        color, alpha = np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1])
        if mode in ("La", "RGBa"):
            divide_by_alpha(color, alpha)
        return Channels(color, alpha)

    def log_left_out(self) -> None:
        """Names what a result will not carry."""
        kinds = " ".join(str(kind).lower() for kind in self.info.get("aux", {}))
        if "hdrgainmap" in kinds:
            logger.warning("%s: its gain map for HDR screens will be missing in a restored copy", self.path)
        if self.info.get("depth_images"):
            logger.warning("%s: its depth map will be missing in a restored copy", self.path)
        if len(self.file) > 1:
            logger.warning("%s: holds further images; a restored copy will not carry them", self.path)


def read_deep_avif(content: bytes, bits: int) -> Channels:
    """Color and alpha of an AVIF of 10 or 12 bits as stored, spread over 16 bits.

    Raises RuntimeError (imagecodecs' AvifError) for damaged bytes.
    """
    array = np.array(np.atleast_3d(imagecodecs.avif_decode(content)))
    if array.dtype != np.uint16:
        raise ValueError(f"its header promises {bits} bits but its pixels have 8")
    spread_bits(array, bits)
    if array.shape[2] in (2, 4):
        return Channels(np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1]))
    return Channels(array, None)
