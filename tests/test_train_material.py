"""What synthetic pictures are made of: patches, patterns, silhouettes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from train_helpers import tensors

from deblur_cli.train.material import (
    cut_patches,
    lines,
    patterned,
    random_silhouette,
    recolored,
    resampled,
    segments,
    stripes,
    window,
)


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
    cut = (resampled(window([photo], [0.0, 1.0, 0.3, 0.7], (12.8, 16)), 16) * 255).round()
    places = photo.unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4)
    assert (places == cut).all((2, 3, 4)).any()


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


def test_silhouettes_are_soft_shapes_of_sensible_size_around_their_centers():
    size = 64
    shapes, centers = random_silhouette(200, size, seeded())
    assert shapes.shape == (200, 1, size, size)
    assert centers.shape == (200, 2)
    assert shapes.min() >= 0 and shapes.max() <= 1
    assert ((shapes > 0.05) & (shapes < 0.95)).any((1, 2, 3)).all()  # each border is soft
    area = shapes.mean((1, 2, 3))
    assert area.min() > 0.005 and area.max() < 0.9
    assert 0.05 < area.mean() < 0.4
    y, x = centers.round().long().clamp(0, size - 1).unbind(1)
    inside = shapes[torch.arange(200), 0, y, x] > 0.5
    assert inside.float().mean() > 0.95


def test_silhouettes_of_smaller_pictures_are_smaller_and_lie_anywhere():
    small, large = (random_silhouette(200, 64, seeded(), smallest=smallest)[0] for smallest in (0.25, 1.0))
    assert small.mean() < 0.6 * large.mean()
    shown = small.amax(0)[0]
    assert shown[:16].max() > 0.5 and shown[-16:].max() > 0.5 and shown[:, :16].max() > 0.5


def pictures(count=4, size=64):
    return torch.rand(count, 3, size, size, generator=seeded(9))


def test_patterns_come_in_their_share_of_the_pictures_and_leave_the_others():
    image = pictures(200, 16)
    changed = (patterned(image, 0.3, seeded()) != image).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    assert patterned(image, 0.0, seeded()) is image


def test_a_share_of_the_pictures_is_recolored_and_what_was_brighter_stays_so():
    image = pictures(200, 16)
    changed = (recolored(image, 0.3, seeded()) != image).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    gray = torch.linspace(0, 1, 64).expand(20, 3, 1, 64)
    ramps = recolored(gray, 1.0, seeded())
    assert (ramps.diff(dim=3) >= 0).all() and (ramps[..., 0] == 0).all() and (ramps[..., -1] == 1).all()
    assert ramps[..., 32].min() < 0.4 and ramps[..., 32].max() > 0.6


def test_patterned_pictures_are_pictures_and_the_same_ones_again():
    image = pictures()
    before = image.clone()
    first, second = (patterned(image, 1.0, seeded(3)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(image, before)
    assert first.shape == image.shape and first.min() >= 0 and first.max() <= 1
    assert not torch.equal(first, patterned(image, 1.0, seeded(4)))


def coherence(pattern):
    """How much the gradients of each picture keep to one direction, 0-1."""
    right = (pattern[..., 2:] - pattern[..., :-2])[..., 1:-1, :]
    down = (pattern[..., 2:, :] - pattern[..., :-2, :])[..., 1:-1]
    xx, yy, xy = (value.mean((1, 2, 3)) for value in (right**2, down**2, right * down))
    return ((xx - yy) ** 2 + 4 * xy**2).sqrt() / (xx + yy)


@pytest.mark.parametrize("hard", [True, False])
def test_lines_keep_to_a_direction(hard):
    noise = lines(pictures(24), torch.full((24, 1, 1, 1), hard), seeded())
    assert noise.shape == (24, 1, 64, 64) and noise.abs().max() <= 1
    assert coherence(noise).median() > 0.5
    assert coherence(torch.randn(24, 1, 64, 64, generator=seeded())).median() < 0.1


def test_stripes_keep_to_a_direction_and_grids_go_across_it():
    single, crossed = (
        stripes(pictures(24), torch.full((24, 1, 1, 1), crossed), seeded()) for crossed in (False, True)
    )
    assert coherence(single).median() > 0.6
    assert coherence(crossed).median() < 0.5 * coherence(single).median()


def halves():
    """Pictures 40 3 64 64, dark on the left and bright on the right of a wavy line, and where it is dark."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    dark = x < 32 + 10 * torch.sin(y / 8)
    picture = torch.where(dark, 0.1, 0.8).expand(40, 3, 64, 64)
    return picture, dark.expand(40, 1, 64, 64)


@pytest.mark.parametrize("side", ["left", "right"])
def test_segments_keep_to_the_color_of_their_center(side):
    picture, dark = halves()
    own = dark if side == "left" else ~dark
    center = torch.tensor([32.0, 12.0 if side == "left" else 52.0]).expand(40, 2)
    found = segments(picture, center, seeded())
    assert found.shape == (40, 1, 64, 64) and found.min() >= 0 and found.max() <= 1
    inside, outside = (found * own).sum((1, 2, 3)), (found * ~own).sum((1, 2, 3))
    assert (outside < 0.1 * inside).all()
    # without the outline in the texture they are round and cross it
    plain = segments(torch.full_like(picture, 0.5), center, seeded())
    assert (plain * ~own).sum() > 3 * outside.sum()


def test_segments_cover_a_tenth_to_a_half_and_their_center():
    picture = torch.rand(60, 3, 64, 64, generator=seeded())
    picture = F.avg_pool2d(picture, 9, 1, 4)
    center = torch.rand(60, 2, generator=seeded(1)) * 63
    found = segments(picture, center, seeded())
    covered = found.mean((1, 2, 3))
    assert covered.min() > 0.07 and covered.max() < 0.55
    assert covered.min() < 0.18 and covered.max() > 0.4
    row, column = center.long().unbind(1)
    assert (found[torch.arange(60), 0, row, column] > 0.5).float().mean() > 0.9
