"""Files that belong together by their names: what a camera writes of one shot, in several formats."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from deblur_cli.cli.run.collect import Found, identity
from deblur_cli.photo.header import HEIC_SUFFIXES, RAW_SUFFIXES

_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
# What --prefer takes of a shot: the first of these kinds that is there, and whatever it does not name
_ORDERS = {
    "raw": (RAW_SUFFIXES, _JPEG_SUFFIXES | HEIC_SUFFIXES),
    "jpeg": (_JPEG_SUFFIXES, HEIC_SUFFIXES, RAW_SUFFIXES),
    "both": (),
}


def shot(photo: Path) -> Path:
    """Return what the photos of one shot have in common: folder and name, without ending and case."""
    return identity(photo.with_name(photo.stem.casefold()))


def choose(photos: Sequence[Found], prefer: str) -> tuple[list[Found], list[Found]]:
    """Return the photos that --prefer takes, in order, and those that it leaves out."""
    shots: dict[Path, set[str]] = defaultdict(set)
    for photo in photos:
        shots[shot(photo.path)].add(photo.path.suffix.lower())

    def is_taken(photo: Found) -> bool:
        suffixes, own = shots[shot(photo.path)], photo.path.suffix.lower()
        best = next((kind for kind in _ORDERS[prefer] if suffixes & kind), frozenset())
        return own in best or not any(own in kind for kind in _ORDERS[prefer])

    return [one for one in photos if is_taken(one)], [one for one in photos if not is_taken(one)]
