"""Legends: a dark panel in the corner of the picture where the least is hidden."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from deblur_cli.pictures.colors import confidence_colours, motion_colours
from deblur_cli.pictures.maps import Bools, Floats, Maps, Pixels8
from deblur_cli.pictures.pen import font_of, text_size

_PANEL = (18, 18, 18)
_INK = (240, 240, 240)
_LEAST_TEXT = 7.0  # pixels; smaller text cannot be read, so that smaller pictures get no legend
_LEAST_TOLD = 0.05  # of what was restored; a scale with less goes unmentioned
_LARGEST_SHARE = 0.6  # of the picture's height and width that a panel may take


def blurred(share: float) -> str:
    """Say how much of a photo is blurred; little is not nothing."""
    return "<0.1% blurred" if 0 < share < 0.0005 else f"{share:.1%} blurred"


def at_scales(shares: Mapping[int, float]) -> str:
    """Say at which scales most was restored, such as " at 1/4 and 1/2"; nothing where all was at full size.

    shares: of the photo's area, by how many times smaller it was seen
    """
    known = sum(shares.values())
    told = [scale for scale, share in sorted(shares.items(), reverse=True) if share > _LEAST_TOLD * known]
    if not told or told == [1]:
        return ""
    *others, last = ["full size" if scale == 1 else f"1/{scale}" for scale in told]
    return f" at {' and '.join(filter(None, (', '.join(others), last)))}"


def add_mask_legend(canvas: Pixels8, maps: Maps, epsilon: float, share: float) -> None:
    """State epsilon and the blurred share, and show the colours from epsilon to 1; in place."""
    size = text_size(*canvas.shape[:2])
    if size < _LEAST_TEXT:
        return None
    lines = [blurred(share), f"at epsilon {epsilon:g}"]
    if share == 0:
        return _place(canvas, _panel(lines, size, None), maps.probability > epsilon)
    wide = round(max(font_of(size).getlength(line) for line in lines))
    steps = np.linspace(0, 1, wide, dtype=np.float32)
    bar = np.broadcast_to(confidence_colours(steps), (round(size * 0.8), wide, 3)).astype(np.uint8)
    panel = _panel([*lines, (f"{epsilon:g}", "1")], size, Image.fromarray(bar))
    return _place(canvas, panel, maps.probability > epsilon)


def add_motion_legend(canvas: Pixels8, moving: Bools, lines: Sequence[str], *, speed: bool) -> None:
    """Show which colour stands for which direction (and speed, if so), with lines of text; in place."""
    size = text_size(*canvas.shape[:2])
    if size < _LEAST_TEXT:
        return
    wheel = _wheel(max(8, round(5 * size)), speed=speed) if moving.any() else None
    _place(canvas, _panel(lines, size, wheel), moving)


def _wheel(side: int, *, speed: bool) -> Image.Image:
    """A disc in which every point has the colour of moving there from the middle."""
    fine = side * 2
    y, x = (np.mgrid[:fine, :fine].astype(np.float32) + 0.5) / (fine / 2) - 1
    radius = np.hypot(y, x)
    strength = np.clip(radius, 0, 1) if speed else np.ones_like(radius)
    colours = motion_colours(np.arctan2(y, x), strength)
    inside = (radius <= 1) if speed else (radius <= 1) & (radius >= 0.45)
    drawn = np.where(inside[..., None], colours, np.float32(_PANEL[0]))
    return Image.fromarray(np.rint(drawn).astype(np.uint8)).reduce(2)


def _panel(lines: Sequence[str | tuple[str, str]], size: float, picture: Image.Image | None) -> Image.Image:
    """Put a picture and lines of text below each other; a pair of texts goes to the left and right edge."""
    font = font_of(size)
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
