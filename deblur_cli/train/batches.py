"""The batches that training learns from; batch n is the same whatever came before it."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.train.datasets import Pair, check_sizes, cut_pair, find_pairs
from deblur_cli.train.distributed import Team
from deblur_cli.train.patches import PatchPool, Recipe
from deblur_cli.train.pool import pick
from deblur_cli.train.settings import TrainSettings
from deblur_cli.train.synthetic import BlurSettings, Sample, join, synthesise

AHEAD = 4  # batches of pairs that are being read while one is learned from


class Batches:
    """Made from sharp photos, on the training device or ahead of training in `folder`, or cut from pairs.

    Raises TrainingError where a folder of pairs cannot be used.
    """

    def __init__(
        self, settings: TrainSettings, photos: Sequence[Tensor], device: str, team: Team, folder: Path
    ) -> None:
        self.settings, self.photos, self.device, self.team = settings, photos, device, team
        self.pool = self.open_pool(folder) if settings.patches.count and photos else None
        self.datasets = [find_pairs(Path(folder)) for folder in settings.pairs]
        for dataset in self.datasets:
            check_sizes(dataset, settings.patch)
        self.readers: ThreadPoolExecutor | None = None
        self.coming: dict[int, list[Future[Sample]]] = {}

    def open_pool(self, folder: Path) -> PatchPool:
        """Patches made ahead, in the folder of the run."""
        settings, place = self.settings, folder / "patches" / str(self.team.rank)
        numbers = (settings.patch, settings.patches.count, self.seed(0))
        recipe = Recipe(Path(settings.photos), len(self.photos), settings.blur, *numbers)
        return PatchPool(recipe, place, settings.patches.views, settings.batch)

    def seed(self, step: int) -> int:
        """Of all randomness in a step of this process; differs in the 32 bits that CPU generators use."""
        return self.settings.seed * 1_000_003 + self.team.rank * 100_000_007 + step

    def make(self, step: int, blur: BlurSettings) -> Sample:
        """The batch of a step, which depends on seed, step, process, and the set of patches in use."""
        if self.is_paired(step):
            return join([future.result() for future in self.read_ahead(step)]).to(self.device)
        settings = self.settings
        if self.pool is not None and (ready := self.pool.batch_at(step, self.seed(step))) is not None:
            return ready.to(self.device)
        generator = torch.Generator(device=self.device).manual_seed(self.seed(step))
        return synthesise(self.photos, settings.batch, settings.patch, blur, generator)

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
