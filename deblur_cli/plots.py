"""Plots of what was measured. Matplotlib comes with the extra `plot`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from deblur_cli.errors import PlotError

INCHES = (6.4, 3.2)  # of one diagram
DOTS = 150  # per inch


@dataclass(frozen=True)
class Curve:
    """One line: its points, and at will the interval around each."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: str = "o-"


@dataclass(frozen=True)
class Diagram:
    """One pair of axes."""

    x: str
    y: str
    curves: Sequence[Curve]
    from_zero: bool = False


def check_plotting() -> ModuleType:
    """Matplotlib's figures. Raises PlotError where it is not installed."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise PlotError('plots need matplotlib: pip install "deblur-cli[plot]"') from error
    return matplotlib.figure


def draw(path: Path, diagrams: Sequence[Diagram]) -> None:
    """Write diagrams below each other as a picture, in the format of the path's suffix.

    Raises PlotError where Matplotlib is missing or the file cannot be written.
    """
    figure = check_plotting().Figure((INCHES[0], INCHES[1] * len(diagrams)), layout="constrained")
    axes = figure.subplots(len(diagrams), 1, squeeze=False)[:, 0]
    for place, diagram in zip(axes, diagrams, strict=True):
        fill(place, diagram)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DOTS)
    except OSError as error:
        raise PlotError(f"cannot write {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise PlotError(f"cannot draw {path}: choose a name that ends in .png, .svg or .pdf") from error


def fill(axes: Any, diagram: Diagram) -> None:
    """Draw the curves of a diagram."""
    for curve in diagram.curves:
        (line,) = axes.plot(curve.x, curve.y, curve.style, label=curve.label)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xlabel(diagram.x)
    axes.set_ylabel(diagram.y)
    if diagram.from_zero:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
