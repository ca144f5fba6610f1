from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.restoration.tiles import ALIGNMENT, Grid, Mosaic

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
def test_neighbours_share_at_least_the_overlap_and_their_edges_count_for_nothing(
    length, overlap, extra, step
):
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


@pytest.mark.parametrize(("size", "overlap"), [(100, 16), (256, 20), (96, 48), (0, 0)])
def test_impossible_grids_are_refused(size, overlap):
    with pytest.raises(ValueError, match="tile"):
        Grid(500, 500, size, overlap)
