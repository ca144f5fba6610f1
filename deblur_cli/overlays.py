"""Pictures of what the network saw: where it found blur, and along which paths things moved."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CELL = 8  # photo pixels per value of a map, in each direction
BAND = 256  # rows that are worked on at once, which bounds the memory

Floats = NDArray[np.float32]
Pixels8 = NDArray[np.uint8]

# Confidence from barely to surely blurred: dark violet, red, orange, pale yellow. Lightness (CIE L*) climbs
# in even steps from 24 to 88, so that equal steps of confidence look equal.
_CONFIDENCE_STOPS = np.array(
    [
        (76, 34, 122),
        (130, 45, 133),
        (184, 59, 124),
        (226, 87, 100),
        (245, 131, 74),
        (249, 177, 73),
        (240, 222, 117),
    ],
    dtype=np.float32,
)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601 weights of encoded R, G, B
_CONTOUR = np.array([255, 255, 255], dtype=np.float32)

_CASING = np.array([12, 12, 12], dtype=np.float32)

_LEAST_MOTION = 0.25  # photo pixels; what moved less has no direction to draw
_MOST_TIMES = 20  # how many times its length a path may be drawn
_CURVES_WANTED = 260  # over the whole blurred region
_CURVES_AT_LEAST = 40  # even where they are so long that they overlap
_SUPERSAMPLING = 3
_INSTANTS = 33  # points along a trajectory
_TAPER = 0.3  # width at the end of the exposure, as a share of that at its start


class Maps(Protocol):
    """What the overlays read of the network's findings: maps of 1/8 of the photo's size.

    probability  h w, 0-1;  start, end  2 h w, displacement (dy, dx) in photo pixels from mid-exposure
    """

    @property
    def probability(self) -> Floats: ...
    @property
    def start(self) -> Floats: ...
    @property
    def end(self) -> Floats: ...


def mask_overlay(pixels: Pixels8, maps: Maps, epsilon: float) -> Pixels8:
    """Draw the blur mask over a photo: sharp parts greyed, blurred ones tinted by confidence.

    The line around them is where the confidence, interpolated to full size, crosses epsilon.
    pixels H W 3 or H W 1; returns H W 3.
    """
    height, width = pixels.shape[:2]
    line = _line_width(height, width)
    margin = int(line) + 2
    drawn = np.empty((height, width, 3), np.uint8)
    for top, bottom in _bands(height):
        upper, lower = max(0, top - margin), min(height, bottom + margin)
        probability = upsample(maps.probability, (upper, lower), width)
        contour = _contour(probability > epsilon, line)[top - upper : bottom - upper, :, None]
        probability = probability[top - upper : bottom - upper]
        photo = _as_rgb(pixels[top:bottom])
        inside = probability > epsilon
        canvas = _subdued(photo, 0.6, 0.75)
        canvas[inside] = _tint(photo[inside], (probability[inside] - epsilon) / max(1 - epsilon, 1e-6))
        canvas += contour * (_CONTOUR - canvas)
        drawn[top:bottom] = np.rint(canvas)
    return drawn


def trajectory_overlay(pixels: Pixels8, maps: Maps, epsilon: float) -> Pixels8:
    """Draw the paths along which blurred pixels moved, on a grid that suits the blurred region.

    Each path runs through the pixel's place at mid-exposure, thick where the exposure began and thin
    where it ended; its colour tells the direction. Paths have their true length, unless that would be
    too short to see: then all are drawn longer by a whole factor, which the picture states.
    pixels H W 3 or H W 1; returns H W 3.
    """
    height, width = pixels.shape[:2]
    drawn = np.empty((height, width, 3), np.uint8)
    for top, bottom in _bands(height):
        drawn[top:bottom] = np.rint(_subdued(_as_rgb(pixels[top:bottom]), 0.35, 0.7))
    line = _line_width(height, width) * 1.4
    curves, factor = _curves(maps, epsilon, (height, width), line)
    for curve in curves:
        _stroke(drawn, curve.path, line, line * 0.45, _CASING)
    for curve in curves:
        _stroke(drawn, curve.path, line, 0.0, curve.colour)
    if factor > 1:
        _label(drawn, f"paths drawn {factor} x as long")
    return drawn


def trajectory(start: Floats, end: Floats, instants: int = _INSTANTS) -> Floats:
    """Return the positions of Eq. 4 over the exposure. start, end: ... 2; returns ... instants 2."""
    u = np.linspace(-1, 1, instants, dtype=np.float32)[:, None]
    start, end = start[..., None, :], end[..., None, :]
    path = (start + end) / 2 * u**2 + (end - start) / 2 * u
    return path.astype(np.float32, copy=False)


def upsample(values: Floats, rows: tuple[int, int], width: int) -> Floats:
    """Interpolate a map bilinearly at the centres of photo pixels: rows [first, last), columns [0, width)."""
    above, below, down = _neighbours(np.arange(*rows), values.shape[0])
    left, right, across = _neighbours(np.arange(width), values.shape[1])
    lines = values[above] + down[:, None] * (values[below] - values[above])
    return lines[:, left] + across * (lines[:, right] - lines[:, left])


def _neighbours(places: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return the map values before and after each pixel centre, and the share of the latter."""
    at = np.clip((places + 0.5) / CELL - 0.5, 0, count - 1)
    before = at.astype(np.int64)
    return before, np.minimum(before + 1, count - 1), (at - before).astype(np.float32)


def _bands(height: int) -> Iterator[tuple[int, int]]:
    return ((top, min(top + BAND, height)) for top in range(0, height, BAND))


def _line_width(height: int, width: int) -> float:
    """Lines look alike on photos of all sizes: 2 px on one of 800 px."""
    return max(1.5, min(height, width) / 400)


def _as_rgb(pixels: Pixels8) -> Floats:
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.float32)


def _luma(photo: Floats) -> Floats:
    red, green, blue = np.moveaxis(photo, -1, 0)
    luma: Floats = (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[..., None]
    return luma


def _subdued(photo: Floats, grey: float, brightness: float) -> Floats:
    """Return the photo with part of its colour and light taken away."""
    luma = _luma(photo)
    return (photo + grey * (luma - photo)) * np.float32(brightness)


def _tint(photo: Floats, confidence: Floats) -> Floats:
    """Colour photo pixels (n 3) by confidence 0-1 (n), keeping their light and shade."""
    place = np.clip(confidence, 0, 1) * (len(_CONFIDENCE_STOPS) - 1)
    before = np.minimum(place.astype(np.int64), len(_CONFIDENCE_STOPS) - 2)
    share = (place - before)[..., None].astype(np.float32)
    low, high = _CONFIDENCE_STOPS[before], _CONFIDENCE_STOPS[before + 1]
    colour = low + share * (high - low)
    luma = _luma(photo) / 255
    tinted: Floats = 0.2 * photo + 0.8 * colour * (0.5 + 0.5 * luma)
    return tinted


def _contour(inside: NDArray[np.bool_], line: float) -> Floats:
    """Return the coverage 0-1 of a smooth line along the edge of a region.

    A box blur of the region climbs from 0 to 1 across its edge; how far it is from 1/2 tells how far
    away the edge is, and this smooths the staircase of pixels.
    """
    if inside.all() or not inside.any():
        return np.zeros(inside.shape, np.float32)
    radius = int(line) + 1
    image = Image.fromarray(inside.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(radius))
    distance = np.abs(np.asarray(image, np.float32) / 255 - 0.5) * (2 * radius + 1)
    return np.clip(line / 2 + 0.5 - distance, 0, 1)


@dataclass(frozen=True)
class _Curve:
    """A trajectory in photo pixels (y, x), instants in order, and the colour of its direction."""

    path: Floats  # instants 2
    colour: Floats  # 3


def _curves(maps: Maps, epsilon: float, size: tuple[int, int], line: float) -> tuple[list[_Curve], int]:
    """Return the curves to draw with lines of that width, and by how much their length is multiplied."""
    reach = float(np.hypot(*size))  # nothing that is seen moved farther than the photo is wide
    ends = np.concatenate([maps.start, maps.end])
    sane = (np.abs(ends) <= reach).all(axis=0)  # false for NaN
    moved = np.where(sane, np.hypot(*np.where(sane, maps.end - maps.start, 0)), 0)
    seen = (maps.probability > epsilon) & (moved >= _LEAST_MOTION)
    if not seen.any():
        return [], 1
    typical = float(np.median(moved[seen]))
    factor = 1 if typical >= 3 * line else min(round(6 * line / typical), _MOST_TIMES)
    cells = _grid_cells(seen, size, typical * factor)
    start, end = (field[:, cells[:, 0], cells[:, 1]].T for field in (maps.start, maps.end))  # 2 n -> n 2
    colours = _direction_colours(np.arctan2(*(end - start).T))
    centre = np.minimum(cells * CELL + CELL / 2, np.array(size) - 0.5).astype(np.float32)
    paths = centre[:, None] + factor * trajectory(start, end)
    return [_Curve(path, colour) for path, colour in zip(paths, colours, strict=True)], factor


def _grid_cells(blurred: NDArray[np.bool_], size: tuple[int, int], length: float) -> NDArray[np.int64]:
    """Choose map cells to draw curves of a typical length at: n 2 (row, column).

    The grid is finer the smaller the blurred region, but not so fine that curves run into each other.
    A grid square takes the blurred cell nearest to its middle, so that small regions get their curve too.
    """
    cells = np.argwhere(blurred)
    finest = max(2.0, min(size) / 40 / CELL, min(length / CELL, np.sqrt(len(cells) / _CURVES_AT_LEAST)))
    step = int(max(finest, np.sqrt(len(cells) / _CURVES_WANTED)))
    square = cells // step
    off_centre = np.abs(cells - (square * step + step // 2)).sum(axis=1)
    order = np.lexsort((off_centre, square[:, 1], square[:, 0]))
    _, first = np.unique(square[order], axis=0, return_index=True)
    nearest = order[first]
    return _apart(cells[nearest[np.argsort(off_centre[nearest], kind="stable")]], 0.75 * step)


def _apart(cells: NDArray[np.int64], distance: float) -> NDArray[np.int64]:
    """Leave out cells that lie too close to an earlier one."""
    kept = np.zeros(len(cells), bool)
    for i, cell in enumerate(cells):
        gaps = np.hypot(*(cells[:i][kept[:i]] - cell).T)
        kept[i] = not (gaps < distance).any()
    return cells[kept]


def _direction_colours(angle: Floats) -> Floats:
    """Return a colour per direction, all equally light and vivid (a circle in OKLab): n -> n 3."""
    lightness, chroma = 0.78, 0.125
    a, b = chroma * np.cos(angle), chroma * np.sin(angle)
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


def _stroke(canvas: Pixels8, path: Floats, line: float, border: float, colour: Floats) -> None:
    """Draw a path onto the canvas in place, tapering from its first point to its last."""
    widths = line * np.linspace(1, _TAPER, len(path)) / 2 + border
    reach = line + border + 1
    low = np.maximum(np.floor(path.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(path.max(axis=0) + reach), canvas.shape[:2]).astype(int)
    if (high <= low).any():
        return
    tall, wide = (high - low).tolist()
    coverage = Image.new("L", (wide * _SUPERSAMPLING, tall * _SUPERSAMPLING))
    pen = ImageDraw.Draw(coverage)
    points = (path - low) * _SUPERSAMPLING
    for (y, x), radius in zip(points.tolist(), (widths * _SUPERSAMPLING).tolist(), strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    for i, width in enumerate((widths * 2 * _SUPERSAMPLING).tolist()[:-1]):
        (y0, x0), (y1, x1) = points[i].tolist(), points[i + 1].tolist()
        pen.line((x0, y0, x1, y1), fill=255, width=max(1, round(width)))
    alpha = np.asarray(coverage.reduce(_SUPERSAMPLING), np.float32)[..., None] / 255
    patch = canvas[low[0] : high[0], low[1] : high[1]]
    patch[...] = np.rint(patch + alpha * (colour - patch))


def _label(canvas: Pixels8, text: str) -> None:
    """Write a line of text into the lower left corner, in place."""
    height, width = canvas.shape[:2]
    font = ImageFont.load_default(max(10, min(height, width) / 40))
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    pad = (bottom - top) // 2 + 1
    patch = canvas[-(bottom - top + 2 * pad) :, : right - left + 2 * pad]
    image = Image.fromarray(patch // 3)
    ImageDraw.Draw(image).text((pad - left, pad - top), text, fill=(235, 235, 235), font=font)
    patch[...] = np.asarray(image)
