"""Results of earlier runs, which are not deblurred once more unless the user asks for it."""

from typing import TYPE_CHECKING

from deblur_cli.errors import PhotoError
from deblur_cli.photo.note import note_of

if TYPE_CHECKING:
    from deblur_cli.cli.run.options import RunOptions
    from deblur_cli.cli.run.plan import Job
    from deblur_cli.photo.photo import Photo


class FormerResultError(PhotoError):
    """A photo of several is what an earlier run made, so it is skipped."""


def check_is_new(photo: "Photo", job: "Job", options: "RunOptions") -> None:
    """Let no result be deblurred once more without --again.

    Raises PhotoError where the photo is the only one, as the user surely expects something else, and
    FormerResultError where it is one of several.
    """
    if options.again or not job.restores or (note := note_of(photo)) is None:
        return
    if options.is_one_photo:
        raise PhotoError(f"{photo.source}: is a result of {note}; use --again to deblur it once more")
    raise FormerResultError(f"skipped, as it is a result of {note}; --again deblurs it once more")
