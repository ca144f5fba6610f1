"""The blur mask as a picture: what is restored at an epsilon, or at several, to choose one by eye."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from deblur_cli.pictures.drawing import (
    Bools,
    Floats,
    Maps,
    Pixels8,
    add_mask_legend,
    as_rgb,
    bands,
    confidence_colors,
    dimming,
    line_width,
    reduced,
    subdued,
    tinted,
    upsample,
)

_CONTOUR = np.array([255, 255, 255], dtype=np.float32)
_CASING = np.array([12, 12, 12], dtype=np.float32)
_TINT = 0.8  # share of the map's color; the rest is the photo
_SHEET_LONGEST = 640  # pixels, the longer side of each picture
_SHEET_TEXT = 20  # pixels
_SHEET_GAP = 14
_SHEET_GROUND = (250, 250, 248)
_SHEET_INK = (20, 20, 20)


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


@dataclass(frozen=True, eq=False)
class Step:
    """One epsilon: its maps, and the lines of text below its picture."""

    epsilon: float
    maps: Maps
    lines: tuple[str, ...]


def draw_sheet(pixels: Pixels8, steps: Sequence[Step], first: Sequence[str]) -> Pixels8:
    """Draw the photo (H W 3 or H W 1) with the lines `first`, then its mask for each step: H W 3."""
    small, scale = reduced(pixels, _SHEET_LONGEST)
    pictures = [(small, tuple(first))]
    pictures += [(mask_overlay(small, s.maps, s.epsilon, scale=scale), s.lines) for s in steps]
    height, width = small.shape[:2]
    font = ImageFont.load_default(_SHEET_TEXT)
    wide = (
        max([width, *(int(font.getlength(line)) + 1 for _, lines in pictures for line in lines)]) + _SHEET_GAP
    )
    tall = height + round(_SHEET_TEXT * 1.4) * max(len(lines) for _, lines in pictures) + 2 * _SHEET_GAP
    columns = _columns(len(pictures), wide / tall)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * wide + _SHEET_GAP, rows * tall + _SHEET_GAP), _SHEET_GROUND)
    pen = ImageDraw.Draw(sheet)
    for place, (picture, lines) in enumerate(pictures):
        x, y = _SHEET_GAP + place % columns * wide, _SHEET_GAP + place // columns * tall
        sheet.paste(Image.fromarray(picture), (x, y))
        for number, line in enumerate(lines):
            top = y + height + _SHEET_GAP // 2 + number * round(_SHEET_TEXT * 1.4)
            pen.text((x, top), line, fill=_SHEET_INK, font=font)
    return np.asarray(sheet)


def _columns(count: int, aspect: float) -> int:
    """How many columns make the sheet about three to two, with few empty places."""

    def misfit(columns: int) -> float:
        rows = -(-count // columns)
        return abs(float(np.log(columns * aspect / rows / 1.5))) + 0.3 * (rows * columns - count) / columns

    return min(range(1, count + 1), key=misfit)
