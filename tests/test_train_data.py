"""Batches: repeatable, from photos and datasets in the shares asked for."""

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from train_helpers import NETWORK, tensors

from deblur_cli.train.data import Batches
from deblur_cli.train.settings import BlurSettings, TrainSettings

BLUR = BlurSettings(longest=8.0)


def write_pairs(folder, level, count=3):
    """Pictures of one gray level, so that a patch tells where it comes from."""
    for part in ("blur", "sharp"):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((40, 48, 3), level + number, np.uint8)).save(
                folder / part / f"{number}.png"
            )
    return str(folder)


def batches(photos=(), rank=0, **changes):
    chosen = TrainSettings(network=NETWORK, blur=BLUR, patch=32, **{"batch": 2, **changes})
    return Batches(chosen, photos, "cpu", Path("nowhere"), rank)


def same(first, second):
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("blurred", "mask"))


def test_a_batch_does_not_depend_on_those_before_it(tmp_path):
    pairs = (write_pairs(tmp_path / "a", 10), write_pairs(tmp_path / "b", 200))
    whole, resumed = (batches(tensors(), pairs=pairs, batch=3) for _ in range(2))
    made = [whole.make(step, BLUR) for step in range(8)]
    for step in (5, 6, 7):
        assert same(made[step], resumed.make(step, BLUR))
    assert not same(made[5], made[6])
    assert {sample.measured for sample in made} == {True, False}


def test_reading_goes_on_after_a_break(tmp_path):
    source = batches(pairs=(write_pairs(tmp_path / "a", 10),))
    first = source.make(0, BLUR)
    source.close()
    assert same(source.make(0, BLUR), first)
    source.close()


def test_datasets_take_turns_evenly_whatever_their_sizes(tmp_path):
    pairs = (write_pairs(tmp_path / "small", 10, count=1), write_pairs(tmp_path / "large", 200, count=20))
    source = batches(pairs=pairs, batch=8)
    seen = torch.cat([source.make(step, BLUR).blurred.mean((1, 2, 3)) for step in range(25)])
    source.close()
    assert 0.4 < float((seen < 0.3).float().mean()) < 0.6


@given(st.sampled_from([0.0, 0.25, 0.75, 1.0]))
@settings(max_examples=4, deadline=None)
def test_synthesis_has_the_share_asked_for(share):
    source = batches(tensors(), synthetic=share)
    source.datasets = [[]]  # only the choice is asked for
    paired = np.mean([source.is_paired(step) for step in range(400)])
    assert abs(paired - (1 - share)) < 0.08


def test_each_process_has_batches_of_its_own():
    photos = tensors()
    first, second = (batches(photos, rank=rank).make(3, BLUR) for rank in range(2))
    assert not same(first, second)


def test_the_blur_is_as_long_as_the_course_says():
    source = batches(tensors(), seed=3)
    short, long = (
        source.make(0, BlurSettings(shortest=length, longest=length, sharp=0, absent=0, still=0))
        for length in (2.0, 12.0)
    )
    lengths = [
        (sample.end - sample.start).norm(dim=1)[sample.mask[:, 0] > 0].median() for sample in (short, long)
    ]
    assert lengths[0] < 4
    assert lengths[1] > 8
