"""The journal of a run over several photos, which lets it go on after it was broken off at any instant.

It is a file of JSON lines, `.deblur-journal.jsonl`, in the folder given with -o, so that it stays with
the results and whoever may write them may write it; without -o, in the folder of the first input. Its
first line holds the settings. Before any file of a photo is put in place a line says `begin`, and
`done` once all of them are; each line is on the disk before work goes on. What is begun and not done
may thus be replaced, and what is done is known by the size and time of its files. A run that comes to
its end removes its journal. While a run lasts it holds a lock on the file.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deblur_cli.cli.run.plan import Existing, Job, identity
from deblur_cli.files import PARTIAL, explain
from deblur_cli.locks import InUseError, make_folder, open_locked

NAME = ".deblur-journal.jsonl"
FORMAT = 1  # of the journal itself; compared like a setting
CLOCK = 2_000_000_000  # nanoseconds; memory cards store times in steps of two seconds

Stamp = tuple[int, int]  # size in bytes, time of last change in nanoseconds


@dataclass(frozen=True)
class Entry:
    """What a journal says of one photo. `results` are those it was going to write; stamps once done."""

    results: tuple[Path, ...]
    source: Stamp | None
    stamps: Mapping[Path, Stamp] | None = None


@dataclass
class Past:
    """What the journal of an earlier run says. `length` is how much of the file is whole lines."""

    settings: Mapping[str, Any]
    existing: Existing
    entries: dict[Path, Entry] = field(default_factory=dict)
    length: int = 0

    def results(self) -> set[Path]:
        """All files that the run wrote, or was about to write."""
        return {result for entry in self.entries.values() for result in entry.results}


def read(path: Path) -> Past | None:
    """Read a journal up to where it broke off; None where there is none, or not even a first line."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    past: Past | None = None
    length = 0
    for line in content.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            record = json.loads(line)
            if past is None:
                past = Past(dict(record["settings"]), Existing(record["existing"]))
            else:
                _add(past.entries, record)
        except (ValueError, KeyError, TypeError, AttributeError):
            break  # the power failed in the middle of a line: what follows was never finished
        length += len(line)
    if past is not None:
        past.length = length
    return past


def _add(entries: dict[Path, Entry], record: Mapping[str, Any]) -> None:
    photo = Path(record["photo"])
    if record["event"] == "begin":
        source = record["source"]
        entries[photo] = Entry(tuple(map(Path, record["results"])), source and tuple(source))
    else:
        stamps = {Path(name): (size, time) for name, (size, time) in record["results"].items()}
        entries[photo] = Entry(tuple(stamps), entries[photo].source, stamps)


class Journal:
    """The journal of this run, open for further lines. Safe to use from several threads."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], existing: Existing, past: Past | None
    ) -> None:
        """Begin a journal, or go on with that of the past.

        Raises InUseError where a living run holds it, OSError where it cannot be written.
        """
        self._path = path
        self._lock = threading.Lock()
        self._made = make_folder(path.parent)
        self._file = open_locked(path)
        try:
            before = read(path)
            if past is not None and (before is None or before.length != past.length):
                raise InUseError(f"another run has just been writing into {path.parent}; try again")
            _remove_parts(before)
            self._file.truncate(past.length if past else 0)
            if past is None:
                self._append({"settings": settings, "existing": existing.value})
                _sync(path.parent)
        except BaseException:
            self._file.close()
            raise

    def begin(self, job: Job) -> None:
        """Note that the missing results of a photo are about to be put in place."""
        results = [str(identity(path)) for path in job.missing]
        source = stamp(job.source)
        self._note({"event": "begin", "photo": _key(job), "source": source, "results": results})

    def finish(self, job: Job) -> None:
        """Note that all of them are in place."""
        stamps = {str(identity(path)): stamp(path) for path in job.missing}
        self._note({"event": "done", "photo": _key(job), "results": stamps})

    def close(self, *, finished: bool) -> None:
        """Leave the journal as it is, or remove it where the run came to its end."""
        if finished and sys.platform != "win32":  # while it is still locked
            self._path.unlink(missing_ok=True)
        self._file.close()
        if finished:
            self._path.unlink(missing_ok=True)
            for folder in self._made:
                with suppress(OSError):  # results are in it
                    folder.rmdir()

    def _note(self, record: Mapping[str, object]) -> None:
        with self._lock:
            try:
                self._append(record)
            except OSError as error:
                raise explain(self._path, error) from error

    def _append(self, record: Mapping[str, object]) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            line = json.dumps(record).encode() + b"\n"
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)
            raise


def stamp(path: Path) -> Stamp | None:
    """Return size and time of a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def is_same(now: Stamp | None, then: Stamp | None) -> bool:
    """Tell whether a file is as it was, as far as size and time tell."""
    if now is None or then is None:
        return now == then
    return now[0] == then[0] and abs(now[1] - then[1]) <= CLOCK


def _key(job: Job) -> str:
    return str(identity(job.source))


def _sync(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can open folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_parts(past: Past | None) -> None:
    """Remove what the writing of unfinished photos left behind."""
    unfinished = [entry.results for entry in past.entries.values() if not entry.stamps] if past else []
    for folder in {path.parent for results in unfinished for path in results}:
        for part in folder.glob(PARTIAL):
            part.unlink(missing_ok=True)
