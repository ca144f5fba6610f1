"""The one place where exceptions and signals become a line on stderr and an exit code."""

import errno
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from deblur_cli.errors import DeblurError

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM

_BUG = "this is a bug in deblur; please report it with the output of --debug"


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Stops a run in the same way as Ctrl-C."""


def printable(text: str) -> str:
    """Return text on one line, without characters that would steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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


def guard(action: Callable[[], object], *, debug: bool) -> int:
    """Run a whole command and return its exit code; whatever it raises becomes one line on stderr."""
    try:
        code = action()
    except (KeyboardInterrupt, typer.Abort) as error:
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - the outermost frame: a user is shown a line, not a traceback
        if debug:
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)  # noqa: T201 - Rich may not be loaded yet
        return exit_code(error)
    return code if isinstance(code, int) else OK


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error was caused by a full disk or an exhausted quota."""
    full = {errno.ENOSPC, errno.EDQUOT}
    return any(isinstance(cause, OSError) and cause.errno in full for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


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
