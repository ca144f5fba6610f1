"""Color where a network cannot make sense of the file's own values: inks and linear light.

Networks learned from photos encoded as sRGB is. Other encoded RGB, such as Display P3 or Adobe RGB, is near
enough and stays as it is. Inks are seen through their profile as sRGB; linear light is seen through the
curve of sRGB, in its own primaries, so that no color has to be clipped. Where pixels change, and only
there, the file's own samples are worked out anew.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from deblur_cli.photo.photo import Photo, white
from deblur_cli.photo.profiles import space_profile
from deblur_cli.photo.samples import Samples

logger = logging.getLogger(__name__)

_INTENT = 1  # relative colorimetric
_BLACK_POINT_COMPENSATION = 0x2000
_EXACT = 0x0100  # no tables of few points, in which the steep start of a curve is lost
_PROFILE_ERRORS = (RuntimeError, ValueError, TypeError, OSError)
_BAND = 1 << 20  # pixels that are converted at once
# Encoded curves put half of their range below this share of light: gamma 1.8 at 0.29, sRGB at 0.21.
_LINEAR_HALF = 0.4


def icc_space(icc: bytes) -> str:
    """The color space that an ICC profile describes: "RGB", "GRAY", "CMYK" or another signature."""
    return icc[16:20].decode("latin-1").strip()


def with_network_view(photo: Photo) -> Photo:
    """The photo as read, its samples set aside as `stored` if `pixels` has to be a view of them."""
    samples = _samples(photo.pixels)
    if samples.shape[2] == 4:
        view = rgb_view(photo.source, samples, photo.metadata.icc)
        return replace(photo, pixels=view, stored=samples)
    curve = _linear_curve(photo)
    if curve is None:
        return photo
    logger.info("%s: its linear light is restored in a view encoded as sRGB", photo.source)
    return replace(photo, pixels=curve[samples], stored=samples)


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
    logger.warning("%s: has no usable CMYK profile; the network sees its colors only roughly", path)
    return _plain_view(cmyk)


def replace_pixels(photo: Photo, new_pixels: NDArray[np.generic]) -> Photo:
    """The photo with other pixels, H W C as `photo.pixels` and of the same type.

    Where pixels are a view of `photo.stored`, that is worked out anew for those that changed and stays
    as it was everywhere else. Raises ValueError for another shape or type.
    """
    if new_pixels.shape != photo.pixels.shape or new_pixels.dtype != photo.pixels.dtype:
        raise ValueError(
            f"expected {photo.pixels.shape} {photo.pixels.dtype}, got {new_pixels.shape} {new_pixels.dtype}"
        )
    if photo.stored is None:
        return replace(photo, pixels=new_pixels)
    stored = _samples(photo.stored).copy()
    if photo.is_cmyk:
        changed = np.any(new_pixels != photo.pixels, axis=2)
        if changed.any():
            rgb = _samples(new_pixels[changed])[np.newaxis]  # N 3 -> 1 N 3
            stored[changed] = _inks(photo, rgb, stored[changed][np.newaxis])[0]
    else:
        curve = _linear_curve(photo)
        if curve is None:
            raise ValueError("its samples are set aside, but its profile is not one of linear light")
        changed = new_pixels != photo.pixels
        stored[changed] = _inverse(curve)[_samples(new_pixels)[changed]]
    return replace(photo, pixels=new_pixels, stored=stored)


def _samples(array: NDArray[np.generic]) -> Samples:
    """The very array, known to hold samples."""
    kind = np.uint8 if array.dtype == np.uint8 else np.uint16
    samples: Samples = array.astype(kind, copy=False)
    return samples


def _linear_curve(photo: Photo) -> Samples | None:
    """For a photo of linear light the sRGB-encoded value of every sample value; None for any other.

    The curve is what the profile makes of grays, whose sRGB has the same curve in all channels.
    """
    icc = photo.metadata.icc
    channels = photo.pixels.shape[2]
    if icc is None or icc_space(icc) != ("RGB" if channels == 3 else "GRAY"):
        return None
    full = white(photo.pixels)
    ramp = np.arange(full + 1, dtype=np.uint16 if full > 255 else np.uint8)
    grays = np.ascontiguousarray(np.broadcast_to(ramp[np.newaxis, :, np.newaxis], (1, full + 1, channels)))
    try:
        encoded = imagecodecs.cms_transform(
            grays if channels == 3 else grays[:, :, 0],
            icc,
            space_profile("srgb"),
            colorspace="rgb" if channels == 3 else "gray",
            outcolorspace="rgb",
            outdtype=ramp.dtype.name,
            intent=_INTENT,
            flags=_EXACT,
        )
    except _PROFILE_ERRORS as error:
        logger.warning(
            "%s: its profile cannot be used (%s); its values are restored as they are", photo.source, error
        )
        return None
    curve = _samples(np.asarray(encoded).reshape(full + 1, 3)[:, 1])
    half = float(curve[full // 2]) / full
    light = ((half + 0.055) / 1.055) ** 2.4
    return np.maximum.accumulate(curve) if light > _LINEAR_HALF else None


def _inverse(curve: Samples) -> Samples:
    """The sample value nearest to each value of the view."""
    values = np.arange(len(curve))
    inverse: Samples = np.rint(np.interp(values, curve.astype(np.float64), values)).astype(curve.dtype)
    return inverse


def _inks(photo: Photo, rgb: Samples, former: Samples) -> Samples:
    """RGB, H W 3, as CMYK, H W 4; `former` are the samples before."""
    if photo.metadata.icc is not None:
        try:
            return _transform(rgb, photo.metadata.icc, to_cmyk=True)
        except _PROFILE_ERRORS as error:
            logger.warning("%s: its CMYK profile cannot be used (%s)", photo.source, error)
    return _plain_inks(rgb, former[..., 3])


def _bands(array: Samples) -> Iterator[slice]:
    rows = max(1, _BAND // array.shape[1])
    for start in range(0, array.shape[0], rows):
        yield slice(start, start + rows)


def _plain_view(cmyk: Samples) -> Samples:
    """Light that passes each ink and the black: R = (1 - C) (1 - K)."""
    full = white(cmyk)
    rgb = np.empty((*cmyk.shape[:2], 3), dtype=cmyk.dtype)
    for band in _bands(cmyk):
        light = (full - cmyk[band]).astype(np.float32)
        rgb[band] = np.rint(light[..., :3] * light[..., 3:] / full).astype(cmyk.dtype)
    return rgb


def _plain_inks(rgb: Samples, former_black: Samples) -> Samples:
    """The inverse of `_plain_view` that keeps the black if it can."""
    full = white(rgb)
    black = np.minimum(former_black, full - rgb.max(axis=-1)).astype(np.float32)[..., np.newaxis]
    room = np.maximum(full - black, 1)
    colors = np.clip((full - black - rgb) * full / room, 0, full)
    inks: Samples = np.rint(np.concatenate([colors, black], axis=-1)).astype(rgb.dtype)
    return inks


def _transform(array: Samples, icc: bytes, *, to_cmyk: bool) -> Samples:
    """H W 4 <-> H W 3 between the profile and sRGB. Raises one of _PROFILE_ERRORS."""
    profiles = (space_profile("srgb"), icc) if to_cmyk else (icc, space_profile("srgb"))
    spaces = ("rgb", "cmyk") if to_cmyk else ("cmyk", "rgb")
    result = np.empty((*array.shape[:2], 4 if to_cmyk else 3), dtype=array.dtype)
    for band in _bands(array):
        result[band] = imagecodecs.cms_transform(
            np.ascontiguousarray(array[band]),
            *profiles,
            colorspace=spaces[0],
            outcolorspace=spaces[1],
            outdtype=array.dtype.name,
            intent=_INTENT,
            flags=_BLACK_POINT_COMPENSATION,
        )
    return result
