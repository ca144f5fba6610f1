"""Synthetic motion blur: repeatable, true to its own account of what moved where."""

from dataclasses import astuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from train_helpers import tensors

from deblur_cli.train.jpeg import compress
from deblur_cli.train.synthetic import (
    BlurSettings,
    Motion,
    Scene,
    defocus_region,
    pixel_grid,
    random_motion,
    synthesise,
    to_encoded,
    to_linear,
)

CLEAN = {"noise": 0.0, "quality": (100.0, 100.0), "defocus": 0.0, "shake": 0.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def straight(down, right, centre=(15.5, 15.5), turn=0.0, growth=0.0):
    half = torch.tensor([[down / 2, right / 2]])
    return Motion(-half, half, torch.tensor([centre]), torch.tensor([turn]), torch.tensor([growth]))


@settings(max_examples=8)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_samples_keep_their_shapes_and_ranges(sixteenths, count, objects, seed):
    size = 16 * sixteenths
    sample = synthesise(tensors(), count, size, BlurSettings(objects=objects), seeded(seed))
    assert sample.blurred.shape == sample.sharp.shape == (count, 3, size, size)
    assert sample.mask.shape == (count, 1, size, size)
    assert sample.start.shape == sample.end.shape == (count, 2, size, size)
    for image in (sample.blurred, sample.sharp):
        assert image.min() >= 0 and image.max() <= 1
    assert ((sample.mask == 0) | (sample.mask == 1)).all()
    still = (sample.mask == 0).expand_as(sample.start)
    assert not sample.start[still].any() and not sample.end[still].any()
    moved = (sample.mask == 1).expand_as(sample.start)
    assert (sample.start - sample.end)[moved].abs().sum() > 0 or not moved.any()


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    first, second = (synthesise(tensors(), 2, 32, BlurSettings(), seeded(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(astuple(first), astuple(second), strict=True))
    assert not torch.equal(first.blurred, synthesise(tensors(), 2, 32, BlurSettings(), seeded(6)).blurred)


def test_encoding_is_undone_by_its_inverse():
    values = torch.linspace(0, 1, 1001)
    assert (to_encoded(to_linear(values)) - values).abs().max() < 1e-5
    assert to_linear(torch.tensor(0.5)).item() == pytest.approx(0.21404, abs=1e-5)


def test_sharp_pixels_are_those_of_the_sharp_picture():
    # Grey photos, as halved chroma would mix pixels across the border of the mask. A pixel may be
    # touched for up to a tenth of the exposure, and by two layers, without counting as blurred.
    sample = synthesise(tensors(grey=True), 16, 64, BlurSettings(**CLEAN), seeded())
    difference = (to_linear(sample.blurred) - to_linear(sample.sharp)).abs().amax(1, keepdim=True)
    sharp, blurred = difference[sample.mask == 0], difference[sample.mask == 1]
    assert 0.1 < sample.mask.mean() < 0.9
    assert sharp.median() < 0.01
    assert (sharp < 0.1).float().mean() > 0.995
    assert sharp.mean() < 0.2 * blurred.mean()


def test_layers_that_stand_still_blur_nothing():
    sample = synthesise(tensors(), 8, 32, BlurSettings(still=1.0, absent=0.0, **CLEAN), seeded())
    assert not sample.mask.any() and not sample.start.any() and not sample.end.any()
    assert (compress(sample.sharp, torch.full((8,), 100.0)) - sample.blurred).abs().max() < 2.01 / 255


def test_a_shaken_frame_is_blurred_everywhere():
    shaken = BlurSettings(shake=1.0, still=0.0, absent=0.0, objects=1)
    sample = synthesise(tensors(), 4, 32, shaken, seeded())
    assert sample.mask.all()
    length = (sample.end - sample.start).norm(dim=1)
    assert length.median() > 0.8 * shaken.shortest  # less only around the pivot of a frame that turns


def test_an_object_is_smeared_over_its_path_and_loses_no_light():
    layer = torch.zeros(1, 4, 32, 32)
    layer[:, :, 14:19, 14:19] = 1  # a white square of five pixels ...
    scene = Scene.still(torch.zeros(1, 3, 32, 32))
    scene.lay_over(layer, straight(0, 12), torch.ones(1, 1, 1, 1), instants=13)  # ... 12 to the right
    path = torch.zeros(1, 1, 32, 32)
    path[:, :, 14:19, 8:25] = 1
    # both ends see the square in only a part of the instants, 1 of 13 in the last column
    assert ((scene.blurred.amax(1, keepdim=True) > 1e-4) == (path > 0)).all()
    assert scene.blurred.sum().item() == pytest.approx(75, rel=1e-4)
    assert scene.blurred[0, 0, 16, 8:13].tolist() == pytest.approx([n / 13 for n in range(1, 6)], abs=1e-4)
    assert torch.equal(scene.sharp, layer[:, :3])
    assert (scene.mask[..., 9:24] == path[..., 9:24]).all() and scene.mask.sum() == 75
    assert torch.allclose(scene.start, scene.mask * torch.tensor([0.0, -6.0]).view(1, 2, 1, 1), atol=1e-5)
    assert torch.allclose(scene.end, scene.mask * torch.tensor([0.0, 6.0]).view(1, 2, 1, 1), atol=1e-5)


def test_a_still_object_in_front_hides_motion_behind_it():
    moving, still = torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32)
    moving[:, :, 8:24, 8:24], still[:, :, :, 16:] = 1, 1
    scene = Scene.still(torch.zeros(1, 3, 32, 32))
    scene.lay_over(moving, straight(6, 0), torch.ones(1, 1, 1, 1), instants=7)
    scene.lay_over(still, straight(0, 9), torch.zeros(1, 1, 1, 1), instants=7)
    assert scene.mask[..., 8:16].any()
    assert not scene.mask[..., 16:].any() and not scene.start[..., 16:].any()


@pytest.mark.parametrize("time", [-1.0, 0.4, 1.0])
def test_displacements_say_where_warping_brings_each_pixel(time):
    motion = Motion(
        torch.tensor([[-3.0, 2.0]]),
        torch.tensor([[4.0, -1.0]]),
        torch.tensor([[20.0, 28.0]]),
        torch.tensor([0.2]),
        torch.tensor([0.1]),
    )
    y, x = pixel_grid(48, 48, torch.device("cpu"))
    layer = torch.stack([torch.sin(y / 6), torch.cos(x / 7)]).unsqueeze(0)
    moved = motion.warp(layer, time)
    place = pixel_grid(48, 48, torch.device("cpu")) + motion.displacement(48, 48, time)
    grid = (2 * place.flip(1).permute(0, 2, 3, 1) + 1) / 48 - 1  # (y, x) in pixels -> (x, y) in -1..1
    back = F.grid_sample(moved, grid, align_corners=False)
    assert (back - layer)[..., 14:-14, 14:-14].abs().max() < 0.02
    assert (moved - layer)[..., 14:-14, 14:-14].abs().max() > 0.1  # it did move


def test_mid_exposure_is_where_displacements_are_counted_from():
    motion = random_motion(torch.full((3, 2), 16.0), 32, BlurSettings(), seeded())
    assert not motion.displacement(32, 32, 0.0).abs().max() > 1e-5
    layer = torch.rand(3, 1, 32, 32)
    assert (motion.warp(layer, 0.0) - layer).abs().max() < 1e-4
    assert torch.allclose(motion.shift(-1), motion.start, atol=1e-5)
    assert torch.allclose(motion.shift(1), motion.end, atol=1e-5)


def test_blur_lengths_stay_within_the_settings_and_fill_them():
    motion = random_motion(torch.full((500, 2), 32.0), 64, BlurSettings(shortest=3, longest=24), seeded())
    length = (motion.end - motion.start).norm(dim=1)
    assert length.min() > 3 - 1e-4 and length.max() < 24 + 1e-4
    assert length.min() < 3.5 and length.max() > 20
    bend = (motion.start + motion.end).norm(dim=1) / 2
    assert (bend <= 0.2 * length + 1e-4).all()


def test_defocus_softens_its_share_of_the_pictures_in_a_region_up_to_its_radius():
    image = torch.rand(8, 3, 64, 64, generator=seeded())
    kept = defocus_region(image, BlurSettings(defocus=0.0), seeded())
    assert torch.equal(kept, image)
    roughness = [
        float(
            defocus_region(image, BlurSettings(defocus=1.0, defocus_radius=radius), seeded(3))
            .diff(dim=3)
            .abs()
            .mean()
        )
        for radius in (1.0, 12.0)
    ]
    assert roughness[1] < roughness[0] < float(image.diff(dim=3).abs().mean())


def test_with_spread_patches_show_pieces_of_objects_larger_than_themselves():
    shares = {}
    for spread in (1.0, 4.0):
        settings = BlurSettings(objects=1, still=0.0, absent=0.0, shake=0.0, spread=spread)
        mask = synthesise(tensors(), 64, 32, settings, seeded(1)).mask.mean((1, 2, 3))
        shares[spread] = (int((mask == 0).sum()), int((mask > 0.9).sum()))
    assert shares[4.0][0] > shares[1.0][0]
    assert shares[4.0][1] > shares[1.0][1]
