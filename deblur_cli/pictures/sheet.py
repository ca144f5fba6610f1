"""A sheet of masks for several epsilon, to choose one by eye."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur_cli.pictures.maps import Maps, Pixels8, reduced
from deblur_cli.pictures.mask import mask_overlay

_LONGEST = 640  # pixels, the longer side of each picture
_TEXT = 20  # pixels
_GAP = 14
_GROUND = (250, 250, 248)
_INK = (20, 20, 20)


@dataclass(frozen=True, eq=False)
class Step:
    """One epsilon: its maps, and the lines of text below its picture."""

    epsilon: float
    maps: Maps
    lines: tuple[str, ...]


def draw_sheet(pixels: Pixels8, steps: Sequence[Step], first: Sequence[str]) -> Pixels8:
    """Draw the photo (H W 3 or H W 1) with the lines `first`, then its mask for each step: H W 3."""
    small, scale = reduced(pixels, _LONGEST)
    pictures = [(small, tuple(first))]
    pictures += [(mask_overlay(small, s.maps, s.epsilon, scale=scale), s.lines) for s in steps]
    height, width = small.shape[:2]
    font = ImageFont.load_default(_TEXT)
    wide = max([width, *(int(font.getlength(line)) + 1 for _, lines in pictures for line in lines)]) + _GAP
    tall = height + round(_TEXT * 1.4) * max(len(lines) for _, lines in pictures) + 2 * _GAP
    columns = _columns(len(pictures), wide / tall)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * tall + _GAP), _GROUND)
    pen = ImageDraw.Draw(sheet)
    for place, (picture, lines) in enumerate(pictures):
        x, y = _GAP + place % columns * wide, _GAP + place // columns * tall
        sheet.paste(Image.fromarray(picture), (x, y))
        for number, line in enumerate(lines):
            top = y + height + _GAP // 2 + number * round(_TEXT * 1.4)
            pen.text((x, top), line, fill=_INK, font=font)
    return np.asarray(sheet)


def _columns(count: int, aspect: float) -> int:
    """How many columns make the sheet about three to two, with few empty places."""

    def misfit(columns: int) -> float:
        rows = -(-count // columns)
        return abs(float(np.log(columns * aspect / rows / 1.5))) + 0.3 * (rows * columns - count) / columns

    return min(range(1, count + 1), key=misfit)
