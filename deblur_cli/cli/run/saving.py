"""Writes what came of one photo: all of it, or nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deblur_cli import __version__
from deblur_cli.cli.run.options import Kind, RunOptions
from deblur_cli.cli.run.plan import Job
from deblur_cli.errors import EncodeError
from deblur_cli.files import check_target, write_file
from deblur_cli.photo import encode
from deblur_cli.photo.photo import Photo, rgb_profile, to_eight_bits, white
from deblur_cli.pictures import flow_overlay, mask_overlay, trajectory_overlay
from deblur_cli.pictures.drawing import bands
from deblur_cli.restoration.findings import to_npz
from deblur_cli.restoration.mask import feather_weights

if TYPE_CHECKING:
    from deblur_cli.restoration.deblurrer import Result
    from deblur_cli.restoration.findings import Findings


def save(
    job: Job,
    photo: Photo,
    findings: "Findings",
    result: "Result",
    weights: str,
    options: RunOptions,
    *,
    overwrite: bool,
) -> tuple[str, ...]:
    """Write the results of a job that are missing, and return what of the photo's file they lack, as phrases.

    Raises EncodeError, also if that is anything while options are strict, and then leaves no new file.

    The restored photo comes last, so that where it exists all its companions do. findings: as they were
    detected, which given back make the same result; weights: what the note calls them
    """
    lost = losses(job, photo, result, options)
    if lost and options.strict:
        raise EncodeError(
            f"{photo.source}: would lose {'; '.join(lost)}; nothing is written, as --strict asks"
        )
    written: list[Path] = []
    new = [path for path in job.missing.values() if not path.exists()]
    try:
        for kind, path in reversed(job.missing.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind is Kind.photo:
                lost = _save_photo(path, photo, result, weights, options, overwrite=overwrite)
            elif kind is Kind.data:
                check_target(path, photo.source, overwrite=overwrite)
                write_file(path, [to_npz(findings, result.epsilon)], overwrite=overwrite)
            else:
                picture = _picture(kind, photo, result, flow=options.flow)
                encode.encode(picture, path, format="PNG", overwrite=overwrite)
            written.append(path)
    except BaseException:
        for path in set(written) & set(new):
            path.unlink(missing_ok=True)
        raise
    return lost


def losses(job: Job, photo: Photo, result: "Result", options: RunOptions) -> tuple[str, ...]:
    """Return what of the photo's file its result will lack, as phrases; nothing where it is copied."""
    path = job.results.get(Kind.photo)
    if path is None or is_copied(path, photo, result, strip=options.strip_metadata):
        return ()
    return encode.left_out(result.photo, encode.format_of(path.name), strip=options.strip_metadata)


def _save_photo(
    path: Path, photo: Photo, result: "Result", weights: str, options: RunOptions, *, overwrite: bool
) -> tuple[str, ...]:
    if is_copied(path, photo, result, strip=options.strip_metadata):
        encode.copy_unchanged(photo, path, overwrite=overwrite)
        return ()
    what = f"{weights}, epsilon {result.epsilon:g}" if result.changed else "nothing restored"
    return encode.encode(
        result.photo,
        path,
        format=encode.format_of(path.name),
        quality=options.quality,
        overwrite=overwrite,
        note=f"deblur {__version__} ({what})" if options.note else None,
        strip=options.strip_metadata,
        strict=options.strict,
    )


def is_copied(path: Path, photo: Photo, result: "Result", *, strip: bool) -> bool:
    """Tell whether the source's own bytes are the result, since nothing had to be done."""
    return not result.changed and encode.is_copy_possible(photo, encode.format_of(path.name), strip=strip)


def _picture(kind: Kind, photo: Photo, result: "Result", *, flow: bool) -> Photo:
    if kind is Kind.gray:
        return Photo(pixels=selection(photo, result), source=photo.source, format="PNG")
    seen = to_eight_bits(photo.pixels)
    if kind is Kind.mask:
        pixels = mask_overlay(seen, result.findings, result.epsilon, share=result.blurred_share)
    else:
        draw = flow_overlay if flow else trajectory_overlay
        pixels = draw(seen, result.findings, result.epsilon, legend=True)
    return Photo(pixels=pixels, source=photo.source, format="PNG", metadata=rgb_profile(photo))


def selection(photo: Photo, result: "Result") -> NDArray[np.generic]:
    """Return how strongly restored pixels are laid over the photo: H W 1, white is fully, as deep as it."""
    mask, largest = result.mask, white(photo.pixels)
    drawn = np.empty((photo.height, photo.width, 1), photo.pixels.dtype)
    for top, bottom in bands(photo.height):
        weights = feather_weights(mask, slice(top, bottom), slice(0, photo.width))
        drawn[top:bottom, :, 0] = np.rint(weights * largest)
    return drawn
