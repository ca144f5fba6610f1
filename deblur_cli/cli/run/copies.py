"""Private copies of what is elsewhere: fetched when a photo's turn comes, put in place when complete."""

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import TracebackType
from typing import Self

from deblur_cli.cli.output import Output
from deblur_cli.cli.run.options import Kind
from deblur_cli.cli.run.plan import Job, LocalJob
from deblur_cli.errors import DeblurError, DecodeError, EncodeError
from deblur_cli.stores import Address, Location, Stamp, explain

_LONGEST = 60  # characters of a name that any disk takes


@dataclass
class _Copy:
    """What a job is on this machine.

    folder: of the files that stand for addresses, None where there are none; stamp: of what was fetched
    """

    job: LocalJob
    folder: Path | None = None
    files: dict[Location, Path] = field(default_factory=dict)
    stamp: Stamp | None = None


class Copies:
    """The copies that there are during a run. Safe to use from several threads, for different jobs."""

    def __init__(self, streams: Output, is_unwanted: Callable[[], bool] = lambda: False) -> None:
        self._streams = streams
        self._is_unwanted = is_unwanted
        self._lock = threading.Lock()
        self._home: TemporaryDirectory[str] | None = None
        self._copies: dict[Job, _Copy] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._home is not None:
            self._home.cleanup()

    def of(self, job: Job) -> LocalJob:
        """Return what a job is on this machine, once it is brought."""
        return self._copies[job].job

    def bring(self, job: Job) -> LocalJob:
        """Fetch what a job reads, and return what the job is on this machine. Raises DecodeError."""
        inputs = {job.source, *job.sidecars.values(), *([job.mask] if job.mask else [])}
        away = {place for place in (*inputs, *job.results.values()) if isinstance(place, Address)}
        if not away:
            self._copies[job] = _Copy(LocalJob.of(job))
            return self.of(job)
        folder = Path(mkdtemp(dir=self._made_home()))
        files: dict[Location, Path] = {}
        for place in away:
            file = folder / str(len(files)) / _short(place.name)
            file.parent.mkdir()
            self._streams.call(file, str(place))
            files[place] = file
        copy = _Copy(LocalJob.of(job, lambda place: place if isinstance(place, Path) else files[place]))
        copy.folder, copy.files = folder, files
        self._copies[job] = copy
        for address in away & inputs:
            try:
                if address == job.source:
                    copy.stamp = address.stamp()
                address.fetch(files[address], self._is_unwanted)
            except OSError as error:
                raise DecodeError(f"{address}: cannot be fetched: {error.strerror}") from error
        return copy.job

    def _made_home(self) -> str:
        with self._lock:
            if self._home is None:
                self._home = TemporaryDirectory(prefix="deblur-", ignore_cleanup_errors=True)
            return self._home.name

    @contextmanager
    def brought(self, job: Job) -> Iterator[LocalJob]:
        """Give what a job is on this machine for as long as the block lasts. Raises DecodeError."""
        try:
            with self.named(job):
                yield self.bring(job)
        finally:
            self.drop(job)

    def check(self, job: Job) -> None:
        """Raise EncodeError where the photo is gone or is no longer the one that was fetched."""
        if not isinstance(job.source, Address):
            return
        try:
            now = job.source.stamp()
        except OSError as error:
            raise EncodeError(f"{job.source}: cannot be read any more ({error.strerror})") from error
        if now != self._copies[job].stamp:
            raise EncodeError(
                f"{job.source}: was changed while the run worked on it, so no result is written; run it again"
            )

    def put(self, job: Job, kind: Kind, *, overwrite: bool) -> None:
        """Put a result that is complete where it belongs. Raises EncodeError, RefusedError."""
        target = job.results[kind]
        if not isinstance(target, Address):
            return
        file = self.of(job).results[kind]
        try:
            target.put(file, overwrite=overwrite)
        except OSError as error:
            raise explain(target, error) from error
        file.unlink()

    @contextmanager
    def named(self, job: Job) -> Iterator[None]:
        """Let errors name what the user gave, not the copies."""
        try:
            yield
        except DeblurError as error:
            text = str(error)
            for place, file in self._copies[job].files.items() if job in self._copies else ():
                text = text.replace(str(file), str(place))
            if text == str(error):
                raise
            raise type(error)(text) from error

    def drop(self, job: Job) -> None:
        """Delete the copies of a job."""
        copy = self._copies.pop(job, None)
        if copy is None or copy.folder is None:
            return
        shutil.rmtree(copy.folder, ignore_errors=True)
        for file in copy.files.values():
            self._streams.forget(file)


def _short(name: str) -> str:
    """A name that any disk takes, with the same suffix."""
    return re.sub(r"[^\w.-]", "_", name[-_LONGEST:])
