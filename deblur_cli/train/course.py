"""How training goes over its span: how far it is, how fast it learns, how long the blur is."""

import math
from dataclasses import replace

from deblur_cli.train.settings import TrainSettings
from deblur_cli.train.synthetic import BlurSettings


def progress(settings: TrainSettings, step: int, elapsed: float) -> float:
    """Share of the run that is done, 0-1, by steps or by seconds, whichever is farther."""
    by_time = elapsed / settings.time_limit if settings.time_limit else 0.0
    return min(1.0, max(step / settings.steps, by_time))


def learning_rate(settings: TrainSettings, step: int, done: float) -> float:
    """Rate of a step when a share `done` of the run is behind it.

    After a linear warm-up either a cosine from the first rate to the final one, or ("wsd": warm-up, stable,
    decay; Hu et al., "MiniCPM", 2024) the first rate until the cool-down, which ends it linearly.
    """
    low, high = settings.final_rate, settings.learning_rate
    if settings.schedule == "wsd":
        share = min(1.0, (1 - done) / settings.cooldown) if settings.cooldown else 1.0
    else:
        share = (1 + math.cos(math.pi * done)) / 2
    return (low + (high - low) * share) * min(1.0, (step + 1) / max(1, settings.warmup))


def blur_now(settings: TrainSettings, done: float) -> BlurSettings:
    """The blur to learn from: over the share `curriculum` of the run its longest length grows to the full."""
    if done >= settings.curriculum:
        return settings.blur
    shortest, longest = settings.blur.shortest, settings.blur.longest
    reached = shortest * (longest / shortest) ** ((1 + done / settings.curriculum) / 2)
    return replace(settings.blur, longest=reached)
