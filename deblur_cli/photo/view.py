"""A photo as a plain picture of 8 bits, to show or to draw on."""

import numpy as np
from numpy.typing import NDArray

from deblur_cli.photo.photo import Metadata, Photo


def eight_bits(photo: Photo) -> NDArray[np.uint8]:
    """Return the pixels of a photo in 8 bits: H W 3 or H W 1."""
    if photo.pixels.dtype == np.uint16:
        return (photo.pixels.astype(np.uint16) >> 8).astype(np.uint8)
    return photo.pixels.astype(np.uint8, copy=False)


def rgb_profile(photo: Photo) -> Metadata:
    """Return the profile of a drawing over a photo: an RGB one still describes it, others would not fit."""
    fits = photo.stored is None and photo.pixels.shape[2] == 3
    return Metadata(icc=photo.metadata.icc if fits else None)
