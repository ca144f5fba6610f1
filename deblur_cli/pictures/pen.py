"""Lines and text in the size that a picture needs, anti-aliased."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur_cli.pictures.maps import Floats, Pixels8

_SUPERSAMPLING = 3
_THUMBNAIL = 600  # pixels; lines and text are to be made out on a picture reduced to that
_SMALLEST_TEXT = 11  # pixels high on the thumbnail

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def line_width(height: int, width: int) -> float:
    """Lines look alike on photos of all sizes: 1.4 px on one of 600 px, 9 px on one of 4000 px."""
    return max(1.4, 1.4 * max(height, width) / _THUMBNAIL)


def text_size(height: int, width: int) -> float:
    """Return the height of text that is legible on the thumbnail, but no more than fits the picture."""
    wanted = _SMALLEST_TEXT * max(1.0, max(height, width) / _THUMBNAIL)
    return min(wanted, height / 8, width / 16)


def font_of(size: float) -> Font:
    """Return Pillow's own font, which holds ASCII and little more."""
    return ImageFont.load_default(size)


def stroke(canvas: Pixels8, path: Floats, widths: Floats, colour: Floats) -> None:
    """Draw a path (n 2, y x) of changing width (n) onto the canvas (H W 3) in place, with round ends."""
    radii = widths / 2
    reach = float(radii.max()) + 1
    low = np.maximum(np.floor(path.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(path.max(axis=0) + reach), canvas.shape[:2]).astype(int)
    if (high <= low).any():
        return
    tall, wide = (high - low).tolist()
    coverage = Image.new("L", (wide * _SUPERSAMPLING, tall * _SUPERSAMPLING))
    pen = ImageDraw.Draw(coverage)
    points = ((path - low) * _SUPERSAMPLING).astype(np.float32)
    for (y, x), radius in zip(points.tolist(), (radii * _SUPERSAMPLING).tolist(), strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    for corners in _segments(points, (radii * _SUPERSAMPLING).astype(np.float32)):
        pen.polygon(corners, fill=255)
    alpha = np.asarray(coverage.reduce(_SUPERSAMPLING), np.float32)[..., None] / 255
    patch = canvas[low[0] : high[0], low[1] : high[1]]
    patch[...] = np.rint(patch + alpha * (colour - patch))


def _segments(points: Floats, radii: Floats) -> list[list[tuple[float, float]]]:
    """Return the four corners (x, y) of each piece of a path, as broad at each end as the path is there."""
    along = np.diff(points, axis=0)
    length = np.hypot(*along.T)[:, None]
    across = np.where(length > 0, along[:, ::-1] * (-1, 1) / np.maximum(length, 1e-6), 0)
    first, last = across * radii[:-1, None], across * radii[1:, None]
    corners = np.stack([points[:-1] + first, points[1:] + last, points[1:] - last, points[:-1] - first], 1)
    return [[(x, y) for y, x in piece] for piece in corners.tolist()]
