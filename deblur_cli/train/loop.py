"""The training loop: endless synthetic blur, one network, exact resume."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deblur_cli import weights
from deblur_cli.device import memory_errors
from deblur_cli.errors import OutOfMemoryError, TrainingError, WeightsError
from deblur_cli.nets import M2AENet, Restoration, create
from deblur_cli.train import checkpoint
from deblur_cli.train.losses import stage_mask, training_loss
from deblur_cli.train.pool import draw, find_photos, load_photos
from deblur_cli.train.scores import Scores, fixed_set, only_motion, score
from deblur_cli.train.settings import TrainSettings, differences
from deblur_cli.train.synthetic import Sample, synthesise

LOG = logging.getLogger(__name__)
HELD_OUT = 8  # photos at the end of the folder that are scored on, never trained on
SCORED = (16, 256)  # pictures and their side in the scores logged while training
LOST_STEPS = 100  # steps in a row without a finite gradient after which training is given up
WEIGHTS_NAME = "weights.safetensors"

Report = Callable[[dict[str, float]], None]
Stop = Callable[[], bool]


class Trainer:
    """One training run in a folder that holds its state and log; an existing state is taken up again.

    Raises TrainingError, before anything is written, where photos or state cannot be used.
    """

    def __init__(self, settings: TrainSettings, folder: Path, device: str, precision: torch.dtype) -> None:
        self.settings, self.folder, self.device, self.precision = settings, folder, device, precision
        state = checkpoint.load(folder)
        if state is not None:
            check_state(state, settings, folder)
        count = len(find_photos(Path(settings.photos)))
        if count <= HELD_OUT:
            raise TrainingError(
                f"{settings.photos} holds {count} photos; at least {HELD_OUT + 1} are needed, as the last "
                f"{HELD_OUT} are only scored on"
            )
        photos = load_photos(Path(settings.photos), device)
        self.photos, self.held_out = photos[:-HELD_OUT], photos[-HELD_OUT:]
        torch.manual_seed(settings.seed)
        self.network = prepare(settings, device)
        if settings.start and state is None:
            begin_from(settings.start, self.network)
        # Exponential moving average: what is kept in the end. It pools over a window around each pixel as
        # large as training saw, so that a large photo is treated as the patches were.
        self.average = prepare(settings, device, pooling=settings.patch * 3 // 2)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = self.fresh_optimizer()
        self.step, self.elapsed = 0, 0.0
        self.scores: Scores | None = None
        self.lost_steps = 0
        self.updating = False  # between the first and the last change that a step makes
        if state is not None:
            self.resume(state)

    def fresh_optimizer(self) -> torch.optim.AdamW:
        """AdamW over the parameters in training."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        return torch.optim.AdamW(trained, lr=rate, betas=self.settings.betas, weight_decay=decay, fused=True)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state; what the settings say now holds from here on."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        if state["settings"]["depth"] == self.settings.depth:
            self.optimizer.load_state_dict(state["optimizer"])
            for group in self.optimizer.param_groups:  # the state brought its own settings along
                group["betas"], group["weight_decay"] = self.settings.betas, self.settings.weight_decay
        else:
            LOG.warning("the optimizer starts afresh, as another depth is trained")
        self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self) -> None:
        """Write everything that `resume` needs."""
        state: dict[str, Any] = {
            "settings": asdict(self.settings),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self.folder, state)

    def progress(self) -> float:
        """Share of the run that is done, 0-1, by steps or by time, whichever is farther."""
        by_time = self.elapsed / self.settings.time_limit if self.settings.time_limit else 0.0
        return min(1.0, max(self.step / self.settings.steps, by_time))

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to the final rate."""
        low, high = self.settings.final_rate, self.settings.learning_rate
        rate = low + (high - low) * (1 + math.cos(math.pi * self.progress())) / 2
        return rate * min(1.0, (self.step + 1) / max(1, self.settings.warmup))

    def run(self, report: Report = lambda _: None, stop: Stop = lambda: False) -> None:
        """Train until steps or time run out, or until `stop` says so between two steps.

        Saves on the way and at the end, also when an exception ends the run. `report` gets each row of
        the logs: means of the loss terms, or scores. Raises OutOfMemoryError and TrainingError.
        """
        with memory_explained():
            try:
                self.train_until_done(report, stop)
            finally:
                if not self.updating:  # else the last saved state is the last whole one
                    self.save()
            if not stop():
                self.report_scores(report)

    def train_until_done(self, report: Report, stop: Stop) -> None:
        """Steps, and in between the log, the state and the scores."""
        means = Means()
        saved = clock = time.monotonic()
        while self.progress() < 1 and not stop():
            means.add(self.train_step())
            now = time.monotonic()
            self.elapsed, clock = self.elapsed + now - clock, now
            if self.step % self.settings.log_every == 0:
                report(self.log(means.take()))
            if now - saved > self.settings.save_every:
                self.save()
                self.report_scores(report)
                saved = clock = time.monotonic()  # saving and scoring are not training time

    def train_step(self) -> dict[str, float]:
        """One batch. Its randomness depends on seed and step alone, so a resumed run repeats it exactly."""
        seed = self.settings.seed * 1_000_003 + self.step
        generator = torch.Generator(device=self.device).manual_seed(seed)
        torch.manual_seed(seed)  # for the sampled mask
        settings = self.settings
        sample = synthesise(self.photos, settings.batch, settings.patch, settings.blur, generator)
        self.network.train()
        with torch.autocast(torch.device(self.device).type, self.precision, self.precision != torch.float32):
            result = self.restore(sample, draw(0, 1, generator) < settings.true_masks)
        terms = training_loss(result, sample, settings.loss)
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
            LOG.warning("step %d: the gradient is not finite; the step is left out", self.step - 1)
        if self.lost_steps >= LOST_STEPS:
            raise TrainingError(f"no finite gradient for {LOST_STEPS} steps: lower learning_rate")

    def restore(self, sample: Sample, true_mask: bool) -> Restoration:
        """Forward pass; where the settings say so, mask and motion learn from their own truth alone."""
        detection = self.network.detect(sample.blurred.contiguous(memory_format=torch.channels_last))
        if detection.logits is None or detection.start is None or detection.end is None:
            return self.network.restore(detection)
        guide = detection
        if not self.settings.guidance_gradient:
            parts = (detection.logits, detection.start, detection.end)
            logits, start, end = (part.detach() for part in parts)
            guide = replace(detection, logits=logits, start=start, end=end)
        restored = self.network.restore(guide, mask=stage_mask(sample.mask) if true_mask else None)
        return replace(restored, detection=detection)

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights towards the current ones, faster at the beginning."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for kept, current in pairs:
            if current.requires_grad:
                kept.lerp_(current, 1 - decay)

    def score(self) -> Scores:
        """Scores of the averaged weights on photos that are not trained on."""
        count, size = SCORED
        blur = only_motion(self.settings.blur)
        return score(self.average, fixed_set(self.held_out, count, size, blur, seed=1))

    def report_scores(self, report: Report) -> None:
        """Score, remember, log and report."""
        self.scores = self.score()
        report(self.log(asdict(self.scores), "scores.csv"))

    def log(self, row: dict[str, float], name: str = "log.csv") -> dict[str, float]:
        """Append a row to a CSV file in the folder and return it with step, time and learning rate."""
        row = {"step": self.step, "seconds": round(self.elapsed, 1), "rate": self.learning_rate(), **row}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)
        return row

    def export(self) -> Path:
        """Write the averaged weights, ready for `deblur run --weights`, and return their file."""
        notes = {
            "photos": Path(self.settings.photos).resolve().name,
            "steps": str(self.step),
            "hours": f"{self.elapsed / 3600:.3f}",
        }
        if self.scores is not None:
            measured = asdict(self.scores).items()  # JSON knows neither NaN nor infinity
            notes["scores"] = json.dumps(
                {name: value if math.isfinite(value) else None for name, value in measured}
            )
        path = self.folder / WEIGHTS_NAME
        try:
            weights.save(path, self.average, notes)
        except WeightsError as error:
            LOG.warning("%s", error)
            weights.save(path, self.average, notes, half=False)
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


@contextmanager
def memory_explained() -> Iterator[None]:
    """Say what helps where memory runs out."""
    try:
        with memory_errors():
            yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError("out of memory while training: lower batch or patch") from error


def check_state(state: dict[str, Any], settings: TrainSettings, folder: Path) -> None:
    """Raise TrainingError for the state of another network; log what else is set differently now."""
    before = state.get("settings", {})
    if before.get("network") != asdict(settings.network):
        raise TrainingError(f"{folder} holds a run of another network: choose another folder")
    if changes := differences(before, asdict(settings)):
        LOG.warning("settings differ from the run so far: %s", "; ".join(changes))


def begin_from(name: str, network: M2AENet) -> None:
    """Take over trained weights. Raises TrainingError for those of another network, WeightsError."""
    trained = weights.load(name).network.state_dict()
    wanted = network.state_dict()
    if [(key, value.shape) for key, value in trained.items()] != [(k, v.shape) for k, v in wanted.items()]:
        raise TrainingError(f"{name} holds another network than the settings describe: adapt [network]")
    network.load_state_dict(trained)


def prepare(settings: TrainSettings, device: str, pooling: int | None = None) -> M2AENet:
    """A fresh network, channels-last, with only the first `depth` blocks of stage 4 in training."""
    network = create(**asdict(settings.network), pooling=pooling).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.depth = min(settings.depth, settings.network.encoder[-1])
    for block in list(network.encoders[-1].children())[network.depth :]:
        block.requires_grad_(False)
    return network
