"""The photo at several scales, which of them suits a region, and the way there and back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from restoration_helpers import DEPTHS, cells_of, findings_of

from deblur_cli.restoration import SCALES
from deblur_cli.restoration.scales import (
    BEST_LENGTH,
    SMALLEST_SIDE,
    enlarge_change,
    halved,
    merge_scales,
    pyramid,
    reduce_cells,
    reduce_maps,
    scale_shares,
    usable_scales,
)

sides = st.integers(1, 90)
subsets = st.sets(st.sampled_from(SCALES), min_size=1).map(lambda chosen: tuple(sorted(chosen)))


@given(sides, sides, st.sampled_from([1, 3]), DEPTHS, st.integers(0, 99))
def test_a_pixel_of_the_halved_photo_is_the_mean_of_four(height, width, channels, dtype, seed):
    full = np.iinfo(dtype).max
    pixels = np.random.default_rng(seed).integers(0, full, (height, width, channels), dtype, endpoint=True)
    small = halved(pixels)
    assert small.dtype == dtype
    assert small.shape == (-(-height // 2), -(-width // 2), channels)
    for row, column in np.ndindex(small.shape[:2]):
        rows = [min(2 * row + step, height - 1) for step in (0, 0, 1, 1)]
        columns = [min(2 * column + step, width - 1) for step in (0, 1, 0, 1)]
        mean = pixels[rows, columns].astype(np.float64).mean(0)
        assert np.abs(small[row, column] - mean).max() <= 0.5


@given(sides, sides, subsets)
def test_every_level_shows_the_whole_photo(height, width, scales):
    pixels = np.full((height, width, 3), 77, np.uint8)
    levels = pyramid(pixels, scales)
    assert [level.scale for level in levels] == list(scales)
    for level in levels:
        assert level.size == (-(-height // level.scale), -(-width // level.scale))
        assert (level.pixels == 77).all()


@given(st.integers(1, 5000), st.integers(1, 5000), subsets)
def test_a_photo_is_not_looked_at_where_it_is_too_small(height, width, scales):
    used = usable_scales(scales, height, width)
    assert used[0] == min(scales)
    assert set(used) <= set(scales)
    for scale in set(scales) - {min(scales)}:
        assert (scale in used) == (min(height, width) >= SMALLEST_SIDE * scale)


@given(st.integers(0, 999), subsets)
def test_shares_are_those_of_the_nearest_scales_and_sum_to_one(seed, scales):
    wanted = (2 ** np.random.default_rng(seed).uniform(-1, 5, (7, 9))).astype(np.float32)
    parts = scale_shares(wanted, scales)
    assert set(parts) == set(scales)
    values = np.stack([parts[scale] for scale in scales])
    assert (values >= 0).all() and ((values > 0).sum(0) <= 2).all()
    np.testing.assert_allclose(values.sum(0), 1, atol=1e-6)
    octave = np.tensordot(np.log2(scales), values, 1)
    expected = np.log2(wanted.clip(min(scales), max(scales)))
    np.testing.assert_allclose(octave, expected, atol=1e-5)
    for row, column in np.argwhere((values > 0).sum(0) == 2):
        around = [scale for scale in scales if parts[scale][row, column] > 0]
        assert scales.index(around[1]) == scales.index(around[0]) + 1


@given(st.data(), st.sampled_from(SCALES), st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3]))
def test_a_window_of_an_enlarged_change_is_the_window_of_the_whole(data, scale, height, width, channels):
    small = (-(-height // scale), -(-width // scale))
    change = np.random.default_rng(height).normal(size=(*small, channels)).astype(np.float32)
    rows, columns = (
        slice(*sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))))
        for side in (height, width)
    )
    values = torch.from_numpy(change).permute(2, 0, 1)[None]  # h w C -> 1 C h w
    whole = F.interpolate(values, scale_factor=scale, mode="bicubic", align_corners=False)[0]
    expected = (whole if scale > 1 else values[0])[:, rows, columns].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(enlarge_change(change, scale, rows, columns), expected, atol=1e-5)


@given(sides, sides, st.sampled_from(SCALES), st.integers(0, 99))
def test_a_lowered_mask_covers_all_that_it_stands_for(height, width, scale, seed):
    mask = (np.random.default_rng(seed).random(cells_of(height, width)) > 0.9).astype(np.float32)
    small = reduce_cells(mask, scale)
    assert small.shape == cells_of(-(-height // scale), -(-width // scale))
    expected = np.zeros_like(small)
    for row, column in np.argwhere(mask > 0):
        expected[row // scale, column // scale] = 1
    assert np.array_equal(small, expected)


@given(sides, sides, st.sampled_from(SCALES))
def test_motion_is_as_long_as_it_looks_at_a_scale(height, width, scale):
    found = findings_of(height, width, seed=width)
    maps = reduce_maps(found, scale)
    assert maps.shape == (5, *cells_of(-(-height // scale), -(-width // scale)))
    assert np.array_equal(maps[0], reduce_cells(found.probability, scale))
    for values, full in ((maps[1:3], found.start), (maps[3:], found.end)):
        for row, column in np.ndindex(values.shape[1:]):
            inside = full[:, row * scale : (row + 1) * scale, column * scale : (column + 1) * scale]
            here = values[:, row, column] * scale
            assert np.isclose(inside, here[:, None, None], atol=1e-4).all(0).any()


def seen(size, scale, inside=0.0, length=0.0, outside=0.0, angle=0.4):
    """What a detector sees at a scale: in the middle of a photo something moves by so many of its pixels."""
    rows, columns = cells_of(*(-(-side // scale) for side in size))
    maps = np.zeros((5, rows, columns), np.float32)
    maps[0] = outside
    middle = (slice(rows // 4, -(-3 * rows // 4)), slice(columns // 4, -(-3 * columns // 4)))
    maps[0][middle] = inside
    half = np.float32(length / 2) * np.array([np.sin(angle), np.cos(angle)], np.float32)
    maps[(slice(1, 3), *middle)] = -half[:, None, None]
    maps[(slice(3, 5), *middle)] = half[:, None, None]
    return maps


SIZE = (1024, 1280)
MIDDLE = (slice(56, 72), slice(70, 90))  # cells well within what moves
DOUBT = {"inside": 0.05, "length": 4, "outside": 0.03}


@pytest.mark.parametrize("surest", [2, 4, 8])
def test_a_region_is_restored_at_the_scale_that_sees_it_surely_with_the_best_length(surest):
    found = {scale: seen(SIZE, scale, **DOUBT) for scale in SCALES}
    found[surest] = seen(SIZE, surest, inside=0.97, length=BEST_LENGTH, outside=0.01)
    findings = merge_scales(found, SIZE)
    assert (findings.probability[MIDDLE] > 0.8).all()
    np.testing.assert_allclose(findings.scale[MIDDLE], surest, rtol=0.2)
    np.testing.assert_allclose(findings.length[MIDDLE], surest * BEST_LENGTH, rtol=0.2)
    direction = (findings.end - findings.start)[:, 64, 80] / findings.length[64, 80]
    np.testing.assert_allclose(direction, [np.sin(0.4), np.cos(0.4)], atol=0.05)
    assert findings.probability[:8].max() < 0.2


def test_finer_scales_that_half_believe_in_blur_do_not_hide_what_a_coarse_one_is_sure_of():
    found = {scale: seen(SIZE, scale, inside=0.35, length=BEST_LENGTH) for scale in (1, 2)}
    found[4] = seen(SIZE, 4, inside=0.95, length=BEST_LENGTH)
    assert (merge_scales(found, SIZE).probability[MIDDLE] > 0.85).all()


def test_short_blur_is_restored_in_the_photo_itself():
    found = {scale: seen(SIZE, scale, **DOUBT) for scale in SCALES}
    found[1] = seen(SIZE, 1, inside=0.97, length=BEST_LENGTH / 2, outside=0.01)
    findings = merge_scales(found, SIZE)
    assert (findings.scale[MIDDLE] < 1.2).all()
    assert (findings.probability[MIDDLE] > 0.8).all()


@given(subsets, st.integers(1, 200), st.integers(1, 200), st.integers(0, 99))
def test_nothing_is_surer_than_the_surest_scale(scales, height, width, seed):
    rng = np.random.default_rng(seed)
    found = {}
    for scale in scales:
        found[scale] = seen((height, width), scale, length=9)
        found[scale][0] = 0.3 * rng.random(found[scale][0].shape)
    findings = merge_scales(found, (height, width))
    assert findings.size == (height, width)
    assert findings.probability.max() <= max(maps[0].max() for maps in found.values()) + 1e-6
    assert min(scales) <= findings.scale.min() and findings.scale.max() <= max(scales)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 99))
def test_what_one_scale_alone_finds_is_what_is_found(height, width, seed):
    rng = np.random.default_rng(seed)
    maps = rng.uniform(-9, 9, (5, *cells_of(height, width))).astype(np.float32)
    maps[0] = rng.random(maps[0].shape)
    findings = merge_scales({1: maps}, (height, width))
    np.testing.assert_allclose(findings.probability, maps[0], atol=1e-6)
    assert (findings.scale == 1).all()
    moved = maps[3:] - maps[1:3]
    moved *= np.where(moved[1] < 0, -1, 1)  # blur has no direction in time: to the right
    np.testing.assert_allclose(findings.end - findings.start, moved, atol=2e-3)


@pytest.mark.parametrize("length", [0, 1e-6, 1e3, 1e5])
@pytest.mark.parametrize("scales", [(1,), (1, 2, 4, 8)])
def test_motion_of_any_length_gives_findings(scales, length):
    found = {scale: seen((300, 300), scale, inside=0.9, length=length) for scale in scales}
    assert np.isfinite(merge_scales(found, (300, 300)).probability).all()
