"""Tiles of a picture: where they lie, which part of them is restored, how results blend into one picture.

Pictures are arrays H W C.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deblur_cli.cells import CELL
from deblur_cli.restoration.limits import ALIGNMENT
from deblur_cli.restoration.mask import overlay_weights

CONTEXT = 32  # pixels around what changes; a tile's own border comes as near as half its overlap

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels; `weights` are its blend weights from `start` to `stop`."""

    start: int
    stop: int
    weights: Floats

    @property
    def slice(self) -> slice:
        """The span as an index."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Tile:
    """A rectangle of the picture."""

    rows: Span
    columns: Span

    @property
    def index(self) -> tuple[slice, slice]:
        """Rows and columns as an index into an array H W ..."""
        return self.rows.slice, self.columns.slice

    @property
    def corner(self) -> tuple[int, int]:
        """First row and column."""
        return self.rows.start, self.columns.start

    def scaled(self, scale: int) -> tuple[slice, slice]:
        """The tile's index into a map that is `scale` times coarser (its last cells may be part cells)."""
        return (
            slice(self.rows.start // scale, -(-self.rows.stop // scale)),
            slice(self.columns.start // scale, -(-self.columns.stop // scale)),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def holds(self, part: "Tile") -> bool:
        """Whether another rectangle lies within this one."""
        sides = ((self.rows, part.rows), (self.columns, part.columns))
        return all(own.start <= its.start and its.stop <= own.stop for own, its in sides)

    def place_of(self, part: "Tile") -> tuple[slice, slice]:
        """Rows and columns of a part, counted from the tile's first."""
        (top, left), (first, second) = self.corner, part.corner
        return slice(first - top, part.rows.stop - top), slice(second - left, part.columns.stop - left)

    @property
    def weights(self) -> Floats:
        """Blend weights of the tile's pixels, h w."""
        return self.rows.weights[:, None] * self.columns.weights[None, :]


@dataclass(frozen=True)
class Grid:
    """Tiles that cover a picture of height x width pixels; at each pixel their weights sum to one.

    Tiles are at most `size` pixels wide and overlap by at least `overlap`. In an overlap the weight
    moves from one tile to the next within the middle half, so the outermost pixels of a tile, which see
    its border, count for nothing. Tiles are no larger than they need be, but for multiples of `step`, which
    a network would be padded to anyway.
    """

    height: int
    width: int
    size: int
    overlap: int
    step: int = ALIGNMENT

    def __post_init__(self) -> None:
        if self.size % ALIGNMENT or self.overlap % ALIGNMENT or self.overlap < 0 or self.size < ALIGNMENT:
            raise ValueError(f"tile size and overlap must be multiples of {ALIGNMENT}")
        if self.size < 2 * self.overlap + ALIGNMENT:
            raise ValueError("a tile must be larger than twice its overlap")

    def __iter__(self) -> Iterator[Tile]:
        columns = self.columns
        return (Tile(rows, across) for rows in self.rows for across in columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @cached_property
    def rows(self) -> list[Span]:
        """Spans from top to bottom."""
        return spans(self.height, self.size, self.overlap, self.step)

    @cached_property
    def columns(self) -> list[Span]:
        """Spans from left to right."""
        return spans(self.width, self.size, self.overlap, self.step)


def spans(length: int, size: int, overlap: int, step: int = ALIGNMENT) -> list[Span]:
    """Aligned spans that cover `length` pixels, spread evenly, with blend weights that sum to one.

    As few as possible, and then no longer than that number needs.
    """
    if length <= size:
        return [Span(0, length, np.ones(length, np.float32))]
    count = -(-(length - overlap) // (size - overlap))
    needed = -(-(length + (count - 1) * overlap) // count)
    whole = -(-needed // step) * step
    if 2 * (length - whole) < (count - 1) * whole:  # a third tile would begin before the first has ended
        whole = -(-needed // ALIGNMENT) * ALIGNMENT
    size = min(size, -(-whole // ALIGNMENT) * ALIGNMENT)
    last = -(-(length - size) // ALIGNMENT) * ALIGNMENT  # may reach past the end, where the tile is shorter
    starts = [round(last * number / (count - 1) / ALIGNMENT) * ALIGNMENT for number in range(count)]
    stops = [min(start + size, length) for start in starts]
    weights = [np.ones(stop - start, np.float32) for start, stop in zip(starts, stops, strict=True)]
    for left in range(count - 1):
        shared = stops[left] - starts[left + 1]
        rise = ramp(shared)
        weights[left][len(weights[left]) - shared :] *= 1 - rise
        weights[left + 1][:shared] *= rise
    return [Span(*values) for values in zip(starts, stops, weights, strict=True)]


def ramp(shared: int) -> Floats:
    """Weights from zero to one over an overlap; they change within its middle half."""
    place = (np.arange(shared, dtype=np.float32) + 0.5) / shared
    return np.clip(2 * place - 0.5, 0, 1).astype(np.float32)


class Mosaic:
    """Sums weighted tiles into a picture, from top to bottom, holding one row of tiles at a time.

    `add` takes tiles in the order of their grid; `finish` hands over what is complete. Tiles that are
    left out count as zeros.
    """

    def __init__(self, height: int, width: int, channels: int) -> None:
        self.shape = (height, width, channels)
        self.top = 0
        self.band: Floats = np.zeros((0, width, channels), np.float32)

    def add(self, tile: Tile, values: Floats) -> None:
        """Add a tile's values h w C, scaled by its blend weights."""
        missing = tile.rows.stop - self.top - len(self.band)
        if missing > 0:
            self.band = np.concatenate([self.band, np.zeros((missing, *self.shape[1:]), np.float32)])
        rows = slice(tile.rows.start - self.top, tile.rows.stop - self.top)
        self.band[rows, tile.columns.slice] += values * tile.weights[..., None]

    def finish(self, until: int) -> tuple[slice, Floats]:
        """Rows from the last call to `until`, which no further tile may touch, and their values."""
        count = until - self.top
        if len(self.band) < count:
            padding = np.zeros((count - len(self.band), *self.shape[1:]), np.float32)
            self.band = np.concatenate([self.band, padding])
        rows, done = slice(self.top, until), self.band[:count]
        self.top, self.band = until, self.band[count:].copy()
        return rows, done


def changed_part(tile: Tile, mask: Floats, least: int | None) -> Tile | None:
    """The part of a tile that has to be restored for the pixels that change; None where none does.

    mask: zeros and ones for the whole picture, one for 8 x 8 pixels. The part begins on the coarsest grid,
    holds `CONTEXT` pixels around the pixels that change, and is `least` pixels wide and high, as far as the
    tile is; the whole tile for None.
    """
    around_it = (slice(max(0, cells.start - 2), cells.stop + 2) for cells in tile.scaled(CELL))
    if not mask[tuple(around_it)].any():  # weights reach no farther
        return None
    changes = np.greater(overlay_weights(mask, *tile.index) * tile.weights, 0)
    if not changes.any():
        return None
    if least is None:
        return tile
    rows, columns = (
        around(span, np.flatnonzero(changes.any(axis)), least)
        for span, axis in ((tile.rows, 1), (tile.columns, 0))
    )
    return Tile(rows, columns)


def masked_part(tile: Tile, mask: Floats) -> Tile | None:
    """The tile if anything in it is blurred: what the network's bare output takes."""
    return tile if mask[tile.scaled(CELL)].any() else None


def cell_weights(tile: Tile) -> Floats:
    """Blend weights of a tile's cells, h/8 w/8: the mean over the pixels of each cell."""
    rows, columns = (
        np.add.reduceat(span.weights, begins) / np.diff(begins, append=len(span.weights))
        for span in (tile.rows, tile.columns)
        for begins in [np.arange(0, len(span.weights), CELL)]
    )
    return np.asarray(rows[:, None] * columns[None, :], np.float32)


def around(span: Span, changing: NDArray[np.intp], least: int) -> Span:
    """The part of a span that holds what changes, counted from its start."""
    length = span.stop - span.start
    start, stop = max(0, int(changing[0]) - CONTEXT), min(length, int(changing[-1]) + 1 + CONTEXT)
    missing = max(0, least - (stop - start))
    stop = min(length, stop + missing // 2)
    start = max(0, min(start, stop - least)) // ALIGNMENT * ALIGNMENT
    stop = min(length, -(-max(stop, start + least) // ALIGNMENT) * ALIGNMENT)
    return Span(span.start + start, span.start + stop, span.weights[start:stop])
