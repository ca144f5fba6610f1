"""HEIC through pillow-heif, an optional dependency; AVIF of more than 8 bits through imagecodecs."""

import logging
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np

from deblur_cli.errors import DecodeError
from deblur_cli.photo import bmff
from deblur_cli.photo.samples import Channels, divide_by_alpha, spread_bits

logger = logging.getLogger(__name__)


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
        """Colour and alpha, upright: libheif turns pixels as the file's irot and imir boxes say."""
        array = np.asarray(self.file)
        mode = self.file.mode.split(";")[0]
        # The first columns: rows may be padded.
        array = np.array(np.atleast_3d(array)[:, : self.file.size[0]])
        bits = int(self.info["bit_depth"])
        if array.dtype == np.uint16:
            spread_bits(array, bits)
        if mode not in ("L", "LA", "La", "RGB", "RGBA", "RGBa"):
            raise DecodeError(f"{self.path}: its pixels are of the kind {mode}, which is not read")
        if mode in ("L", "RGB"):
            return Channels(array, None)
        colour, alpha = np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1])
        if mode in ("La", "RGBa"):
            divide_by_alpha(colour, alpha)
        return Channels(colour, alpha)

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
    """Colour and alpha of an AVIF of 10 or 12 bits as stored, spread over 16 bits.

    Raises RuntimeError (imagecodecs' AvifError) for damaged bytes.
    """
    array = np.array(np.atleast_3d(imagecodecs.avif_decode(content)))
    if array.dtype != np.uint16:
        raise ValueError(f"its header promises {bits} bits but its pixels have 8")
    spread_bits(array, bits)
    if array.shape[2] in (2, 4):
        return Channels(np.ascontiguousarray(array[:, :, :-1]), np.ascontiguousarray(array[:, :, -1]))
    return Channels(array, None)
