"""Locks on folders, so that two runs at once do not write into the same one."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from deblur_cli.errors import UsageError

NAME = ".deblur-lock"  # the file in a folder that is locked while a run writes there

logger = logging.getLogger(__name__)


class InUseError(UsageError):
    """Another run, still alive, holds the lock."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder from other runs; it is made, and removed again where nothing was written into it.

    Raises InUseError where another run holds it, OSError where the folder cannot be written.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / NAME, thread_local=False, fallback_to_soft=False)
    try:
        _acquire(lock, folder)
        try:
            yield
        finally:
            _remove(lock)
    finally:
        for made in missing:
            with suppress(OSError):  # something is in it
                made.rmdir()


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InUseError(
            f"another run is using {folder}; wait until it ends, or choose another folder with -o"
        ) from error
    except NotImplementedError:
        logger.warning("%s: this file system has no locks; do not let two runs write there at once", folder)


def _remove(lock: FileLock) -> None:
    """Let go of a lock and delete its file: while it is held, where the system allows that."""
    path = Path(lock.lock_file)
    with suppress(OSError):
        path.unlink(missing_ok=True)
    lock.release()
    with suppress(OSError):  # Windows deletes closed files only, and another run may have opened this one
        if sys.platform == "win32":
            path.unlink(missing_ok=True)
