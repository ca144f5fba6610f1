"""Pictures of mask and motion."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from restoration_helpers import picture
from skimage.color import rgb2lab

from deblur_cli.pictures import (
    Step,
    at_scales,
    blurred,
    draw_sheet,
    drawing,
    flow_overlay,
    mask_overlay,
    trajectory_overlay,
)
from deblur_cli.pictures.drawing import confidence_colors, upsample


@dataclass(frozen=True)
class Maps:
    probability: np.ndarray
    start: np.ndarray
    end: np.ndarray


def make_maps(height, width, region=None, start=(0, -12), end=(0, 12)):
    """Return maps of a photo: confidence 1 in a region (slices of map cells), and one motion everywhere."""
    size = (-(-height // 8), -(-width // 8))
    probability = np.zeros(size, np.float32)
    if region is not None:
        probability[region] = 1
    ends = (np.broadcast_to(np.reshape(d, (2, 1, 1)), (2, *size)).astype(np.float32) for d in (start, end))
    return Maps(probability, *ends)


def gray(height, width, channels=3, value=128):
    return np.full((height, width, channels), value, np.uint8)


def colorful(picture):
    """Tell where a picture is not gray: H W."""
    return np.ptp(picture.astype(int), axis=2) > 30


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_upsampling_is_bilinear_about_pixel_centers(height, width, seed):
    values = np.random.default_rng(seed).random((-(-height // 8), -(-width // 8)), np.float32)
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], scale_factor=8, mode="bilinear", align_corners=False
    )
    first = height // 3
    np.testing.assert_allclose(
        upsample(values, (first, height), width), whole[0, 0, first:height, :width].numpy(), atol=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3]), st.sampled_from([0.0, 0.5, 1.0]))
def test_both_pictures_have_the_photos_size_whatever_it_is(height, width, channels, epsilon):
    maps = make_maps(height, width, np.s_[:3, :3])
    for draw in (mask_overlay, trajectory_overlay, flow_overlay):
        drawn = draw(gray(height, width, channels), maps, epsilon)
        assert (drawn.shape, drawn.dtype) == ((height, width, 3), np.uint8)


def test_mask_tints_the_blurred_region_and_grays_the_rest():
    photo = np.broadcast_to(np.array([200, 60, 60], np.uint8), (160, 160, 3))
    drawn = mask_overlay(photo, make_maps(160, 160, np.s_[5:15, 5:15]), 0.5).astype(int)
    inside, outside = drawn[60:100, 60:100], drawn[:30]
    assert (np.abs(inside - photo[0, 0]).sum(axis=2) > 100).all()
    assert (np.ptp(outside, axis=2) < np.ptp(photo[0, 0])).all()
    assert (outside.sum(axis=2) < photo[0, 0].sum()).all()


@pytest.mark.parametrize("epsilon", [0.2, 0.5, 0.8])
def test_contour_runs_where_the_confidence_crosses_epsilon(epsilon):
    maps = make_maps(320, 480)
    maps.probability[:] = np.linspace(0, 1, 60)
    drawn = mask_overlay(gray(320, 480, value=90), maps, epsilon)
    crossing = np.argmax(upsample(maps.probability, (160, 161), 480)[0] > epsilon)
    white = np.flatnonzero((drawn[160] > 190).all(axis=1))
    assert abs(white.mean() + 0.5 - crossing) <= 1
    assert 1 <= len(white) <= 3


def test_no_blur_gives_a_picture_without_marks():
    photo = np.random.default_rng(0).integers(0, 256, (90, 130, 1), np.uint8)
    for draw in (mask_overlay, trajectory_overlay, flow_overlay):
        drawn = draw(photo, make_maps(90, 130), 0.5).astype(int)
        ratio = drawn[photo[..., 0] > 40] / photo[photo[..., 0] > 40]
        assert np.ptp(ratio) < 0.05  # the photo, evenly darker


def test_working_in_bands_leaves_no_seam(monkeypatch):
    photo = np.random.default_rng(0).integers(0, 256, (200, 150, 3), np.uint8)
    maps = make_maps(200, 150, np.s_[4:20, 3:12])
    for draw in (mask_overlay, trajectory_overlay, flow_overlay):
        monkeypatch.setattr(drawing, "BAND", 1000)
        whole = draw(photo, maps, 0.5)
        monkeypatch.setattr(drawing, "BAND", 37)
        np.testing.assert_array_equal(draw(photo, maps, 0.5), whole)


def test_curve_runs_from_start_to_end_through_the_bend_and_grows_thinner():
    maps = make_maps(400, 400, np.s_[25, 25], start=(40, -80), end=(40, 80))
    drawn = colorful(trajectory_overlay(gray(400, 400), maps, 0.5))
    rows, columns = np.nonzero(drawn)
    assert abs(columns.min() - (204 - 80)) <= 3
    assert abs(columns.max() - (204 + 80)) <= 3
    assert abs(rows[np.abs(columns - 204) <= 1].mean() - 204) <= 1  # mid-exposure lies on the pixel itself
    assert abs(rows[columns < 128].mean() - 242) <= 4
    assert drawn[:, 140].sum() > drawn[:, 268].sum()


def test_opposite_directions_have_different_colors():
    def color(start, end):
        drawn = trajectory_overlay(gray(400, 400), make_maps(400, 400, np.s_[25, 25], start, end), 0.5)
        return drawn[colorful(drawn)].mean(axis=0)

    there, back = color((0, -40), (0, 40)), color((0, 40), (0, -40))
    assert np.abs(there - back).max() > 60


@pytest.mark.parametrize("value", [0, 255])
def test_curves_stand_out_on_any_background(value):
    maps = make_maps(400, 400, np.s_[25, 25], (0, -60), (0, 60))
    drawn = trajectory_overlay(gray(400, 400, value=value), maps, 0.5).astype(int)
    lightness = drawn[190:220, 204] @ [0.299, 0.587, 0.114]
    assert np.ptp(lightness) > 100


def test_small_regions_get_a_curve_beside_large_ones():
    maps = make_maps(800, 800, np.s_[:, :50])
    maps.probability[73, 91] = 1
    drawn = colorful(trajectory_overlay(gray(800, 800), maps, 0.5))
    assert drawn[560:620, 700:].any()
    assert not drawn[:500, 450:].any()


def test_short_paths_are_drawn_longer_and_the_legend_says_so():
    def draw(distance, legend):
        maps = make_maps(800, 800, np.s_[50, 50], (0, -distance), (0, distance))
        return trajectory_overlay(gray(800, 800), maps, 0.5, legend=legend)

    widths = [np.ptp(np.nonzero(colorful(draw(distance, False)))[1]) for distance in (40, 1)]
    assert abs(widths[0] - 80) <= 4
    assert widths[1] >= 10
    plain, longer = (np.count_nonzero((draw(d, True) != draw(d, False)).any(axis=(1, 2))) for d in (40, 1))
    assert longer > plain + 10  # a line of text more


@pytest.mark.parametrize("draw", [trajectory_overlay, flow_overlay])
def test_legends_lie_where_nothing_is_marked(draw):
    maps = make_maps(640, 960, np.s_[40:, :])
    changed = (draw(gray(640, 960), maps, 0.5, legend=True) != draw(gray(640, 960), maps, 0.5)).any(axis=2)
    assert changed.any()
    assert not changed[320:].any()


def test_mask_legend_shows_the_map_of_colors():
    maps = make_maps(640, 960, np.s_[40:50, 60:70])
    bare, drawn = (mask_overlay(gray(640, 960), maps, 0.5, share=share) for share in (None, 0.123))
    new = drawn[(bare != drawn).any(axis=2)].astype(int)
    for end in confidence_colors(np.float32([0, 1])):
        assert (np.abs(new - end).max(axis=1) < 30).any()


def test_confidence_colors_are_even_also_to_color_blind_eyes():
    colors = confidence_colors(np.linspace(0, 1, 9, dtype=np.float32)) / 255
    # Machado, Oliveira and Fernandes 2009, deuteranopia, on linear light
    rows = [(0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)]
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(rows).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    for shown in (colors, seen):
        steps = np.diff(rgb2lab(shown)[:, 0])
        assert steps.min() > 4
        assert steps.max() < 2.5 * steps.min()


def test_flow_is_the_more_vivid_the_farther_it_went():
    maps = make_maps(160, 640, np.s_[:, :])
    maps.end[1] = np.linspace(0, 40, 80)
    maps.start[1] = 0
    vividness = np.ptp(flow_overlay(gray(160, 640), maps, 0.5)[80, 40:-40].astype(int), axis=1)
    assert vividness[-1] > vividness[len(vividness) // 2] > vividness[0]


@pytest.mark.parametrize("draw", [mask_overlay, trajectory_overlay, flow_overlay])
def test_reduced_photo_gets_the_same_marks_at_their_places(draw):
    maps = make_maps(640, 640, np.s_[20:60, 20:60], (0, -30), (0, 30))
    large = colorful(draw(gray(640, 640), maps, 0.5))
    small = colorful(draw(gray(160, 160), maps, 0.5, scale=0.25))
    for axis in (0, 1):
        places, expected = (np.flatnonzero(marks.any(axis=axis)) for marks in (small, large))
        assert abs(places[0] * 4 - expected[0]) <= 24
        assert abs(places[-1] * 4 - expected[-1]) <= 24


def test_sheet_holds_the_photo_and_every_mask():
    few, many = make_maps(160, 320, np.s_[5:8, 5:8]), make_maps(160, 320, np.s_[:, :])
    photo = np.broadcast_to(np.array([90, 120, 60], np.uint8), (160, 320, 3))
    one = draw_sheet(photo, [Step(0.5, few, ("a", "b"))], ("the photo",))
    both = draw_sheet(photo, [Step(0.5, few, ("a", "b")), Step(0.1, many, ("a", "b"))], ("the photo",))
    assert (both == photo[0, 0]).all(axis=2).sum() >= 160 * 320
    assert colorful(both).sum() > colorful(one).sum() + 0.9 * 160 * 320


def test_displacements_that_cannot_be_are_left_out():
    maps = make_maps(160, 160, np.s_[5:15, 5:15])
    maps.start[:, 5:15, 5:15] = np.nan
    maps.end[:, 8, 8] = np.inf
    maps.end[:, 9, 9] = 1e9
    assert not colorful(trajectory_overlay(gray(160, 160), maps, 0.5)).any()


def test_network_without_motion_gives_no_curves():
    maps = make_maps(160, 160, np.s_[:, :], start=(0, 0), end=(0, 0))
    drawn = trajectory_overlay(gray(160, 160), maps, 0.5)
    assert np.ptp(drawn) == 0


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (3, 3), (48, 64)])
def test_pictures_too_small_for_a_legend_are_drawn_without_one(size):
    maps = make_maps(*size, np.s_[:, :])
    np.testing.assert_array_equal(
        mask_overlay(gray(*size), maps, 0.5, share=1.0), mask_overlay(gray(*size), maps, 0.5)
    )
    for draw in (trajectory_overlay, flow_overlay):
        np.testing.assert_array_equal(draw(gray(*size), maps, 0.5, legend=True), draw(gray(*size), maps, 0.5))


def test_a_photo_of_the_night_is_hardly_dimmed():
    for draw in (mask_overlay, trajectory_overlay, flow_overlay):
        night, day = (draw(gray(90, 130, value=v), make_maps(90, 130), 0.5) / v for v in (10, 120))
        assert night.mean() > 0.85
        assert day.mean() < 0.75


@pytest.mark.parametrize(
    ("share", "said"), [(0, "0.0%"), (0.0001, "<0.1%"), (0.0007, "0.1%"), (0.5, "50.0%"), (1, "100.0%")]
)
def test_a_little_blur_is_not_rounded_to_none(share, said):
    assert blurred(share) == f"{said} blurred"


def test_flow_ends_where_the_mask_does():
    maps = make_maps(320, 320, start=(0, -12), end=(0, 12))
    y, x = np.mgrid[:40, :40]
    maps.probability[:] = np.clip(1.2 - np.hypot(y - 20, x - 20) / 15, 0, 1)
    inside = upsample(maps.probability, (0, 320), 320) > 0.5
    np.testing.assert_array_equal(colorful(flow_overlay(gray(320, 320), maps, 0.5)), inside)
    maps.end[:, :20], maps.start[:, :20] = 0, 0
    drawn = colorful(flow_overlay(gray(320, 320), maps, 0.5))
    assert not drawn[:150].any()
    np.testing.assert_array_equal(drawn[170:], inside[170:])


def test_line_around_a_narrow_region_of_a_large_photo_leaves_its_colors_to_be_seen():
    maps = make_maps(2400, 3600)
    maps.probability[150, 100:300] = 0.9
    inside = upsample(maps.probability, (1100, 1300), 3600) > 0.5
    drawn = mask_overlay(gray(2400, 3600, value=90), maps, 0.5)[1100:1300]
    white = (drawn > 190).all(axis=2)
    assert colorful(drawn)[inside].mean() > 0.7
    assert white[~inside].any()
    assert np.abs(np.argwhere(white)[:, 0].mean() - np.argwhere(inside)[:, 0].mean()) < 1


def test_a_small_region_keeps_its_line_and_its_colors_on_a_reduced_photo():
    maps = make_maps(1600, 2400)
    maps.probability[100:104, 150:154] = 0.9
    drawn = mask_overlay(gray(400, 600, value=90), maps, 0.5, scale=0.25)
    inside = upsample(maps.probability, (0, 400), 600, 0.25) > 0.5
    white = (drawn > 190).all(axis=2)
    ring = np.roll(inside, 1, axis=0) & ~inside  # below the region
    assert white[ring].all()
    assert colorful(drawn)[inside].any()


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_scales_that_hold_much_of_the_blur_are_named_the_coarsest_first(shares):
    text = at_scales(dict(zip((1, 2, 4, 8), shares, strict=True)))
    most = max(shares)
    places = [text.find(name) for name in ("1/8", "1/4", "1/2", "full size")]
    for place, share in zip(places, reversed(shares), strict=True):
        assert place < 0 or share > 0
        assert place >= 0 or share < most or most in (0, shares[0])
    found = [place for place in places if place >= 0]
    assert found == sorted(found)
    if not any(shares[1:]):
        assert text == ""


def test_long_motion_in_a_large_photo_is_drawn_as_long_as_it_is():
    """A path of 70 pixels on 12 megapixels, and one that is drawn twice as long, so as to be seen."""
    for moved, drawn_length in ((70, 70), (56, 112)):
        maps = make_maps(3000, 4000, np.s_[150, 250], (0, -moved / 2), (0, moved / 2))
        drawn = colorful(trajectory_overlay(gray(3000, 4000), maps, 0.5))
        rows, columns = np.nonzero(drawn)
        width = columns.max() - columns.min() + 1
        assert drawn_length < width < drawn_length + 16  # with its round ends
        assert abs((columns.max() + columns.min()) / 2 - 250.5 * 8) < 8
        assert np.ptp(rows) < 25


def test_a_whole_picture_is_tinted_as_its_pixels_are():
    pixels = picture(40, 60)
    tint = np.asarray(drawing.tinted_picture(Image.fromarray(pixels), (255, 120, 0), 0.45)).astype(int)
    exact = drawing.tinted(pixels.astype(np.float32), np.array([255, 120, 0], np.float32), 0.45)
    assert np.abs(tint - exact).max() <= 1.5
