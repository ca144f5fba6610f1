"""The pictures of one photo in a report, as JPEG, which every browser shows."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.files import write_file
from deblur_cli.photo.view import eight_bits, rgb_profile
from deblur_cli.pictures import flow_overlay, mask_overlay, trajectory_overlay
from deblur_cli.pictures.maps import reduced

if TYPE_CHECKING:
    from deblur_cli.photo.photo import Photo
    from deblur_cli.restoration.deblurrer import Result

_THUMBNAIL = 480  # pixels, the longer side
_DRAWING = 2000
_LONGEST = 16_000  # what browsers show for certain; longer photos are shown reduced
_QUALITY = 92


def write_pictures(home: Path, photo: "Photo", result: "Result", *, flow: bool) -> None:
    """Write before, after (if anything changed), mask, motion and thumbnail. Raises EncodeError."""
    icc = rgb_profile(photo).icc
    before, after = eight_bits(photo), eight_bits(result.photo)

    def write(name: str, pixels: NDArray[np.uint8], quality: int = _QUALITY) -> None:
        write_file(home / name, [_jpeg(pixels, icc, quality)], overwrite=True)

    write("before.jpg", _shortened(before))
    if result.changed:
        write("after.jpg", _shortened(after))
    small, scale = reduced(before, _DRAWING)
    maps, epsilon = result.findings, result.epsilon
    write("mask.jpg", mask_overlay(small, maps, epsilon, share=result.blurred_share, scale=scale))
    draw = flow_overlay if flow else trajectory_overlay
    write("motion.jpg", draw(small, maps, epsilon, legend=True, scale=scale))
    write("thumbnail.jpg", reduced(after, _THUMBNAIL)[0], 82)


def _shortened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return reduced(pixels, _LONGEST)[0] if max(pixels.shape[:2]) > _LONGEST else pixels


def _jpeg(pixels: NDArray[np.uint8], icc: bytes | None, quality: int) -> bytes:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    profile = {} if icc is None else {"icc_profile": icc}
    image.save(file, "JPEG", quality=quality, subsampling=0, **profile)
    return file.getvalue()
