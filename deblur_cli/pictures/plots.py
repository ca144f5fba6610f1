"""Plots of what was measured. Matplotlib comes with the extra `plot`."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, BinaryIO

from deblur_cli.errors import PlotError, how_to_install

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
        raise PlotError(f"plots need matplotlib: run {how_to_install('plot')}") from error
    return matplotlib.figure


def draw(file: BinaryIO, kind: str, diagrams: Sequence[Diagram]) -> None:
    """Write diagrams below each other as a picture of a kind: "png", "svg", "pdf".

    Raises PlotError where Matplotlib is missing.
    """
    figure = check_plotting().Figure((INCHES[0], INCHES[1] * len(diagrams)), layout="constrained")
    axes = figure.subplots(len(diagrams), 1, squeeze=False)[:, 0]
    for place, diagram in zip(axes, diagrams, strict=True):
        fill(place, diagram)
    figure.savefig(file, format=kind, dpi=DOTS)


def fill(axes: Any, diagram: Diagram) -> None:
    """Draw the curves of a diagram."""
    for curve in diagram.curves:
        (line,) = axes.plot(curve.x, curve.y, curve.style, label=plain(curve.label))
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xlabel(diagram.x)
    axes.set_ylabel(diagram.y)
    if diagram.from_zero:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()


def plain(label: str) -> str:
    """A label as it stands: Matplotlib takes what is between two dollars for a formula, and hides "_..."."""
    return (" " * label.startswith("_") + label).replace("$", r"\$")
