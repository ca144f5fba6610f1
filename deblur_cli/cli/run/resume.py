"""Going on with a run that was broken off: what it finished, and whether the settings still agree."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deblur_cli import __version__
from deblur_cli.cli.output import Output
from deblur_cli.cli.run import journal
from deblur_cli.cli.run.inputs import REPORT_FOLDER, Found
from deblur_cli.cli.run.journal import Journal, Past, is_same, stamp
from deblur_cli.cli.run.plan import Existing, Job, Naming, Verdict, identity, names_a_file
from deblur_cli.errors import DeblurError, UsageError
from deblur_cli.files import explain
from deblur_cli.locks import InUseError
from deblur_cli.weights import OWN

if TYPE_CHECKING:
    from deblur_cli.weights import LoadedWeights

# What shapes no result. All other options do, so that a new one is compared without a word here.
_IDLE = frozenset(
    {
        *("inputs", "output", "recursive", "overwrite", "skip_existing", "resume", "dry_run", "jobs"),
        *("max_megapixels", "device", "json", "verbose", "quiet", "debug", "weights", "detector"),
    }
)


def settings_of(context: typer.Context, **parsed: object) -> dict[str, Any]:
    """Return the options that shape the results; `parsed` are those of which several spellings are one.

    The device is not among them: going on elsewhere after a GPU failed is what --resume is for.
    """
    options = {name: value for name, value in context.params.items() if name not in _IDLE}
    named = options | parsed | {"version": __version__, "journal": journal.FORMAT}
    return {name: value if _is_plain(value) else str(value) for name, value in sorted(named.items())}


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def journal_path(inputs: Sequence[Path], naming: Naming) -> Path | None:
    """Return where the journal of a run lies; None where -o names a single file."""
    if naming.output is not None:
        return None if names_a_file(naming.output) else naming.output / journal.NAME
    first = inputs[0]
    return (first if first.is_dir() else first.parent) / journal.NAME


def report_folder(inputs: Sequence[Path], naming: Naming) -> Path:
    """Return where the report of a run lies: with its results."""
    if naming.output is not None:
        return (naming.output.parent if names_a_file(naming.output) else naming.output) / REPORT_FOLDER
    return (inputs[0] if inputs[0].is_dir() else inputs[0].parent) / REPORT_FOLDER


@dataclass
class Ledger:
    """What is known of an earlier run, and the journal that this one will write.

    path: None where no journal is kept; settings: those that shape the results, but for weights and detector
    overwrite: asked for by the user; past: what is gone on with, None if nothing is
    """

    path: Path | None
    settings: dict[str, Any]
    existing: Existing
    overwrite: bool
    past: Past | None = None

    def look_back(self, resume: bool, weights: str | None, detector: str, output: Output) -> None:
        """Find out what there is to go on with, and say so if that is not what the user expects.

        weights, detector: as they are asked for
        Raises UsageError where the settings are other ones, unless --overwrite asks to begin anew.
        """
        if self.path is None:
            return
        try:
            past = journal.read(self.path)
        except OSError as error:
            if not resume:  # then whether it can be written is soon seen
                return
            raise DeblurError(f"{self.path} cannot be read: {error.strerror}") from error
        if not resume:
            if past is not None:
                output.warn(f"{self.path} tells of an unfinished run, which --resume would have gone on with")
        elif past is None:
            if self.existing is Existing.refuse:
                self.existing = Existing.skip
            output.warn(f"{self.path.parent} holds no record of an unfinished run; what exists there is kept")
        elif self._agrees_with(past, hashes_of(weights, detector)):
            self.past = past
            if self.existing is Existing.refuse:
                self.existing = past.existing

    def _agrees_with(self, past: Past, hashes: Mapping[str, str]) -> bool:
        changes = differences(past.settings, {**self.settings, **hashes})
        if changes and not self.overwrite:
            raise UsageError(
                f"the unfinished run in {self.path.parent if self.path else '.'} had other settings "
                f"({'; '.join(changes)}); repeat them, or begin anew with --overwrite"
            )
        return not changes

    def without_results(self, photos: Sequence[Found]) -> list[Found]:
        """Leave out what the earlier run wrote; `*.jpg` finds that too, once results lie beside photos."""
        results = self.past.results() if self.past else set()
        return [photo for photo in photos if identity(photo.path) not in results]

    def judge(self, job: Job) -> tuple[Verdict, Job]:
        """Say how far the earlier run came with a photo, and what there is to do then."""
        entry = self.past.entries.get(identity(job.source)) if self.past else None
        if entry is None:
            return Verdict.new, job
        foreign = {path for path in job.results if identity(path) not in entry.results and path.exists()}
        again = replace(job, present=frozenset(foreign), replace=True)
        if entry.stamps is None:
            return Verdict.again, again
        now = {path: stamp(identity(path)) for path in job.results}
        then = {path: entry.stamps.get(identity(path)) for path in job.results}
        altered = {path for path in now if now[path] and then[path] and not is_same(now[path], then[path])}
        if altered and not self.overwrite:
            return Verdict.altered, replace(job, present=frozenset(job.results) - altered)
        whole = not altered and all(now.values()) and is_same(stamp(job.source), entry.source)
        return (Verdict.finished, job) if whole else (Verdict.again, again)

    def open(self, photos: int, weights: "LoadedWeights | None", output: Output) -> Journal | None:
        """Open the journal of a run over so many photos; weights are None if none are used.

        Raises InUseError where the run to go on with is still alive, EncodeError for a full disk.
        """
        if self.path is None or (photos < 2 and self.past is None):
            return None
        try:
            settings = {**self.settings, **hashes_in(weights)}
            return Journal(self.path, settings, self.existing, self.past)
        except InUseError as error:
            if self.past is not None:
                raise
            output.warn(f"{error}; this run keeps no journal, so it cannot be resumed")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise explain(self.path, error) from error
            output.warn(f"{explain(self.path, error)}; without its journal this run cannot be resumed")
        return None


def hashes_in(weights: "LoadedWeights | None") -> dict[str, str | None]:
    """Return the hashes of weights and of their detector, in the words of a journal."""
    if weights is None:
        return {"weights": None, "detector": None}
    return {"weights": weights.sha256, "detector": weights.detector.sha256 if weights.detector else OWN}


def hashes_of(weights: str | None, detector: str) -> dict[str, str]:
    """Return the same for weights and a detector that are asked for, without loading them.

    Raises WeightsError where there are none of that name.
    """
    from deblur_cli import weights as catalogue

    name = weights or catalogue.DEFAULT
    finder = catalogue.detector_for(catalogue.notes_of(name), detector)
    return {"weights": hash_of(name), "detector": OWN if finder is None else hash_of(finder)}


def hash_of(name: str) -> str:
    """Return the hash of weights; raises WeightsError where there are none of that name."""
    from deblur_cli import weights as catalogue

    source = catalogue.source_of(name)
    return catalogue.sha256(source.path) if source.path else source.sha256 or ""


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
    return str(value)[:16]  # enough of a hash
