"""The note that a result bears in EXIF's Software, by which it is known again."""

import re

from deblur_cli import __version__
from deblur_cli.photo.exif import BrokenExifError, software_of
from deblur_cli.photo.photo import Photo

_NOTE = re.compile(r"(?:^|; )(deblur \d\S* \([^;]*\))(?:; |$)")


def note_on(what: str) -> str:
    """The note of a result: which deblur did what."""
    return f"deblur {__version__} ({what})"


def note_of(photo: Photo) -> str | None:
    """The last note that a photo bears, None for a photo that is no result."""
    if photo.metadata.exif is None:
        return None
    try:
        notes = _NOTE.findall(software_of(photo.metadata.exif))
    except BrokenExifError:  # the result will lack it
        return None
    return str(notes[-1]) if notes else None
