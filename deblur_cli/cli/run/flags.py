"""Words behind options that take none: `--mask face.png`, `--trajectory flow`."""

import os
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from typer.core import TyperOption

from deblur_cli.errors import UsageError
from deblur_cli.photo.names import is_picture_name
from deblur_cli.stores import is_address

MASK = "--mask"
_MEANT = {
    ("--mask", "overlay"): "--mask-format",
    ("--mask", "gray"): "--mask-format",
    ("--mask", "add"): "--mask-mode",
    ("--mask", "limit"): "--mask-mode",
    ("--trajectory", "paths"): "--trajectory-style",
    ("--trajectory", "flow"): "--trajectory-style",
}


def check_flags(args: Sequence[str], options: Sequence[TyperOption]) -> None:
    """Raise UsageError where a word behind an option without a value is surely meant as its value.

    That is a word which is no file and not named like a picture, and one picture behind --mask after photos.
    """
    flags = {name for option in options if option.is_flag for name in (*option.opts, *option.secondary_opts)}
    valued = {name for option in options if not option.is_flag for name in option.opts}
    has_photos = False
    for flag, equals, value in (word.partition("=") for word in takewhile("--".__ne__, args)):
        if flag in flags and equals:
            raise _no_value(flag, value)
    for before, word, after in _in_turn(args, valued):
        if before in flags and word != "-" and not _may_be_photos(word):
            raise _no_value(before, word)
        is_last = not after or after.startswith("-")
        if before == MASK and has_photos and is_last and _is_picture(word):
            more = f"If it is one more photo to deblur, put it before {MASK}"
            raise UsageError(f"{_no_value(before, word)} {more}")
        has_photos = True


def _may_be_photos(word: str) -> bool:
    return os.path.lexists(word) or is_address(word) or _is_picture(word)


def _no_value(flag: str, value: str) -> UsageError:
    """Return what to say of a flag with a value, and which option may be meant."""
    if is_address(value):
        value = "ADDRESS"  # which may hold a password
    if flag == MASK and (_is_picture(value) or value == "ADDRESS"):
        return UsageError(f"{MASK} takes no file; did you mean --mask-file {value}?")
    if meant := _MEANT.get((flag, value.lower())):
        return UsageError(f"{flag} takes no value; did you mean {meant} {value}?")
    gone = "" if os.path.lexists(value) else f", and there is no file or folder {value}"
    return UsageError(f"{flag} takes no value{gone}")


def _in_turn(args: Sequence[str], valued: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield each word that is no option and no value of one, between its neighbors; "" stands for none."""
    before = ""
    for place, word in enumerate(args):
        if word == "--":
            return
        if not (word.startswith("-") and word != "-") and before not in valued:
            yield before, word, next(iter(args[place + 1 :]), "")
        before = word


def _is_picture(word: str) -> bool:
    return is_picture_name(Path(word))
