"""What all drawings are made of: maps of cells at any size, colors that mean something, lines and legends."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deblur_cli.nets.network import CELL

BAND = 256  # rows that are worked on at once, which bounds the memory

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Pixels8 = NDArray[np.uint8]


class Maps(Protocol):
    """What the overlays read of findings: one value for each cell of the photo.

    probability  h w, 0-1;  start, end  2 h w, displacement (dy, dx) in photo pixels from mid-exposure
    """

    @property
    def probability(self) -> Floats: ...
    @property
    def start(self) -> Floats: ...
    @property
    def end(self) -> Floats: ...


def upsample(values: Floats, rows: tuple[int, int], width: int, scale: float = 1.0) -> Floats:
    """Interpolate a map bilinearly at pixel centers: rows [first, last), columns [0, width).

    scale: pixels of the picture per pixel of the photo.
    """
    above, below, down = _neighbors(np.arange(*rows), values.shape[0], CELL * scale)
    left, right, across = _neighbors(np.arange(width), values.shape[1], CELL * scale)
    lines = values[above] + down[:, None] * (values[below] - values[above])
    return lines[:, left] + across * (lines[:, right] - lines[:, left])


def _neighbors(
    places: NDArray[np.int64], count: int, cell: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The map values before and after each pixel center, and the share of the latter."""
    at = np.clip((places + 0.5) / cell - 0.5, 0, count - 1)
    before = at.astype(np.int64)
    return before, np.minimum(before + 1, count - 1), (at - before).astype(np.float32)


def bands(height: int) -> Iterator[tuple[int, int]]:
    """Cut rows into bands: the first row of each, and the one after its last."""
    return ((top, min(top + BAND, height)) for top in range(0, height, BAND))


def reduced(pixels: Pixels8, longest: int) -> tuple[Pixels8, float]:
    """A picture (H W 3 or 1) no longer than that, as H W 3, and its pixels per photo pixel."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image), scale


Values = NDArray[np.floating]

# Confidence from barely to surely blurred: nine points of "inferno" between 0.28 and 0.98, the map that
# Nathaniel Smith and Stefan van der Walt made for matplotlib (CC0). Lightness climbs in even steps, so that
# equal steps of confidence look equal, also to color-blind eyes.
_CONFIDENCE_STOPS = np.array(
    [
        (98, 20, 110),
        (135, 33, 107),
        (169, 46, 94),
        (202, 64, 74),
        (229, 92, 48),
        (246, 126, 20),
        (252, 168, 13),
        (247, 211, 64),
        (245, 249, 146),
    ],
    dtype=np.float32,
)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601 weights of encoded R, G, B

# Lightness and chroma in OKLab (Bjorn Ottosson, "A perceptual color space for image processing", 2020).
# This lightness holds the most vivid circle inside sRGB.
_VIVID = (0.76, 0.125)
_STILL_LIGHTNESS = 0.28
_DARK = 64  # mean of the samples, 0-255, below which a photo was taken at night


def confidence_colors(confidence: Floats) -> Floats:
    """The color, 0-255, of confidences scaled so that 0 is epsilon and 1 is sure: ... -> ... 3."""
    place = np.clip(confidence, 0, 1) * (len(_CONFIDENCE_STOPS) - 1)
    before = np.minimum(place.astype(np.int64), len(_CONFIDENCE_STOPS) - 2)
    share = (place - before)[..., None].astype(np.float32)
    low, high = _CONFIDENCE_STOPS[before], _CONFIDENCE_STOPS[before + 1]
    color: Floats = low + share * (high - low)
    return color


def direction_colors(angle: Floats) -> Floats:
    """A color per direction, all equally light and vivid (a circle in OKLab): ... -> ... 3, 0-255.

    angle: radians, 0 to the right, growing downwards as rows do
    """
    lightness, chroma = _VIVID
    return _from_oklab(np.full_like(angle, lightness), chroma * np.cos(angle), chroma * np.sin(angle))


def motion_colors(angle: Floats, speed: Floats) -> Floats:
    """Direction as hue and speed (0-1) as lightness and vividness: ... -> ... 3, 0-255."""
    lightness, chroma = _VIVID
    light = _STILL_LIGHTNESS + (lightness - _STILL_LIGHTNESS) * speed
    return _from_oklab(light, chroma * speed * np.cos(angle), chroma * speed * np.sin(angle))


def as_rgb(pixels: Pixels8) -> Floats:
    """Return H W 3 or H W 1 as floats H W 3."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.float32)


def luma(photo: Floats) -> Floats:
    """The light of pixels: ... 3 -> ... 1."""
    light: Floats = (photo @ _LUMA)[..., None]
    return light


def subdued(photo: Floats, gray: float, brightness: float) -> Floats:
    """The photo with part of its color and light taken away."""
    return (photo + gray * (luma(photo) - photo)) * np.float32(brightness)


def dimming(pixels: Pixels8, brightness: float) -> float:
    """By how much to dim a photo (H W 3 or H W 1): as wanted, but less where it is dark already."""
    light = float(pixels[::16, ::16].mean())
    return brightness + (1 - brightness) * max(0.0, 1 - light / _DARK)


def tinted(photo: Floats, color: Floats, strength: float) -> Floats:
    """Color photo pixels and keep enough of their light and shade to tell what is in the picture."""
    shade = np.float32(0.6) + np.float32(0.4 / 255) * luma(photo)
    pixels: Floats = (1 - strength) * photo + strength * color * shade
    return pixels


def tinted_picture(picture: Image.Image, color: tuple[int, int, int], strength: float) -> Image.Image:
    """`tinted` for a whole picture in one color: several times as fast, and off by one at most."""
    light = picture.convert("L")
    bands = (light.point([round(value * (0.6 + 0.4 / 255 * step)) for step in range(256)]) for value in color)
    return Image.blend(picture, Image.merge("RGB", list(bands)), strength)


def _from_oklab(lightness: Values, a: Values, b: Values) -> Floats:
    roots = [
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    ]
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(np.stack(roots, axis=-1) ** 3 @ to_linear.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255, np.float32)


_PANEL = (18, 18, 18)
_INK = (240, 240, 240)
_LEAST_TEXT = 7.0  # pixels; smaller text cannot be read, so that smaller pictures get no legend
_LEAST_NAMED = 0.05  # of what was restored; a scale with less is not named
_LARGEST_SHARE = 0.6  # of the picture's height and width that a panel may take
_SUPERSAMPLING = 3
_THUMBNAIL = 600  # pixels; lines and text are legible on a picture reduced to this
_SMALLEST_TEXT = 11  # pixels high on the thumbnail


def blurred(share: float, what: str = "blurred") -> str:
    """How much of a photo is blurred, as text; a little is not rounded to nothing."""
    return f"<0.1% {what}" if 0 < share < 0.0005 else f"{share:.1%} {what}"


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
