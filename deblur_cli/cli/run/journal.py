"""The journal of a run over several photos, which lets --resume go on after the run was stopped anywhere.

It is a file of JSON lines, `.deblur-journal.jsonl`, in the folder given with -o, so that it stays with
the results and whoever may write them may write it; without -o, in the folder of the first input. Its
first line holds the settings. Before any file of a photo is put in place a line says `begin`, and
`done` once all of them are; each line is on the disk before work goes on. What is begun and not done
may thus be replaced, and what is done is known by the size and time of its files. A run that comes to
its end removes its journal. Other runs are kept out of the folder meanwhile.

Where other processes do the work, a line says `begin` before they get a photo, and `withdrawn` if it
failed before any of its files was written.
"""

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli import __version__
from deblur_cli import weights as catalog
from deblur_cli.cli.output import Output
from deblur_cli.cli.run.collect import Found, identity
from deblur_cli.cli.run.options import Existing, RunOptions
from deblur_cli.cli.run.plan import Job, State, names_a_file, result_folder
from deblur_cli.errors import DeblurError, UsageError
from deblur_cli.files import PARTIAL, explain
from deblur_cli.stores import Address, Location, Stamp, is_address

if TYPE_CHECKING:
    from deblur_cli.weights import LoadedWeights

NAME = ".deblur-journal.jsonl"
FORMAT = 1  # of the journal itself; compared like a setting
CLOCK = 2_000_000_000  # nanoseconds; memory cards store times in steps of two seconds

# Options that shape no result. All others do, so that a new one is compared without a word here. Weights
# and detector are compared by their hashes, and a run may go on elsewhere after a GPU failed.
_IDLE = frozenset(
    {
        *(
            "inputs",
            "output",
            "recursive",
            "include",
            "exclude",
            "overwrite",
            "skip_existing",
            "again",
            "resume",
            "dry_run",
            "jobs",
            "cluster",
            "actor_cpus",
            "actor_gpus",
        ),
        *(
            "max_megapixels",
            "device",
            "config",
            "no_config",
            "json",
            "verbose",
            "quiet",
            "debug",
            "weights",
            "detector",
        ),
    }
)


@dataclass(frozen=True)
class Trace:
    """What a journal says of one photo. `results` are those it was going to write; stamps once done."""

    results: tuple[str, ...]
    source: Stamp | None
    stamps: Mapping[str, Stamp] | None = None


@dataclass
class Past:
    """What the journal of an earlier run says. `length` is how much of the file is whole lines."""

    settings: Mapping[str, Any]
    existing: Existing
    traces: dict[str, Trace] = field(default_factory=dict)
    length: int = 0


def read(path: Path) -> Past | None:
    """Read a journal up to where it breaks off; None where there is none, or not even a first line."""
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
                _add(past.traces, record)
        except (ValueError, KeyError, TypeError, AttributeError):
            break  # the power failed in the middle of a line: what follows was never finished
        length += len(line)
    if past is not None:
        past.length = length
    return past


def _add(traces: dict[str, Trace], record: Mapping[str, Any]) -> None:
    photo = str(record["photo"])
    if record["event"] == "begin":
        source = record["source"]
        traces[photo] = Trace(tuple(record["results"]), source and tuple(source))
    elif record["event"] == "withdrawn":
        traces.pop(photo, None)
    else:
        stamps = {name: (size, mark) for name, (size, mark) in record["results"].items()}
        traces[photo] = Trace(tuple(stamps), traces[photo].source, stamps)


class Journal:
    """What an earlier run left to go on with, and the record of this one."""

    def __init__(self, options: RunOptions) -> None:
        self._folder = result_folder(options)  # as the user knows it
        self._path = None if names_a_file(options) else home_of(self._folder) / NAME
        self._options = options
        self._settings = settings_of(options)
        self._past: Past | None = None
        self._lock = threading.Lock()
        self._file: FileIO | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the run can be resumed."""
        return self._file is not None

    @property
    def existing(self) -> Existing:
        """What happens to results that exist: as the options say, else as in the run that is resumed."""
        asked = self._options.existing
        if asked is not Existing.refuse or not self._options.resume or self._path is None:
            return asked
        return self._past.existing if self._past else Existing.skip

    def look_back(self, streams: Output) -> None:
        """Find out what there is to go on with, and say so if that is not what the user expects.

        Raises UsageError where the settings were different.
        """
        if self._path is None:
            return
        resume = self._options.resume
        try:
            past = read(self._path)
        except OSError as error:
            if not resume:  # then whether it can be written is soon seen
                return
            raise DeblurError(f"{self._path} cannot be read: {error.strerror}") from error
        if past is None:
            if resume:
                streams.warn(f"there is no unfinished run in {self._folder}; existing results are kept")
        elif not resume:
            streams.warn(f"{self._path} is left from an unfinished run, which --resume would continue")
        else:
            changes = differences(past.settings, self._settings | hashes_of(self._options))
            if changes:
                raise UsageError(
                    f"the unfinished run in {self._folder} had different settings "
                    f"({'; '.join(changes)}); repeat them, or start over with --overwrite instead of --resume"
                )
            self._past = past

    def without_results(self, photos: Sequence[Found]) -> list[Found]:
        """Leave out what the earlier run wrote; `*.jpg` finds that too, once results lie beside photos."""
        traces = self._past.traces.values() if self._past else ()
        results = {result for trace in traces for result in trace.results}
        return [photo for photo in photos if str(identity(photo.path)) not in results]

    def judge(self, job: Job) -> Job:
        """Set how far the earlier run came with a photo, and which of its files stay."""
        trace = self._past.traces.get(str(identity(job.source))) if self._past else None
        if trace is None:
            return job
        results = job.results.values()
        foreign = {path for path in results if str(identity(path)) not in trace.results and path.exists()}
        again = replace(job, present=frozenset(foreign), state=State.again)
        if trace.stamps is None:
            return again
        now = {path: stamp(identity(path), known=True) for path in results}
        then = {path: trace.stamps.get(str(identity(path))) for path in results}
        altered = {path for path in now if now[path] and then[path] and not is_same(now[path], then[path])}
        if altered:
            return replace(job, present=frozenset(results) - altered, state=State.altered)
        whole = all(now.values()) and is_same(stamp(job.source, known=True), trace.source)
        return replace(job, state=State.finished) if whole else again

    def open(self, photos: int, weights: "LoadedWeights | None", streams: Output) -> None:
        """Begin the record of a run over so many photos, or go on with that of the earlier run.

        weights: None if none are used. Raises EncodeError for a full disk; where the journal cannot be
        written otherwise, a warning says so.
        """
        if self._path is None or (photos < 2 and self._past is None):
            return
        settings = self._settings | hashes_in(weights)
        with ExitStack() as on_failure:
            try:
                file = on_failure.enter_context(FileIO(self._path, "a"))
                _remove_parts(_folders_of_unfinished(read(self._path)))
                file.truncate(self._past.length if self._past else 0)
                if self._past is None:
                    _append(file, {"settings": settings, "existing": self.existing.value})
                    _sync(self._path.parent)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise explain(self._path, error) from error
                streams.warn(f"{explain(self._path, error)}; without its journal this run cannot be resumed")
            else:
                self._file = file
                on_failure.pop_all()

    def begin(self, job: Job) -> None:
        """Note that the missing results of a photo are about to be put in place."""
        self.note(begun(job, stamp(job.source)))

    def finish(self, job: Job) -> None:
        """Note that all of them are in place."""
        self.note(finished(job))

    def note(self, *records: Mapping[str, object]) -> None:
        """Write lines. Safe to call from several threads. Raises EncodeError."""
        if self._file is None or self._path is None or not records:
            return
        with self._lock:
            try:
                _append(self._file, *records)
            except OSError as error:
                raise explain(self._path, error) from error

    def clear_up(self, jobs: Iterable[Job]) -> None:
        """Remove what other processes left behind that wrote results of these jobs and died."""
        results = (identity(path) for job in jobs for path in job.missing.values())
        _remove_parts({path.parent for path in results if isinstance(path, Path)})

    def close(self, *, finished: bool) -> None:
        """Leave the journal as it is, or remove it where the run came to its end."""
        if self._file is None or self._path is None:
            return
        self._file.close()
        if finished:
            self._path.unlink(missing_ok=True)


def begun(job: Job, source: Stamp | None = None) -> dict[str, object]:
    """Return what says that the missing results of a photo are about to be put in place.

    source: None before the photo is read
    """
    results = [str(identity(path)) for path in job.missing.values()]
    return _record("begin", job, source=source, results=results)


def finished(job: Job) -> dict[str, object]:
    """Return what says that all of them are in place."""
    results = {str(identity(path)): stamp(path) for path in job.missing.values()}
    return _record("done", job, results=results)


def withdrawn(job: Job) -> dict[str, object]:
    """Return what says that none of them was ever put in place, after all."""
    return _record("withdrawn", job)


def _record(event: str, job: Job, **facts: object) -> dict[str, object]:
    return {"event": event, "photo": str(identity(job.source)), **facts}


def _append(file: FileIO, *records: Mapping[str, object]) -> None:
    """Add lines that are on the disk when this returns; where that fails, no part of them stays."""
    end = file.seek(0, os.SEEK_END)
    try:
        line = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        while line:
            line = line[file.write(line) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def _sync(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can open folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _folders_of_unfinished(past: Past | None) -> set[Path]:
    unfinished = [trace.results for trace in past.traces.values() if not trace.stamps] if past else []
    return {Path(name).parent for results in unfinished for name in results if not is_address(name)}


def _remove_parts(folders: Iterable[Path]) -> None:
    """Remove what the writing of unfinished photos left behind."""
    for folder in folders:
        for part in folder.glob(PARTIAL):
            part.unlink(missing_ok=True)


def home_of(folder: Location) -> Path:
    """Return where journal and lock of a folder of results are: in it, or on this machine for an address.

    Stores cannot append to a file, nor lock one.
    """
    if isinstance(folder, Path):
        return folder
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "deblur" / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def stamp(path: Location, *, known: bool = False) -> Stamp | None:
    """Return what tells a file from other versions: size and time, or an etag; None where there is none.

    known: an answer from before will do
    """
    try:
        if isinstance(path, Address):
            if not known or path.store.backend.is_web:  # nothing is known of the web
                return path.stamp()
            return None if (entry := path.entry()) is None else entry.stamp
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def is_same(now: Stamp | None, then: Stamp | None) -> bool:
    """Tell whether a file is as it was, as far as size and time tell."""
    if now is None or then is None:
        return now == then
    if isinstance(now[1], int) and isinstance(then[1], int):
        return now[0] == then[0] and abs(now[1] - then[1]) <= CLOCK
    return now == then


def settings_of(options: RunOptions) -> dict[str, Any]:
    """Return the options that shape the results, as JSON gives them back."""
    settings = {name: value for name, value in vars(options).items() if name not in _IDLE}
    settings |= {"version": __version__, "journal": FORMAT}
    return dict(json.loads(json.dumps(settings, default=str)))


def hashes_in(weights: "LoadedWeights | None") -> dict[str, str | None]:
    """Return the hashes of weights and of their detector, in the words of a journal."""
    if weights is None:
        return {"weights": None, "detector": None}
    own = catalog.OWN if weights.network.detects else catalog.NONE
    return {"weights": weights.sha256, "detector": weights.detector.sha256 if weights.detector else own}


def hashes_of(options: RunOptions) -> dict[str, str]:
    """Return the same for what the options ask for, without loading it.

    Raises WeightsError where there is nothing of that name.
    """
    name = options.weights or catalog.DEFAULT
    found, own = catalog.detector_for(catalog.notes_of(name), options.detector), catalog.OWN
    own = catalog.NONE if options.detector == catalog.NONE else own
    return {"weights": _hash_of(name), "detector": own if found is None else _hash_of(found)}


def _hash_of(name: str) -> str:
    source = catalog.source_of(name)
    return catalog.sha256(source.path) if source.path else source.sha256 or ""


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the settings that are not the same."""
    return [
        f"{name.replace('_', '-')} {_shown(then.get(name))}, now {_shown(now.get(name))}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "not given", True: "on", False: "off"}[value]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)[:16]  # enough of a hash
