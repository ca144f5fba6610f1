"""The blur mask as a picture: what is restored at a given epsilon, and how sure the network is of it."""

import numpy as np
from PIL import Image, ImageFilter

from deblur_cli.pictures.colors import as_rgb, confidence_colors, dimming, subdued, tinted
from deblur_cli.pictures.legend import add_mask_legend, line_width
from deblur_cli.pictures.maps import Bools, Floats, Maps, Pixels8, bands, upsample

_CONTOUR = np.array([255, 255, 255], dtype=np.float32)
_CASING = np.array([12, 12, 12], dtype=np.float32)
_TINT = 0.8  # share of the map's color; the rest is the photo


def mask_overlay(
    pixels: Pixels8, maps: Maps, epsilon: float, *, share: float | None = None, scale: float = 1.0
) -> Pixels8:
    """Draw the blur mask over a photo: sharp parts grayed, blurred ones tinted by confidence.

    The line around them is where the confidence, interpolated to full size, crosses epsilon; where it has
    to be broad it lies outside, so that it hides no narrow region.
    pixels H W 3 or H W 1, the photo, or the photo reduced to `scale` of its size; returns H W 3.
    share: of the photo that is blurred, 0-1, for the legend, which is left out if it is None.
    """
    height, width = pixels.shape[:2]
    line = max(2.0, line_width(height, width))  # the two pixels that meet at the edge, at least
    margin = 2 * int(line) + 4
    brightness = dimming(pixels, 0.7)
    drawn = np.empty((height, width, 3), np.uint8)
    for top, bottom in bands(height):
        upper, lower = max(0, top - margin), min(height, bottom + margin)
        probability = upsample(maps.probability, (upper, lower), width, scale)
        core, casing = _contour(probability > epsilon, line)
        band = slice(top - upper, bottom - upper)
        probability = probability[band]
        photo = as_rgb(pixels[top:bottom])
        inside = probability > epsilon
        canvas = subdued(photo, 0.7, brightness)
        color = confidence_colors((probability[inside] - epsilon) / max(1 - epsilon, 1e-6))
        canvas[inside] = tinted(photo[inside], color, _TINT)
        canvas += 0.7 * casing[band, :, None] * (_CASING - canvas)
        canvas += core[band, :, None] * (_CONTOUR - canvas)
        drawn[top:bottom] = np.rint(canvas)
    if share is not None:
        add_mask_legend(drawn, maps, epsilon, share)
    return drawn


def _contour(inside: Bools, line: float) -> tuple[Floats, Floats]:
    """The coverage 0-1 of a smooth line along the edge of a region, and of a broader one below it.

    A box blur of the region climbs from 0 to 1 across its edge; how far it is from 1/2 shows how far
    away the edge is, and this smooths the staircase of pixels. What is broader than two pixels lies outside.
    """
    if inside.all() or not inside.any():
        nothing = np.zeros(inside.shape, np.float32)
        return nothing, nothing
    radius = int(line * 1.5) + 2
    region = Image.fromarray(inside.astype(np.uint8) * 255)
    climb = np.asarray(region.filter(ImageFilter.BoxBlur(radius)), np.float32) / 255 - 0.5
    distance = np.abs(climb * (2 * radius + 1) + (line / 2 - 1))
    # Where no edge is near the distance is that of the box's border, which is beyond both lines.
    core, casing = (
        np.asarray(np.clip(reach + 0.5 - distance, 0, 1), np.float32) for reach in (line / 2, line)
    )
    # In a region narrower than the box the climb takes the inside for the edge, or sees none.
    within = np.asarray(region.filter(ImageFilter.MinFilter(3))) > 0
    core[within] = casing[within] = 0
    core[(np.asarray(region.filter(ImageFilter.MaxFilter(3))) > 0) & ~inside] = 1
    return core, casing
