"""Which photos a run is about: files as given, folders walked."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deblur_cli.cli.options import DEFAULT_SUFFIX
from deblur_cli.photo.decode import is_picture_name

MASK_ENDING = "_mask.png"
TRAJECTORY_ENDING = "_trajectory.png"


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
        return self.reason if self.reason.startswith(path) else f"{path}: {self.reason}"


@dataclass
class Collection:
    """Everything that the inputs of a run amount to."""

    photos: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    folders: int = 0


@dataclass(frozen=True)
class Walk:
    """How folders are walked. `leave_out` is the folder that results go to, if there is one."""

    recursive: bool
    suffix: str
    leave_out: Path | None = None


def collect(inputs: Iterable[Path], walk: Walk) -> Collection:
    """Find the photos behind the inputs, each once, in the order given and by name within a folder."""
    collection = Collection()
    seen: set[Path] = set()
    for given in inputs:
        for item in _look_at(given, walk, collection):
            path = item.path.parent.resolve() / item.path.name
            if path in seen:
                continue
            seen.add(path)
            if isinstance(item, Found):
                collection.photos.append(item)
            else:
                collection.problems.append(item)
    return collection


def _look_at(given: Path, walk: Walk, collection: Collection) -> list[Found | Problem]:
    try:
        return list(_found_at(given, walk, collection))
    except OSError as error:  # a folder on the way may not be entered, or the name is too long
        return [Problem(given, f"cannot be reached: {error.strerror}")]


def _found_at(given: Path, walk: Walk, collection: Collection) -> Iterator[Found | Problem]:
    if given.is_dir():
        collection.folders += 1
        found = list(_walk(given, given, walk, set()))
        yield from found or [Problem(given, _no_pictures(walk))]
    elif given.is_file():
        yield Found(given, Path(given.name))
    elif os.path.lexists(given):
        yield Problem(given, "is not a regular file")
    else:
        yield Problem(given, "no such file or folder")


def _no_pictures(walk: Walk) -> str:
    hint = "" if walk.recursive else "; use -r to look into its folders too"
    return f"no pictures in this folder{hint}"


def _walk(folder: Path, root: Path, walk: Walk, been: set[Path]) -> Iterator[Found | Problem]:
    """Yield the pictures of a folder. `been` holds the real folders visited, since links can form loops."""
    been.add(folder.resolve())
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield Problem(folder, f"cannot read this folder: {error.strerror}")
        return
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    pictures = [entry for entry in entries if is_picture_name(entry) and not entry.is_dir()]
    stems = {picture.stem for picture in pictures}
    for picture in pictures:
        if is_former_result(picture.name, stems, walk.suffix):
            continue
        if picture.is_file():
            yield Found(picture, picture.relative_to(root))
        else:
            yield Problem(picture, "is not a regular file")
    if walk.recursive:
        for entry in entries:
            if entry.is_dir() and entry.resolve() not in been and not _same(entry, walk.leave_out):
                yield from _walk(entry, root, walk, been)


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and folder.resolve() == other.resolve()


def is_former_result(name: str, stems: set[str], suffix: str) -> bool:
    """Tell whether a file is what an earlier run wrote beside its originals.

    A name that could be anybody's (`halloween_mask.png`, or one with a suffix of the user's own
    choice) counts only if the original, one of `stems`, lies in the same folder.
    """
    stem = Path(name).stem
    if stem.endswith(DEFAULT_SUFFIX):
        return True
    if suffix and stem.endswith(suffix) and stem.removesuffix(suffix) in stems:
        return True
    endings = (MASK_ENDING, TRAJECTORY_ENDING)
    return any(name.endswith(ending) and name.removesuffix(ending) in stems for ending in endings)
