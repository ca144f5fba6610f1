"""Signals that end a run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from deblur_cli.cli.errors import TERMINATED, Terminated


@contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, so that nothing is left half-written.

    Raises the Exit that belongs to it: of a KeyboardInterrupt Typer would make that of Ctrl-C.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Terminated as error:
        raise typer.Exit(TERMINATED) from error
    finally:
        signal.signal(signal.SIGTERM, before)
