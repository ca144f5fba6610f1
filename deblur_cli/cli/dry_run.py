"""Says what a run would do, from names and file headers alone."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from deblur_cli.cli.errors import FAILED, OK
from deblur_cli.cli.inputs import Problem
from deblur_cli.cli.output import Output
from deblur_cli.cli.plan import Job, Plan
from deblur_cli.cli.summary import failure_record, plan_record, skip_record
from deblur_cli.photo.kinds import PILLOW_FORMATS

_ORIENTATION = 0x0112  # EXIF tag; values from 5 on lie on their side


def show(
    plan: Plan, problems: Iterable[Problem], output: Output, max_megapixels: float, *, json: bool
) -> int:
    """Tell what would be done with every photo and return the exit code that can be foreseen."""
    failed = list(problems) + list(plan.problems)
    for job in plan.skipped:
        output.say(f"{job.source}: skipped, {job.output} exists already")
        if json:
            output.json_line(skip_record(job))
    for job in plan.jobs:
        size = upright_size(job.source)
        if isinstance(size, str):
            failed.append(Problem(job.source, size))
        elif size[0] * size[1] > max_megapixels * 1e6:
            failed.append(
                Problem(job.source, f"more than {max_megapixels:g} megapixels; see --max-megapixels")
            )
        elif json:
            output.json_line(plan_record(job, size))
        else:
            output.result(_line(job, size))
    for problem in failed:
        output.error(str(problem))
        if json:
            output.json_line(failure_record(problem))
    return FAILED if failed else OK


def _line(job: Job, size: tuple[int, int]) -> str:
    results = ", ".join(str(path) for path in job.missing)
    return f"{job.source} ({size[0]} x {size[1]}) -> {results}"


def upright_size(path: Path) -> tuple[int, int] | str:
    """Return width and height as the photo is shown, or why its header cannot be read."""
    try:
        with _no_pixel_limit(), Image.open(path, formats=PILLOW_FORMATS) as image:
            width, height = image.size
            # Pillow would decode a whole PNG in search of EXIF behind its pixels.
            headless = image.format == "PNG" and "exif" not in image.info
            turned = not headless and image.getexif().get(_ORIENTATION, 1) in range(5, 9)
    except UnidentifiedImageError:
        return "not a picture of a kind that is read"
    except (OSError, ValueError, SyntaxError) as error:
        return f"its header cannot be read: {error}"
    return (height, width) if turned else (width, height)


@contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Let Pillow read headers of any size: no pixels are decoded here, and the limit is ours to check."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
