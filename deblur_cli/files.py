"""Files that appear whole or not at all and never replace one that has to stay; locks on folders."""

import errno
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from deblur_cli.errors import EncodeError, UsageError

PARTIAL = ".deblur-*.part"  # names of files that are not yet complete
LOCK = ".deblur-lock"  # the file in a folder that is locked while a run writes there

logger = logging.getLogger(__name__)

_ADVICE = {
    errno.ENOENT: "the system does not allow files there; choose another folder with -o",
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "there is no permission to write here; choose another folder with -o",
    errno.EPERM: "there is no permission to write here; choose another folder with -o",
    errno.EROFS: "this disk is read-only; choose another folder with -o",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOTDIR: "a part of its folder's path is a file; choose another folder",
    errno.EEXIST: "a part of its folder's path is a file; choose another folder",
    errno.EISDIR: "is a folder; choose another name",
}


def explain(path: object, error: OSError) -> EncodeError:
    """One line for a file that could not be written."""
    return EncodeError(f"{path}: cannot be written: {advice(error)}")


def advice(error: OSError) -> str:
    """Say why a file could not be written, and what to do."""
    return _ADVICE.get(error.errno or 0, f"{error.strerror or error}; choose another folder")


def check_target(path: Path, source: Path, *, overwrite: bool) -> None:
    """Raises EncodeError if `path` is the source, a folder, or exists and may not be overwritten."""
    try:
        if path.resolve() == source.resolve() or (
            path.exists() and source.exists() and path.samefile(source)
        ):
            raise EncodeError(f"{path}: is the source photo, which is never written; choose another name")
        if path.is_dir():
            raise EncodeError(f"{path}: is a folder; name a file in it")
        if path.exists() and not overwrite:
            raise _already_there(path)
    except OSError as error:
        raise explain(path, error) from error
    except (ValueError, RuntimeError) as error:  # a NUL in the name, a circle of links
        raise EncodeError(f"{str(path)!r}: cannot be used as a file name ({error})") from error


def _already_there(path: Path) -> EncodeError:
    return EncodeError(f"{path}: already exists; allow replacing it with --overwrite or choose another name")


# parts in order, or what writes them into a file
Content = list[bytes | bytearray] | Callable[[BinaryIO], None]


def write_file(path: Path, content: Content, *, overwrite: bool) -> None:
    """Writes `content` so that `path` appears complete or not at all; lacking folders are made.

    Raises EncodeError, and what a writing function raises beside OSError; then an old file at `path` is
    as it was and nothing else remains.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".deblur-{secrets.token_hex(8)}.part")
        with part.open("xb") as file:  # "x" gives the access rights that the umask allows
            if callable(content):
                content(file)
            else:
                file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            part.replace(path)
        else:
            _place_new(part, path)
    except OSError as error:
        raise explain(path, error) from error
    finally:  # also reached by KeyboardInterrupt
        if part is not None:
            _remove(part)


def _place_new(part: Path, path: Path) -> None:
    """Gives `part` its name unless a file of that name has appeared meanwhile."""
    try:
        os.link(part, path)
    except FileExistsError as error:
        raise _already_there(path) from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.ENOENT):
            raise
        # FAT and some network disks know no hard links: hold the name with an empty file instead.
        logger.debug("%s: no hard links here (%s), the name is taken first", path, error)
        _place_over_own_claim(part, path)


def _place_over_own_claim(part: Path, path: Path) -> None:
    try:
        path.open("xb").close()
    except FileExistsError as error:
        raise _already_there(path) from error
    try:
        part.replace(path)
    except BaseException:
        path.unlink()
        raise


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError as error:
        if os.path.lexists(part):  # a disk that is read-only complains of files that never were
            logger.warning("%s: a temporary file could not be removed (%s)", part, error)


class InUseError(UsageError):
    """Another run, still alive, holds the lock."""


@contextmanager
def held(folder: Path, name: object = None) -> Iterator[None]:
    """Keep a folder from other runs; it is made, and removed again where nothing was written into it.

    name: what it stands for, if that is not the folder itself
    Raises InUseError where another run holds it, OSError where the folder cannot be written.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, thread_local=False, fallback_to_soft=False)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise InUseError(
                f"another run is using {name or folder}; wait until it ends, or choose another folder with -o"
            ) from error
        except NotImplementedError:
            logger.warning(
                "%s: this file system has no locks; do not let two runs write there at once", folder
            )
        try:
            yield
        finally:
            _release(lock)
    finally:
        for made in missing:
            with suppress(OSError):  # something is in it
                made.rmdir()


def _release(lock: FileLock) -> None:
    """Let go of a lock and delete its file: while it is held, where the system allows that."""
    path = Path(lock.lock_file)
    with suppress(OSError):
        path.unlink(missing_ok=True)
    lock.release()
    with suppress(OSError):  # Windows deletes closed files only, and another run may have opened this one
        if sys.platform == "win32":
            path.unlink(missing_ok=True)
