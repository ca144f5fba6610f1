"""Locks on files, so that two runs at once do not write into the same folder."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from deblur_cli.errors import DeblurError

NAME = ".deblur-lock"  # of the file that `held` keeps in a folder while it is being written into

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class InUseError(DeblurError):
    """Another run, still alive, holds the lock."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder from other runs; it is made, and removed again where nothing was written into it.

    Raises InUseError where another run holds it, OSError where the folder cannot be written.
    """
    made = make_folder(folder)
    path = folder / NAME
    try:
        file = open_locked(path)
    except BaseException:
        _remove_empty(made)
        raise
    try:
        yield
    finally:
        remove_locked(file, path)
        _remove_empty(made)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and return those that were missing, the deepest first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # something is in it
            folder.rmdir()


def remove_locked(file: FileIO, path: Path) -> None:
    """Remove a locked file and let go of it."""
    if sys.platform != "win32":  # while it is still locked
        path.unlink(missing_ok=True)
    file.close()
    if sys.platform == "win32":
        with suppress(OSError):  # another run has opened it just now
            path.unlink(missing_ok=True)


def open_locked(path: Path) -> FileIO:
    """Open a file, made where it is missing, that stays locked until it is closed or this process ends.

    Raises InUseError where another run holds it, OSError where it cannot be written.
    """
    while True:
        file = FileIO(path, "r+", opener=_open_or_create)
        try:
            _lock(file.fileno(), path)
            if is_same_file(file.fileno(), path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # the run that held it came to its end just now, and removed it


def _open_or_create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def is_same_file(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, path: Path) -> None:
    """Lock a file until it is closed or this process ends, however it does."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # some network disks; two runs at once are then the user's care
            return
        raise InUseError(
            f"another run is using {path.parent}; wait until it ends, or choose another -o"
        ) from error
