"""Where the results of a run go: named, compared and checked before any photo is opened."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from deblur_cli.cli.run.inputs import (
    DATA_ENDING,
    GRAY_ENDING,
    MASK_ENDING,
    TRAJECTORY_ENDING,
    Found,
    Problem,
    real_path,
)
from deblur_cli.errors import EncodeError, UsageError
from deblur_cli.photo import encode
from deblur_cli.photo.decode import is_picture_name

# Kinds of pictures that a user may expect as a result; a folder of such a name is surely not meant.
_NOT_WRITTEN = frozenset({".gif", ".jxl", ".jp2"})


class Existing(Enum):
    """What becomes of a result that exists already."""

    refuse = "refuse"
    skip = "skip"
    replace = "replace"


class Verdict(Enum):
    """How far an earlier run that was broken off came with a photo."""

    new = "it never began"
    again = "it has to be done again"
    finished = "its results are in place"
    altered = "a result was changed since"


@dataclass(frozen=True)
class Naming:
    """How results are named. `format` is Pillow's name, or None to keep each photo's own.

    mask, gray, trajectory, data: what is wanted beside the restored photo, or, if not `photo`, alone
    """

    output: Path | None = None
    suffix: str = "_deblurred"
    format: str | None = None
    mask: bool = False
    trajectory: bool = False
    gray: bool = False
    data: bool = False
    photo: bool = True


@dataclass(frozen=True)
class Job:
    """One photo and the files that shall come of it.

    mask, trajectory: pictures; gray: the mask as a selection; data: the maps; None where not wanted
    present: those that exist already and stay; replace: the others may be replaced
    photo: false where the restored photo is not wanted, and `output` only tells what the others are beside
    """

    source: Path
    output: Path
    mask: Path | None = None
    trajectory: Path | None = None
    present: frozenset[Path] = frozenset()
    replace: bool = False
    gray: Path | None = None
    data: Path | None = None
    photo: bool = True

    @property
    def results(self) -> tuple[Path, ...]:
        """All files that belong to the photo."""
        photo = self.output if self.photo else None
        paths = (photo, self.mask, self.gray, self.trajectory, self.data)
        return tuple(path for path in paths if path is not None)

    @property
    def main(self) -> Path:
        """The file that stands for all."""
        return self.results[0]

    @property
    def missing(self) -> tuple[Path, ...]:
        """The files to write."""
        return tuple(path for path in self.results if path not in self.present)


@dataclass(frozen=True)
class Plan:
    """What a run will do: jobs in order, photos that have all their results, and what cannot be done.

    finished: photos that the run which is gone on with has done
    """

    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...]
    problems: tuple[Problem, ...]
    finished: tuple[Job, ...] = ()


Judge = Callable[[Job], tuple[Verdict, Job]]


def _all_new(job: Job) -> tuple[Verdict, Job]:
    return Verdict.new, job


def names_a_file(output: Path | None) -> bool:
    """Tell whether -o is meant as the name of a picture rather than of a folder."""
    if output is None or os.path.isdir(output):  # noqa: PTH112 - Path.is_dir raises for names that cannot be
        return False
    return output.suffix.lower() in _NOT_WRITTEN or is_picture_name(Path("any" + output.suffix))


def check_output(naming: Naming, photos: int, folders: int) -> None:
    """Check what -o names. Raises UsageError, or EncodeError where nothing may be written."""
    out = naming.output
    if out is None:
        return
    if names_a_file(out):
        if photos > 1 or folders:
            raise UsageError(f"{out} names one file, but there may be several photos; give -o a folder")
        _check_format(out, naming.format)
        out = out.parent
    try:
        ancestor = _nearest_existing(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be a folder for results: {error.strerror}") from error
    if not ancestor.is_dir():
        raise UsageError(f"{ancestor} is a file, so results cannot go into a folder of that name")
    if not _may_write(ancestor):
        raise EncodeError(f"{ancestor}: no permission to write there; choose another folder with -o")


def _check_format(out: Path, wanted: str | None) -> None:
    try:
        named = encode.format_of(out.name)
    except EncodeError as error:
        raise UsageError(str(error)) from error
    if wanted is not None and named != wanted:
        raise UsageError(f"{out} is the name of a {named} file, but --format asks for {wanted}")


def make_plan(photos: Sequence[Found], naming: Naming, existing: Existing, judge: Judge = _all_new) -> Plan:
    """Name the results of every photo. Raises UsageError where each of them would be an original.

    `judge` knows what an earlier run did, and how such a photo is gone on with.
    """
    jobs = _told_apart([name_results(photo, naming) for photo in photos])
    clashes = _find_clashes(jobs)
    if jobs and len(clashes) == len(jobs):
        raise UsageError(clashes[jobs[0]])
    problems = [Problem(job.source, reason) for job, reason in clashes.items()]
    ready: list[Job] = []
    skipped: list[Job] = []
    finished: list[Job] = []
    for named in jobs:
        if named in clashes:
            continue
        verdict, job = judge(named)
        if existing is Existing.skip and not job.replace:
            job = _keep_present(job)
        if verdict is Verdict.finished:
            finished.append(job)
        elif not job.missing:
            skipped.append(job)
        elif reason := _obstacle(job, existing, verdict):
            problems.append(Problem(job.source, reason))
        else:
            ready.append(job)
    return Plan(tuple(ready), tuple(skipped), tuple(problems), tuple(finished))


def _keep_present(job: Job) -> Job:
    return replace(job, present=frozenset(path for path in job.results if os.path.lexists(path)))


def name_results(photo: Found, naming: Naming) -> Job:
    """Name the files that shall come of one photo."""
    if naming.output is not None and names_a_file(naming.output):
        output = naming.output
    else:
        folder = photo.path.parent if naming.output is None else naming.output / photo.relative.parent
        output = folder / f"{photo.path.stem}{naming.suffix}{extension(photo.path, naming.format)}"
    stem = photo.path.stem
    return Job(
        photo.path,
        output,
        output.with_name(stem + MASK_ENDING) if naming.mask else None,
        output.with_name(stem + TRAJECTORY_ENDING) if naming.trajectory else None,
        gray=output.with_name(stem + GRAY_ENDING) if naming.gray else None,
        data=output.with_name(stem + DATA_ENDING) if naming.data else None,
        photo=naming.photo,
    )


def _told_apart(jobs: Sequence[Job]) -> list[Job]:
    """Put the whole names of photos that differ in nothing but their ending into the names of their maps.

    A camera that writes IMG.NEF beside IMG.JPG thus gives IMG.NEF_mask.png and IMG.JPG_mask.png.
    """
    namesakes = defaultdict(set)
    for job in jobs:
        namesakes[_stem(job)].add(job.source.name)
    return [_with_whole_name(job) if len(namesakes[_stem(job)]) > 1 else job for job in jobs]


def _stem(job: Job) -> Path:
    return identity(job.output.with_name(job.source.stem))


def _with_whole_name(job: Job) -> Job:
    def renamed(path: Path | None) -> Path | None:
        return path and path.with_name(job.source.name + path.name.removeprefix(job.source.stem))

    mask, trajectory, gray, data = map(renamed, (job.mask, job.trajectory, job.gray, job.data))
    return replace(job, mask=mask, trajectory=trajectory, gray=gray, data=data)


def extension(path: Path, wanted: str | None) -> str:
    """The suffix of a result: the wanted format's; else the photo's own, or one that stands for it."""
    if wanted is not None:
        return encode.output_suffix(wanted)
    try:
        encode.format_of(path.name)
    except EncodeError:
        return encode.output_suffix(path.suffix)
    return path.suffix


def _find_clashes(jobs: Sequence[Job]) -> dict[Job, str]:
    """The jobs that would write to an original or to the result of an earlier job, and what to do then."""
    originals = {real_path(job.source) for job in jobs}
    owner: dict[Path, Path] = {}
    clashes: dict[Job, str] = {}
    for job in jobs:
        for result in job.results:
            if real_path(result) in originals:
                clashes[job] = f"{result} is an original and is never written; use another --suffix or -o"
                break
            first = owner.get(identity(result), job.source)
            if first != job.source:
                clashes[job] = f"its result {result} is that of {first} too; run it alone, into another -o"
                break
        else:
            owner |= {identity(result): job.source for result in job.results}
    return clashes


def identity(path: Path) -> Path:
    """One path for all ways to name a file; a link that is the file itself stays one."""
    return real_path(path.parent) / path.name


def _obstacle(job: Job, existing: Existing, verdict: Verdict) -> str | None:
    """Say why the results of a job cannot be written, or return None."""
    try:
        return next(_obstacles(job, existing, verdict), None)
    except OSError as error:  # a folder on the way may not be entered, or a name is too long
        return f"{job.output} cannot be written: {error.strerror}"


def _obstacles(job: Job, existing: Existing, verdict: Verdict) -> Iterator[str]:
    refused = (existing is Existing.refuse or verdict is Verdict.altered) and not job.replace
    state = "was changed since it was finished" if verdict is Verdict.altered else "exists already"
    for result in job.missing:
        if result.is_dir():
            yield f"{result} is a folder, so no result can have that name"
        elif refused and os.path.lexists(result):
            yield f"{result} {state}; use --overwrite or --skip-existing"
        folder = _nearest_existing(result.parent)
        if not folder.is_dir():
            yield f"{folder} is a file, so {result.name} cannot be written below it"
        elif not _may_write(folder):
            yield f"no permission to write into {folder}; choose another folder with -o"


def _nearest_existing(folder: Path) -> Path:
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
