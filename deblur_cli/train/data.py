"""What a run learns from, batch by batch, and what it is scored on."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deblur_cli.errors import TrainingError
from deblur_cli.train.datasets import (
    MULTIPLE,
    Pair,
    check_sizes,
    cut_pair,
    find_pairs,
    find_photos,
    load_photos,
    pick,
    whole_pair,
)
from deblur_cli.train.patches import PatchPool, Recipe
from deblur_cli.train.samples import Sample, holds_samples, join, photos_digest, read_digest, read_samples
from deblur_cli.train.settings import BlurSettings, TrainSettings
from deblur_cli.train.synthetic import fixed_set, synthesize

AHEAD = 4  # batches of pairs that are being read while one is learned from
HELD_OUT = 8  # photos at the end of the folder that are scored on, never trained on
SHARP_SIDE = 512  # pixels at most, of the sharp pictures in the scores
SCORED = (16, 256)  # pictures and their side in the scores logged while training

logger = logging.getLogger(__name__)


class Batches:
    """Made from sharp photos, on the training device or ahead of training in `folder`, or cut from pairs.

    Raises TrainingError where a folder of pairs cannot be used.
    """

    def __init__(
        self, settings: TrainSettings, photos: Sequence[Tensor], device: str, folder: Path, rank: int = 0
    ) -> None:
        self.settings, self.photos, self.device, self.rank = settings, photos, device, rank
        self.pool = self.open_pool(folder) if settings.patches.count and photos else None
        self.datasets = [find_pairs(Path(folder)) for folder in settings.pairs]
        for dataset in self.datasets:
            check_sizes(dataset, settings.patch)
        self.readers: ThreadPoolExecutor | None = None
        self.coming: dict[int, list[Future[Sample]]] = {}

    def open_pool(self, folder: Path) -> PatchPool:
        """Patches made ahead, in the folder of the run."""
        settings, place = self.settings, folder / "patches" / str(self.rank)
        numbers = (settings.patch, settings.patches.count, self.seed(0))
        recipe = Recipe(Path(settings.photos), len(self.photos), settings.blur, *numbers)
        return PatchPool(recipe, place, settings.patches.views, settings.batch)

    def seed(self, step: int) -> int:
        """Of all randomness in a step of this process; differs in the 32 bits that CPU generators use."""
        return self.settings.seed * 1_000_003 + self.rank * 100_000_007 + step

    def make(self, step: int, blur: BlurSettings) -> Sample:
        """The batch of a step, which depends on seed, step, process, and the set of patches in use."""
        if self.is_paired(step):
            return join([future.result() for future in self.read_ahead(step)]).to(self.device)
        settings = self.settings
        if self.pool is not None and (ready := self.pool.batch_at(step, self.seed(step))) is not None:
            return ready.to(self.device)
        generator = torch.Generator(device=self.device).manual_seed(self.seed(step))
        return synthesize(self.photos, settings.batch, settings.patch, blur, generator)

    def is_paired(self, step: int) -> bool:
        """Whether the batch of a step comes from datasets rather than from synthesis."""
        if not self.datasets or not self.photos:
            return bool(self.datasets)
        chance = torch.rand((), generator=torch.Generator().manual_seed(self.seed(step)))
        return float(chance) >= self.settings.synthetic

    def read_ahead(self, step: int) -> list[Future[Sample]]:
        """The patches of a step, while those of the next ones are on their way."""
        for late in [known for known in self.coming if known < step]:  # the run was taken up elsewhere
            del self.coming[late]
        for later in range(step, step + AHEAD + 1):
            if later not in self.coming and self.is_paired(later):
                self.coming[later] = self.begin_reading(later)
        return self.coming.pop(step)

    def begin_reading(self, step: int) -> list[Future[Sample]]:
        """Patches that are read side by side, each with a seed of its own; datasets take turns evenly."""
        if self.readers is None:
            self.readers = ThreadPoolExecutor(self.settings.workers)
        generator = torch.Generator().manual_seed(self.seed(step))
        begun = []
        for _ in range(self.settings.batch):
            dataset = self.datasets[pick(len(self.datasets), generator)]
            pair = dataset[pick(len(dataset), generator)]
            begun.append(self.readers.submit(self.cut, pair, pick(1 << 62, generator)))
        return begun

    def cut(self, pair: Pair, seed: int) -> Sample:
        """A patch of a pair."""
        generator = torch.Generator().manual_seed(seed)
        return cut_pair(pair, self.settings.patch, self.settings.aware, generator)

    def close(self) -> None:
        """Give up what is still being read or made."""
        if self.pool is not None:
            self.pool.close()
        if self.readers is not None:
            self.readers.shutdown(wait=False, cancel_futures=True)
        self.readers, self.coming = None, {}


def split_photos(settings: TrainSettings, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """The photos to learn from and those held out, on the device; none where the settings name none.

    Raises TrainingError where there are too few, or nothing to learn from or to score on.
    """
    if not settings.photos and not settings.pairs:
        raise TrainingError("nothing to learn from: name a folder with --photos or --pairs")
    if not settings.photos and not settings.validation:
        raise TrainingError("nothing to score on: without photos, name a folder as setting 'validation'")
    if not settings.photos:
        return [], []
    held_out = 0 if settings.validation else HELD_OUT
    count = len(find_photos(Path(settings.photos)))
    if count <= held_out:
        raise TrainingError(
            f"{settings.photos} holds {count} photos; at least {held_out + 1} are needed, as the last "
            f"{held_out} are only scored on"
        )
    photos = load_photos(Path(settings.photos), device)
    return photos[: count - held_out], photos[count - held_out :]


def validation_set(settings: TrainSettings, held_out: list[Tensor], device: str) -> Iterator[Sample]:
    """What the run is scored on, one by one, always the same.

    Raises TrainingError, before the first, where a folder cannot be used.
    """
    folder, (count, size) = Path(settings.validation), SCORED
    if not settings.validation:
        return fixed_set(held_out, count, size, settings.blur.without_frame_motion(), seed=1)
    if holds_samples(folder):
        return (sample.to(device) for sample in read_samples(folder))
    return (whole_pair(pair).to(device) for pair in find_pairs(folder))


def sharp_crops(photos: Sequence[Tensor]) -> list[Tensor]:
    """The middles of photos uint8 3 H W as pictures 1 3 h w in 0-1, in which nothing is to be found."""
    crops = []
    for photo in photos:
        height, width = (min(side, SHARP_SIDE) // MULTIPLE * MULTIPLE for side in photo.shape[1:])
        top, left = (photo.shape[1] - height) // 2, (photo.shape[2] - width) // 2
        crops.append(photo[None, :, top : top + height, left : left + width].float() / 255)
    return crops


def check_validation(settings: TrainSettings) -> None:
    """Raise TrainingError where a folder to score on cannot be used, as far as headers tell."""
    folder = Path(settings.validation)
    if settings.validation and holds_samples(folder):
        read_samples(folder)
    elif settings.validation:
        check_sizes(find_pairs(folder), MULTIPLE)


def scored_on(settings: TrainSettings, photos: list[Tensor], held_out: list[Tensor]) -> dict[str, Any]:
    """What the scores are about, for the model card: so many photos held out, or a folder by its name.

    `learned_from` tells that a folder shows what is trained on too, as far as that can be seen; this is
    logged as well.
    """
    if not settings.validation:
        return {"held_out": len(held_out)}
    folder = Path(settings.validation)
    sources = [Path(source).resolve() for source in settings.pairs]
    place = folder.resolve()
    shared = any(place.is_relative_to(source) or source.is_relative_to(place) for source in sources)
    if photos and not shared and holds_samples(folder):
        shared = read_digest(folder) == photos_digest(photos)
    if shared:
        logger.warning("%s shows what is learned from: its scores will be too good", folder)
    return {"folder": place.name, "learned_from": shared}
