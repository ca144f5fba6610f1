"""Which photos a run is about, as files and in folders: before any is opened."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from deblur_cli.backends import NO_BUCKET
from deblur_cli.cli.run.options import DEFAULT_SUFFIX, ENDINGS, RunOptions
from deblur_cli.cli.run.patterns import Pattern
from deblur_cli.errors import UsageError, printable
from deblur_cli.photo.names import is_picture_name, is_unread_name
from deblur_cli.stores import Address, Location, survey

SHEET_ENDING = "_epsilon.png"
_MAP_ENDINGS = (*(ending for ending in ENDINGS.values() if ending.endswith(".png")), SHEET_ENDING)
REPORT_FOLDER = "deblur_report"
IRREGULAR = "is not a regular file"
# Folders that cameras, network disks, and systems make, in lower case: thumbnails, snapshots, deleted files
_SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
        *("$recycle.bin", "recycler", "system volume information", "lost+found", "__macosx"),
    }
)


@dataclass(frozen=True)
class Found:
    """A photo to work on. `relative` is its path below the folder that was given, or its bare name."""

    path: Location
    relative: Path


@dataclass(frozen=True)
class Problem:
    """An input that cannot be worked on, and why.

    is_nothing: whether there is no photo at all rather than one that fails
    """

    path: Location
    reason: str
    is_nothing: bool = False

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
class LeftOut:
    """What a run could have taken and did not, as the user wanted it or by its own rules.

    photos, folders: what --exclude names; others: photos that --include does not name
    results: how many photos their names tell to be results of an earlier run
    system_folders: hidden ones, and those of `_SYSTEM_FOLDERS`;
    pairs: how many photos there are in the format that --prefer prefers, too
    """

    photos: set[Location] = field(default_factory=set)
    folders: set[Location] = field(default_factory=set)
    others: set[Location] = field(default_factory=set)
    results: int = 0
    system_folders: set[Location] = field(default_factory=set)
    pairs: int = 0

    def __str__(self) -> str:
        """Say it at the end of a summary."""
        excluded = [counted(len(self.photos), "photo"), counted(len(self.folders), "folder")]
        excluded = [text for text, paths in zip(excluded, (self.photos, self.folders), strict=True) if paths]
        phrases = [f"{' and '.join(excluded)} left out by --exclude"] if excluded else []
        if self.others:
            phrases.append(f"{counted(len(self.others), 'photo')} left out by --include")
        if self.results:
            phrases.append(f"{counted(self.results, 'earlier result')} left out")
        if self.pairs:
            phrases.append(f"{counted(self.pairs, 'photo')} left out by --prefer")
        if self.system_folders:
            names = ", ".join(sorted({path.name for path in self.system_folders}))
            phrases.append(
                f"{counted(len(self.system_folders), 'hidden or system folder')} skipped ({names})"
            )
        return "".join(f"; {phrase}" for phrase in phrases)

    def record(self) -> dict[str, object]:
        """Return the same for programs."""
        return {
            "excluded": len(self.photos),
            "excluded_folders": len(self.folders),
            "not_included": len(self.others),
            "former_results": self.results,
            "system_folders": len(self.system_folders),
            "other_of_pair": self.pairs,
        }


def counted(count: int, thing: str) -> str:
    """Return a number of things in words."""
    return f"1 {thing}" if count == 1 else f"{count} {thing}s"


@dataclass
class Collection:
    """Everything that the inputs of a run amount to.

    unread: pictures of kinds that are not read; among_results: photos in the folder that results go to;
    patterns, wanted: what --exclude and --include name
    """

    photos: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unread: list[Location] = field(default_factory=list)
    among_results: list[Location] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    patterns: Sequence[Pattern] = ()
    wanted: Sequence[Pattern] = ()
    used: set[Pattern] = field(default_factory=set)
    folders: int = 0

    @property
    def passed_over(self) -> Counter[str]:
        """How much of what could have been a photo is none for this run, and why."""
        left_out = self.left_out
        by_name = len(left_out.photos) + len(left_out.folders) + len(left_out.others)
        return Counter(by_name=by_name, results=left_out.results, unread=len(self.unread))

    def excludes(self, path: Path, *, is_folder: bool = False) -> bool:
        """Tell whether --exclude names a path below the folder given."""
        matching = {one for one in self.patterns if one.matches(path, is_folder=is_folder)}
        self.used |= matching
        return bool(matching)

    def includes(self, path: Path) -> bool:
        """Tell whether --include names a file below the folder given, as all are where it is not given."""
        matching = {one for one in self.wanted if one.matches_any_part(path)}
        self.used |= matching
        return bool(matching) or not self.wanted

    def leaves_out(self, photo: Location, path: Path) -> bool:
        """Tell whether a photo is not to be taken, and count it then. path: below the folder given"""
        if self.excludes(path):
            self.left_out.photos.add(identity(photo))
        elif not self.includes(path):
            self.left_out.others.add(identity(photo))
        else:
            return False
        return True

    def warnings(self) -> Iterator[str]:
        """Say which pictures the run ignores, and which patterns nothing."""
        for pattern in (one for one in (*self.patterns, *self.wanted) if one not in self.used):
            yield f"{pattern} matches no photo or folder here; mind that case counts"
        if self.unread:
            files = counted(len(self.unread), "file")
            yield f"ignored {files} of kinds that deblur does not read from folders ({_kinds(self.unread)})"
        if self.among_results:
            first, more = self.among_results[0], len(self.among_results) - 1
            photos = f"{first} and {more} more" if more else str(first)
            yield f"ignored {photos}: results go into that folder; choose another -o to include such photos"


def collect(options: RunOptions) -> Collection:
    """Find the photos behind the inputs, each once, in the order given and by name within a folder.

    Raises UsageError where there is nothing behind any of them.
    """
    collection = Collection(patterns=options.exclude, wanted=options.include)
    for name in {"exclude", "include"} & options.from_file:  # of all runs, not each matches something
        collection.used.update(getattr(options, name))
    seen: set[Location] = set()
    survey(options.inputs)
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
    problems = collection.problems
    if (
        not collection.photos
        and not collection.passed_over["by_name"]
        and all(one.is_nothing for one in problems)
    ):
        raise UsageError(_in_short(problems))
    return collection


def _in_short(problems: Sequence[Problem]) -> str:
    """Say on one line what is wrong with several inputs; of those that share a reason the first is named."""
    alike: dict[str, list[Location]] = defaultdict(list)
    for problem in problems:
        alike[problem.reason].append(problem.path)
    more = {reason: f" and {len(paths) - 1} more" if paths[1:] else "" for reason, paths in alike.items()}
    return "; ".join(f"{paths[0]}{more[reason]}: {reason}" for reason, paths in alike.items())


def _kinds(paths: Sequence[Location]) -> str:
    return ", ".join(sorted({path.suffix.lower() for path in paths}))


def _photos_of(given: Location, options: RunOptions, collection: Collection) -> list[Found | Problem]:
    try:
        if given.is_dir():
            collection.folders += 1
            before = collection.passed_over
            strange = given.list_below() if isinstance(given, Address) and options.recursive else []
            found = [*_unusable(given, strange), *_Walk(given, options, collection).pictures(given)]
            return found or _why_none(given, options, collection, before)
        if given.is_file():
            name = Path(given.name)
            return [] if collection.leaves_out(given, name) else [Found(given, name)]
        exists = is_there(given)
        return [Problem(given, IRREGULAR if exists else _why_gone(given, options), is_nothing=not exists)]
    except OSError as error:  # a folder on the way may not be entered, or the name is too long
        return [Problem(given, f"cannot be reached: {error.strerror}", is_nothing=error.errno == NO_BUCKET)]


def _unusable(folder: Location, names: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem where photos of a store have names that no folder can hold."""
    pictures = sorted(name for name in names if is_picture_name(PurePosixPath(name)))
    if pictures:
        more = f" and {len(pictures) - 1} more" if pictures[1:] else ""
        yield Problem(folder, f"no folder can hold a file named {pictures[0]}{more}; rename it there")


def _why_gone(given: Location, options: RunOptions) -> str:
    why, first = "no such file or folder", options.inputs[0]
    is_like_a_result = len(options.inputs) == 2 and options.output is None and is_picture_name(given)
    return f"{why}; to name the result, use -o {given}" if is_like_a_result and first.is_file() else why


def _why_none(
    folder: Location, options: RunOptions, collection: Collection, before: Counter[str]
) -> list[Found | Problem]:
    """Return the problem of a folder without a photo to work on; none where the user wants it so.

    before: what was passed over before it
    """
    since = collection.passed_over - before
    if since["by_name"]:
        return []
    deeper = not options.recursive and any(
        entry.is_dir() and not is_system_folder(entry.name) for entry in folder.iterdir()
    )
    hint = "; use -r to include its subfolders" if deeper else ""
    why = f"no pictures in this folder{hint}"
    if since["results"]:
        why = "only results of earlier runs in this folder; --again deblurs them once more"
    elif since["unread"]:
        kinds = _kinds(collection.unread[before["unread"] :])
        why = f"no pictures in this folder that deblur reads, only {kinds}"
    return [Problem(folder, why, is_nothing=True)]


class _Walk:
    """The way through a folder given and those below it."""

    def __init__(self, root: Location, options: RunOptions, collection: Collection) -> None:
        self._root = root
        self._options = options
        self._collection = collection
        self._visited: set[Location] = set()  # real folders, since links can form loops

    def pictures(self, folder: Location) -> Iterator[Found | Problem]:
        """Yield the pictures of a folder, then those of the folders inside it."""
        self._visited.add(real_path(folder))
        try:
            entries = ordered(one for one in folder.iterdir() if not one.name.startswith(REPORT_FOLDER))
        except OSError as error:
            yield Problem(folder, f"cannot read this folder: {error.strerror}")
            return
        known = {name for entry in entries if is_picture_name(entry) for name in (entry.stem, entry.name)}
        folders: list[Location] = []
        for entry in entries:
            try:
                if entry.is_dir():
                    folders.append(entry)
                elif (item := self._picture(entry, known)) is not None:
                    yield item
            except OSError as error:  # a link to where one may not go
                if is_picture_name(entry):
                    yield Problem(entry, f"cannot be reached: {error.strerror}")
        for entry in folders if self._options.recursive else ():
            if self._enters(entry):
                yield from self.pictures(entry)

    def _picture(self, path: Location, known: set[str]) -> Found | Problem | None:
        """Return a file if it is a picture to work on. `known`: as of `is_former_result`"""
        relative = below(path, self._root)
        if is_unread_name(path) and not path.name.startswith("."):
            if not self._collection.excludes(relative) and self._collection.includes(relative):
                self._collection.unread.append(path)
            return None
        if not is_picture_name(path) or is_former_map(path.name, known, self._options.suffix):
            return None
        if not self._options.again and is_former_result(path.name, known, self._options.suffix):
            self._collection.left_out.results += 1
            return None
        if self._collection.leaves_out(path, relative):
            return None
        return Found(path, relative) if path.is_file() else Problem(path, IRREGULAR)

    def _enters(self, folder: Location) -> bool:
        """Tell whether a folder is to be searched; if not, note why."""
        real, output = real_path(folder), self._options.output
        if real in self._visited:
            return False
        if is_system_folder(folder.name):
            self._collection.left_out.system_folders.add(identity(folder))
            return False
        if self._collection.excludes(below(folder, self._root), is_folder=True):
            self._collection.left_out.folders.add(identity(folder))
            return False
        if output is not None and real == real_path(output):
            self._visited.add(real)
            self._collection.among_results += _photos_among_results(folder, self._options.suffix)
            return False
        return True


def _photos_among_results(folder: Location, suffix: str) -> list[Location]:
    """Return the pictures in the folder of results that are not named like results."""
    if not suffix:  # then results are named like their photos
        return []
    endings = (DEFAULT_SUFFIX, suffix, *(ending.removesuffix(".png") for ending in _MAP_ENDINGS))
    files: Iterable[Location]
    if isinstance(folder, Address):
        files = folder.files_below()
    else:
        files = (Path(name, file) for name, _, names in os.walk(folder) for file in names)
    return ordered(path for path in files if is_picture_name(path) and not path.stem.endswith(endings))


def is_former_result(name: str, known: set[str], suffix: str) -> bool:
    """Tell whether a file is a photo that an earlier run deblurred, by its name alone.

    A suffix of the user's own choice counts only if the original lies in the same folder.
    known: the names of the pictures there, with and without their endings
    """
    stem = Path(name).stem
    if stem.endswith(DEFAULT_SUFFIX):
        return True
    return bool(suffix) and stem.endswith(suffix) and stem.removesuffix(suffix) in known


def is_former_map(name: str, known: set[str], suffix: str) -> bool:
    """Tell whether a file is what an earlier run drew.

    Such a name could be anybody's (`halloween_mask.png`), so it counts only if the original or its result
    lies in the same folder. known: as above
    """
    originals = [name.removesuffix(ending) for ending in _MAP_ENDINGS if name.endswith(ending)]
    originals += [Path(name).stem for name in originals if is_picture_name(Path(name))]  # IMG.JPG_mask.png
    return any(stem + extra in known for stem in originals for extra in ("", DEFAULT_SUFFIX, suffix))


def is_system_folder(name: str) -> bool:
    """Tell whether nobody keeps photos in a folder of this name: hidden, or made by a camera or a system."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def real_path(path: Location) -> Location:
    """Return the path without links; unlike Path.resolve this works for links that lead round in a circle.

    Of an address it is one that other ways to name the file have, too: only for comparing.
    """
    return path.anyhow if isinstance(path, Address) else Path(os.path.realpath(path))


def identity(path: Location) -> Location:
    """Return one path for all ways to name a file; a link that is the file itself stays one."""
    return path if isinstance(path, Address) else real_path(path.parent) / path.name


def is_there(path: Location) -> bool:
    """Tell whether there is anything of this name, even a link that leads nowhere."""
    return path.exists() if isinstance(path, Address) else os.path.lexists(path)


def below(path: Location, folder: Location) -> Path:
    """Return the path from a folder to what is in it."""
    if isinstance(path, Address):
        assert isinstance(folder, Address)
        return path.relative_to(folder)
    assert isinstance(folder, Path)
    return path.relative_to(folder)


def ordered(places: Iterable[Location]) -> list[Location]:
    """Return places by name, folder by folder."""
    return sorted(places, key=lambda place: place.parts)
