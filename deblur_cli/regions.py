"""Which part of a tile is restored: the rectangle around what is blurred in it."""

import numpy as np
from numpy.typing import NDArray

from deblur_cli.feather import overlay_weights
from deblur_cli.nets import STAGE_SCALE
from deblur_cli.tiles import ALIGNMENT, Span, Tile

Floats = NDArray[np.float32]

CONTEXT = 32  # pixels around what changes; a tile's own border comes as near as half its overlap


def restored_part(tile: Tile, mask: Floats, least: int | None, *, keep_sharp: bool) -> Tile | None:
    """What is to be restored of a tile: what changes, or what the network's bare output takes."""
    return changed_part(tile, mask, least) if keep_sharp else masked_part(tile, mask)


def changed_part(tile: Tile, mask: Floats, least: int | None) -> Tile | None:
    """The part of a tile that has to be restored for the pixels that change; None where none does.

    mask: stage map of zeros and ones for the whole photo. The part begins on the coarsest grid, holds
    `CONTEXT` pixels around the pixels that change, and is `least` pixels wide and high, as far as the
    tile is; the whole tile for None.
    """
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
    return tile if mask[tile.scaled(STAGE_SCALE)].any() else None


def around(span: Span, changing: NDArray[np.intp], least: int) -> Span:
    """The part of a span that holds what changes, counted from its start."""
    length = span.stop - span.start
    start, stop = max(0, int(changing[0]) - CONTEXT), min(length, int(changing[-1]) + 1 + CONTEXT)
    missing = max(0, least - (stop - start))
    stop = min(length, stop + missing // 2)
    start = max(0, min(start, stop - least)) // ALIGNMENT * ALIGNMENT
    stop = min(length, -(-max(stop, start + least) // ALIGNMENT) * ALIGNMENT)
    return Span(span.start + start, span.start + stop, span.weights[start:stop])


def covered_share(mask: Floats, height: int, width: int) -> float:
    """Share of the photo's pixels whose stage cell is masked; the last cells may be part cells."""
    rows = np.minimum(STAGE_SCALE, height - STAGE_SCALE * np.arange(mask.shape[0]))
    columns = np.minimum(STAGE_SCALE, width - STAGE_SCALE * np.arange(mask.shape[1]))
    return float((mask * rows[:, None] * columns[None, :]).sum() / (height * width))
