"""How the time of a run grows with the photo and with its blurred share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deblur_cli.benchmark.measuring import Timing, interleave
from deblur_cli.benchmark.run import Step, warm_up
from deblur_cli.benchmark.scene import Setting, stage
from deblur_cli.pictures.plots import Curve, Diagram
from deblur_cli.restoration.device import memory_errors

MEGAPIXELS, SHARE = "megapixels", "blurred share"


@dataclass(frozen=True)
class Sweep:
    """Times of the tool over megapixels or over the blurred share.

    slope, intercept: of the line fitted to the medians (seconds); r_squared: how well it fits
    spread: largest relative distance of the seconds per megapixel from their mean
    """

    over: str
    values: tuple[float, ...]
    timings: tuple[Timing, ...]
    slope: float
    intercept: float
    r_squared: float
    spread: float | None


def sweep(
    setting: Setting,
    sizes: Sequence[tuple[int, int]],
    shares: Sequence[float],
    length: float,
    repeats: int,
    step: Step = lambda _: None,
) -> Sweep:
    """Time the tool for several sizes or several shares (one of both is a single value), interleaved."""
    deblurrer = setting.deblurrer()
    over = MEGAPIXELS if len(sizes) > 1 else SHARE
    scenes = {
        (f"{size[0]}x{size[1]}" if over == MEGAPIXELS else f"{share:.0%} blurred"): stage(
            deblurrer, size, share, length
        )
        for size in sizes
        for share in shares
    }
    values = [size[0] * size[1] / 1e6 for size in sizes] if over == MEGAPIXELS else list(shares)
    warm_up(deblurrer, next(iter(scenes.values())))
    with memory_errors():
        actions = {name: lambda scene=scene: scene.run(deblurrer) for name, scene in scenes.items()}
        timings = interleave(actions, repeats, deblurrer.device, step)  # type: ignore[arg-type]
    return fit(over, values, tuple(timings.values()))


def fit(over: str, values: Sequence[float], timings: tuple[Timing, ...]) -> Sweep:
    """The line through the medians."""
    x, y = np.asarray(values), np.array([timing.median for timing in timings])
    slope, intercept = np.polyfit(x, y, 1)
    residual, total = ((y - slope * x - intercept) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    spread = None
    if over == MEGAPIXELS:
        each = y / x
        spread = float(np.abs(each / each.mean() - 1).max())
    r_squared = float(1 - residual / total) if total else 1.0
    return Sweep(over, tuple(values), timings, float(slope), float(intercept), r_squared, spread)


def diagram(found: Sweep) -> Diagram:
    """Medians, their range, and the fitted line."""
    line = [found.slope * value + found.intercept for value in found.values]
    unit = "s per megapixel" if found.over == MEGAPIXELS else "s from nothing to everything"
    curves = [
        Curve(
            "deblur, median and range",
            found.values,
            [timing.median for timing in found.timings],
            [min(timing.seconds) for timing in found.timings],
            [max(timing.seconds) for timing in found.timings],
        ),
        Curve(f"fit: {found.slope:.3g} {unit}", found.values, line, style="--"),
    ]
    return Diagram(found.over, "seconds", curves, from_zero=True)
