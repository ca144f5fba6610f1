"""Pictures that Pillow does not read: 16-bit PNG, deep AVIF, JPEG XL, JPEG 2000, rare JPEG, and HEIC.

HEIC goes through pillow-heif, an optional dependency, all others through imagecodecs. All give arrays; the
blocks around the pixels are read elsewhere.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from deblur_cli.errors import DecodeError
from deblur_cli.photo import bmff
from deblur_cli.photo.photo import DEPTH_MAP, GAIN_MAP
from deblur_cli.photo.samples import Channels, Deep, Samples, divide_by_alpha, key_alpha, spread_bits


def read_png(content: bytes) -> Channels:
    """Color and alpha of a 16-bit PNG, H W C and H W uint16, as stored.

    Raises RuntimeError (imagecodecs' PngError) for damaged bytes.
    """
    array = np.atleast_3d(imagecodecs.png_decode(content))  # H W -> H W 1
    if array.dtype != np.uint16:
        raise ValueError("its header promises 16 bits but its pixels have 8")
    return _split(array)


def _split(array: Samples) -> Channels:
    """Color and alpha of H W C samples, gray or RGB."""
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
        self.nclx = bmff.read_primary(content).nclx
        self._beside = bmff.left_out(content)

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

    @property
    def bits(self) -> int:
        """Bits per sample."""
        return int(self.info["bit_depth"])

    def read(self) -> Channels:
        """Color and alpha, upright: libheif turns pixels as the file's irot and imir boxes say."""
        array = np.asarray(self.file)
        mode = {"I": "L"}.get(self.file.mode.split(";")[0], self.file.mode.split(";")[0])
        # The first columns: rows may be padded.
        array = np.array(np.atleast_3d(array)[:, : self.file.size[0]])
        if array.dtype == np.uint16:
            spread_bits(array, self.bits)
        if mode not in ("L", "LA", "La", "RGB", "RGBA", "RGBa"):
            raise DecodeError(f"{self.path}: its pixels are of the kind {mode}, which deblur does not read")
        if mode in ("L", "RGB"):
            return Channels(array, None)
        color, alpha = np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1])
        if mode in ("La", "RGBa"):
            divide_by_alpha(color, alpha)
        return Channels(color, alpha)

    def left_out(self) -> tuple[str, ...]:
        """What the file holds beside the picture that no result carries, as phrases."""
        kinds = " ".join(str(kind).lower() for kind in self.info.get("aux", {}))
        found = list(self._beside)
        found += [GAIN_MAP] if "hdrgainmap" in kinds else []
        found += [DEPTH_MAP] if self.info.get("depth_images") else []
        found += ["further images"] if len(self.file) > 1 else []
        return tuple(dict.fromkeys(found))


def read_deep_avif(content: bytes, bits: int) -> Channels:
    """Color and alpha of an AVIF of 10 or 12 bits as stored, spread over 16 bits.

    Raises RuntimeError (imagecodecs' AvifError) for damaged bytes.
    """
    array = np.array(np.atleast_3d(imagecodecs.avif_decode(content)))
    if array.dtype != np.uint16:
        raise ValueError(f"its header promises {bits} bits but its pixels have 8")
    spread_bits(array, bits)
    return _split(array)


def read_by_imagecodecs(content: bytes, format: str, bits: int) -> Channels:
    """Color and alpha of a JPEG XL ("JXL"), upright, a JPEG 2000 ("JP2") or a rare JPEG ("LJPEG").

    8 bits per sample stay 8, more are spread over 16. Raises RuntimeError (imagecodecs' errors) for damage,
    ValueError for samples that are not read.
    """
    decoders: dict[str, Callable[..., Any]] = {
        "JXL": imagecodecs.jpegxl_decode,
        "JP2": imagecodecs.jpeg2k_decode,
        "LJPEG": imagecodecs.jpeg8_decode,
    }
    array = np.array(np.atleast_3d(decoders[format](content)))
    if array.ndim != 3 or array.shape[2] > 4 or array.dtype not in (np.uint8, np.uint16):
        raise DecodeError(f"its {array.dtype} samples are not read by deblur; save it as TIFF first")
    if array.dtype == np.uint16 and bits < 16:
        spread_bits(array, bits)
    return _split(array)


def jxl_profile(path: Path, content: bytes) -> bytes:
    """The ICC profile of a JPEG XL as it is decoded. Raises DecodeError without pillow-jxl-plugin."""
    try:
        from pillow_jxl import Decoder
    except ImportError as error:
        raise DecodeError(
            f"{path}: is JPEG XL, which needs pillow-jxl-plugin; install it with pip install"
            ' "deblur-cli[jxl]"'
        ) from error
    _, _, _, profile, _ = Decoder(num_threads=-1)(content)
    return bytes(profile or b"")
