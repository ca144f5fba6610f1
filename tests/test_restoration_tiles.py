"""Tiles of a picture: they cover it, blend into it, and nothing that changes lies outside their parts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.restoration.mask import feather_weights
from deblur_cli.restoration.tiles import ALIGNMENT, CONTEXT, Grid, Mosaic, cell_weights, changed_part

sides = st.integers(1, 700)
overlaps = st.integers(0, 4).map(lambda number: number * ALIGNMENT)
steps = st.sampled_from([ALIGNMENT, 64, 128])
extras = st.integers(1, 12).map(lambda number: number * ALIGNMENT)


@given(sides, sides, overlaps, extras, steps)
def test_weights_sum_to_one_everywhere_and_tiles_stay_inside(height, width, overlap, extra, step):
    grid = Grid(height, width, 2 * overlap + extra, overlap, step)
    total = np.zeros((height, width))
    for tile in grid:
        assert tile.rows.start % ALIGNMENT == tile.columns.start % ALIGNMENT == 0
        assert 0 < tile.rows.stop - tile.rows.start <= grid.size
        assert 0 < tile.columns.stop - tile.columns.start <= grid.size
        total[tile.index] += tile.weights
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert len(grid) == len(list(grid))


@given(sides, overlaps.filter(bool), extras, steps)
def test_neighbors_share_at_least_the_overlap_and_their_edges_count_for_nothing(length, overlap, extra, step):
    rows = Grid(length, 1, 2 * overlap + extra, overlap, step).rows
    for before, after in pairwise(rows):
        assert before.stop - after.start >= min(overlap, length - after.start)
        edge = (before.stop - after.start) // 5
        assert not after.weights[:edge].any()
        assert not before.weights[len(before.weights) - edge :].any()


@pytest.mark.parametrize("length", [1072, 2152, 4000, 6016])
def test_tiles_are_not_padded_where_they_need_not_be(length):
    widths = [span.stop - span.start for span in Grid(length, 1, 512, 32, step=128).rows]
    assert all(width % 128 == 0 for width in widths[:-1])
    assert widths[-1] > widths[0] - ALIGNMENT  # the last may end with the picture


@given(sides, sides, st.integers(1, 3), overlaps, extras)
def test_cut_and_blended_tiles_give_the_picture_back(height, width, channels, overlap, extra):
    picture = np.random.default_rng(height).random((height, width, channels), dtype=np.float32)
    mosaic, result = Mosaic(height, width, channels), np.zeros_like(picture)
    for tile in Grid(height, width, 2 * overlap + extra, overlap):
        rows, values = mosaic.finish(tile.rows.start)
        result[rows] = values
        mosaic.add(tile, picture[tile.index])
    rows, values = mosaic.finish(height)
    result[rows] = values
    np.testing.assert_allclose(result, picture, atol=1e-5)


@given(
    st.integers(20, 700),
    st.integers(20, 700),
    st.sampled_from([128, 256, 512]),
    st.sampled_from([0, 96, 200]),
    st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_a_part_holds_whatever_changes_with_its_surroundings(height, width, size, least, seed):
    cells = (-(-height // 8), -(-width // 8))
    mask = (np.random.default_rng(seed).random(cells) < 0.003).astype(np.float32)
    for tile in Grid(height, width, size, 32):
        changes = np.zeros((height, width), bool)
        changes[tile.index] = feather_weights(mask, *tile.index) * tile.weights > 0
        part = changed_part(tile, mask, least)
        if part is None:
            assert not changes.any()
            continue
        assert changes[part.index].sum() == changes.sum() > 0
        sides = zip(np.nonzero(changes), (part.rows, part.columns), (tile.rows, tile.columns), strict=True)
        for places, span, whole in sides:
            assert whole.start <= span.start <= max(whole.start, places.min() - CONTEXT)
            assert whole.stop >= span.stop >= min(whole.stop, places.max() + 1 + CONTEXT)
            assert span.stop - span.start >= min(least, whole.stop - whole.start)
            assert span.start % ALIGNMENT == 0
            assert span.stop == whole.stop or span.stop % ALIGNMENT == 0
            offset = span.start - whole.start
            np.testing.assert_array_equal(
                span.weights, whole.weights[offset : offset + span.stop - span.start]
            )


@given(sides, sides, st.sampled_from([128, 256]), steps)
def test_weights_of_cells_sum_to_one(height, width, size, step):
    total = np.zeros((-(-height // 8), -(-width // 8)))
    for tile in Grid(height, width, size, 32, step):
        total[tile.cells] += cell_weights(tile)
    np.testing.assert_allclose(total, 1, atol=1e-5)
