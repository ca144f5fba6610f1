"""What the command line writes: results on stdout, everything else on stderr; and with which code it ends."""

import errno
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

import typer

from deblur_cli.cli.options import check_folder
from deblur_cli.errors import DeblurError, UsageError, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from deblur_cli.pictures.plots import Diagram

_STDERR = 2  # file descriptor
OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM

_BUG = "this is a bug in deblur; please report it with the output of --debug"
PLOTS = (".png", ".svg", ".pdf")
PHASES = {"detect": "detecting blur", "restore": "deblurring"}


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Stops a run in the same way as Ctrl-C."""


def file_size(count: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e3:.1f} KB" if count < 100_000 else f"{count / 1e6:.1f} MB"


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lay rows out in columns, each as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def describe(error: BaseException) -> str:
    """Return one line that tells a user what went wrong."""
    match error:
        case DeblurError():
            text = str(error)
        case typer.TyperException():
            text = _plain(error.format_message())
        case MemoryError():
            text = "there is not enough memory; use a smaller --tile or close other programs"
        case OSError() if error.strerror:
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        case _:
            text = f"unexpected {type(error).__name__}: {error} ({_BUG})"
    return printable(" ".join(text.split()))


def _plain(text: str) -> str:
    """What Typer and pydantic say of a value that is none of several, in our own words."""
    found = re.fullmatch(
        r"Invalid value for '(.*?)(?: / .*)?': Value error, ('.*') is not one of (.*)\.", text
    )
    if found is None:
        return text
    option, value, names = found.groups()
    *others, last = names.replace("'", "").split(", ")
    return f"{option} must be {' or '.join(filter(None, (', '.join(others), last)))}, not {value}"


def exit_code(error: BaseException) -> int:
    """Return the exit code that belongs to an error."""
    match error:
        case DeblurError() | typer.TyperException():
            return error.exit_code
        case Terminated():
            return TERMINATED
        case KeyboardInterrupt() | typer.Abort():
            return INTERRUPTED
        case _:
            return FAILED


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error was caused by a full disk or an exhausted quota."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM, or a terminal that closes, end a run as Ctrl-C does: nothing is left half-written."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    numbers = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else as with nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C and its like wait until this ends: an exception while torch is imported may abort Python."""
    came: list[int] = []
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    raising = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():
        raising = {}  # no signal raises anything here
    for number in raising:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


class Output:
    """The two streams of a run. stderr is a Rich console, which honors NO_COLOR by itself."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False, json: bool = False) -> None:
        from rich.console import Console

        self.quiet = quiet
        self.verbose = verbose
        self.json = json
        self.console: Console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._thread = threading.local()
        self._names: dict[str, str] = {}
        self._stdout = sys.stdout  # what others print there meanwhile may be sent elsewhere
        self._stdout_is_free = True
        self._bars: Progress | None = None

    @property
    def subject(self) -> str:
        """The photo that this thread is working on, named before each of its log records; "" if none."""
        return getattr(self._thread, "subject", "")

    @contextmanager
    def about(self, subject: object) -> Iterator[None]:
        """Let the log records of this thread be about a photo."""
        before, self._thread.subject = self.subject, str(subject)
        try:
            yield
        finally:
            self._thread.subject = before

    def call(self, path: Path, name: str) -> None:
        """Show a file of ours under the name that the user knows it by."""
        self._names[str(path)] = name

    def forget(self, path: Path) -> None:
        """Forget a file of ours that is gone."""
        self._names.pop(str(path), None)

    def keep_stdout_free(self) -> None:
        """Write no results to stdout, which is wanted for a photo."""
        self._stdout_is_free = False

    def renamed(self, text: str) -> str:
        """Return text in which files of ours bear the names that the user knows them by."""
        for path, name in list(self._names.items()):  # as other threads add and forget some
            text = text.replace(path, name)
        return text

    def result(self, line: object) -> None:
        """Write one line to stdout, at once, also where a file name is not valid text."""
        if not self._stdout_is_free:
            return
        with self._bars_lifted(), _naming_stdout():
            self._stdout.flush()
            self._stdout.buffer.write(os.fsencode(f"{line}\n"))
            self._stdout.flush()

    def send(self, path: Path) -> None:
        """Write a file to stdout."""
        with path.open("rb") as file, _naming_stdout():
            shutil.copyfileobj(file, self._stdout.buffer)
            self._stdout.buffer.flush()

    def tell(self, record: Mapping[str, object], *lines: object) -> None:
        """Write a result to stdout: as an object where JSON is asked for, else as lines for people."""
        if self.json:
            self.json_line(record)
            return
        for line in lines:
            self.result(line)

    def json_line(self, fields: Mapping[str, object]) -> None:
        """Write one JSON object to stdout, on a line of its own."""
        shown = {
            name: self.renamed(value) if isinstance(value, str) else value for name, value in fields.items()
        }
        self.result(json.dumps(shown))

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

    def verbatim(self, text: str) -> None:
        """Write text to stderr as it stands, such as a traceback; nothing for none."""
        self.console.print(text, markup=False, end="")

    def _print(self, line: str, style: str | None = None) -> None:
        self.console.print(printable(self.renamed(line)), style=style, markup=False)

    @contextmanager
    def log_lines(self, *, libraries: bool = True) -> Iterator[None]:
        """Show log records of this package: warnings always, the rest in verbose runs.

        libraries: and what C libraries print, which a process of its own may leave where it is
        """
        handler = _LogLines(self)
        loggers = [logging.getLogger("deblur_cli")]
        others = [logging.getLogger(name) for name in ("py.warnings", "imagecodecs")]
        if self.verbose:
            loggers += others
        before = [(logger, logger.level, logger.propagate) for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG if self.verbose else logging.WARNING)
            logger.propagate = False
        # What is wrong with a file is said once, by us.
        for silent in (logging.getLogger("tifffile"), *([] if self.verbose else others)):
            before.append((silent, silent.level, silent.propagate))
            silent.setLevel(logging.CRITICAL + 1)
        logging.captureWarnings(True)  # other packages' warnings take several lines each
        try:
            with libraries_logged() if libraries else nullcontext():
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
        tiles = progress.add_task("tiles", total=None, visible=False)
        self._bars = progress
        try:
            with progress:
                yield Bars(progress, all_photos, tiles)
        finally:
            self._bars = None

    @contextmanager
    def _bars_lifted(self) -> Iterator[None]:
        """Take the bars away while stdout is written, where it is the same terminal."""
        lift = self._bars is not None and not self._bars.disable and self._stdout.isatty()
        if self._bars is None or not lift:
            yield
            return
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()


@contextmanager
def libraries_logged() -> Iterator[None]:
    """Send what C libraries print to stderr on their own to the log, line by line, apart from our lines."""
    try:
        shared = sys.stderr.fileno() == _STDERR
    except (OSError, ValueError):  # a stream of another kind, which no C library writes to
        shared = False
    former = sys.stderr
    former.flush()
    end, start = os.pipe()
    reader = threading.Thread(target=_log_each, args=(end,), daemon=True)
    kept = os.dup(_STDERR)
    with os.fdopen(kept, "w", encoding=former.encoding, errors=former.errors, buffering=1) as stream:
        os.dup2(start, _STDERR)
        os.close(start)
        reader.start()
        if shared:
            sys.stderr = stream
        try:
            yield
        finally:
            if sys.stderr is stream:
                sys.stderr = former
            stream.flush()
            os.dup2(kept, _STDERR)
            reader.join(timeout=1)  # a child process may still hold the pipe


def _log_each(end: int) -> None:
    with open(end, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            logging.getLogger("deblur_cli.libraries").debug("%s", line.strip())


class Bars:
    """Progress of a run: photos done, and tiles of the photo at hand."""

    def __init__(self, progress: "Progress", photos: "TaskID", tiles: "TaskID") -> None:
        self._progress = progress
        self._photos = photos
        self._tiles = tiles
        self._name = ""

    def begin(self, name: str) -> None:
        """Start on a photo."""
        self._name = printable(name)
        self._progress.reset(self._tiles, total=None, visible=True, description=f"{self._name}: reading")

    def report(self, done: int, total: int, phase: str) -> None:
        """Show how many tiles of the photo are done in a phase."""
        text = f"{self._name}: {PHASES.get(phase, phase)}"
        self._progress.update(self._tiles, completed=done, total=total, description=text)

    def done(self) -> None:
        """Count one photo as finished."""
        self._progress.advance(self._photos)


@contextmanager
def _naming_stdout() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeblurError(f"cannot write to standard output: {error.strerror}") from error


class _LogLines(logging.Handler):
    """Writes each log record as one line that begins with the photo it is about."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        text = self._output.renamed(" ".join(record.getMessage().split()))
        subject = self._output.subject
        line = text if not subject or text.startswith(subject) else f"{subject}: {text}"
        match record.levelno:
            case level if level >= logging.ERROR:
                self._output.error(line)
            case level if level >= logging.WARNING:
                self._output.warn(line)
            case _:
                self._output.say(line)


def check_plot(path: Path | None) -> None:
    """Refuse, before any work, a plot that could not be drawn in the end.

    Raises UsageError for a file that cannot be a plot, PlotError where Matplotlib is missing.
    """
    if path is None:
        return
    if path.suffix.lower() not in PLOTS or path.is_dir():
        raise UsageError(f"--plot must be a file that ends in .png, .svg or .pdf, not {str(path)!r}")
    check_folder(path.parent, "a plot")
    from deblur_cli.pictures.plots import check_plotting

    check_plotting()


def save_plot(path: Path, diagrams: "Sequence[Diagram]", streams: "Output") -> None:
    """Draw diagrams below each other into a file, which appears whole or not at all. Raises EncodeError."""
    from deblur_cli.files import write_file
    from deblur_cli.pictures.plots import draw

    def content(file: BinaryIO) -> None:
        draw(file, path.suffix[1:].lower(), diagrams)

    with streams.log_lines():  # Matplotlib warns of letters that its font lacks
        write_file(path, content, overwrite=True)
    streams.say(f"drawn: {path}")
