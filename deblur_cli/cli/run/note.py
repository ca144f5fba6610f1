"""The note that a result bears in EXIF's Software, by which a later run knows it again."""

import re
from typing import TYPE_CHECKING

from deblur_cli import __version__
from deblur_cli.errors import PhotoError
from deblur_cli.photo.exif import BrokenExifError, software_of

if TYPE_CHECKING:
    from deblur_cli.cli.run.options import RunOptions
    from deblur_cli.cli.run.plan import Job
    from deblur_cli.photo.photo import Photo

_NOTE = re.compile(r"(?:^|; )(deblur \d\S* \([^;]*\))(?:; |$)")


class FormerResultError(PhotoError):
    """A photo of several is what an earlier run made, so it is skipped."""


def note_on(what: str) -> str:
    """Return the note of a result: which deblur did what."""
    return f"deblur {__version__} ({what})"


def check_is_new(photo: "Photo", job: "Job", options: "RunOptions") -> None:
    """Let no result be deblurred once more without --again.

    Raises PhotoError where the photo is the only one, as the user surely expects something else, and
    FormerResultError where it is one of several.
    """
    if options.again or not job.restores or photo.metadata.exif is None:
        return
    try:
        notes = _NOTE.findall(software_of(photo.metadata.exif))
    except BrokenExifError:  # the result will lack it
        return
    if notes and options.is_one_photo:
        raise PhotoError(f"{photo.source}: is a result of {notes[-1]}; use --again to deblur it once more")
    if notes:
        raise FormerResultError(f"skipped, as it is a result of {notes[-1]}; --again deblurs it once more")
