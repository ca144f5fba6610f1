"""The training loop: batches, one network, exact resume."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deblur_cli import weights
from deblur_cli.errors import OutOfMemoryError, TrainingError, WeightsError
from deblur_cli.nets import place
from deblur_cli.restoration.device import memory_errors
from deblur_cli.train import checkpoint, course, setup
from deblur_cli.train.batches import Batches
from deblur_cli.train.calibration import Calibration, calibrate
from deblur_cli.train.distributed import ALONE, Team
from deblur_cli.train.lessons import lesson_of
from deblur_cli.train.losses import stage_mask
from deblur_cli.train.records import Means, append_row
from deblur_cli.train.settings import TrainSettings
from deblur_cli.train.synthetic import Sample

LOG = logging.getLogger(__name__)
LOST_STEPS = 100  # steps in a row without a finite gradient after which training is given up
SHOWN = 4  # pictures of the validation set that are drawn whenever it is scored
WEIGHTS_NAME = "weights.safetensors"
UNTOLD: dict[str, Any] = {"photos": "", "pairs": (), "validation": "", "start": "", "follows": ""}  # paths

Report = Callable[[dict[str, float]], None]
Stop = Callable[[], bool]


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
            setup.check_state(state, settings, folder)
        self.photos, self.held_out = setup.split_photos(settings, device)
        self.scored_on = setup.scored_on(settings, self.photos, self.held_out) if team.leads else {}
        self.batches = Batches(settings, self.photos, device, team, folder)
        self.sharp = setup.sharp_crops(self.held_out)
        setup.check_validation(settings)
        torch.manual_seed(settings.seed)
        self.lesson = lesson_of(settings, device)
        self.network = place(self.lesson.create(), device)
        self.history: list[dict[str, Any]] = []  # the runs that made the weights it began from
        if settings.start and state is None:
            self.history = setup.begin_from(settings.start, self.network)
        # Exponential moving average: what is kept in the end. It pools over a window around each pixel as
        # large as training saw, so that a large photo is treated as the patches were.
        self.average = place(self.lesson.create(pooling=settings.patch * 3 // 2), device)
        self.average.load_state_dict(self.network.state_dict())
        self.forward = self.shared_forward()
        self.optimizer = self.fresh_optimizer()
        self.step, self.elapsed = 0, 0.0
        self.scores: Any = None  # a dataclass of the lesson
        self.calibration: Calibration | None = None
        self.lost_steps = 0
        self.means = Means()  # of the loss terms, since the last row of the log
        self.updating = False  # between the first and the last change that a step makes
        if state is not None:
            self.resume(state)

    def shared_forward(self) -> nn.Module:
        """The forward pass; on several GPUs, one whose gradients are averaged over all."""
        if self.settings.compile:
            setup.compile_blocks(self.network)
        forward = self.lesson.student(self.network)
        if self.team.size == 1:
            return forward
        return DistributedDataParallel(forward, broadcast_buffers=False)

    def fresh_optimizer(self) -> torch.optim.AdamW:
        """AdamW over the parameters in training."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        return torch.optim.AdamW(trained, lr=rate, betas=self.settings.betas, weight_decay=decay, fused=True)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state; what the settings say now holds from here on. Raises TrainingError."""
        checkpoint.check_weights(self.folder, state, self.network)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        if state["settings"]["depth"] == self.settings.depth:
            checkpoint.check_optimizer(self.folder, state, self.optimizer)
            self.optimizer.load_state_dict(state["optimizer"])
            for group in self.optimizer.param_groups:  # the state brought its own settings along
                group["betas"], group["weight_decay"] = self.settings.betas, self.settings.weight_decay
        else:
            LOG.warning("the optimizer starts afresh, as another depth is trained")
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.history = state.get("history", [])
        if self.batches.pool is not None and state.get("patches"):
            self.batches.pool.resume(state["patches"])

    def save(self) -> None:
        """Write everything that `resume` needs."""
        state: dict[str, Any] = {
            "settings": asdict(self.settings),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "history": self.history,
            "patches": self.batches.pool.state if self.batches.pool else [],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self.folder, state)

    def progress(self) -> float:
        """Share of the run that is done, 0-1."""
        return course.progress(self.settings, self.step, self.elapsed)

    def learning_rate(self) -> float:
        """Rate of the coming step."""
        return course.learning_rate(self.settings, self.step, self.progress())

    def run(self, report: Report = lambda _: None, stop: Stop = lambda: False) -> None:
        """Train until steps or time run out, or until `stop` says so between two steps.

        Saves on the way and at the end, also when an exception ends the run. `report` gets each row of
        the logs: means of the loss terms, or scores. While no step was made nothing is written.
        Raises OutOfMemoryError and TrainingError.
        """
        with memory_explained():
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
        sample = self.batches.make(self.step, course.blur_now(self.settings, self.progress()))
        generator = torch.manual_seed(self.batches.seed(self.step))  # for the sampled mask too
        true_mask = float(torch.rand((), generator=generator)) < self.settings.true_masks
        self.network.train()
        with torch.autocast(torch.device(self.device).type, self.precision, self.precision != torch.float32):
            answer = self.answer(sample, true_mask)
        terms = self.lesson.terms(answer, sample)
        self.optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        self.update()
        return {name: float(value.detach()) for name, value in terms.items()}

    def answer(self, sample: Sample, true_mask: bool) -> Any:
        """Forward pass, within the true mask or the network's own."""
        blurred = sample.blurred.contiguous(memory_format=torch.channels_last)
        found = self.lesson.find(blurred)
        return self.forward(blurred, stage_mask(sample.mask) if true_mask else None, found)

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
            LOG.warning("step %d: the gradient is not finite; the step is left out", self.step - 1)
        if self.lost_steps >= LOST_STEPS:
            raise TrainingError(f"no finite gradient for {LOST_STEPS} steps: lower learning_rate")

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights towards the current ones, faster at the beginning."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for kept, current in pairs:
            if current.requires_grad:
                kept.lerp_(current, 1 - decay)

    def validation(self) -> Iterator[Sample]:
        """What the run is scored on, one by one."""
        return setup.validation_set(self.settings, self.held_out, self.device)

    def report_scores(self, report: Report) -> None:
        """Score the averaged weights on what is not trained on; remember, log, draw and report."""
        self.scores = self.lesson.score(self.average, self.validation(), self.sharp)
        row = asdict(self.scores)
        if self.lesson.masks and self.sharp:
            outcome = partial(self.lesson.outcome, self.average)
            self.calibration = calibrate(outcome, self.validation(), self.sharp)
            row |= asdict(self.calibration)
        report(self.log(row, "scores.csv"))
        sheet = self.lesson.sheet(self.average, islice(self.validation(), SHOWN))
        (self.folder / "samples").mkdir(exist_ok=True)
        sheet.save(self.folder / "samples" / f"{self.step:07}.png")

    def log_means(self, report: Report) -> None:
        """Log and report the means of the loss terms over the steps since the last row, if there were any."""
        if self.means.count:
            report(self.log(self.means.take()))

    def log(self, row: dict[str, float], name: str = "log.csv") -> dict[str, float]:
        """Append a row to a CSV file in the folder and return it with step, time and learning rate."""
        row = {"step": self.step, "seconds": round(self.elapsed, 1), "rate": self.learning_rate(), **row}
        append_row(self.folder / name, row)
        return row

    def notes(self) -> dict[str, str]:
        """What the weights learned from, for their metadata; `history` lists this run after those before."""
        scores = None
        if self.scores is not None:  # JSON knows neither NaN nor infinity
            measured = asdict(self.scores).items()
            scores = {name: value if math.isfinite(value) else None for name, value in measured}
        sources = [self.settings.photos, *self.settings.pairs]
        run = {
            "learned_from": [Path(source).resolve().name for source in sources if source],
            "synthetic": bool(self.settings.photos),
            "scored_on": self.scored_on,
            "steps": self.step,
            "hours": round(self.elapsed / 3600, 3),
            "device": self.device,
            "precision": str(self.precision).removeprefix("torch."),
            "settings": asdict(replace(self.settings, **UNTOLD)),
            "scores": scores,
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
            LOG.warning("%s", error)
            weights.save(path, self.average, self.notes(), half=False)
        return path


@contextmanager
def memory_explained() -> Iterator[None]:
    """Say what helps where memory runs out."""
    try:
        with memory_errors():
            yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError("out of memory while training: lower batch or patch") from error
