"""Means over the pictures with their confidence intervals, and the table of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur_cli.evaluation.measures import MEASURES
from deblur_cli.evaluation.results import Place, Row

RESAMPLES = 4000
CONFIDENCE = 0.95
SEED = 2026  # the same rows give the same intervals
SIDE_BY_SIDE = 3  # columns of the table; more of them go below
NAME_WIDTH, CELL_WIDTH = 18, 27


@dataclass(frozen=True)
class Mean:
    """Mean over `count` pictures and its 95 % interval, NaN where there are too few to tell."""

    mean: float
    low: float
    high: float
    count: int


def estimate(values: Sequence[float]) -> Mean | None:
    """Mean and percentile bootstrap interval (Efron 1979) over pictures; None where all are NaN."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return None
    if len(known) == 1:
        return Mean(float(known[0]), math.nan, math.nan, 1)
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[drawn].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Mean(float(known.mean()), float(low), float(high), len(known))


def summarise(rows: Sequence[Row]) -> dict[str, Mean]:
    """The mean of every measure that has one."""
    means = {name: estimate([row[name] for row in rows]) for name in MEASURES}
    return {name: mean for name, mean in means.items() if mean is not None}


def table(summaries: Mapping[Place, Mapping[str, Mean]]) -> list[str]:
    """Lines for people: a row for each measure, a column for each weights and epsilon."""
    columns = list(summaries)
    lines: list[str] = []
    for first in range(0, len(columns), SIDE_BY_SIDE):
        lines += [""] * bool(first) + block(
            {place: summaries[place] for place in columns[first:][:SIDE_BY_SIDE]}
        )
    return lines


def block(summaries: Mapping[Place, Mapping[str, Mean]]) -> list[str]:
    """Columns that stand side by side."""
    names = [shorten(Path(weights).name, CELL_WIDTH - 2) for weights, _ in summaries]
    lines = [line("", names)]
    if any(epsilon for _, epsilon in summaries):
        lines.append(line("epsilon", [epsilon or "-" for _, epsilon in summaries]))
    for name, (words, style) in MEASURES.items():
        if any(name in means for means in summaries.values()):
            lines.append(line(words, [cell(means.get(name), style) for means in summaries.values()]))
    return lines


def line(name: str, cells: Sequence[str]) -> str:
    """Cells aligned to the right."""
    return (f"{name:<{NAME_WIDTH}}" + "".join(f"{text:>{CELL_WIDTH}}" for text in cells)).rstrip()


def cell(mean: Mean | None, style: str) -> str:
    """A mean and its interval."""
    if mean is None:
        return "-"
    if math.isnan(mean.low):
        return format(mean.mean, style)
    plain = style.lstrip("+")
    return f"{mean.mean:{style}} [{mean.low:{plain}}, {mean.high:{plain}}]"


def shorten(text: str, length: int) -> str:
    """Text that fits, its end kept, as that is where names of weights differ."""
    return text if len(text) <= length else "…" + text[1 - length :]
