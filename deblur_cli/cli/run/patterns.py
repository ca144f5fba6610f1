"""Shell patterns for what a run takes and leaves out, as users of gitignore and rsync know them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath

from deblur_cli.errors import UsageError

_DEEP = "**"  # any number of folders


@dataclass(frozen=True)
class Pattern:
    """What --exclude or --include gives.

    Without a slash before its end it is about names at any depth; with one, about paths below the folder
    given. A slash at its end makes it about folders alone. `*` stops at slashes, `**` does not.
    """

    text: str
    option: str = "--exclude"

    def matches(self, path: PurePath, *, is_folder: bool) -> bool:
        """Tell whether a path below the folder given is meant."""
        if self.text.endswith("/") and not is_folder:
            return False
        parts = [part for part in self.text.split("/") if part not in ("", ".")]
        if parts[-1] == _DEEP:
            parts.append("*")  # what is in a folder, not the folder
        anywhere = "/" not in self.text.rstrip("/")
        return _fits(path.parts, [_DEEP, *parts] if anywhere else parts)

    def matches_any_part(self, path: PurePath) -> bool:
        """Tell whether a file below the folder given, or a folder that it is in, is meant."""
        folders = [folder for folder in path.parents if folder.parts]
        return self.matches(path, is_folder=False) or any(
            self.matches(folder, is_folder=True) for folder in folders
        )

    def __str__(self) -> str:
        return f"{self.option} {self.text}"


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    matched = {0}  # how many names the parts so far may stand for
    for part in parts:
        if part == _DEEP:
            matched = set(range(min(matched, default=len(names) + 1), len(names) + 1))
        else:
            matched = {n + 1 for n in matched if n < len(names) and fnmatchcase(names[n], part)}
    return len(names) in matched


def parse_pattern(text: str, option: str = "--exclude") -> Pattern:
    """Return a pattern. Raises UsageError for what could match nothing."""
    if not text.strip("/. "):
        raise UsageError(
            f"{option} takes a pattern for names such as '*_edit.jpg' or 'drafts/', not {text!r}"
        )
    if text.startswith("!"):
        raise UsageError(
            f"{option} has no exceptions such as {text!r}; for a name that begins so, write ? for the !"
        )
    return Pattern(text, option)


def parse_include(text: str) -> Pattern:
    """Return a pattern of what alone is taken. Raises UsageError like `parse_pattern`."""
    return parse_pattern(text, "--include")
