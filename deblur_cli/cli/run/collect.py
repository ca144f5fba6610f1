"""Which photos a run is about, as files and in folders: before any is opened."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deblur_cli.cli.output import printable
from deblur_cli.cli.run.options import DEFAULT_SUFFIX, ENDINGS, RunOptions
from deblur_cli.errors import UsageError
from deblur_cli.photo.header import is_picture_name, is_unread_name

SHEET_ENDING = "_epsilon.png"
_MAP_ENDINGS = (*(ending for ending in ENDINGS.values() if ending.endswith(".png")), SHEET_ENDING)
REPORT_FOLDER = "deblur_report"
IRREGULAR = "is not a regular file"
_IGNORED = (".", REPORT_FOLDER)  # how names begin that are never looked at


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
