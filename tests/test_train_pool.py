"""Patches cut from sharp photos, and silhouettes of what moves."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from train_helpers import picture, tensors, write_photos

from deblur_cli.errors import DecodeError, TrainingError
from deblur_cli.train.pool import cut_patches, cut_window, load_photos
from deblur_cli.train.shapes import random_silhouette


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3))
def test_patches_have_the_asked_size_and_stay_in_range(sixteenths, count, tries):
    patches = cut_patches(tensors(), count, 16 * sixteenths, seeded(), tries)
    assert patches.shape == (count, 3, 16 * sixteenths, 16 * sixteenths)
    assert patches.dtype == torch.float32
    assert patches.min() >= 0 and patches.max() <= 1
    assert patches.std() > 0.05


def test_photos_smaller_than_a_patch_are_enlarged():
    photo = torch.zeros(3, 5, 9, dtype=torch.uint8)
    photo[:, :, 5:] = 255
    patches = cut_patches([photo], 8, 32, seeded())
    assert patches.shape == (8, 3, 32, 32)
    assert 0.2 < patches.mean() < 0.8


def test_a_window_without_shrinking_is_a_piece_of_the_photo_itself():
    photo = tensors(1)[0]
    window = (cut_window([photo], 16, [0.0, 1.0, 0.3, 0.7], (12.8, 16)) * 255).round()
    places = photo.unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4)
    assert (places == window).all((2, 3, 4)).any()


@given(st.floats(1, 4), st.floats(1, 4), st.integers(0, 9))
def test_patches_show_as_much_of_a_photo_as_resampling_may_bring_in(shrink, enlarge, seed):
    ramp = torch.arange(200, dtype=torch.uint8).expand(3, 200, 200)  # a column is as bright as its number
    patches = cut_patches([ramp], 8, 32, seeded(seed), shrink=shrink, enlarge=enlarge) * 255
    shown = patches.amax((1, 2, 3)) - patches.amin((1, 2, 3))
    assert ((32 / enlarge - 3 <= shown) & (shown <= 32 * shrink)).all()


def test_of_several_tries_the_most_detailed_is_kept():
    plain = torch.full((3, 40, 40), 128, dtype=torch.uint8)
    lines = plain.clone()
    lines[:, torch.arange(40) % 8 < 4] = 0
    once, often = (cut_patches([plain, lines], 16, 32, seeded(), tries) for tries in (1, 4))
    detailed = [int((patches.std((1, 2, 3)) > 0.05).sum()) for patches in (once, often)]
    assert detailed[1] > detailed[0]


def test_photos_are_read_in_the_order_of_their_names_and_grey_ones_get_three_channels(tmp_path):
    Image.fromarray(picture((20, 30))[..., 0]).save(tmp_path / "b.png")
    Image.fromarray(picture((10, 12))).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    first, second = load_photos(tmp_path)
    assert (first.shape, second.shape) == ((3, 10, 12), (3, 20, 30))
    assert torch.equal(second[0], second[2])
    assert np.array_equal(second[0].numpy(), picture((20, 30))[..., 0])


def test_missing_empty_and_damaged_photos_are_named(tmp_path):
    with pytest.raises(TrainingError, match=r"no folder .*gone"):
        load_photos(tmp_path / "gone")
    with pytest.raises(TrainingError, match="no pictures in"):
        load_photos(tmp_path)
    (write_photos(tmp_path / "photos") / "3.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DecodeError, match=r"3\.png"):
        load_photos(tmp_path / "photos")


def test_silhouettes_are_soft_shapes_of_sensible_size_around_their_centres():
    size = 64
    shapes, centres = random_silhouette(200, size, seeded())
    assert shapes.shape == (200, 1, size, size)
    assert centres.shape == (200, 2)
    assert shapes.min() >= 0 and shapes.max() <= 1
    assert ((shapes > 0.05) & (shapes < 0.95)).any((1, 2, 3)).all()  # each border is soft
    area = shapes.mean((1, 2, 3))
    assert area.min() > 0.005 and area.max() < 0.9
    assert 0.05 < area.mean() < 0.4
    y, x = centres.round().long().clamp(0, size - 1).unbind(1)
    inside = shapes[torch.arange(200), 0, y, x] > 0.5
    assert inside.float().mean() > 0.95
