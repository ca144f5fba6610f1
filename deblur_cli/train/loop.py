"""The training loop: endless synthetic blur, one network, exact resume."""

import csv
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deblur_cli.errors import TrainingError
from deblur_cli.nets import M2AENet, Restoration, create
from deblur_cli.train import checkpoint
from deblur_cli.train.losses import stage_mask, training_loss
from deblur_cli.train.pool import draw, load_photos
from deblur_cli.train.scores import Scores, fixed_set, only_motion, score
from deblur_cli.train.settings import TrainSettings, to_table
from deblur_cli.train.synthetic import Sample, synthesise

LOG = logging.getLogger(__name__)
HELD_OUT = 8  # photos at the end of the folder that are scored on, never trained on
SCORED = (16, 256)  # pictures and their side in the scores logged while training

Report = Callable[[dict[str, float]], None]


class Trainer:
    """One training run in a folder that holds its state and log; an existing state is taken up again."""

    def __init__(self, settings: TrainSettings, folder: Path, device: str, precision: torch.dtype) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.settings, self.folder, self.device, self.precision = settings, folder, device, precision
        photos = load_photos(Path(settings.photos), device)
        if len(photos) <= HELD_OUT:
            raise TrainingError(f"{settings.photos} holds {len(photos)} photos: at least {HELD_OUT + 1} are needed")
        self.photos, self.held_out = photos[:-HELD_OUT], photos[-HELD_OUT:]
        torch.manual_seed(settings.seed)
        self.network = prepare(settings, device)
        self.average = prepare(settings, device)  # exponential moving average: what is kept in the end
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in self.network.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.step, self.elapsed = 0, 0.0
        self.resume()

    def resume(self) -> None:
        """Go on from the state in the folder, if there is one."""
        state = checkpoint.load(self.folder)
        if state is None:
            return
        if state["settings"]["network"] != to_table(self.settings)["network"]:
            raise TrainingError(f"{self.folder} holds a run of another network: choose another folder")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        if state["settings"]["depth"] == self.settings.depth:
            self.optimizer.load_state_dict(state["optimizer"])
        else:
            LOG.warning("depth changed from %d to %d: the optimizer starts afresh", state["settings"]["depth"], self.settings.depth)
        self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self) -> None:
        """Write everything that `resume` needs."""
        state: dict[str, Any] = {
            "settings": to_table(self.settings),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
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

    def run(self, report: Report = lambda row: None) -> None:
        """Train until steps or time run out; saves on the way, at the end and when interrupted."""
        saved, clock = time.monotonic(), time.monotonic()
        sums: dict[str, float] = {}
        try:
            while self.progress() < 1:
                for name, value in self.train_step().items():
                    sums[name] = sums.get(name, 0.0) + value
                now = time.monotonic()
                self.elapsed, clock = self.elapsed + now - clock, now
                if self.step % self.settings.log_every == 0:
                    report(self.log({name: value / self.settings.log_every for name, value in sums.items()}))
                    sums = {}
                if now - saved > self.settings.save_every:
                    self.save()
                    report(self.log(asdict(self.score()), "scores.csv"))
                    saved = clock = time.monotonic()  # saving and scoring are not training time
        finally:
            self.save()
        report(self.log(asdict(self.score()), "scores.csv"))

    def train_step(self) -> dict[str, float]:
        """One batch. Its randomness depends on seed and step alone, so a resumed run repeats it exactly."""
        generator = torch.Generator(device=self.device).manual_seed(self.settings.seed * 1_000_003 + self.step)
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)  # for the sampled mask
        sample = synthesise(self.photos, self.settings.batch, self.settings.patch, self.settings.blur, generator)
        self.network.train()
        with torch.autocast(torch.device(self.device).type, self.precision, self.precision != torch.float32):
            result = self.restore(sample, draw(0, 1, generator) < self.settings.true_masks)
        terms = training_loss(result, sample, self.settings.loss)
        self.optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        if norm.isfinite():
            self.optimizer.step()
        else:
            LOG.warning("step %d: the gradient is not finite; the step is left out", self.step)
        self.step += 1
        self.update_average()
        return {name: float(value.detach()) for name, value in terms.items()}

    def restore(self, sample: Sample, true_mask: bool) -> Restoration:
        """Forward pass; where the settings say so, mask and motion learn from their own truth alone."""
        detection = self.network.detect(sample.blurred.contiguous(memory_format=torch.channels_last))
        if detection.logits is None or detection.start is None or detection.end is None:
            return self.network.restore(detection)
        guide = detection
        if not self.settings.guidance_gradient:
            logits, start, end = (part.detach() for part in (detection.logits, detection.start, detection.end))
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
        return score(self.average, fixed_set(self.held_out, count, size, only_motion(self.settings.blur), seed=1))

    def log(self, row: dict[str, float], name: str = "log.csv") -> dict[str, float]:
        """Append a row to a CSV file in the folder and return it with step, time and learning rate."""
        row = {"step": self.step, "seconds": round(self.elapsed, 1), "rate": self.learning_rate(), **row}
        path = self.folder / name
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)
        return row


def prepare(settings: TrainSettings, device: str) -> M2AENet:
    """A fresh network, channels-last, with only the first `depth` blocks of stage 4 in training."""
    network = create(**asdict(settings.network)).to(device, memory_format=torch.channels_last)
    network.depth = settings.depth
    for block in network.encoders[-1][settings.depth :]:
        block.requires_grad_(False)
    return network
