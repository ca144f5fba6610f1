"""JPEG's loss as tensors against JPEG files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from train_helpers import picture

from deblur_cli.train.jpeg import compress


def through_a_file(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def as_tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0) / 255


def levels_apart(found, pixels):
    return float((found[0].permute(1, 2, 0) * 255 - torch.from_numpy(pixels.copy())).abs().mean())


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 98])
def test_loss_is_that_of_a_jpeg_file(quality):
    # A file's colours are rounded to whole levels before and after its cosine transform, ours are not,
    # which makes about one level; what JPEG itself changes is three to seven.
    pixels = picture((96, 128))
    found, real = compress(as_tensor(pixels), torch.tensor([float(quality)])), through_a_file(pixels, quality)
    assert levels_apart(found, real) < 1.25
    assert levels_apart(found, real) < 0.5 * levels_apart(as_tensor(pixels), real)


def test_best_quality_keeps_a_grey_picture():
    grey = np.repeat(picture((48, 64))[..., :1], 3, axis=2)
    found = compress(as_tensor(grey), torch.tensor([100.0]))
    assert (found - as_tensor(grey)).abs().max() * 255 < 2.01  # steps of one level in the cosine domain


def test_each_picture_of_a_batch_has_its_own_quality():
    image = as_tensor(picture((32, 32))).repeat(2, 1, 1, 1)
    both = compress(image, torch.tensor([10.0, 95.0]))
    assert torch.equal(both[:1], compress(image[:1], torch.tensor([10.0])))
    first, second = (both - image).abs().mean((1, 2, 3))
    assert first > 3 * second
