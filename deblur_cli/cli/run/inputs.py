"""Which photos a run is about: files as given, folders walked."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deblur_cli.cli.errors import printable
from deblur_cli.cli.options import DEFAULT_SUFFIX
from deblur_cli.photo.kinds import is_picture_name, is_unread_name

MASK_ENDING = "_mask.png"
TRAJECTORY_ENDING = "_trajectory.png"
GRAY_ENDING = "_mask_gray.png"
DATA_ENDING = "_motion.npz"
SHEET_ENDING = "_epsilon.png"
_MAP_ENDINGS = (MASK_ENDING, TRAJECTORY_ENDING, GRAY_ENDING, SHEET_ENDING)
REPORT_FOLDER = "deblur_report"
_PASSED = (".", REPORT_FOLDER)  # how names begin that are never looked at


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
    """Everything that the inputs of a run amount to. `passed_over` are pictures not read.

    left_out: photos in the folder that results go to
    """

    photos: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    folders: int = 0

    def left_out_line(self) -> str | None:
        """Say which photos are not worked on as results go to their folder; None if there are none."""
        if not self.left_out:
            return None
        more = f" and {len(self.left_out) - 1} more" if len(self.left_out) > 1 else ""
        return f"{self.left_out[0]}{more} left out, as results go there; choose another -o to include them"

    def passed_over_line(self) -> str | None:
        """Say how many pictures of which kinds were passed over; None if there were none."""
        kinds = ", ".join(sorted({path.suffix.lower() for path in self.passed_over}))
        count = len(self.passed_over)
        return f"passed over {count} of kinds that are not looked for in folders ({kinds})" if count else None


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
            path = real_path(item.path.parent) / item.path.name
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
        before = len(collection.passed_over)
        found = list(_walk(given, given, walk, collection, set()))
        yield from found or [Problem(given, _no_pictures(given, walk, len(collection.passed_over) - before))]
    elif given.is_file():
        yield Found(given, Path(given.name))
    elif os.path.lexists(given):
        yield Problem(given, "is not a regular file")
    else:
        yield Problem(given, "no such file or folder")


def _no_pictures(folder: Path, walk: Walk, passed_over: int) -> str:
    if passed_over:
        return "no pictures in this folder that are read yet"
    deeper = not walk.recursive and any(entry.is_dir() for entry in folder.iterdir())
    return f"no pictures in this folder{'; use -r to look into its folders too' if deeper else ''}"


def _walk(
    folder: Path, root: Path, walk: Walk, collection: Collection, been: set[Path]
) -> Iterator[Found | Problem]:
    """Yield the pictures of a folder. `been` holds the real folders visited, since links can form loops."""
    been.add(real_path(folder))
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(_PASSED))
    except OSError as error:
        yield Problem(folder, f"cannot read this folder: {error.strerror}")
        return
    known = {name for entry in entries if is_picture_name(entry) for name in (entry.stem, entry.name)}
    folders = []
    for entry in entries:
        try:
            if entry.is_dir():
                folders.append(entry)
            elif is_unread_name(entry):
                collection.passed_over.append(entry)
            elif is_picture_name(entry) and not is_former_result(entry.name, known, walk.suffix):
                if entry.is_file():
                    yield Found(entry, entry.relative_to(root))
                else:
                    yield Problem(entry, "is not a regular file")
        except OSError as error:  # a link to where one may not go
            if is_picture_name(entry):
                yield Problem(entry, f"cannot be reached: {error.strerror}")
    for entry in folders if walk.recursive else ():
        if _same(entry, walk.leave_out):
            collection.left_out += _photos_among_results(entry, walk)
        elif real_path(entry) not in been:
            yield from _walk(entry, root, walk, collection, been)


def _photos_among_results(folder: Path, walk: Walk) -> list[Path]:
    """The pictures in the folder of results that bear no name of a result."""
    maps = (ending.removesuffix(".png") for ending in _MAP_ENDINGS)
    endings = tuple(filter(None, (DEFAULT_SUFFIX, walk.suffix, *maps)))
    if not walk.suffix:  # then results are named as their photos are
        return []
    files = (Path(name, file) for name, _, names in os.walk(folder) for file in names)
    return sorted(path for path in files if is_picture_name(path) and not path.stem.endswith(endings))


def real_path(path: Path) -> Path:
    """The path without links; unlike Path.resolve this works for links that lead round in a circle."""
    return Path(os.path.realpath(path))


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and real_path(folder) == real_path(other)


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
