"""Which painted mask belongs to which photo."""

from functools import cache
from pathlib import Path

from deblur_cli.errors import UsageError
from deblur_cli.photo.header import is_picture_name

ENDINGS = ("_mask_gray", "_mask", "")  # of a mask's name; the first is that of --mask-format gray


class Masks:
    """The masks that the user gives: one file for all photos, or a folder of masks named like them.

    Raises UsageError where there is neither a file nor a folder with pictures.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pictures = cache(pictures_in)
        if path.is_dir():
            if not self._pictures(path):
                raise UsageError(f"--mask-file {path}: there are no pictures in this folder")
        elif not path.is_file():
            raise UsageError(f"--mask-file {path}: no such file or folder")

    def of(self, photo: Path, relative: Path) -> Path | None:
        """The mask of a photo, None for none.

        relative: place of the photo below the folder that was given, where masks may lie in the same way
        """
        if not self._path.is_dir():
            return self._path
        for folder in (self._path / relative.parent, self._path):
            pictures = self._pictures(folder) if folder.is_dir() else {}
            for ending in ENDINGS:
                for name in (photo.name, photo.stem):
                    if (mask := pictures.get(name + ending)) and not mask.samefile(photo):
                        return mask
        return None


def pictures_in(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by their names without suffixes."""
    return {entry.stem: entry for entry in sorted(folder.iterdir()) if is_picture_name(entry)}
