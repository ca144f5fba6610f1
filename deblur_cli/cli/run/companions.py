"""Files that belong together by name: what a camera writes of one shot, sidecars, and painted masks."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.cli.run.collect import Found, identity, ordered, real_path
from deblur_cli.cli.run.options import Kind, RunOptions
from deblur_cli.errors import DecodeError, UsageError
from deblur_cli.photo.names import HEIC_SUFFIXES, RAW_SUFFIXES, is_picture_name
from deblur_cli.photo.places import turn_places
from deblur_cli.photo.xmp import BrokenXmpError, upright_xmp
from deblur_cli.stores import Location

if TYPE_CHECKING:
    from deblur_cli.photo.photo import Photo

logger = logging.getLogger(__name__)

_SIDECARS = (".xmp", ".XMP")
_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
_MASK_ENDINGS = ("_mask_gray", "_mask", "")  # of a mask's name; the first is that of --mask-format gray
# What --prefer takes of a shot: the first of these kinds that is there, and whatever it does not name
_ORDERS = {
    "raw": (RAW_SUFFIXES, _JPEG_SUFFIXES | HEIC_SUFFIXES),
    "jpeg": (_JPEG_SUFFIXES, HEIC_SUFFIXES, RAW_SUFFIXES),
    "both": (),
}


def shot(photo: Location) -> Location:
    """Return what the photos of one shot have in common: folder and name, without ending and case."""
    return identity(photo.with_name(photo.stem.casefold()))


def choose(photos: Sequence[Found], prefer: str) -> tuple[list[Found], list[Found]]:
    """Return the photos that --prefer takes, in order, and those that it leaves out."""
    order = _ORDERS[prefer]
    if not order:
        return list(photos), []
    named = [(photo, shot(photo.path), photo.path.suffix.lower()) for photo in photos]
    suffixes: dict[Location, set[str]] = defaultdict(set)
    for _, name, suffix in named:
        suffixes[name].add(suffix)
    taken: list[Found] = []
    others: list[Found] = []
    for photo, name, suffix in named:
        best = next((kind for kind in order if suffixes[name] & kind), frozenset())
        is_other = suffix not in best and any(suffix in kind for kind in order)
        (others if is_other else taken).append(photo)
    return taken, others


def sidecars_of(photos: Iterable[Location]) -> dict[Location, dict[Kind, Location]]:
    """Return the XMP files beside each photo: IMG.xmp as Adobe names it, IMG.DNG.xmp as darktable does.

    One that several photos could own belongs to the RAW among them, which needs it most, else to the first.
    """
    owned: set[Location] = set()
    found: dict[Location, dict[Kind, Location]] = {}
    for photo in sorted(photos, key=lambda path: path.suffix.lower() not in RAW_SUFFIXES):
        names = {Kind.sidecar: photo.stem, Kind.long_sidecar: photo.name}
        there = {
            kind: next(
                (path for path in (photo.with_name(name + end) for end in _SIDECARS) if path.is_file()), None
            )
            for kind, name in names.items()
        }
        found[photo] = {kind: path for kind, path in there.items() if path and identity(path) not in owned}
        owned |= {identity(path) for path in found[photo].values()}
    return found


def copies_of(sidecars: Mapping[Kind, Location], result: Location) -> dict[Kind, Location]:
    """Return the names of sidecars next to a result; not of one that stands there already."""
    names = {Kind.sidecar: f"{result.stem}{_SIDECARS[0]}", Kind.long_sidecar: f"{result.name}{_SIDECARS[0]}"}
    copies = {kind: result.with_name(names[kind]) for kind in sidecars}
    return {kind: copy for kind, copy in copies.items() if identity(copy) != identity(sidecars[kind])}


def sidecar_for(photo: "Photo", sidecar: Path, *, copied: bool) -> bytes:
    """Return a sidecar of a photo for its result, which is upright unless the photo is copied as it was.

    Raises DecodeError if it cannot be read; one that is not well formed stays as it is.
    """
    try:
        content = sidecar.read_bytes()
    except OSError as error:
        raise DecodeError(f"{sidecar}: cannot be read ({error.strerror})") from error
    if copied:
        return content
    try:  # a HEIC is turned while it is decoded, whatever its orientation
        upright = upright_xmp(content, turned=photo.orientation != 1 or photo.format == "HEIF")
        size = (photo.width, photo.height)
        turned, lost = turn_places(upright, photo.orientation, size[::-1] if photo.orientation >= 5 else size)
    except BrokenXmpError:
        return content
    for phrase in lost:
        logger.warning("%s: its copy lacks %s", sidecar, phrase)
    return turned


def masks_of(
    photos: Sequence[Found], options: RunOptions
) -> tuple[dict[Location, Location], dict[Location, str]]:
    """The mask of each photo that has one, and what is wrong with others: none is theirs, or not clearly.

    --mask-file gives one for all photos, or a folder of masks named like them. Raises UsageError where there
    is neither.
    """
    if (given := options.mask_file) is None:
        return {}, {}
    if not given.exists():
        raise UsageError(f"--mask-file {given}: no such file or folder")
    in_folder = cache(_pictures_in)
    masks = {photo.path: mask for photo in photos if (mask := _mask_of(photo, given, in_folder))}
    folders = defaultdict(set)
    for path, mask in masks.items():
        folders[mask].add(path.parent)
    wrong = {}
    for photo in photos:
        path, mask = photo.path, masks.get(photo.path)
        if mask is None and options.mask_mode != "add":
            wrong[path] = f"there is no mask for it in {given}; name it like the photo, {path.stem}.png"
        elif mask is not None and mask != given and len(folders[mask]) > 1:
            place = given / photo.relative.parent
            wrong[path] = f"{mask} could be that of several photos; put the mask of this one into {place}"
    return masks, wrong


def _mask_of(
    photo: Found, given: Location, in_folder: Callable[[Location], dict[str, Location]]
) -> Location | None:
    """The mask of a photo, which may lie below the folder of masks as the photo does below its own."""
    if not given.is_dir():
        return given
    for folder in (given / photo.relative.parent, given):
        pictures = in_folder(folder) if folder.is_dir() else {}
        for ending in _MASK_ENDINGS:
            for name in (photo.path.name, photo.path.stem):
                if (mask := pictures.get(name + ending)) and not _is_same(mask, photo.path):
                    return mask
    return None


def _is_same(mask: Location, photo: Location) -> bool:
    if isinstance(mask, Path) and isinstance(photo, Path):
        return mask.samefile(photo)
    return real_path(mask) == real_path(photo)


def _pictures_in(folder: Location) -> dict[str, Location]:
    """The pictures in a folder by their names without suffixes."""
    return {entry.stem: entry for entry in ordered(folder.iterdir()) if is_picture_name(entry)}
