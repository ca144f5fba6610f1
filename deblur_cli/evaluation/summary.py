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
WORST = ("gain_psnr_w",)  # measures of which the worst picture's stands in the table too


@dataclass(frozen=True)
class Mean:
    """Mean and extremes over `count` pictures; its 95 % interval, NaN where there are too few to tell."""

    mean: float
    low: float
    high: float
    count: int
    least: float
    most: float


def estimate(values: Sequence[float]) -> Mean | None:
    """Mean and percentile bootstrap interval (Efron 1979) over pictures; None where all are NaN."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return None
    least, most = float(known.min()), float(known.max())
    if len(known) == 1:
        return Mean(least, math.nan, math.nan, 1, least, most)
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[drawn].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Mean(float(known.mean()), float(low), float(high), len(known), least, most)


def summarise(rows: Sequence[Row]) -> dict[str, Mean]:
    """The mean of every measure that has one."""
    means = {name: estimate([row[name] for row in rows]) for name in MEASURES}
    return {name: mean for name, mean in means.items() if mean is not None}


def table(summaries: Mapping[Place, Mapping[str, Mean]]) -> list[str]:
    """Lines for people: a row for each measure, a column for each weights and epsilon."""
    columns, names = list(summaries), labels([weights for weights, _ in summaries])
    lines: list[str] = []
    for first in range(0, len(columns), SIDE_BY_SIDE):
        lines += [""] * bool(first) + block(
            {place: summaries[place] for place in columns[first:][:SIDE_BY_SIDE]}, names
        )
    return lines + fewer(summaries)


def labels(weights: Sequence[str]) -> dict[str, str]:
    """For each name or path of weights the end of it, as short as tells it from the others."""
    parts = {name: Path(name).parts for name in weights}

    def ends(length: int) -> list[str]:
        return ["/".join(path[-length:]) for path in parts.values()]

    longest = max(map(len, parts.values()))
    length = next((n for n in range(1, longest) if len(set(ends(n))) == len(parts)), longest)
    return dict(zip(parts, ends(length), strict=True))


def fewer(summaries: Mapping[Place, Mapping[str, Mean]]) -> list[str]:
    """A line that tells which means are over fewer pictures than the others, if any are."""
    counts = {
        MEASURES[name][0].strip(): min(means[name].count for means in summaries.values() if name in means)
        for name in MEASURES
        if any(name in means for means in summaries.values())
    }
    most = max(counts.values(), default=0)
    found = [f"{words} ({count})" for words, count in counts.items() if count < most]
    return [f"means over fewer pictures, where the others have none: {'; '.join(found)}"] if found else []


def block(summaries: Mapping[Place, Mapping[str, Mean]], names: Mapping[str, str]) -> list[str]:
    """Columns that stand side by side, with the names of their weights."""
    lines = [line("", [shorten(names[weights], CELL_WIDTH - 2) for weights, _ in summaries])]
    if any(epsilon for _, epsilon in summaries):
        lines.append(line("epsilon", [epsilon or "-" for _, epsilon in summaries]))
    for name, (words, style) in MEASURES.items():
        if any(name in means for means in summaries.values()):
            lines.append(line(words, [cell(means.get(name), style) for means in summaries.values()]))
            if name in WORST:
                worst = [means[name].least if name in means else math.nan for means in summaries.values()]
                lines.append(
                    line("  worst picture", ["-" if math.isnan(v) else format(v, style) for v in worst])
                )
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
    """Text that fits, both its ends kept: paths differ in the first, names of versions in the last."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
