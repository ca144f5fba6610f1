"""Which regions count as blurred, and how strongly a restored pixel is laid over the photo."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter
from skimage.measure import label

from deblur_cli.restoration.mask import (
    covered_share,
    feather_weights,
    grow,
    interpolated_weights,
    region_confidence,
)

epsilons = st.floats(0, 1, width=32)


def random_map(height, width, seed):
    """Confidences of a photo with a few blurred regions and much doubt."""
    rng = np.random.default_rng(seed)
    doubt = uniform_filter(rng.random((height, width)), 3)
    return np.clip(doubt * rng.uniform(0.5, 2), 0, 1).astype(np.float32)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999), epsilons)
def test_regions_are_those_of_plain_labeling(height, width, seed, epsilon):
    probability = random_map(height, width, seed)
    kept = region_confidence(probability, epsilon)
    smooth = region_confidence(probability, 0.0)  # nothing is dropped at zero
    labels = label(smooth > np.float32(epsilon), connectivity=2)
    sure = np.unique(labels[smooth > np.float32(epsilon ** (1 / 5))])
    expected = np.isin(labels, sure[sure > 0])
    assert np.array_equal(kept > epsilon, expected)
    assert np.array_equal(kept[expected], smooth[expected])
    assert (kept <= smooth).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999), epsilons, epsilons)
def test_a_higher_epsilon_never_marks_more(height, width, seed, first, second):
    probability = random_map(height, width, seed)
    low, high = sorted((first, second))
    less, more = (region_confidence(probability, epsilon) > epsilon for epsilon in (high, low))
    assert not (less & ~more).any()


def test_an_unsure_region_is_dropped_and_a_sure_one_kept_with_its_fringe():
    probability = np.full((20, 40), 0.1, np.float32)
    probability[4:12, 4:12] = 0.6  # over one half, nowhere sure
    probability[4:12, 24:32] = 0.6
    probability[6:10, 26:30] = 0.95  # its middle is
    probability[17, 5] = 1.0  # a single cell
    marked = region_confidence(probability, 0.5) > 0.5
    assert not marked[:, :20].any()
    assert marked[5:11, 25:31].all()
    assert not marked[:, 34:].any() and not marked[14:].any()


def test_zero_marks_whatever_is_possible_and_one_marks_nothing():
    probability = random_map(16, 16, 3) + np.float32(1e-3)
    assert (region_confidence(probability, 0.0) > 0).all()
    assert not (region_confidence(np.ones((16, 16), np.float32), 1.0) > 1).any()


def test_the_border_is_averaged_over_what_is_there():
    probability = np.full((5, 7), 0.8, np.float32)
    np.testing.assert_allclose(region_confidence(probability, 0.3), probability, rtol=1e-6)


def test_overlay_is_one_around_the_mask_and_zero_twelve_pixels_away():
    mask = np.zeros((9, 9), np.float32)
    mask[4, 4] = 1  # pixels 32 to 39
    weights = feather_weights(mask, slice(0, 72), slice(0, 72))
    assert (weights[28:44, 28:44] == 1).all()
    assert not weights[:20].any()
    assert not weights[:, 52:].any()
    assert np.abs(np.diff(weights, axis=1)).max() <= 1 / 8  # no visible edge


@pytest.mark.parametrize("weights_of_window", [feather_weights, interpolated_weights])
@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40))
def test_weights_of_a_window_are_the_window_of_the_weights(weights_of_window, top, left, height, width):
    mask = (np.random.default_rng(0).random((13, 13)) > 0.8).astype(np.float32)
    whole = weights_of_window(mask, slice(0, 104), slice(0, 104))
    window = weights_of_window(mask, slice(top, top + height), slice(left, left + width))
    np.testing.assert_allclose(window, whole[top : top + height, left : left + width], atol=1e-6)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_the_covered_share_is_counted_in_pixels(height, width, seed):
    mask = np.random.default_rng(seed).random((-(-height // 8), -(-width // 8))).astype(np.float32)
    pixels = mask.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    assert covered_share(mask, height, width) == pytest.approx(float(pixels.mean()), abs=1e-6)


@pytest.mark.parametrize("density", [0.1, 0.3, 0.45, 0.6, 0.9])
def test_seeds_grow_through_their_parts_of_the_region_alone(density):
    rng = np.random.default_rng(0)
    for _ in range(100):
        shape = rng.integers(1, 30, 2)
        region, seeds = rng.random(shape) < density, rng.random(shape) < 0.03
        parts = label(region, connectivity=2)
        expected = region & np.isin(parts, np.unique(parts[seeds]))
        np.testing.assert_array_equal(grow(seeds, region), expected)
