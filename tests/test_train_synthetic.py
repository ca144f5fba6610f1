"""Synthetic motion blur: repeatable, true to its own account of what moved where."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from train_helpers import changed, tensors

from deblur_cli.nets.richardson_lucy import to_linear
from deblur_cli.restoration.scales import pyramid
from deblur_cli.train.camera import compress
from deblur_cli.train.samples import to_pixels
from deblur_cli.train.settings import BlurSettings, CameraSettings
from deblur_cli.train.synthetic import (
    MASK_COVERAGE,
    OPAQUE_COVERAGE,
    Draw,
    Scene,
    synthesize,
    twice_as_large,
)
from deblur_cli.train.trajectory import Motion

BARE = CameraSettings(
    highlights=0.0,
    noise=0.0,
    mosaic=0.0,
    softness=0.0,
    tone=0.0,
    denoising=0.0,
    sharpening=0.0,
    quality=(100.0, 100.0),
)
CLEAN = BlurSettings(sharp=0.0, shake=0.0, panning=0.0, defocus=0.0, patterns=0.0, spread=1.0, camera=BARE)
MOVING = changed(CLEAN, still=0.0, absent=0.0)
PARTS = ("blurred", "sharp", "mask", "start", "end")
shares = st.floats(0, 1)
EVENLY = torch.full((1, 13), 1 / 13)
IN_FOCUS = torch.zeros(1, 1, 1, 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made(blur, count=4, size=32, seed=0, gray=False):
    return synthesize(tensors(gray=gray), count, size, blur, seeded(seed))


def draw(count, size, blur, seed=0):
    return Draw(tensors(), count, size, blur, seeded(seed))


def straight(down, right):
    half = torch.tensor([[down / 2, right / 2]])
    return Motion(-half, half, torch.tensor([[15.5, 15.5]]), torch.zeros(1), torch.zeros(1))


def rectangle(rows, columns, coverage=1.0):
    """A layer 1 4 32 32 that holds a rectangle of noise and nothing else."""
    layer = torch.zeros(1, 4, 32, 32)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    layer[:, :3, rows, columns] = torch.rand(1, 3, height, width, generator=seeded(7)) * coverage
    layer[:, 3, rows, columns] = coverage
    return layer


def gray_scene():
    return Scene.still(torch.full((1, 3, 32, 32), 0.25))


def lay(scene, layer, motion):
    scene.lay_over(layer, motion, EVENLY if motion.start.any() else torch.zeros(1, 1), IN_FOCUS)


def roughness(image):
    return float(image.diff(dim=3).abs().mean() + image.diff(dim=2).abs().mean())


def same(first, second):
    return all(torch.equal(getattr(first, part), getattr(second, part)) for part in PARTS)


@settings(max_examples=7)
@given(
    sixteenths=st.integers(1, 3),
    count=st.integers(1, 3),
    objects=st.integers(1, 3),
    drawn=st.tuples(*[shares] * 9),
    spread=st.floats(1, 4),
    halved=shares,
    longest=st.floats(4, 30),
    seed=st.integers(0, 999),
)
def test_samples_keep_their_shapes_and_ranges(
    sixteenths, count, objects, drawn, spread, halved, longest, seed
):
    size = 16 * sixteenths
    names = ("segmented", "joined", "sharp", "shake", "defocus", "gaps", "still", "panning", "patterns")
    blur = changed(
        BlurSettings(),
        longest=longest,
        objects=objects,
        spread=spread,
        halved=halved,
        **dict(zip(names, drawn, strict=True)),
    )
    sample = made(blur, count, size, seed)
    assert sample.blurred.shape == sample.sharp.shape == (count, 3, size, size)
    assert sample.mask.shape == (count, 1, size, size)
    assert sample.start.shape == sample.end.shape == (count, 2, size, size)
    assert all(getattr(sample, part).dtype == torch.float32 for part in PARTS)
    for image in (sample.blurred, sample.sharp):
        assert image.min() >= 0 and image.max() <= 1  # not-a-number fails this too
    assert ((sample.mask == 0) | (sample.mask == 1)).all()
    assert sample.start.isfinite().all() and sample.end.isfinite().all()
    still = (sample.mask == 0).expand_as(sample.start)
    assert not sample.start[still].any() and not sample.end[still].any()
    assert not sample.measured


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    first, second = (made(BlurSettings(), seed=5) for _ in range(2))
    assert same(first, second)
    assert not torch.equal(first.blurred, made(BlurSettings(), seed=6).blurred)


@pytest.mark.parametrize("halved", [0.0, 1.0])
def test_sharp_pixels_are_those_of_the_sharp_picture(halved):
    # Grey photos, as halved chroma would mix pixels across the border of the mask. A pixel may be
    # touched for up to a tenth of the exposure, and by two layers, without counting as blurred.
    sample = made(changed(CLEAN, halved=halved), 16, 64, gray=True)
    difference = (to_linear(sample.blurred) - to_linear(sample.sharp)).abs().amax(1, keepdim=True)
    sharp, blurred = difference[sample.mask == 0], difference[sample.mask == 1]
    assert 0.1 < sample.mask.mean() < 0.9
    assert sharp.median() < 0.01
    assert (sharp < 0.1).float().mean() > 0.995
    assert sharp.mean() < 0.2 * blurred.mean()


@pytest.mark.parametrize("blur", [changed(MOVING, still=1.0), changed(MOVING, sharp=1.0, shake=0.5)])
def test_where_nothing_moves_the_picture_is_its_truth_and_nothing_is_marked(blur):
    sample = made(blur, 8)
    assert not sample.mask.any() and not sample.start.any() and not sample.end.any()
    assert (compress(sample.sharp, torch.full((8,), 100.0)) - sample.blurred).abs().max() < 2.01 / 255


def test_a_shaken_frame_is_blurred_everywhere_but_around_its_pivot():
    shaken = changed(CLEAN, shake=1.0, absent=1.0, shortest=8.0)
    sample = made(shaken, 16, gray=True)
    assert sample.mask.flatten(1).any(1).all() and sample.mask.mean() > 0.8
    assert roughness(sample.blurred) < 0.85 * roughness(sample.sharp)
    marked = (sample.mask > 0).expand_as(sample.sharp)
    difference = (sample.blurred - sample.sharp).abs()
    assert difference[~marked].mean() < 0.5 * difference[marked].mean()


@pytest.mark.parametrize("kind", ["shift", "roll", "zoom", "parallax"])
def test_displacements_say_where_everything_in_a_moving_frame_was_at_start_and_end(kind):
    # seen at the first and last instants alone, the picture shows twice what the truth shows once
    half, none = torch.tensor([[3.0, 7.0]]), torch.zeros(1, 2)
    turn, growth = torch.tensor([0.15 * (kind == "roll")]), torch.tensor([0.12 * (kind == "zoom")])
    shift = half if kind in ("shift", "parallax") else none
    background = Motion(-shift, shift, torch.tensor([[40.0, -9.0]]), turn, growth)
    own = Motion(none, none, torch.tensor([[30.0, 33.0]]), torch.zeros(1), torch.zeros(1))
    front = own.over(background.nearer(torch.tensor([1.6 if kind == "parallax" else 1.0])))
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    far = (0.5 + 0.2 * torch.sin(x / 5) * torch.cos(y / 7)).expand(1, 3, 64, 64)
    near = torch.cat([1 - far, torch.ones(1, 1, 64, 64)], 1) * ((y - 32) ** 2 + (x - 32) ** 2 < 400)
    for time, side in ((-1, "start"), (1, "end")):
        scene = Scene.still(far)
        taken = Scene.still(background.warp(far, time))
        for layer, motion in ((torch.cat([far, torch.ones(1, 1, 64, 64)], 1), background), (near, front)):
            scene.lay_over(layer, motion, torch.tensor([[0.5, 0.0, 0.5]]), IN_FOCUS)
            moved = motion.warp(layer, time)
            taken.blurred = moved[:, :3] + (1 - moved[:, 3:]) * taken.blurred
        assert scene.mask.mean() > 0.95
        place = torch.stack([y, x]) + getattr(scene, side)
        grid = (2 * place.flip(1).permute(0, 2, 3, 1) + 1) / 64 - 1
        back = F.grid_sample(taken.blurred, grid, align_corners=False)
        inside = ((place > 1) & (place < 62)).all(1, keepdim=True)
        distance = torch.hypot(y - 32, x - 32)
        alone = (distance < 15) | (distance > 34)  # not where one covers the other on the way
        kept = (inside & alone).expand_as(back)
        assert kept[..., 32, 32].all() and kept.float().mean() > 0.2
        assert (back - scene.sharp).abs()[kept].max() < 0.03


def test_a_panned_object_stays_sharp_before_a_background_that_moves():
    blur = changed(MOVING, panning=1.0, absent=0.5, objects=1, shortest=8.0, segmented=0.0)
    sample = made(blur, 12, 64, gray=True)
    marked = sample.mask.mean((1, 2, 3))
    assert 0.4 < marked.mean() < 0.95 and marked.min() > 0.2
    difference = (sample.blurred - sample.sharp).abs().mean(1, keepdim=True)
    kept = F.max_pool2d(sample.mask, 5, 1, 2) == 0  # without the soft outline
    assert kept.float().mean() > 0.05
    assert difference[kept].max() < 3 / 255
    assert difference[sample.mask > 0].mean() > 0.02


def test_sets_that_measure_objects_hold_no_motion_of_the_frame():
    whole = changed(CLEAN, absent=1.0, shake=1.0, panning=1.0)
    assert made(whole).mask.any()
    assert not made(whole.without_frame_motion()).mask.any()


@settings(max_examples=5)
@given(seed=st.integers(0, 99))
def test_everything_that_is_no_motion_leaves_truth_and_picture_alike(seed):
    camera = changed(BARE, softness=1.3, tone=0.2, sharpening=0.5)
    blur = changed(MOVING, sharp=1.0, shake=0.5, panning=0.5, defocus=1.0, patterns=0.5, camera=camera)
    sample = made(blur, 4, 32, seed, gray=True)
    assert not sample.mask.any() and not sample.start.any() and not sample.end.any()
    assert (sample.blurred - sample.sharp).abs().mean() < 1.5 / 255  # JPEG of colored patterns


def test_pictures_keep_the_colors_of_their_photos():
    color = torch.tensor([200, 100, 30], dtype=torch.uint8).view(3, 1, 1)
    sample = synthesize([color.expand(3, 40, 40)], 3, 32, MOVING, seeded())
    for picture in (sample.sharp, sample.blurred):  # one color stays it, moved or not
        assert (picture * 255 - color).abs().max() < 2.01


def test_lamps_in_photos_leave_white_streaks():
    photo = torch.full((3, 64, 64), 20, dtype=torch.uint8)
    photo[:, 4::12, 4::12] = photo[:, 5::12, 5::12] = 255
    white = {}
    for share in (0.0, 1.0):
        camera = changed(BARE, highlights=share, brightest=40.0)
        blur = changed(CLEAN, shake=1.0, absent=1.0, shrink=1.0, camera=camera)
        sample = synthesize([photo], 16, 32, blur, seeded())
        white[share] = float((sample.blurred > 0.9).float().mean())
    assert white[1.0] > 2 * white[0.0] + 0.01


@pytest.mark.parametrize("halved", [0.0, 1.0])
def test_displacements_of_the_marked_area_are_as_long_as_asked(halved):
    sample = made(changed(MOVING, shortest=10.0, longest=12.0, objects=1, halved=halved), 8, 64)
    assert sample.mask.flatten(1).any(1).all()
    for start, end, mask in zip(sample.start, sample.end, sample.mask, strict=True):
        length = (end - start).norm(dim=0)[mask[0] > 0]
        assert 5 < length.median() < 18  # turning and growing add or take up to a half at the edge


def test_halved_pictures_are_what_coarser_scales_see_of_those_twice_as_large():
    blur, generator = changed(BlurSettings(), halved=1.0), seeded(4)
    torch.rand((), generator=generator)  # what decides for halving
    large = synthesize(tensors(), 1, 64, changed(twice_as_large(blur), halved=0.0), generator)
    small = made(blur, 1, 32, 4)
    for part in ("blurred", "sharp"):
        seen = pyramid(to_pixels(getattr(large, part)), (2,))[0].pixels
        assert np.abs(seen - 255.0 * getattr(small, part)[0].permute(1, 2, 0).numpy()).max() <= 1
    both = (F.avg_pool2d(large.mask, 2) == 1) & (small.mask == 1)
    assert both.any()
    assert torch.equal(F.avg_pool2d(large.end, 2) / 2 * both, small.end * both)


def test_blur_is_the_mean_of_pictures_taken_at_each_instant():
    layer, scene = rectangle(slice(14, 19), slice(13, 20)), gray_scene()
    lay(scene, layer, straight(0, 12))
    taken = []
    for step in range(-6, 7):  # 12 pixels in 13 instants: whole pixels
        moved = layer.roll(step, 3)
        taken.append(moved[:, :3] + (1 - moved[:, 3:]) * 0.25)
    assert torch.allclose(scene.blurred, torch.stack(taken).mean(0), atol=1e-4)
    assert torch.equal(scene.sharp, taken[6])


def test_the_mask_is_one_exactly_where_something_was_seen_for_long_enough():
    layer, scene = rectangle(slice(14, 19), slice(14, 19)), gray_scene()
    lay(scene, layer, straight(0, 12))
    seen = torch.stack([layer[:, 3:].roll(step, 3) for step in range(-6, 7)]).mean(0)
    marked = (seen > MASK_COVERAGE).float()
    assert 0 < marked.sum() < (seen > 0).sum()
    assert torch.equal(scene.mask, marked)
    for found, right in ((scene.start, -6.0), (scene.end, 6.0)):
        assert torch.allclose(found, marked * torch.tensor([0.0, right]).view(1, 2, 1, 1), atol=1e-5)


@pytest.mark.parametrize("coverage", [1.0, 0.5])
def test_a_still_object_hides_motion_behind_it_unless_that_shows_through(coverage):
    behind, front = rectangle(slice(8, 24), slice(4, 28)), rectangle(slice(0, 32), slice(16, 32), coverage)
    alone, scene = gray_scene(), gray_scene()
    lay(alone, behind, straight(6, 0))
    lay(scene, behind, straight(6, 0))
    lay(scene, front, straight(0, 0))
    beside, over = (..., slice(0, 16)), (..., slice(16, 32))
    for part in ("mask", "start", "end"):
        found, before = getattr(scene, part), getattr(alone, part)
        assert torch.equal(found[beside], before[beside])
        expected = torch.zeros_like(before[over]) if coverage > OPAQUE_COVERAGE else before[over]
        assert torch.equal(found[over], expected)
    assert torch.allclose(scene.blurred[over], front[:, :3][over] + (1 - coverage) * alone.blurred[over])


def test_of_two_moving_objects_the_one_in_front_tells_the_displacement():
    scene = gray_scene()
    lay(scene, rectangle(slice(4, 28), slice(4, 28)), straight(6, 0))
    lay(scene, rectangle(slice(12, 20), slice(12, 20)), straight(0, 4))
    assert scene.mask[..., 16, 16] == 1 and scene.mask[..., 8, 8] == 1
    assert scene.end[0, :, 16, 16].tolist() == pytest.approx([0, 2], abs=1e-5)
    assert scene.end[0, :, 8, 8].tolist() == pytest.approx([3, 0], abs=1e-5)


def test_defocus_softens_its_share_of_the_pictures_by_up_to_its_radius():
    image = torch.rand(24, 3, 64, 64, generator=seeded())
    assert torch.equal(draw(24, 64, changed(CLEAN, defocus=0.0)).defocus_region(image)[0], image)
    slightly, strongly = (
        draw(24, 64, changed(CLEAN, defocus=1.0, defocus_radius=radius), 3).defocus_region(image)[0]
        for radius in (1.0, 12.0)
    )
    assert roughness(strongly) < roughness(slightly) < roughness(image)
    kept = ((strongly - image).abs().amax(1) < 1e-4).float().mean((1, 2))
    assert 4 <= int((kept < 0.01).sum()) <= 16 and 4 <= int((kept > 0.2).sum()) <= 20  # wholly, or in part


def test_mixed_textures_are_between_those_of_two_photos():
    photos = [torch.full((3, 48, 48), level, dtype=torch.uint8) for level in (0, 255)]
    plain, mixed = (
        Draw(photos, 60, 16, changed(CLEAN, mixed=share), seeded()).patches().mean((1, 2, 3))
        for share in (0.0, 0.5)
    )
    assert set(plain.tolist()) == {0, 1}
    assert 0.1 < ((mixed > 0.01) & (mixed < 0.99)).float().mean() < 0.4  # half of what is mixed is alike


def test_layers_out_of_focus_have_soft_outlines_and_keep_their_light():
    layer = rectangle(slice(10, 22), slice(10, 22)).expand(20, 4, 32, 32)
    soft, _ = draw(20, 32, changed(CLEAN, defocus=1.0, defocus_radius=4.0)).defocus_layer(layer)
    softened = (soft != layer).flatten(1).any(1)
    assert softened.any() and not softened.all()
    assert torch.allclose(soft.sum((2, 3)), layer.sum((2, 3)), rtol=1e-3)
    assert (soft[softened][:, 3, 9, 16] > 0.05).all()


def test_what_is_out_of_focus_stays_so_in_the_truth_and_is_not_marked():
    focused = made(changed(MOVING, objects=1), 16, 64)
    defocused = made(changed(MOVING, objects=1, defocus=1.0), 16, 64)
    assert defocused.mask.mean() < 1.5 * focused.mask.mean()
    assert roughness(defocused.sharp) < 0.95 * roughness(focused.sharp)
    still = made(changed(MOVING, still=1.0, defocus=1.0), 8, size=64, gray=True)
    assert not still.mask.any() and roughness(still.sharp) < 0.9 * roughness(
        made(MOVING, 8, 64, gray=True).sharp
    )
    assert (still.sharp - still.blurred).abs().max() < 2.01 / 255


def test_motion_is_marked_where_it_shows():
    layer, marked = torch.rand(1, 4, 32, 32, generator=seeded()), []
    layer[:, 3] = 1
    for way, radius in ((0.5, 0.0), (1.0, 0.0), (6.0, 8.0), (3.0, 8.0)):  # pixels, and of defocus
        scene = gray_scene()
        scene.lay_over(layer, straight(way, 0), EVENLY, torch.full((1, 1, 1, 1), radius))
        marked.append(bool(scene.mask.all()))
        assert scene.mask.all() == scene.mask.any() == scene.end.any()
    assert marked == [False, True, True, False]
