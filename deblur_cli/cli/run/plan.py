"""Where the results of each photo go, and which are in the way or done: before any photo is opened."""

import errno
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.cli.options import check_folder, is_folder_name
from deblur_cli.cli.run.collect import Collection, Found, LeftOut, Problem, identity, is_there, real_path
from deblur_cli.cli.run.companions import choose, copies_of, masks_of, sidecars_of
from deblur_cli.cli.run.options import ENDINGS, Existing, Kind, RunOptions
from deblur_cli.errors import DecodeError, EncodeError, PhotoError, UsageError
from deblur_cli.photo import encode
from deblur_cli.photo.header import identify, identify_head
from deblur_cli.photo.names import is_picture_name, is_unread_name
from deblur_cli.stores import Address, Location, heads, survey

if TYPE_CHECKING:
    from deblur_cli.photo.photo import Photo
    from deblur_cli.restoration.findings import Findings

EXISTS = "already exists"
USE_OVERWRITE = "; use --overwrite or --skip-existing"
HEADS = 512  # photos whose first bytes are in memory at once
_LOSSLESS = frozenset({"PNG", "TIFF"})


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
    sidecars: what results of these kinds are copied from
    mask: the picture that says where the photo is restored, None for none
    """

    source: Location
    results: Mapping[Kind, Location]
    sidecars: Mapping[Kind, Location] = field(default_factory=dict)
    mask: Location | None = None
    present: frozenset[Location] = frozenset()
    state: State = State.new

    @property
    def restores(self) -> bool:
        """Whether the photo itself is wanted, not only maps of it."""
        return Kind.photo in self.results

    @property
    def main(self) -> Location:
        """The file that stands for all."""
        return next(iter(self.results.values()))

    @property
    def missing(self) -> dict[Kind, Location]:
        """The files to write."""
        return {kind: path for kind, path in self.results.items() if path not in self.present}


def local_path(place: Location) -> Path:
    """Return the path of what must be on this machine. Raises UsageError for an address."""
    if isinstance(place, Address):
        raise UsageError(f"{place}: only `deblur run` takes addresses")
    return place


@dataclass(frozen=True, eq=False)
class LocalJob(Job):
    """A job whose files are all on this machine."""

    source: Path
    results: Mapping[Kind, Path]
    sidecars: Mapping[Kind, Path] = field(default_factory=dict)
    mask: Path | None = None

    @classmethod
    def of(cls, job: Job, file: Callable[[Location], Path] = local_path) -> "LocalJob":
        """Return what a job is on this machine. file: gives the private copy of what is elsewhere"""
        return cls(
            file(job.source),
            {kind: file(place) for kind, place in job.results.items()},
            {kind: file(place) for kind, place in job.sidecars.items()},
            None if job.mask is None else file(job.mask),
            frozenset(map(file, job.present)),
            job.state,
        )


@dataclass(frozen=True)
class Plan:
    """What a run will do: jobs in order, those that need nothing done and why, and what cannot be done.

    notes: lines on options without effect and on results whose names one would not expect
    left_out: what the run could have taken
    """

    jobs: Sequence[Job]
    skipped: Sequence[tuple[Job, str]]
    problems: Sequence[Problem]
    notes: Sequence[str] = ()
    left_out: LeftOut = field(default_factory=LeftOut)


def make_plan(
    found: Collection, options: RunOptions, existing: Existing, judge: Callable[[Job], Job] = lambda job: job
) -> Plan:
    """Name the results of every photo. Raises UsageError where each of them would be an original.

    judge: sets the state of a job that an earlier run had too
    """
    photos, others = choose(found.photos, options.prefer)
    if options.format is None:
        learn_kinds([photo.path for photo in photos if isinstance(photo.path, Address)])
    named = name_results(photos, options)
    survey(place for job in named for place in job.results.values())
    masks, without_mask = masks_of(photos, options)
    named = [replace(job, mask=masks.get(job.source)) for job in named]
    clashes = find_clashes(named, again=options.again)
    if named and len(clashes) == len(named):
        raise UsageError(clashes[named[0]])
    problems = [*found.problems, *(Problem(job.source, reason) for job, reason in clashes.items())]
    jobs: list[Job] = []
    skipped: list[tuple[Job, str]] = []
    for one in (job for job in named if job not in clashes):
        try:
            job = _settled(judge(one), existing)
        except OSError as error:
            problems.append(Problem(one.source, f"{one.main} cannot be reached: {error.strerror}"))
            continue
        if job.state is State.finished:
            skipped.append((job, f"finished before, {job.main}"))
        elif not job.missing:
            skipped.append((job, f"skipped, {job.main} {EXISTS}"))
        elif reason := without_mask.get(job.source) or _obstacle(job, existing):
            problems.append(Problem(job.source, reason))
        else:
            jobs.append(job)
    return Plan(
        jobs,
        skipped,
        problems,
        [*_without_effect(jobs, options, found.folders), *_names_explained(jobs, options)],
        replace(found.left_out, pairs=len(others)),
    )


def _settled(job: Job, existing: Existing) -> Job:
    """Let results that exist stay where they are to be skipped."""
    if existing is not Existing.skip or job.state is State.again:
        return job
    return replace(job, present=frozenset(filter(is_there, job.results.values())))


def name_results(photos: Sequence[Found], options: RunOptions) -> list[Job]:
    """Name the files that shall come of each photo.

    Maps bear the name of their photo without its ending, and the whole name where photos differ in nothing
    but that: a camera that writes IMG.NEF beside IMG.JPG gives IMG.NEF_mask.png and IMG.JPG_mask.png.
    """
    named = _told_apart([(photo.path, _output(photo, options)) for photo in photos], options)
    namesakes = defaultdict(set)
    for path, output in named:
        namesakes[identity(output.with_name(path.stem))].add(path.name)
    sidecars = sidecars_of(path for path, _ in named) if options.sidecars else {}
    jobs = []
    for path, output in named:
        alone = len(namesakes[identity(output.with_name(path.stem))]) == 1
        name = path.stem if alone else path.name
        maps = {kind: output.with_name(name + ending) for kind, ending in ENDINGS.items()}
        results = {Kind.photo: output, **maps}
        own = sidecars.get(path, {})
        wanted = {kind: results[kind] for kind in options.kinds} | copies_of(own, output)
        jobs.append(Job(path, wanted, own))
    return jobs


def _told_apart(
    named: list[tuple[Location, Location]], options: RunOptions
) -> list[tuple[Location, Location]]:
    """Give results that would have one name the whole names of their photos: IMG.DNG_deblurred.jpg."""
    if names_a_file(options):
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
    if names_a_file(options):
        return
    for job in jobs:
        result = job.results.get(Kind.photo)
        if result is None:
            continue
        if result.name != f"{job.source.stem}{options.suffix}{result.suffix}":
            yield f"{job.source}: another photo has the same name, so its result is {result.name}"
        elif options.format is None and _format_named(job.source) not in (None, _format_named(result)):
            why = "is not what its name says"
            if _held(job.source) == "LJPEG":
                why = "is a lossless or 12-bit JPEG, which deblur does not write"
            yield f"{job.source}: {why}; its result is {result.name}"


def _without_effect(jobs: Sequence[Job], options: RunOptions, folders: int) -> Iterator[str]:
    """Say which options that are given do nothing to any of the photos, or to those of a format.

    folders: how many of the inputs are folders
    """
    if not jobs:
        return
    if options.recursive and not folders and "recursive" not in options.from_file:
        yield "--recursive: no effect, as no folder is given; name a folder instead of the photos in it"
    if options.quality is not None and "quality" not in options.from_file:
        formats = {encode.format_of(job.results[Kind.photo].name) for job in jobs if job.restores}
        if lossless := sorted(formats & _LOSSLESS):
            verb = "are" if lossless[1:] else "is"
            yield f"{' and '.join(lossless)} {verb} lossless, so --quality has no effect"
    asked = [one for one in fields(options) if one.name.startswith("raw_")]
    asked = [one for one in asked if getattr(options, one.name) != one.default]
    asked = [one for one in asked if one.name not in options.from_file]
    if asked:
        learn_kinds([job.source for job in jobs if isinstance(job.source, Address)])
    if asked and not any(_is_raw(job.source) for job in jobs):
        names = " and ".join(f"--{one.name.replace('_', '-')}" for one in asked)
        yield f"{names}: no effect, as no photo is camera RAW"
    if options.sidecars and "sidecars" not in options.from_file and not any(job.sidecars for job in jobs):
        yield "--sidecars: no effect, as no photo has an XMP file beside it"


def learn_kinds(addresses: Sequence[Address]) -> None:
    """Find out by their first bytes what photos are that are elsewhere, many at once.

    A TIFF that describes itself farther behind is taken for what its name says.
    """
    unknown = [address for address in addresses if address not in address.store.kinds]
    for start in range(0, len(unknown), HEADS):
        piece = unknown[start : start + HEADS]
        found = heads(piece)
        for address in piece:
            try:
                kind = identify_head(address.name, found.get(address, b""))
            except (DecodeError, OSError):
                kind = None
            address.store.kinds[address] = kind


def _is_raw(path: Location) -> bool:
    return _held(path) == "RAW"


def _held(path: Location) -> str | None:
    """Return the format of a photo by its bytes, None where they do not tell."""
    if isinstance(path, Address):
        learn_kinds([path])
        return path.store.kinds[path]
    try:
        return identify(path)
    except (DecodeError, OSError):
        return None


def _format_named(path: Location) -> str | None:
    try:
        return encode.format_of(path.name)
    except EncodeError:
        return None


def _output(photo: Found, options: RunOptions) -> Location:
    out = options.output
    if out is not None and names_a_file(options):
        return out
    folder: Location = photo.path.parent if out is None else out / photo.relative.parent
    return folder / f"{photo.path.stem}{options.suffix}{extension(photo.path, options.format)}"


def extension(path: Location, wanted: str | None) -> str:
    """Return the suffix of a result: the wanted format's; else that of the photo's, told by its bytes.

    The photo's own suffix stays where it means that format (.jpeg), and where the file cannot be read.
    """
    if wanted is not None:
        return encode.output_suffix(wanted)
    held = _held(path) or _format_named(path) or path.suffix
    return path.suffix if _format_named(path) == held else encode.output_suffix(held)


def check_kind(photo: "Photo", job: Job, options: RunOptions) -> None:
    """Let no file that took a photo's place be written as that would have been. Raises DecodeError."""
    if options.format is not None or names_a_file(options):
        return
    planned = encode.format_of(job.results[Kind.photo].name)
    if planned == encode.format_of(encode.output_suffix(photo.format)):
        return
    if isinstance(job.source, Address):
        raise DecodeError(f"{job.source}: was taken for another kind of picture; name a format with --format")
    raise DecodeError(f"{job.source}: was changed since the run began; run it again")


def names_a_file(options: RunOptions) -> bool:
    """Tell whether -o is meant as the name of a picture rather than of a folder.

    Of one photo, any name with a suffix is: a mistyped one must not become a folder.
    """
    out = options.output
    if out is None or is_folder_name(out) or _is_folder(out):
        return False
    named_like_a_picture = is_unread_name(out) or is_picture_name(Path("any" + out.suffix))
    return named_like_a_picture or (options.is_one_photo and bool(out.suffix))


def _is_folder(path: Location) -> bool:
    if isinstance(path, Path):
        return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises
    try:
        return path.is_dir()
    except OSError:  # `_check_store` tells why
        return False


def result_folder(options: RunOptions) -> Location:
    """Return the folder of the results: the one that -o gives, else that of the first input."""
    if options.output is not None:
        return options.output.parent if names_a_file(options) else options.output
    first = options.inputs[0]
    return first if first.is_dir() else first.parent


def check_output(options: RunOptions, folders: int) -> None:
    """Check what -o names. Raises UsageError.

    folders: how many of the inputs are folders
    """
    out = options.output
    if out is None:
        return
    if isinstance(out, Address):
        _check_store(out)
    if names_a_file(options):
        if len(options.inputs) > 1 or folders:
            raise UsageError(f"{out} names one file, but there may be several photos; give -o a folder")
        _check_format(out, options.format)
        out = out.parent
    if isinstance(out, Path):
        check_folder(out, "the folder for the results")


def _check_store(out: Address) -> None:
    """Refuse, before any work, a store that takes no results, as far as looking there tells."""
    if out.store.backend.is_web:
        raise UsageError(f"{out} can only be read; choose another folder with -o")
    try:
        out.entry() if out.path.parts else out.iterdir()  # what lists, too, as planning needs that
    except FileNotFoundError:
        return
    except OSError as error:
        why = f"{out}: no results can go there: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM):
            why = f"{out}: listing it is refused; a key must allow listing, reading, and writing"
        raise UsageError(why) from error


def _check_format(out: Location, wanted: str | None) -> None:
    try:
        named = encode.format_of(out.name)
    except EncodeError as error:
        raise UsageError(f"{error}; or, for a folder, end its name with a slash: {out}/") from error
    if wanted is not None and named != wanted:
        raise UsageError(f"{out} is the name of a {named} file, but --format asks for {wanted}")


def find_clashes(jobs: Sequence[Job], *, again: bool) -> dict[Job, str]:
    """Return the jobs that would write to an original or to the result of an earlier job, and what to do."""
    originals = {real_path(path) for job in jobs for path in (job.source, *job.sidecars.values())}
    owner: dict[Location, Location] = {}
    clashes: dict[Job, str] = {}
    for job in jobs:
        for result in job.results.values():
            if real_path(result) in originals:
                by_again = again and real_path(result) != real_path(job.source)
                clashes[job] = _why_original(result, again=by_again)
                break
            first = owner.get(_claimed(result), job.source)
            if first != job.source:
                clashes[job] = f"{first} has the same result {result}; run this photo alone, with another -o"
                break
        else:
            owner |= {_claimed(result): job.source for result in job.results.values()}
    return clashes


def _claimed(result: Location) -> Location:
    """Return what a result takes: where it is put elsewhere, or its name here, even if that is a link."""
    return real_path(result) if isinstance(result, Address) else identity(result)


def _why_original(result: Location, *, again: bool) -> str:
    if again:
        return (
            f"{result} is itself a photo of this run because of --again; to redo photos with other settings,"
            " use --overwrite without --again"
        )
    return f"{result} is an original and is never written; use another --suffix or -o"


def _obstacle(job: Job, existing: Existing) -> str | None:
    """Say why the results of a job cannot be written, or return None."""
    try:
        return next(_obstacles(job, existing), None)
    except OSError as error:  # a folder on the way may not be entered
        done = "reached" if isinstance(job.main, Address) else "written"  # a store may refuse to list
        return f"{job.main} cannot be {done}: {error.strerror}; choose another folder with -o"


def _obstacles(job: Job, existing: Existing) -> Iterator[str]:
    altered = job.state is State.altered
    refused = altered or (existing is Existing.refuse and job.state is not State.again)
    state = "was changed since it was finished" if altered else EXISTS
    for kind, result in job.missing.items():
        if job.mask is not None and real_path(result) == real_path(job.mask):
            yield f"{result} is the mask to read, so it is not written; use another -o or mask"
        if isinstance(result, Address) and result.store.backend.is_web:
            yield f"{result} cannot be written, as web addresses can only be read; choose a folder with -o"
        if isinstance(result, Path) and _is_too_long(result):
            other = "use a shorter --suffix, or run this photo alone with -o FILE"
            advice = other if kind is Kind.photo else "give the photo a shorter name"
            yield f"{result} cannot be written, as its name is too long; {advice}"
        elif result.is_dir():
            yield f"{result} is a folder, so no result can have that name"
        elif refused and is_there(result):
            yield f"{result} {state}{USE_OVERWRITE}"
        elif _is_seen_twice(result, job.source):
            yield f"{result} is the photo itself or its exact copy, and is never written; use another -o"
        if isinstance(result, Address):
            continue
        folder = _nearest_existing(result.parent)
        if not folder.is_dir():
            yield f"{folder} is a file, so {result.name} cannot be written below it"
        elif not _may_write(folder):
            yield f"no permission to write into {folder}; choose another folder with -o"


def _is_seen_twice(one: Location, other: Location) -> bool:
    """Tell whether files on servers share name, size, and time: seen through a link or another host name."""
    if not (isinstance(one, Address) and isinstance(other, Address) and one.name == other.name):
        return False
    return one.store.backend.has_folders and one.exists() and one.entry() == other.entry()


def _is_too_long(path: Path) -> bool:
    """Tell whether the file system allows no such name, which `Path.is_dir` hides from Python 3.12 on."""
    try:
        (_nearest_existing(path.parent) / path.name).lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def _nearest_existing(folder: Path) -> Path:
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


class FormerResultError(PhotoError):
    """A photo of several is what an earlier run made, so it is skipped."""


def check_photo(
    photo: "Photo", job: Job, here: LocalJob, options: RunOptions, findings: "Findings | None"
) -> None:
    """Check what can be known of a photo before it is deblurred. Raises PhotoError.

    here: what the job is on this machine; findings: those that the user gives
    """
    check_is_new(photo, job, options)
    if findings is not None:
        findings.check_fits(photo.height, photo.width)
    if job.restores:
        out = here.results[Kind.photo]
        check_kind(photo, job, options)
        encode.check_fits(photo, out, out.name, options.quality)


def check_is_new(photo: "Photo", job: Job, options: RunOptions) -> None:
    """Let no result be deblurred once more without --again.

    Raises PhotoError where the photo is the only one, as the user surely expects something else, and
    FormerResultError where it is one of several.
    """
    if options.again or not job.restores or (note := encode.note_of(photo)) is None:
        return
    if options.is_one_photo:
        raise PhotoError(f"{photo.source}: is a result of {note}; use --again to deblur it once more")
    raise FormerResultError(f"skipped, as it is a result of {note}; --again deblurs it once more")
