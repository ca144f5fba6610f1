"""Means over the pictures with their confidence intervals, as a table and as curves over epsilon."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur_cli.evaluation.loop import Place, Row
from deblur_cli.evaluation.measures import MEASURES
from deblur_cli.pictures.plots import Curve, Diagram

RESAMPLES = 4000
CONFIDENCE = 0.95
SEED = 2026  # the same rows give the same intervals
SIDE_BY_SIDE = 3  # columns of the table; more of them go below
NAME_WIDTH, CELL_WIDTH = 18, 27
WORST = ("gain_psnr_w",)  # measures of which the worst picture's stands in the table too
LENGTHS = {  # gain_psnr_w of pictures whose blur is so many pixels long: column, words, from and up to
    "gain_psnr_w_under_4": ("  blur < 4 px", 0.0, 4.0),
    "gain_psnr_w_4_16": ("  blur 4-16 px", 4.0, 16.0),
    "gain_psnr_w_16_40": ("  blur 16-40 px", 16.0, 40.0),
    "gain_psnr_w_40_80": ("  blur 40-80 px", 40.0, 80.0),
    "gain_psnr_w_over_80": ("  blur > 80 px", 80.0, math.inf),
}

DRAWN = {  # over epsilon; measure: axis
    "gain_psnr_w": "PSNR gained in the blur, dB",
    "gain_psnr": "PSNR gained, dB",
    "mask_iou": "mask IoU",
    "relative_macs": "multiply-accumulates, share of the dense network's",
}


@dataclass(frozen=True)
class Mean:
    """Mean and extremes over `count` pictures; its 95% interval, NaN where there are too few to tell."""

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


def summarize(rows: Sequence[Row]) -> dict[str, Mean]:
    """The mean of every measure that has one, and of the gain for each length of blur that occurs."""
    means = {name: estimate([row[name] for row in rows]) for name in MEASURES}
    for name, (_, low, high) in LENGTHS.items():
        means[name] = estimate([row["gain_psnr_w"] for row in rows if low <= row["blur_length"] < high])
    return {name: mean for name, mean in means.items() if mean is not None}


def table(summaries: Mapping[Place, Mapping[str, Mean]]) -> list[str]:
    """Lines for people: a row for each measure, a column for each weights and epsilon."""
    columns, names = list(summaries), labels([weights for weights, _ in summaries])
    few = fewer(summaries)
    lines: list[str] = []
    for first in range(0, len(columns), SIDE_BY_SIDE):
        places = columns[first:][:SIDE_BY_SIDE]
        lines += [""] * bool(first) + block({place: summaries[place] for place in places}, names, few)
    return [*lines, *(["(n): means over n pictures alone, as the others have none"] if few else [])]


def labels(weights: Sequence[str]) -> dict[str, str]:
    """For each name or path of weights the end of it, as short as tells it from the others."""
    parts = {name: Path(name).parts for name in weights}

    def ends(length: int) -> list[str]:
        return ["/".join(path[-length:]) for path in parts.values()]

    longest = max(map(len, parts.values()))
    length = next((n for n in range(1, longest) if len(set(ends(n))) == len(parts)), longest)
    return dict(zip(parts, ends(length), strict=True))


def fewer(summaries: Mapping[Place, Mapping[str, Mean]]) -> dict[str, int]:
    """How many pictures each measure is about that is about fewer than another one."""
    counts: dict[str, int] = {}
    for means in summaries.values():
        for name, mean in means.items():
            counts[name] = min(mean.count, counts.get(name, mean.count))
    return {name: count for name, count in counts.items() if count < max(counts.values())}


def block(
    summaries: Mapping[Place, Mapping[str, Mean]], names: Mapping[str, str], few: Mapping[str, int]
) -> list[str]:
    """Columns that stand side by side, with the names of their weights and counts of pictures to tell."""
    rows = [("", [shorten(names[weights], CELL_WIDTH - 2) for weights, _ in summaries])]
    if any(epsilon for _, epsilon in summaries):
        rows.append(("epsilon", [epsilon or "-" for _, epsilon in summaries]))
    for name, (words, style) in shown().items():
        means = [found.get(name) for found in summaries.values()]
        if not any(means):
            continue
        count = f" ({few[name]})" if name in few else ""
        rows.append((words + count, [cell(mean, style) for mean in means]))
        if name in WORST:
            rows.append(("  worst picture", [format(mean.least, style) if mean else "-" for mean in means]))
    width = max(NAME_WIDTH, *(len(words) + 1 for words, _ in rows))
    return [line(words, cells, width) for words, cells in rows]


def shown() -> dict[str, tuple[str, str]]:
    """Words and format of every measure, in the order of the table: gains by length below the gain."""
    by_length = {name: (words, MEASURES["gain_psnr_w"][1]) for name, (words, *_) in LENGTHS.items()}
    rows: dict[str, tuple[str, str]] = {}
    for name, words in MEASURES.items():
        rows[name] = words
        if name == "gain_psnr_w":
            rows |= by_length
    return rows


def line(name: str, cells: Sequence[str], width: int) -> str:
    """Cells aligned to the right, behind a name."""
    return (f"{name:<{width}}" + "".join(f"{text:>{CELL_WIDTH}}" for text in cells)).rstrip()


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


def over_epsilon(summaries: Mapping[Place, Mapping[str, Mean]]) -> list[Diagram]:
    """A diagram for each measure that is known, with a curve for each weights; shades are 95% intervals."""
    diagrams, names = [], labels([weights for weights, _ in summaries])
    for measure, axis in DRAWN.items():
        curves = [
            curve
            for weights in dict.fromkeys(weights for weights, _ in summaries)
            if (curve := curve_of(weights, measure, summaries, names[weights]))
        ]
        if curves:
            diagrams.append(Diagram("epsilon", axis, curves))
    return diagrams


def curve_of(
    weights: str, measure: str, summaries: Mapping[Place, Mapping[str, Mean]], label: str
) -> Curve | None:
    """A measure of some weights over epsilon; None where it is not known."""
    points = sorted(
        (float(epsilon), means[measure])
        for (name, epsilon), means in summaries.items()
        if name == weights and epsilon and measure in means
    )
    if not points:
        return None
    means = [mean for _, mean in points]
    return Curve(
        label,
        [epsilon for epsilon, _ in points],
        [mean.mean for mean in means],
        [mean.low for mean in means],
        [mean.high for mean in means],
    )
