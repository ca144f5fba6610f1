"""Patches made ahead of training, in memory-mapped files, so that no step waits for the synthesis.

A second process at low priority makes the next set while the present one is learned from. Each set is seen
a few times, turned and mirrored differently each time.
"""

import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.errors import TrainingError
from deblur_cli.nets.motion import TURNS, turn_field, turn_picture
from deblur_cli.train.datasets import load_photos
from deblur_cli.train.samples import Sample
from deblur_cli.train.settings import BlurSettings
from deblur_cli.train.synthetic import synthesize

NICENESS = 5  # of the process that makes patches; beside other programs, a higher one would hardly run
WORN = 2  # times `views` after which it is said that patches are seen too often
AT_ONCE = 4  # patches made in one go; small batches stay in the processor's cache
DTYPES = {"blurred": np.uint8, "sharp": np.uint8, "mask": np.uint8, "start": np.float16, "end": np.float16}
CHANNELS = {"blurred": 3, "sharp": 3, "mask": 1, "start": 2, "end": 2}

logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """What the patches of a run are made from; set n is the same whatever was made before it.

    folder, first: photos, of which so many are learned from; size: side of a patch in pixels
    count: patches in a set; seed: of the run and process
    """

    folder: Path
    first: int
    blur: BlurSettings
    size: int
    count: int
    seed: int

    def make(self, photos: Sequence[Tensor], number: int, place: int) -> Sample:
        """Patches `place` to `place + AT_ONCE` of set `number`."""
        mixed = np.random.SeedSequence([self.seed, number, place]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        return synthesize(photos, AT_ONCE, self.size, self.blur, generator)


def write_set(recipe: Recipe, number: int, folder: Path, wanted: Callable[[], bool] = lambda: True) -> None:
    """Make set `number` in a folder that appears when it is whole; give up once it is no longer wanted."""
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    side, photos = recipe.size, load_photos(recipe.folder)[: recipe.first]
    arrays = {
        name: np.lib.format.open_memmap(
            partial / f"{name}.npy", "w+", DTYPES[name], (recipe.count, CHANNELS[name], side, side)
        )
        for name in DTYPES
    }
    for place in range(0, recipe.count, AT_ONCE):
        if not wanted():
            return
        store(recipe.make(photos, number, place), arrays, place)
    for array in arrays.values():
        array.flush()
    partial.rename(folder)


def store(sample: Sample, arrays: Arrays, place: int) -> None:
    """Write a batch from a place on, as far as the arrays reach."""
    for name, array in arrays.items():
        values = getattr(sample, name)[: len(array) - place]
        if name in ("blurred", "sharp"):
            values = (values * 255).round()
        array[place : place + len(values)] = values.numpy().astype(array.dtype)


def open_set(folder: Path) -> Arrays:
    """The arrays of a set, memory-mapped."""
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in DTYPES}


def read_batch(arrays: Arrays, rows: NDArray[np.intp], turn: int) -> Sample:
    """The patches of some rows as a batch, all in one of eight orientations."""
    ordered = np.sort(rows)  # reads the file in its order
    parts = [torch.from_numpy(arrays[name][ordered]).float() for name in DTYPES]
    blurred, sharp, mask, start, end = parts
    return turned(Sample(blurred / 255, sharp / 255, mask, start, end), turn)


def turned(sample: Sample, turn: int) -> Sample:
    """The batch in one of eight orientations; displacements turn with the picture."""
    blurred, sharp, mask = (turn_picture(part, turn) for part in (sample.blurred, sample.sharp, sample.mask))
    return Sample(blurred, sharp, mask, turn_field(sample.start, turn), turn_field(sample.end, turn))


class PatchPool:
    """The sets of a run in a folder: the one that is learned from, and the next one, made in the background.

    While there is no set yet, the caller makes its batches one by one, so that training begins at once.
    """

    def __init__(self, recipe: Recipe, folder: Path, views: int, batch: int) -> None:
        self.recipe, self.folder, self.views, self.batch = recipe, folder, views, batch
        self.number, self.since = 0, 0  # the set in use, and the step at which that began; 0 is none
        self.arrays: Arrays | None = None
        self.maker: BaseProcess | None = None

    @property
    def steps(self) -> int:
        """Steps in which every patch of a set is seen once."""
        return self.recipe.count // self.batch

    @property
    def state(self) -> list[int]:
        """What `resume` needs."""
        return [self.number, self.since]

    def resume(self, state: Sequence[int]) -> None:
        """Go on with the set that was in use, if it is still there, else with the next one."""
        self.number, self.since = state
        self.arrays = self.open(self.number) if self.path(self.number).is_dir() else None

    def path(self, number: int) -> Path:
        """Folder of a set."""
        return self.folder / f"{number:04}"

    def batch_at(self, step: int, seed: int) -> Sample | None:
        """The batch of a step, the same again while the same set is in use; None while there is no set."""
        self.renew(step)
        if self.arrays is None:
            return None
        view, place = divmod(step - self.since, self.steps)
        rng = np.random.default_rng([self.number, view])
        rows = rng.permutation(self.recipe.count)[place * self.batch : (place + 1) * self.batch]
        turn = int(np.random.default_rng(seed).integers(TURNS))
        return read_batch(self.arrays, rows, turn)

    def renew(self, step: int) -> None:
        """Take the next set where the present one was seen often enough; warn where it is seen too often."""
        seen = (step - self.since) // self.steps
        following = self.path(self.number + 1)
        if (self.arrays is None or seen >= self.views) and following.is_dir():
            self.arrays = self.open(self.number + 1)
            shutil.rmtree(self.path(self.number), ignore_errors=True)
            self.number, self.since = self.number + 1, step
        if self.arrays is not None and step - self.since == WORN * self.views * self.steps:
            logger.warning(
                "patches were seen %d times instead of %d, as the next are not ready: training knows them by "
                "heart if this goes on, so leave more of the processor to it",
                WORN * self.views,
                self.views,
            )
        if self.maker is None or not self.maker.is_alive():
            self.begin(self.number + 1)

    def open(self, number: int) -> Arrays:
        """The arrays of a set. Raises TrainingError where they are not those of this run."""
        try:
            arrays = open_set(self.path(number))
        except (OSError, ValueError, EOFError) as error:  # the last is numpy's for an empty file
            raise TrainingError(f"{self.path(number)} is damaged: delete it and train on") from error
        if arrays["blurred"].shape != (self.recipe.count, 3, self.recipe.size, self.recipe.size):
            raise TrainingError(
                f"{self.path(number)} holds patches of other settings: delete it and train on"
            )
        return arrays

    def begin(self, number: int) -> None:
        """Begin to make a set, unless it is there. Raises TrainingError where making it failed before."""
        if self.maker is not None and self.maker.exitcode:
            raise TrainingError(
                f"making patches in {self.folder} failed (is the disk full?): see the lines above"
            )
        if self.path(number).is_dir():
            return
        arguments = (self.recipe, number, self.path(number), os.getpid())
        context = multiprocessing.get_context("spawn")
        self.maker = context.Process(target=make_in_background, args=arguments, daemon=True)
        self.maker.start()

    def close(self) -> None:
        """Stop making patches; a half-made set is made again."""
        if self.maker is not None:
            self.maker.terminate()
            self.maker.join()
        self.maker = None


def make_in_background(recipe: Recipe, number: int, folder: Path, parent: int) -> None:
    """Make a set at low priority while the parent process lives."""
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICENESS)
    torch.set_num_threads(1)
    write_set(recipe, number, folder, lambda: os.getppid() == parent)
