"""Motion drawn densely: direction as hue, distance as lightness, over the whole blurred region."""

import numpy as np

from deblur_cli.pictures.colors import as_rgb, dimming, motion_colours, subdued, tinted
from deblur_cli.pictures.legend import add_motion_legend
from deblur_cli.pictures.maps import Maps, Pixels8, bands, find_motion, upsample

_TINT = 0.85  # share of the map's colour; the rest is the photo
_FULL = 95  # percentile of the distances that gets the full colour, so that one outlier darkens nothing


def flow_overlay(
    pixels: Pixels8, maps: Maps, epsilon: float, *, legend: bool = False, scale: float = 1.0
) -> Pixels8:
    """Colour every blurred pixel by the direction and distance from start to end of the exposure.

    pixels H W 3 or H W 1, the photo, or the photo reduced to `scale` of its size; returns H W 3.
    """
    height, width = pixels.shape[:2]
    motion = find_motion(maps, epsilon, (round(height / scale), round(width / scale)))
    full = float(np.percentile(motion.length[motion.moving], _FULL)) if motion.moving.any() else 1.0
    moved = np.where(motion.length > 0, maps.end - maps.start, 0).astype(np.float32)  # 2 h w
    still = ((maps.probability > epsilon) & ~motion.moving).astype(np.float32)
    brightness = dimming(pixels, 0.6)
    drawn = np.empty((height, width, 3), np.uint8)
    for top, bottom in bands(height):
        photo = as_rgb(pixels[top:bottom])
        canvas = subdued(photo, 0.8, brightness)
        rows = (top, bottom)
        inside = upsample(maps.probability, rows, width, scale) > epsilon  # the contour of the mask
        inside &= upsample(still, rows, width, scale) <= 0.5
        down, across = (upsample(part, rows, width, scale)[inside] for part in moved)
        speed = np.clip(np.hypot(down, across) / full, 0, 1).astype(np.float32)
        canvas[inside] = tinted(photo[inside], motion_colours(np.arctan2(down, across), speed), _TINT)
        drawn[top:bottom] = np.rint(canvas)
    if legend:
        moving = bool(motion.moving.any())
        lines = [f"rim {full:.3g} px or more", "middle: still"] if moving else ["no motion found"]
        add_motion_legend(drawn, motion.moving, lines, speed=True)
    return drawn
