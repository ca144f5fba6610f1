"""Which photos a run is about, as files and in folders, and where their results go: before any is opened."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path

from deblur_cli.cli.options import check_folder
from deblur_cli.cli.output import printable
from deblur_cli.cli.run.masks import Masks
from deblur_cli.cli.run.options import DEFAULT_SUFFIX, ENDINGS, Existing, Kind, RunOptions
from deblur_cli.errors import DecodeError, EncodeError, UsageError
from deblur_cli.photo import encode
from deblur_cli.photo.header import identify, is_picture_name, is_unread_name

SHEET_ENDING = "_epsilon.png"
_MAP_ENDINGS = (*(ending for ending in ENDINGS.values() if ending.endswith(".png")), SHEET_ENDING)
REPORT_FOLDER = "deblur_report"
IRREGULAR = "is not a regular file"
_IGNORED = (".", REPORT_FOLDER)  # how names begin that are never looked at
# Kinds of pictures that a user may expect as a result; a folder of such a name is surely not meant.
_NOT_WRITTEN = frozenset({".gif", ".jxl", ".jp2"})


@dataclass(frozen=True)
class Found:
    """A photo to work on. `relative` is its path below the folder that was given, or its bare name."""

    path: Path
    relative: Path


@dataclass(frozen=True)
class Problem:
    """An input that cannot be worked on, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        path = str(self.path)
        return self.reason if self.reason.startswith(path) else f"{path}: {self.bare_reason}"

    @property
    def bare_reason(self) -> str:
        """The reason without the path before it, as it is or as messages spell it."""
        path = str(self.path)
        for spelling in (path, printable(" ".join(path.split()))):
            if self.reason.startswith(f"{spelling}: "):
                return self.reason.removeprefix(f"{spelling}: ")
        return self.reason


@dataclass
class Collection:
    """Everything that the inputs of a run amount to.

    unread: pictures of kinds that are not read; among_results: photos in the folder that results go to
    """

    photos: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    among_results: list[Path] = field(default_factory=list)
    folders: int = 0

    def warnings(self) -> Iterator[str]:
        """Say which pictures the run ignores."""
        if self.unread:
            kinds = ", ".join(sorted({path.suffix.lower() for path in self.unread}))
            files = "1 file" if len(self.unread) == 1 else f"{len(self.unread)} files"
            yield f"ignored {files} of kinds that deblur does not read from folders ({kinds})"
        if self.among_results:
            first, more = self.among_results[0], len(self.among_results) - 1
            photos = f"{first} and {more} more" if more else str(first)
            yield f"ignored {photos}: results go into that folder; choose another -o to include such photos"


def collect(options: RunOptions) -> Collection:
    """Find the photos behind the inputs, each once, in the order given and by name within a folder.

    Raises UsageError where none of the inputs exists.
    """
    if not any(map(os.path.lexists, options.inputs)):
        more = f" and {len(options.inputs) - 1} more" if len(options.inputs) > 1 else ""
        raise UsageError(f"{options.inputs[0]}{more}: no such file or folder; check the name")
    collection = Collection()
    seen: set[Path] = set()
    for given in options.inputs:
        for item in _photos_of(given, options, collection):
            path = identity(item.path)
            if path in seen:
                continue
            seen.add(path)
            if isinstance(item, Found):
                collection.photos.append(item)
            else:
                collection.problems.append(item)
    return collection


def _photos_of(given: Path, options: RunOptions, collection: Collection) -> list[Found | Problem]:
    try:
        if given.is_dir():
            collection.folders += 1
            unread = len(collection.unread)
            found = list(_walk(given, given, options, collection, set()))
            return found or [Problem(given, _why_none(given, options, len(collection.unread) > unread))]
        if given.is_file():
            return [Found(given, Path(given.name))]
        exists = os.path.lexists(given)
        return [Problem(given, IRREGULAR if exists else "no such file or folder")]
    except OSError as error:  # a folder on the way may not be entered, or the name is too long
        return [Problem(given, f"cannot be reached: {error.strerror}")]


def _why_none(folder: Path, options: RunOptions, has_unread: bool) -> str:
    if has_unread:
        return "no pictures in this folder that deblur reads"
    deeper = not options.recursive and any(entry.is_dir() for entry in folder.iterdir())
    return f"no pictures in this folder{'; use -r to include its subfolders' if deeper else ''}"


def _walk(
    folder: Path, root: Path, options: RunOptions, collection: Collection, visited: set[Path]
) -> Iterator[Found | Problem]:
    """Yield the pictures of a folder. `visited` holds real folders, since links can form loops."""
    visited.add(real_path(folder))
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(_IGNORED))
    except OSError as error:
        yield Problem(folder, f"cannot read this folder: {error.strerror}")
        return
    known = {name for entry in entries if is_picture_name(entry) for name in (entry.stem, entry.name)}
    folders: list[Path] = []
    for entry in entries:
        try:
            if entry.is_dir():
                folders.append(entry)
            elif is_unread_name(entry):
                collection.unread.append(entry)
            elif is_picture_name(entry) and not is_former_result(entry.name, known, options.suffix):
                is_file = entry.is_file()
                yield Found(entry, entry.relative_to(root)) if is_file else Problem(entry, IRREGULAR)
        except OSError as error:  # a link to where one may not go
            if is_picture_name(entry):
                yield Problem(entry, f"cannot be reached: {error.strerror}")
    for entry in folders if options.recursive else ():
        if real_path(entry) in visited:
            continue
        if options.output is not None and real_path(entry) == real_path(options.output):
            visited.add(real_path(entry))
            collection.among_results += _photos_among_results(entry, options.suffix)
        else:
            yield from _walk(entry, root, options, collection, visited)


def _photos_among_results(folder: Path, suffix: str) -> list[Path]:
    """Return the pictures in the folder of results that are not named like results."""
    if not suffix:  # then results are named like their photos
        return []
    endings = (DEFAULT_SUFFIX, suffix, *(ending.removesuffix(".png") for ending in _MAP_ENDINGS))
    files = (Path(name, file) for name, _, names in os.walk(folder) for file in names)
    return sorted(path for path in files if is_picture_name(path) and not path.stem.endswith(endings))


def is_former_result(name: str, known: set[str], suffix: str) -> bool:
    """Tell whether a file is what an earlier run wrote beside its originals.

    A name that could be anybody's (`halloween_mask.png`, or one with a suffix of the user's own
    choice) counts only if the original or its result lies in the same folder.
    known: the names of the pictures there, with and without their endings
    """
    stem = Path(name).stem
    if stem.endswith(DEFAULT_SUFFIX):
        return True
    if suffix and stem.endswith(suffix) and stem.removesuffix(suffix) in known:
        return True
    originals = [name.removesuffix(ending) for ending in _MAP_ENDINGS if name.endswith(ending)]
    originals += [Path(name).stem for name in originals if is_picture_name(Path(name))]  # IMG.JPG_mask.png
    return any(stem + extra in known for stem in originals for extra in ("", DEFAULT_SUFFIX, suffix))


def real_path(path: Path) -> Path:
    """Return the path without links; unlike Path.resolve this works for links that lead round in a circle."""
    return Path(os.path.realpath(path))


def identity(path: Path) -> Path:
    """Return one path for all ways to name a file; a link that is the file itself stays one."""
    return real_path(path.parent) / path.name


class State(Enum):
    """How far an earlier run that was interrupted came with a photo."""

    new = auto()  # it never began
    again = auto()  # what it made of the photo, in part or out of date, may be replaced
    finished = auto()  # its results are in place
    altered = auto()  # a result was changed since


@dataclass(frozen=True, eq=False)
class Job:
    """One photo and the files that shall come of it.

    results: a file for each kind that is wanted; present: those that exist already and stay
    mask: the picture that says where the photo is restored, None for none
    """

    source: Path
    results: Mapping[Kind, Path]
    mask: Path | None = None
    present: frozenset[Path] = frozenset()
    state: State = State.new

    @property
    def restores(self) -> bool:
        """Whether the photo itself is wanted, not only maps of it."""
        return Kind.photo in self.results

    @property
    def main(self) -> Path:
        """The file that stands for all."""
        return next(iter(self.results.values()))

    @property
    def missing(self) -> dict[Kind, Path]:
        """The files to write."""
        return {kind: path for kind, path in self.results.items() if path not in self.present}


@dataclass(frozen=True)
class Plan:
    """What a run will do: jobs in order, those that need nothing done and why, and what cannot be done.

    notes: lines on results whose names one would not expect
    """

    jobs: Sequence[Job]
    skipped: Sequence[tuple[Job, str]]
    problems: Sequence[Problem]
    notes: Sequence[str] = ()


def make_plan(
    found: Collection, options: RunOptions, existing: Existing, judge: Callable[[Job], Job] = lambda job: job
) -> Plan:
    """Name the results of every photo. Raises UsageError where each of them would be an original.

    judge: sets the state of a job that an earlier run had too
    """
    named = name_results(found.photos, options)
    if options.mask_file is not None:
        masks, places = Masks(options.mask_file), {photo.path: photo.relative for photo in found.photos}
        named = [replace(job, mask=masks.of(job.source, places[job.source])) for job in named]
    clashes = _find_clashes(named)
    if named and len(clashes) == len(named):
        raise UsageError(clashes[named[0]])
    problems = [*found.problems, *(Problem(job.source, reason) for job, reason in clashes.items())]
    jobs: list[Job] = []
    skipped: list[tuple[Job, str]] = []
    for job in (_settled(judge(job), existing) for job in named if job not in clashes):
        if job.state is State.finished:
            skipped.append((job, f"finished before, {job.main}"))
        elif not job.missing:
            skipped.append((job, f"skipped, {job.main} already exists"))
        elif reason := _no_mask(job, options) or _obstacle(job, existing):
            problems.append(Problem(job.source, reason))
        else:
            jobs.append(job)
    return Plan(jobs, skipped, problems, list(_names_explained(jobs, options)))


def _no_mask(job: Job, options: RunOptions) -> str | None:
    """Say that a photo lacks its mask, or return None; what only adds to what is detected may be missing."""
    if options.mask_file is None or job.mask is not None or options.mask_mode == "add":
        return None
    return f"there is no mask for it in {options.mask_file}; name it like the photo, {job.source.stem}.png"


def _settled(job: Job, existing: Existing) -> Job:
    """Let results that exist stay where they are to be skipped."""
    if existing is not Existing.skip or job.state is State.again:
        return job
    return replace(job, present=frozenset(filter(os.path.lexists, job.results.values())))


def name_results(photos: Sequence[Found], options: RunOptions) -> list[Job]:
    """Name the files that shall come of each photo.

    Maps bear the name of their photo without its ending, and the whole name where photos differ in nothing
    but that: a camera that writes IMG.NEF beside IMG.JPG gives IMG.NEF_mask.png and IMG.JPG_mask.png.
    """
    named = _told_apart([(photo.path, _output(photo, options)) for photo in photos], options)
    namesakes = defaultdict(set)
    for path, output in named:
        namesakes[identity(output.with_name(path.stem))].add(path.name)
    jobs = []
    for path, output in named:
        alone = len(namesakes[identity(output.with_name(path.stem))]) == 1
        name = path.stem if alone else path.name
        maps = {kind: output.with_name(name + ending) for kind, ending in ENDINGS.items()}
        results = {Kind.photo: output, **maps}
        jobs.append(Job(path, {kind: results[kind] for kind in options.kinds}))
    return jobs


def _told_apart(named: list[tuple[Path, Path]], options: RunOptions) -> list[tuple[Path, Path]]:
    """Give results that would have one name the whole names of their photos: IMG.DNG_deblurred.jpg."""
    if options.output is not None and names_a_file(options.output):
        return named
    sharing = Counter(identity(output) for _, output in named)
    return [
        (path, output.with_name(f"{path.name}{options.suffix}{output.suffix}"))
        if sharing[identity(output)] > 1
        else (path, output)
        for path, output in named
    ]


def _names_explained(jobs: Sequence[Job], options: RunOptions) -> Iterator[str]:
    """Say why a result has another suffix or a longer name than one would expect."""
    if options.output is not None and names_a_file(options.output):
        return
    for job in jobs:
        result = job.results.get(Kind.photo)
        if result is None:
            continue
        if result.name.startswith(job.source.name) and options.suffix and job.source.suffix:
            yield f"{job.source}: another photo is named alike, so its result is {result.name}"
        elif options.format is None and _format_named(job.source) not in (None, _format_named(result)):
            yield f"{job.source}: is not what its name says; by its content, its result is {result.name}"


def _format_named(path: Path) -> str | None:
    try:
        return encode.format_of(path.name)
    except EncodeError:
        return None


def _output(photo: Found, options: RunOptions) -> Path:
    out = options.output
    if out is not None and names_a_file(out):
        return out
    folder = photo.path.parent if out is None else out / photo.relative.parent
    return folder / f"{photo.path.stem}{options.suffix}{extension(photo.path, options.format)}"


def extension(path: Path, wanted: str | None) -> str:
    """Return the suffix of a result: the wanted format's; else that of the photo's, told by its bytes.

    The photo's own suffix stays where it means that format (.jpeg), and where the file cannot be read.
    """
    if wanted is not None:
        return encode.output_suffix(wanted)
    try:
        held = identify(path)
    except (DecodeError, OSError):
        held = _format_named(path) or path.suffix
    return path.suffix if _format_named(path) == held else encode.output_suffix(held)


def names_a_file(output: Path) -> bool:
    """Tell whether -o is meant as the name of a picture rather than of a folder."""
    if os.path.isdir(output):  # noqa: PTH112 - Path.is_dir raises for names that cannot be
        return False
    return output.suffix.lower() in _NOT_WRITTEN or is_picture_name(Path("any" + output.suffix))


def result_folder(options: RunOptions) -> Path:
    """Return the folder of the results: the one that -o gives, else that of the first input."""
    if options.output is not None:
        return options.output.parent if names_a_file(options.output) else options.output
    first = options.inputs[0]
    return first if first.is_dir() else first.parent


def check_output(options: RunOptions, folders: int) -> None:
    """Check what -o names. Raises UsageError.

    folders: how many of the inputs are folders
    """
    out = options.output
    if out is None:
        return
    if names_a_file(out):
        if len(options.inputs) > 1 or folders:
            raise UsageError(f"{out} names one file, but there may be several photos; give -o a folder")
        _check_format(out, options.format)
        out = out.parent
    check_folder(out, "the folder for the results")


def _check_format(out: Path, wanted: str | None) -> None:
    try:
        named = encode.format_of(out.name)
    except EncodeError as error:
        raise UsageError(str(error)) from error
    if wanted is not None and named != wanted:
        raise UsageError(f"{out} is the name of a {named} file, but --format asks for {wanted}")


def _find_clashes(jobs: Sequence[Job]) -> dict[Job, str]:
    """Return the jobs that would write to an original or to the result of an earlier job, and what to do."""
    originals = {real_path(job.source) for job in jobs}
    owner: dict[Path, Path] = {}
    clashes: dict[Job, str] = {}
    for job in jobs:
        for result in job.results.values():
            if real_path(result) in originals:
                clashes[job] = f"{result} is an original and is never written; use another --suffix or -o"
                break
            first = owner.get(identity(result), job.source)
            if first != job.source:
                clashes[job] = f"{first} has the same result {result}; run this photo alone, with another -o"
                break
        else:
            owner |= {identity(result): job.source for result in job.results.values()}
    return clashes


def _obstacle(job: Job, existing: Existing) -> str | None:
    """Say why the results of a job cannot be written, or return None."""
    try:
        return next(_obstacles(job, existing), None)
    except OSError as error:  # a folder on the way may not be entered, or a name is too long
        return f"{job.main} cannot be written: {error.strerror}"


def _obstacles(job: Job, existing: Existing) -> Iterator[str]:
    altered = job.state is State.altered
    refused = altered or (existing is Existing.refuse and job.state is not State.again)
    state = "was changed since it was finished" if altered else "already exists"
    for result in job.missing.values():
        if job.mask is not None and identity(result) == identity(job.mask):
            yield f"{result} is the mask to read, so it is not written; use another -o or mask"
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
