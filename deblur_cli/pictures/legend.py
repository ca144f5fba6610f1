"""Lines, text and legends in the size that a picture needs; a legend lies where it hides the least."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur_cli.pictures.colors import confidence_colors, motion_colors
from deblur_cli.pictures.maps import Bools, Floats, Maps, Pixels8

_PANEL = (18, 18, 18)
_INK = (240, 240, 240)
_LEAST_TEXT = 7.0  # pixels; smaller text cannot be read, so that smaller pictures get no legend
_LEAST_NAMED = 0.05  # of what was restored; a scale with less is not named
_LARGEST_SHARE = 0.6  # of the picture's height and width that a panel may take
_SUPERSAMPLING = 3
_THUMBNAIL = 600  # pixels; lines and text are legible on a picture reduced to this
_SMALLEST_TEXT = 11  # pixels high on the thumbnail


def blurred(share: float) -> str:
    """How much of a photo is blurred, as text; a little is not rounded to nothing."""
    return "<0.1% blurred" if 0 < share < 0.0005 else f"{share:.1%} blurred"


def at_scales(shares: Mapping[int, float]) -> str:
    """At which scales most was restored, such as " at 1/4 and 1/2"; empty where all was at full size.

    shares: of the photo's area, by scale
    """
    known = sum(shares.values())
    named = [scale for scale, share in sorted(shares.items(), reverse=True) if share > _LEAST_NAMED * known]
    if not named or named == [1]:
        return ""
    *others, last = ["full size" if scale == 1 else f"1/{scale}" for scale in named]
    return f" at {' and '.join(filter(None, (', '.join(others), last)))}"


def add_mask_legend(canvas: Pixels8, maps: Maps, epsilon: float, share: float) -> None:
    """State epsilon and the blurred share, and show the colors from epsilon to 1; in place."""
    size = text_size(*canvas.shape[:2])
    if size < _LEAST_TEXT:
        return None
    lines = [blurred(share), f"at epsilon {epsilon:g}"]
    if share == 0:
        return _place(canvas, _panel(lines, size, None), maps.probability > epsilon)
    wide = round(max(ImageFont.load_default(size).getlength(line) for line in lines))
    steps = np.linspace(0, 1, wide, dtype=np.float32)
    bar = np.broadcast_to(confidence_colors(steps), (round(size * 0.8), wide, 3)).astype(np.uint8)
    panel = _panel([*lines, (f"{epsilon:g}", "1")], size, Image.fromarray(bar))
    return _place(canvas, panel, maps.probability > epsilon)


def add_motion_legend(canvas: Pixels8, moving: Bools, lines: Sequence[str], *, speed: bool) -> None:
    """Show which color stands for which direction (and speed, if so), with lines of text; in place."""
    size = text_size(*canvas.shape[:2])
    if size < _LEAST_TEXT:
        return
    wheel = _wheel(max(8, round(5 * size)), speed=speed) if moving.any() else None
    _place(canvas, _panel(lines, size, wheel), moving)


def _wheel(side: int, *, speed: bool) -> Image.Image:
    """A disc in which every point has the color of moving there from the middle."""
    fine = side * 2
    y, x = (np.mgrid[:fine, :fine].astype(np.float32) + 0.5) / (fine / 2) - 1
    radius = np.hypot(y, x)
    strength = np.clip(radius, 0, 1) if speed else np.ones_like(radius)
    colors = motion_colors(np.arctan2(y, x), strength)
    inside = (radius <= 1) if speed else (radius <= 1) & (radius >= 0.45)
    drawn = np.where(inside[..., None], colors, np.float32(_PANEL[0]))
    return Image.fromarray(np.rint(drawn).astype(np.uint8)).reduce(2)


def _panel(lines: Sequence[str | tuple[str, str]], size: float, picture: Image.Image | None) -> Image.Image:
    """Put a picture and lines of text below each other; a pair of texts goes to the left and right edge."""
    font = ImageFont.load_default(size)
    leading, pad = round(size * 1.3), max(2, round(size * 0.6))
    flat = [line if isinstance(line, str) else "  ".join(line) for line in lines]
    wide = max([round(font.getlength(line)) for line in flat] + [picture.width if picture else 0])
    pairs = sum(not isinstance(line, str) for line in lines)
    tall = len(lines) * leading + (picture.height + pad if picture else 0)
    panel = Image.new("RGB", (wide + 2 * pad, tall + 2 * pad), _PANEL)
    pen = ImageDraw.Draw(panel)
    y = pad
    for i, line in enumerate(lines):
        if picture and i == len(lines) - pairs:
            panel.paste(picture, ((panel.width - picture.width) // 2, y + pad // 2))
            y += picture.height + pad
        if isinstance(line, str):
            pen.text((pad, y), line, fill=_INK, font=font)
        else:
            pen.text((pad, y), line[0], fill=_INK, font=font)
            pen.text((panel.width - pad - font.getlength(line[1]), y), line[1], fill=_INK, font=font)
        y += leading
    if picture and not pairs:
        panel.paste(picture, ((panel.width - picture.width) // 2, y + pad // 2))
    return panel


def _place(canvas: Pixels8, panel: Image.Image, marked: Bools) -> None:
    """Lay a panel into the corner below which the least is marked (h w), or nowhere if it is too large."""
    height, width = canvas.shape[:2]
    gap = round(text_size(height, width) * 0.5)
    tall, wide = panel.height + gap, panel.width + gap
    if tall > _LARGEST_SHARE * height or wide > _LARGEST_SHARE * width:
        return
    rows, columns = -(-tall * marked.shape[0] // height), -(-wide * marked.shape[1] // width)
    corners = [  # the lower ones first
        (slice(-rows, None), slice(0, columns), height - tall, gap),
        (slice(-rows, None), slice(-columns, None), height - tall, width - wide),
        (slice(0, rows), slice(-columns, None), gap, width - wide),
        (slice(0, rows), slice(0, columns), gap, gap),
    ]
    _, _, top, left = min(corners, key=lambda corner: float(marked[corner[0], corner[1]].mean()))
    patch = canvas[top : top + panel.height, left : left + panel.width]
    over: Floats = np.asarray(panel, np.float32)
    patch[...] = np.rint(over + 0.12 * (patch - over))


def line_width(height: int, width: int) -> float:
    """Lines look alike on photos of all sizes: 1.4 px on one of 600 px, 9 px on one of 4000 px."""
    return max(1.4, 1.4 * max(height, width) / _THUMBNAIL)


def text_size(height: int, width: int) -> float:
    """The height of text that is legible on the thumbnail, but no more than fits the picture."""
    wanted = _SMALLEST_TEXT * max(1.0, max(height, width) / _THUMBNAIL)
    return min(wanted, height / 8, width / 16)


def stroke(canvas: Pixels8, path: Floats, widths: Floats, color: Floats) -> None:
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
    patch[...] = np.rint(patch + alpha * (color - patch))


def _segments(points: Floats, radii: Floats) -> list[list[tuple[float, float]]]:
    """The four corners (x, y) of each piece of a path, as broad at each end as the path is there."""
    along = np.diff(points, axis=0)
    length = np.hypot(*along.T)[:, None]
    across = np.where(length > 0, along[:, ::-1] * (-1, 1) / np.maximum(length, 1e-6), 0)
    first, last = across * radii[:-1, None], across * radii[1:, None]
    corners = np.stack([points[:-1] + first, points[1:] + last, points[1:] - last, points[:-1] - first], 1)
    return [[(x, y) for y, x in piece] for piece in corners.tolist()]
