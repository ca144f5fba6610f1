"""The training loop: batches, one network, exact resume."""

import csv
import io
import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deblur_cli import weights
from deblur_cli.errors import OutOfMemoryError, TrainingError, WeightsError
from deblur_cli.files import write_file
from deblur_cli.nets import place
from deblur_cli.restoration.device import memory_errors
from deblur_cli.train import checkpoint, data
from deblur_cli.train.lessons import begin_from, lesson_of
from deblur_cli.train.scores import Calibration, calibrate
from deblur_cli.train.settings import TrainSettings

LOST_STEPS = 100  # steps in a row without a finite gradient after which training is given up
SHOWN = 4  # pictures of the validation set that are drawn whenever it is scored
WEIGHTS_NAME = "weights.safetensors"
PATHS = {"photos": "", "pairs": (), "validation": "", "start": ""}  # not told to others

Report = Callable[[dict[str, float]], None]
Stop = Callable[[], bool]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Team:
    """Place of a process among those that train together, one on each GPU; rank 0 writes and reports."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def device(self, chosen: str) -> str:
        """The GPU of this process where GPUs are used, else the device as chosen."""
        return f"cuda:{self.local_rank}" if chosen.startswith("cuda") and self.size > 1 else chosen

    def agree(self, value: bool) -> bool:
        """Whether any process says so, so that all stop after the same step."""
        if self.size == 1:
            return value
        votes = torch.tensor(int(value))
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes)

    def follow(self, value: float) -> float:
        """The leader's value, so that all go by the same clock."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)


ALONE = Team()


def join_team() -> Team:
    """Take part in the group that torchrun describes in the environment; alone without one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        gpus = torch.cuda.is_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    return Team(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))


def leave_team() -> None:
    """End what `join_team` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


class Trainer:
    """One training run in a folder that holds its state and log; an existing state is taken up again.

    Raises TrainingError, before anything is written, where photos, datasets or state cannot be used.
    """

    def __init__(
        self,
        settings: TrainSettings,
        folder: Path,
        device: str,
        precision: torch.dtype,
        team: Team = ALONE,
    ) -> None:
        self.settings, self.folder, self.device, self.precision = settings, folder, device, precision
        self.team = team
        state = checkpoint.load(folder)
        if state is not None:
            checkpoint.check_settings(folder, state, settings)
        self.photos, self.held_out = data.split_photos(settings, device)
        self.scored_on = data.scored_on(settings, self.photos, self.held_out) if team.leads else {}
        self.batches = data.Batches(settings, self.photos, device, folder, team.rank)
        self.validation = partial(data.validation_set, settings, self.held_out, device)
        self.sharp = data.sharp_crops(self.held_out)
        data.check_validation(settings)
        self.create_networks()
        self.step, self.elapsed = 0, 0.0
        self.history: list[dict[str, Any]] = []  # the runs that made the weights it began from
        self.scores: Any = None  # a dataclass of the lesson
        self.calibration: Calibration | None = None
        self.lost_steps = 0
        self.means = Means()  # of the loss terms, since the last row of the log
        self.updating = False  # between the first and the last change that a step makes
        if state is not None:
            self.resume(state)
        elif settings.start:
            self.history = begin_from(settings.start, self.network)
            self.average.load_state_dict(self.network.state_dict())

    def create_networks(self) -> None:
        """A fresh network, the average of its weights over the steps, and the optimizer."""
        settings = self.settings
        torch.manual_seed(settings.seed)
        self.lesson = lesson_of(settings, self.device)
        self.network = place(self.lesson.create(), self.device)
        # What is kept in the end. It pools over a window around each pixel as large as training saw, so that
        # a large photo is treated as the patches were.
        self.average = place(self.lesson.create(pooling=settings.patch * 3 // 2), self.device)
        self.average.load_state_dict(self.network.state_dict())
        self.student = self.lesson.student(self.network)
        if self.team.size > 1:  # gradients are averaged over all processes
            self.student = DistributedDataParallel(self.student, broadcast_buffers=False)
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        rate, decay = settings.learning_rate, settings.weight_decay
        self.optimizer = torch.optim.AdamW(
            trained, lr=rate, betas=settings.betas, weight_decay=decay, fused=True
        )

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state; what the settings say now holds from here on. Raises TrainingError."""
        with checkpoint.refusing_damage(self.folder):
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            if state["settings"]["depth"] == self.settings.depth:
                self.optimizer.load_state_dict(state["optimizer"])
            else:
                logger.warning("the optimizer starts afresh, as another depth is trained")
        for group in self.optimizer.param_groups:  # the state brought its own settings along
            group["betas"], group["weight_decay"] = self.settings.betas, self.settings.weight_decay
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.history = state.get("history", [])
        if self.batches.pool is not None and state.get("patches"):
            self.batches.pool.resume(state["patches"])

    def save(self) -> None:
        """Write everything that `resume` needs."""
        state = {
            "settings": self.settings.model_dump(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "history": self.history,
            "patches": self.batches.pool.state if self.batches.pool else [],
        }
        checkpoint.save(self.folder, state)

    def progress(self) -> float:
        """Share of the run that is done, 0-1."""
        return self.settings.progress(self.step, self.elapsed)

    def learning_rate(self) -> float:
        """Rate of the coming step."""
        return self.settings.rate_at(self.step, self.progress())

    def run(self, report: Report = lambda _: None, stop: Stop = lambda: False) -> None:
        """Train until steps or time run out, or until `stop` says so between two steps.

        Saves on the way and at the end, also when an exception ends the run. `report` gets each row of
        the logs: means of the loss terms, or scores. While no step was made nothing is written.
        Raises OutOfMemoryError and TrainingError.
        """
        try:
            with memory_errors():
                self.train_and_score(report, stop)
        except OutOfMemoryError as error:
            raise OutOfMemoryError("out of memory while training: lower batch or patch") from error

    def train_and_score(self, report: Report, stop: Stop) -> None:
        """Train, save whatever ends that, and score where nothing but the end of the run did."""
        try:
            finished = self.train_until_done(report, stop)
        finally:
            self.batches.close()
            if self.team.leads and self.step and not self.updating:  # else the last saved state is whole
                self.save()
                self.log_means(report)
        if self.team.leads and finished:
            self.report_scores(report)

    def train_until_done(self, report: Report, stop: Stop) -> bool:
        """Steps, and in between the log, the state and the scores; false where `stop` ended them."""
        saved = clock = time.monotonic()
        while self.progress() < 1:
            if self.team.agree(stop()):
                return False
            self.means.add(self.train_step())
            now = time.monotonic()
            self.elapsed, clock = self.team.follow(self.elapsed + now - clock), now
            if not self.team.leads:
                continue
            if self.step % self.settings.log_every == 0:
                self.log_means(report)
            if now - saved > self.settings.save_every:
                self.save()
                self.log_means(report)  # a run that goes on from here begins a row of its own
                self.report_scores(report)
                self.export()
                saved = clock = time.monotonic()  # saving and scoring are not training time
        return True

    def train_step(self) -> dict[str, float]:
        """One batch. Its randomness depends on seed and step alone, so a resumed run repeats it exactly."""
        sample = self.batches.make(self.step, self.settings.blur_at(self.progress()))
        generator = torch.manual_seed(self.batches.seed(self.step))  # for the sampled mask too
        true_mask = float(torch.rand((), generator=generator)) < self.settings.true_masks
        self.network.train()
        with torch.autocast(torch.device(self.device).type, self.precision, self.precision != torch.float32):
            answer = self.lesson.answer(self.student, sample, true_mask)
        terms = self.lesson.terms(answer, sample)
        self.optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        self.update()
        return {name: float(value.detach()) for name, value in terms.items()}

    def update(self) -> None:
        """Move the weights along the gradient, unless that is not finite, and count the step."""
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.updating = True
        if norm.isfinite():
            self.optimizer.step()
        self.step += 1
        self.update_average()
        self.updating = False
        self.lost_steps = 0 if norm.isfinite() else self.lost_steps + 1
        if self.lost_steps:
            logger.warning("step %d: the gradient is not finite; the step is left out", self.step - 1)
        if self.lost_steps >= LOST_STEPS:
            raise TrainingError(f"no finite gradient for {LOST_STEPS} steps: lower learning_rate")

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights towards the current ones, faster at the beginning."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for kept, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
            if current.requires_grad:
                kept.lerp_(current, 1 - decay)

    def report_scores(self, report: Report) -> None:
        """Score the averaged weights on what is not trained on; remember, log, draw and report."""
        self.scores = self.calibration = None  # those at hand are of earlier weights
        self.export()  # scores take a while, in which the process may be killed
        self.scores = self.lesson.score(self.average, self.validation(), self.sharp)
        row = asdict(self.scores)
        if self.lesson.masks and self.sharp:
            outcome = partial(self.lesson.outcome, self.average)
            self.calibration = calibrate(outcome, self.validation(), self.sharp, self.lesson.epsilon)
            row |= asdict(self.calibration)
        report(self.log(row, "scores.csv"))
        sheet = self.lesson.sheet(self.average, islice(self.validation(), SHOWN))
        (self.folder / "samples").mkdir(exist_ok=True)
        sheet.save(self.folder / "samples" / f"{self.step:07}.png")

    def log_means(self, report: Report) -> None:
        """Log and report the means of the loss terms over the steps since the last row, if there were any."""
        if self.means.count:
            report(self.log(self.means.take(), "log.csv"))

    def log(self, row: dict[str, float], name: str) -> dict[str, float]:
        """Append a row to a CSV file in the folder and return it with step, time and learning rate."""
        row = {"step": self.step, "seconds": round(self.elapsed, 1), "rate": self.learning_rate(), **row}
        append_row(self.folder / name, row)
        return row

    def notes(self) -> dict[str, str]:
        """What the weights learned from, for their metadata; `history` lists this run after those before."""
        measured = asdict(self.scores) if self.scores is not None else {}
        scores = {name: value if math.isfinite(value) else None for name, value in measured.items()}
        sources = [self.settings.photos, *self.settings.pairs]
        run = {
            "learned_from": [Path(source).resolve().name for source in sources if source],
            "synthetic": bool(self.settings.photos),
            "scored_on": self.scored_on,
            "steps": self.step,
            "hours": round(self.elapsed / 3600, 3),
            "device": self.device,
            "precision": str(self.precision).removeprefix("torch."),
            "settings": self.settings.model_copy(update=PATHS).model_dump(),
            "scores": scores or None,  # JSON knows neither NaN nor infinity
        }
        notes = {"history": json.dumps([*self.history, run])}
        if self.settings.follows:
            notes["detector"] = self.settings.follows
        if self.calibration is not None:
            notes["epsilon"] = f"{self.calibration.epsilon:g}"
        return notes

    def export(self) -> Path:
        """Write the averaged weights, ready for `deblur run --weights`, and return their file."""
        path = self.folder / WEIGHTS_NAME
        try:
            weights.save(path, self.average, self.notes())
        except WeightsError as error:
            logger.warning("%s", error)
            weights.save(path, self.average, self.notes(), half=False)
        return path


class Means:
    """Running means of named values."""

    def __init__(self) -> None:
        self.count, self.sums = 0, dict[str, float]()

    def add(self, values: dict[str, float]) -> None:
        """Count one more set of values."""
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.count, self.sums = 0, {}
        return means


def append_row(path: Path, row: dict[str, float]) -> None:
    """Append a row to a CSV file; new columns are added to the rows before."""
    names, rows = list[str](), list[dict[str, str]]()
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names, rows = list(reader.fieldnames or []), list(reader)
    if set(row) <= set(names):
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, names).writerow(row)
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys([*names, *row])))
    writer.writeheader()
    writer.writerows([*rows, row])
    write_file(path, [text.getvalue().encode()], overwrite=True)
