"""Signals that end a run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from deblur_cli.cli.errors import TERMINATED, Terminated


@contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM, or a terminal that closes, end a run as Ctrl-C does: nothing is left half-written.

    Raises the Exit that belongs to it: of a KeyboardInterrupt Typer would make that of Ctrl-C.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    numbers = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else as with nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except Terminated as error:
        raise typer.Exit(TERMINATED) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
