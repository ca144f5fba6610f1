"""Patches made ahead: the same as made at once, turned with their motion, and never taken when half made."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_helpers import same_weights, small_run, trainer, write_photos

from deblur_cli.errors import TrainingError
from deblur_cli.train import patches
from deblur_cli.train.datasets import load_photos
from deblur_cli.train.patches import PatchPool, Recipe, read_batch, turned, write_set
from deblur_cli.train.samples import Sample
from deblur_cli.train.settings import BlurSettings, PatchSettings

COUNT, BATCH = 6, 2


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    small_run(monkeypatch)
    photos = write_photos(tmp_path / "photos")
    return Recipe(photos, 4, BlurSettings(longest=8.0), 32, COUNT, seed=5)


@pytest.fixture
def pool(recipe, tmp_path, monkeypatch):
    """A pool whose sets are made at once instead of in the background."""
    pool = PatchPool(recipe, tmp_path / "sets", views=2, batch=BATCH)
    monkeypatch.setattr(pool, "begin", lambda number: None)
    return pool


def test_a_set_holds_what_the_synthesis_makes(recipe, tmp_path):
    write_set(recipe, 1, tmp_path / "set")
    made = recipe.make(load_photos(recipe.folder)[:4], 1, 0)
    read = read_batch(patches.open_set(tmp_path / "set"), np.arange(4), turn=0)
    assert (read.blurred - made.blurred).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(read.mask, made.mask)
    torch.testing.assert_close(read.end, made.end, atol=0.02, rtol=1e-3)
    assert len(patches.open_set(tmp_path / "set")["sharp"]) == COUNT


@given(st.integers(0, 7), st.integers(0, 7))
@settings(max_examples=20, deadline=None)
def test_displacements_turn_with_the_picture(first, second):
    y, x = torch.meshgrid(*[torch.arange(6) - 2.5] * 2, indexing="ij")
    away = torch.stack([y, x])[None]  # a field that looks the same from every side
    picture = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(first * 8 + second))
    sample = Sample(picture, picture, picture[:, :1], away, -2 * away)
    again = turned(turned(sample, first), second)
    assert torch.equal(again.start, away) and torch.equal(again.end, -2 * away)
    assert torch.equal(again.mask, again.sharp[:, :1])
    assert torch.equal(again.sharp.flatten().sort().values, picture.flatten().sort().values)
    assert len({turned(sample, turn).sharp.numpy().tobytes() for turn in range(8)}) == 8


def test_batches_are_made_one_by_one_until_there_is_a_set(pool):
    assert pool.batch_at(0, seed=1) is None
    write_set(pool.recipe, 1, pool.path(1))
    assert pool.batch_at(1, seed=2).blurred.shape == (BATCH, 3, 32, 32)


def test_every_patch_is_seen_once_in_each_view_and_the_next_set_comes_after_the_last(pool):
    write_set(pool.recipe, 1, pool.path(1))
    write_set(pool.recipe, 2, pool.path(2))
    levels = [
        round(float(level), 4) for step in range(6) for level in pool.batch_at(step, 0).sharp.mean((1, 2, 3))
    ]
    assert sorted(levels[:COUNT]) == sorted(levels[COUNT:]) and len(set(levels)) == COUNT
    assert pool.state == [1, 0]
    pool.batch_at(6, 0)
    assert pool.state == [2, 6] and not pool.path(1).exists()


def test_a_set_is_seen_again_while_the_next_is_not_ready(pool):
    write_set(pool.recipe, 1, pool.path(1))
    pool.batch_at(0, 0)
    assert pool.batch_at(50, 0) is not None and pool.state == [1, 0]


def test_patches_that_are_seen_too_often_are_said_once(pool, caplog):
    write_set(pool.recipe, 1, pool.path(1))
    for step in range(5 * pool.views * pool.steps):
        pool.batch_at(step, 0)
    (record,) = caplog.records
    assert "seen 4 times instead of 2" in record.getMessage()


def test_a_half_made_set_is_never_taken(pool):
    write_set(pool.recipe, 1, pool.path(1), wanted=lambda: False)
    assert pool.batch_at(0, 0) is None
    write_set(pool.recipe, 1, pool.path(1))
    assert pool.batch_at(0, 0) is not None


def test_sets_that_are_damaged_or_of_other_settings_are_said(pool, tmp_path):
    write_set(pool.recipe, 1, pool.path(1))
    other = PatchPool(replace(pool.recipe, size=48), pool.folder, 2, BATCH)
    with pytest.raises(TrainingError, match="other settings"):
        other.open(1)
    for damage in (b"nothing", b""):
        (pool.path(1) / "mask.npy").write_bytes(damage)
        with pytest.raises(TrainingError, match="damaged"):
            pool.batch_at(0, 0)


def test_a_run_learns_from_sets_made_in_the_background_and_resumes_exactly(recipe, tmp_path):
    made = PatchSettings(count=COUNT, views=10**6)
    run = trainer(recipe.folder, tmp_path / "run", patches=made, steps=10**6)
    run.train_step()  # begins to make the first set
    deadline = time.monotonic() + 120
    while not run.batches.pool.path(1).is_dir():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.run(stop=lambda: run.step == 4)
    assert run.batches.pool.state[0] == 1
    first, second = (trainer(recipe.folder, tmp_path / "run", patches=made, steps=10**6) for _ in range(2))
    for again in (first, second):
        again.train_step()
        again.batches.close()
    assert same_weights(first.network, second.network) and first.step == 5
