"""Which painted mask belongs to which photo."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from deblur_cli.cli.run.collect import Found
from deblur_cli.cli.run.options import RunOptions
from deblur_cli.errors import UsageError
from deblur_cli.photo.header import is_picture_name

ENDINGS = ("_mask_gray", "_mask", "")  # of a mask's name; the first is that of --mask-format gray


def masks_of(photos: Sequence[Found], options: RunOptions) -> tuple[dict[Path, Path], dict[Path, str]]:
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


def _mask_of(photo: Found, given: Path, in_folder: Callable[[Path], dict[str, Path]]) -> Path | None:
    """The mask of a photo, which may lie below the folder of masks as the photo does below its own."""
    if not given.is_dir():
        return given
    for folder in (given / photo.relative.parent, given):
        pictures = in_folder(folder) if folder.is_dir() else {}
        for ending in ENDINGS:
            for name in (photo.path.name, photo.path.stem):
                if (mask := pictures.get(name + ending)) and not mask.samefile(photo.path):
                    return mask
    return None


def _pictures_in(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by their names without suffixes."""
    return {entry.stem: entry for entry in sorted(folder.iterdir()) if is_picture_name(entry)}
