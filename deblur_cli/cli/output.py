"""What the command line writes: results on stdout, everything else on stderr."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.cli.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PHASES = {"detect": "finding blur", "restore": "deblurring"}


class Output:
    """The two streams of a run. stderr is a Rich console, which honours NO_COLOR by itself."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        from rich.console import Console

        self.quiet = quiet
        self.verbose = verbose
        self.console: Console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.subject = ""  # the photo that is being worked on, named before each log record
        self._bars: Progress | None = None

    def result(self, line: str | Path) -> None:
        """Write one line to stdout, at once, also where a file name is not valid text."""
        data = os.fsencode(f"{line}\n")
        with self._bars_lifted():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.flush()

    def json_line(self, fields: Mapping[str, object]) -> None:
        """Write one JSON object to stdout, on a line of its own."""
        self.result(json.dumps(fields))

    def say(self, line: str) -> None:
        """Write a line of information to stderr."""
        if not self.quiet:
            self._print(line)

    def warn(self, line: str) -> None:
        """Write a warning to stderr."""
        if not self.quiet:
            self._print(f"warning: {line}", style="yellow")

    def error(self, line: str) -> None:
        """Write an error to stderr, in quiet runs too."""
        self._print(f"error: {line}", style="red")

    def traceback(self, error: Exception) -> None:
        """Write the traceback of an error to stderr."""
        self.console.print("".join(traceback.format_exception(error)), markup=False, end="")

    def _print(self, line: str, style: str | None = None) -> None:
        self.console.print(printable(line), style=style, markup=False)

    @contextmanager
    def log_lines(self) -> Iterator[None]:
        """Show log records of this package: warnings always, the rest in verbose runs."""
        handler = _LogLines(self)
        loggers = [logging.getLogger("deblur_cli")]
        if self.verbose:
            loggers.append(logging.getLogger("py.warnings"))
        before = [(logger, logger.level, logger.propagate) for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG if self.verbose else logging.WARNING)
            logger.propagate = False
        logging.captureWarnings(True)  # other packages' warnings take several lines each
        try:
            yield
        finally:
            logging.captureWarnings(False)
            for logger, level, propagate in before:
                logger.removeHandler(handler)
                logger.setLevel(level)
                logger.propagate = propagate

    @contextmanager
    def bars(self, photos: int) -> Iterator["Bars"]:
        """Show progress bars for photos and tiles, on a terminal only."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            redirect_stdout=False,  # Rich would send results to stderr
            redirect_stderr=False,
            disable=self.quiet or not self.console.is_terminal,
        )
        all_photos = progress.add_task("photos", total=photos, visible=photos > 1)
        tiles = progress.add_task("tiles", total=None)
        self._bars = progress
        try:
            with progress:
                yield Bars(progress, all_photos, tiles)
        finally:
            self._bars = None

    @contextmanager
    def _bars_lifted(self) -> Iterator[None]:
        """Take the bars away while stdout is written, where it is the same terminal."""
        lift = self._bars is not None and not self._bars.disable and sys.stdout.isatty()
        if self._bars is None or not lift:
            yield
            return
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()


class Bars:
    """Progress of a run: photos done, and tiles of the photo at hand."""

    def __init__(self, progress: "Progress", photos: "TaskID", tiles: "TaskID") -> None:
        self._progress = progress
        self._photos = photos
        self._tiles = tiles

    def begin(self, name: str) -> Callable[[int, int, str], None]:
        """Start on a photo and return what its tiles are reported to: (done, all, phase)."""
        name = printable(name)
        self._progress.reset(self._tiles, total=None, description=f"{name}: reading")

        def report(done: int, total: int, phase: str) -> None:
            text = f"{name}: {PHASES.get(phase, phase)}"
            self._progress.update(self._tiles, completed=done, total=total, description=text)

        return report

    def done(self) -> None:
        """Count one photo as finished."""
        self._progress.advance(self._photos)


class _LogLines(logging.Handler):
    """Writes each log record as one line that begins with the photo it is about."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        subject = self._output.subject
        line = text if not subject or text.startswith(subject) else f"{subject}: {text}"
        match record.levelno:
            case level if level >= logging.ERROR:
                self._output.error(line)
            case level if level >= logging.WARNING:
                self._output.warn(line)
            case _:
                self._output.say(line)
