"""Plots as files, for every command that draws one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from deblur_cli.cli.output import Output
from deblur_cli.errors import UsageError

if TYPE_CHECKING:
    from deblur_cli.pictures.plots import Diagram

SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path | None) -> None:
    """Refuse, before any work, a plot that could not be drawn in the end.

    Raises UsageError for a name that is none of a plot, PlotError where Matplotlib is missing.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UsageError(f"--plot is a file that ends in .png, .svg or .pdf, not {str(path)!r}")
    from deblur_cli.pictures.plots import check_plotting

    check_plotting()


def save_plot(path: Path, diagrams: "Sequence[Diagram]", streams: Output) -> None:
    """Draw diagrams below each other into a file, which appears whole or not at all. Raises EncodeError."""
    from deblur_cli.files import write_file
    from deblur_cli.pictures.plots import draw

    def content(file: BinaryIO) -> None:
        draw(file, path.suffix[1:].lower(), diagrams)

    with streams.log_lines():  # Matplotlib warns of letters that its font lacks
        write_file(path, content, overwrite=True)
    streams.say(f"drawn: {path}")
