"""Tiles of a picture: where they lie, which part of them is restored, and how results blend into one picture.

Pictures are arrays H W C.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deblur_cli.nets.network import CELL, cells_of
from deblur_cli.restoration import ALIGNMENT
from deblur_cli.restoration.mask import FEATHER_REACH, feather_weights

CONTEXT = 32  # pixels around what changes; a tile's own border comes as near as half its overlap
STRIP = 64  # rows of a picture that is being put together, in one array

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels; `weights` are its blend weights from `start` to `stop`."""

    start: int
    stop: int
    weights: Floats

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Tile:
    """A rectangle of the picture."""

    rows: Span
    columns: Span

    @property
    def index(self) -> tuple[slice, slice]:
        return self.rows.slice, self.columns.slice

    @property
    def corner(self) -> tuple[int, int]:
        return self.rows.start, self.columns.start

    @property
    def cells(self) -> tuple[slice, slice]:
        """Rows and columns of its cells, as an index into a map h w; the last ones may be part cells."""
        stop, across = cells_of((self.rows.stop, self.columns.stop))
        return slice(self.rows.start // CELL, stop), slice(self.columns.start // CELL, across)

    @property
    def size(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def weights(self) -> Floats:
        """Blend weights of the tile's pixels, h w."""
        return self.rows.weights[:, None] * self.columns.weights[None, :]


@dataclass(frozen=True)
class Grid:
    """Tiles that cover a picture of height x width pixels; at each pixel their weights sum to one.

    Tiles are at most `size` pixels wide and overlap by at least `overlap`. In an overlap the weight
    moves from one tile to the next within the middle half, so the outermost pixels of a tile, which see
    its border, count for nothing. Tiles are no larger than needed, rounded up to multiples of
    `step`, to which a network would pad them anyway.
    """

    height: int
    width: int
    size: int
    overlap: int
    step: int = ALIGNMENT

    def __iter__(self) -> Iterator[Tile]:
        columns = self.columns
        return (Tile(rows, across) for rows in self.rows for across in columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @cached_property
    def rows(self) -> list[Span]:
        return spans(self.height, self.size, self.overlap, self.step)

    @cached_property
    def columns(self) -> list[Span]:
        return spans(self.width, self.size, self.overlap, self.step)


def spans(length: int, size: int, overlap: int, step: int = ALIGNMENT) -> list[Span]:
    """Aligned spans that cover `length` pixels, spread evenly, with blend weights that sum to one.

    As few as possible, and then no longer than that number needs.
    """
    if length <= size:
        return [Span(0, length, np.ones(length, np.float32))]
    count = -(-(length - overlap) // (size - overlap))
    needed = -(-(length + (count - 1) * overlap) // count)
    whole = round_up(needed, step)
    if 2 * (length - whole) < (count - 1) * whole:  # a third tile would begin before the first has ended
        whole = needed
    size = min(size, round_up(whole))
    last = round_up(length - size)  # may reach past the end, where the tile is shorter
    starts = [round(last * number / (count - 1) / ALIGNMENT) * ALIGNMENT for number in range(count)]
    stops = [min(start + size, length) for start in starts]
    weights = [np.ones(stop - start, np.float32) for start, stop in zip(starts, stops, strict=True)]
    for left in range(count - 1):
        shared = stops[left] - starts[left + 1]
        rise = ramp(shared)
        weights[left][len(weights[left]) - shared :] *= 1 - rise
        weights[left + 1][:shared] *= rise
    return [Span(*values) for values in zip(starts, stops, weights, strict=True)]


def round_up(length: int, multiple: int = ALIGNMENT) -> int:
    """The smallest whole multiple that is no less than a length."""
    return -(-length // multiple) * multiple


def ramp(shared: int) -> Floats:
    """Weights from zero to one over an overlap; they change within its middle half."""
    place = (np.arange(shared, dtype=np.float32) + 0.5) / shared
    return np.clip(2 * place - 0.5, 0, 1).astype(np.float32)


class Mosaic:
    """Sums weighted tiles into a picture, from top to bottom, holding one row of tiles at a time.

    `add` takes tiles in the order of their grid; `finish` hands over what is complete. Tiles that are
    left out count as zeros. Rows are held in strips of one size, which leave no gaps in the memory.
    """

    def __init__(self, height: int, width: int, channels: int) -> None:
        self.shape = (height, width, channels)
        self.top = 0
        self.strips: dict[int, Floats] = {}  # STRIP w C each, by their first row

    def add(self, tile: Tile, values: Floats) -> None:
        """Add a tile's values h w C, scaled by its blend weights."""
        weighted, start = values * tile.weights[..., None], tile.rows.start
        for first in range(start // STRIP * STRIP, tile.rows.stop, STRIP):
            if first not in self.strips:
                self.strips[first] = np.zeros((STRIP, *self.shape[1:]), np.float32)
            rows = slice(max(first, start), min(first + STRIP, tile.rows.stop))
            strip = self.strips[first][rows.start - first : rows.stop - first]
            strip[:, tile.columns.slice] += weighted[rows.start - start : rows.stop - start]

    def finish(self, until: int) -> tuple[slice, Floats]:
        """Rows from the last call to `until`, which no further tile may touch, and their values."""
        top, self.top = self.top, until
        done = np.zeros((until - top, *self.shape[1:]), np.float32)
        for first in range(top // STRIP * STRIP, until, STRIP):
            rows = slice(max(first, top), min(first + STRIP, until))
            if (strip := self.strips.get(first)) is not None:
                done[rows.start - top : rows.stop - top] = strip[rows.start - first : rows.stop - first]
            if rows.stop == first + STRIP:
                self.strips.pop(first, None)
        return slice(top, until), done


def changed_part(tile: Tile, mask: Floats, least: int | None) -> Tile | None:
    """The part of a tile that has to be restored for the pixels that change; None where none does.

    mask: zeros and ones for the cells of the whole picture. The part begins on a multiple of ALIGNMENT, holds
    CONTEXT pixels around the pixels that change, and is at least `least` pixels wide and high where the tile
    is; None stands for the whole tile.
    """
    near = (slice(max(0, c.start - FEATHER_REACH), c.stop + FEATHER_REACH) for c in tile.cells)
    if not mask[tuple(near)].any():
        return None
    changes = np.greater(feather_weights(mask, *tile.index) * tile.weights, 0)
    if not changes.any():
        return None
    if least is None:
        return tile
    rows, columns = (
        around(span, np.flatnonzero(changes.any(axis)), least)
        for span, axis in ((tile.rows, 1), (tile.columns, 0))
    )
    return Tile(rows, columns)


def cell_weights(tile: Tile) -> Floats:
    """Blend weights of a tile's cells, h/8 w/8: the mean over the pixels of each cell."""
    rows, columns = (
        np.add.reduceat(span.weights, begins) / np.diff(begins, append=len(span.weights))
        for span in (tile.rows, tile.columns)
        for begins in [np.arange(0, len(span.weights), CELL)]
    )
    return np.asarray(rows[:, None] * columns[None, :], np.float32)


def around(span: Span, changing: NDArray[np.intp], least: int) -> Span:
    """The part of a span to restore; `changing` counts the pixels that change from its start."""
    length = span.stop - span.start
    start, stop = max(0, int(changing[0]) - CONTEXT), min(length, int(changing[-1]) + 1 + CONTEXT)
    missing = max(0, least - (stop - start))
    stop = min(length, stop + missing // 2)
    start = max(0, min(start, stop - least)) // ALIGNMENT * ALIGNMENT
    stop = min(length, round_up(max(stop, start + least)))
    return Span(span.start + start, span.start + stop, span.weights[start:stop])
