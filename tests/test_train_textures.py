"""Textures that look like motion: in their share of pictures, directional, repeatable."""

import pytest
import torch

from deblur_cli.train.textures import lines, local_color, patterned, stripes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=4, size=64):
    return torch.rand(count, 3, size, size, generator=seeded(9))


def test_patterns_come_in_their_share_of_the_pictures_and_leave_the_others():
    image = pictures(200, 16)
    changed = (patterned(image, 0.3, seeded()) != image).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    assert patterned(image, 0.0, seeded()) is image


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


def test_without_detail_a_picture_keeps_its_color():
    image = pictures()
    smooth = local_color(image)
    assert (smooth.mean((2, 3)) - image.mean((2, 3))).abs().max() < 0.05
    assert smooth.diff(dim=3).abs().max() < 0.1
