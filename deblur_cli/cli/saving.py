"""Writes what came of one photo: all of it, or nothing."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deblur_cli import __version__
from deblur_cli.cli.plan import Job
from deblur_cli.overlays import Pixels8, mask_overlay, trajectory_overlay
from deblur_cli.photo import encode
from deblur_cli.photo.photo import Metadata, Photo

if TYPE_CHECKING:
    from deblur_cli.restore import Result


@dataclass(frozen=True)
class Saving:
    """How results are written.

    strip: without metadata; note: with a line on what was done
    """

    quality: int | None = None
    overwrite: bool = False
    strip: bool = False
    note: bool = True


def save(job: Job, photo: Photo, result: "Result", weights: str, saving: Saving) -> None:
    """Write the results of a job that are missing. Raises EncodeError, and then leaves no new file.

    The restored photo comes last, so that where it exists all its companions do. `weights` is what the
    note calls them.
    """
    overwrite = saving.overwrite or job.replace
    written: list[Path] = []
    new = [path for path in job.missing if not path.exists()]
    try:
        for path in reversed(job.missing):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path == job.output:
                note = _note(result, weights) if saving.note else None
                _save_photo(path, photo, result, note, replace(saving, overwrite=overwrite))
            else:
                picture = _overlay(path, job, photo, result)
                encode.encode(picture, path, format="PNG", overwrite=overwrite)
            written.append(path)
    except BaseException:
        for path in set(written) & set(new):
            path.unlink(missing_ok=True)
        raise


def _save_photo(path: Path, photo: Photo, result: "Result", note: str | None, saving: Saving) -> None:
    if is_copied(path, photo, result, saving):
        encode.copy_unchanged(photo, path, overwrite=saving.overwrite)
        return
    encode.encode(
        result.photo,
        path,
        format=encode.format_of(path.name),
        quality=saving.quality,
        overwrite=saving.overwrite,
        note=note,
        strip=saving.strip,
    )


def is_copied(path: Path, photo: Photo, result: "Result", saving: Saving) -> bool:
    """Tell whether the source's own bytes are the result, since nothing had to be done."""
    return not result.changed and encode.is_copy_possible(
        photo, encode.format_of(path.name), strip=saving.strip
    )


def _note(result: "Result", weights: str) -> str:
    """What was done to a photo, in the words that its Software entry gets."""
    if not result.changed:
        return f"deblur {__version__} (nothing restored)"
    return f"deblur {__version__} ({weights}, epsilon {result.epsilon:g})"


def _overlay(path: Path, job: Job, photo: Photo, result: "Result") -> Photo:
    draw = mask_overlay if path == job.mask else trajectory_overlay
    pixels = draw(_eight_bits(photo), result.maps, result.epsilon)
    # An RGB profile still describes the drawing's background; one of other samples would not fit it.
    has_rgb_profile = photo.stored is None and photo.pixels.shape[2] == 3
    metadata = Metadata(icc=photo.metadata.icc if has_rgb_profile else None)
    return Photo(pixels=pixels, source=photo.source, format="PNG", metadata=metadata)


def _eight_bits(photo: Photo) -> Pixels8:
    if photo.pixels.dtype == np.uint16:
        return (photo.pixels.astype(np.uint16) >> 8).astype(np.uint8)
    return photo.pixels.astype(np.uint8, copy=False)
