"""Colour where the network cannot see the file's own values: CMYK and its RGB view."""

import io
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from deblur_cli.photo.photo import Photo
from deblur_cli.photo.samples import Samples, to_image

logger = logging.getLogger(__name__)

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


def icc_space(icc: bytes) -> str:
    """The colour space that an ICC profile describes: "RGB", "GRAY", "CMYK" or another signature."""
    return icc[16:20].decode("latin-1").strip()


def rgb_view(path: Path, cmyk: Samples, icc: bytes | None) -> Samples:
    """CMYK samples, H W 4 with 0 = no ink, as sRGB, H W 3; through the profile if there is one.

    What was done is logged under `path`.
    """
    if icc is not None:
        try:
            rgb = _transform(cmyk, icc, to_cmyk=False)
        except _PROFILE_ERRORS as error:
            logger.warning("%s: its CMYK profile cannot be used (%s)", path, error)
        else:
            logger.info("%s: CMYK is restored in an sRGB view made with the file's profile", path)
            return rgb
    logger.warning("%s: CMYK without a usable profile, its colours are a rough guess while restoring", path)
    return np.array(to_image(cmyk, "CMYK").convert("RGB"), dtype=np.uint8)


def replace_pixels(photo: Photo, new_pixels: NDArray[np.generic]) -> Photo:
    """The photo with other pixels, H W C as `photo.pixels` and of the same type.

    CMYK samples are recomputed where a pixel changed and stay as they were everywhere else.
    Raises ValueError for another shape or type.
    """
    if new_pixels.shape != photo.pixels.shape or new_pixels.dtype != photo.pixels.dtype:
        raise ValueError(
            f"expected {photo.pixels.shape} {photo.pixels.dtype}, got {new_pixels.shape} {new_pixels.dtype}"
        )
    if photo.cmyk is None:
        return replace(photo, pixels=new_pixels)
    changed = np.any(new_pixels != photo.pixels, axis=2)
    cmyk = photo.cmyk.copy()
    if changed.any():
        rgb = np.asarray(new_pixels[changed], dtype=np.uint8)[np.newaxis]  # N 3 -> 1 N 3
        cmyk[changed] = _inks(photo, rgb, cmyk[changed][np.newaxis])[0]
    return replace(photo, pixels=new_pixels, cmyk=cmyk)


def _inks(photo: Photo, rgb: Samples, former: Samples) -> Samples:
    """RGB, H W 3, as CMYK, H W 4; `former` are the samples before."""
    if photo.metadata.icc is not None:
        try:
            return _transform(rgb, photo.metadata.icc, to_cmyk=True)
        except _PROFILE_ERRORS as error:
            logger.warning("%s: its CMYK profile cannot be used (%s)", photo.source, error)
    return _plain_inks(rgb, former[..., 3])


def _plain_inks(rgb: Samples, former_black: Samples) -> Samples:
    """The inverse of Pillow's plain conversion, R = 255 - K - C (255 - K) / 255, that keeps K if it can."""
    black = np.minimum(former_black, 255 - rgb.max(axis=-1)).astype(np.float32)[..., np.newaxis]
    white = np.maximum(255 - black, 1)
    colours = np.clip((255 - black - rgb) * 255 / white, 0, 255)
    inks: Samples = np.rint(np.concatenate([colours, black], axis=-1)).astype(np.uint8)
    return inks


def _transform(array: Samples, icc: bytes, *, to_cmyk: bool) -> Samples:
    """H W 4 <-> H W 3 between the profile and sRGB. Raises one of _PROFILE_ERRORS."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    srgb = ImageCms.createProfile("sRGB")
    source, target = (srgb, profile) if to_cmyk else (profile, srgb)
    modes = ("RGB", "CMYK") if to_cmyk else ("CMYK", "RGB")
    image = ImageCms.profileToProfile(
        to_image(array, modes[0]),
        source,
        target,
        renderingIntent=_INTENT,
        outputMode=modes[1],
        flags=_FLAGS,
    )
    if image is None:  # only with inPlace
        raise ValueError("no picture came out of the conversion")
    return np.array(image, dtype=np.uint8)
