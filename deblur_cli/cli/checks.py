"""Checks of option values that need nothing but the value. Each raises UsageError."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.errors import UsageError

if TYPE_CHECKING:
    from deblur_cli.weights import LoadedWeights

STEP = 16  # pixels; the network halves its input four times
TILE_RANGE = (128, 16384)  # pixels; below it a tile is all overlap, above it nothing is gained
OVERLAP_RANGE = (32, 1024)  # pixels
SCALES = (1, 2, 4, 8)  # how many times smaller photos can be looked at
MOST_JOBS = 64
MOST_EPSILONS = 24  # pictures on a sheet
LARGEST_EXPOSURE = 5.0  # stops
FORMATS = {"jpeg": "JPEG", "jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF", "tif": "TIFF"}
FORMATS |= {"avif": "AVIF"}


def parse_epsilon(text: str, option: str = "--epsilon", words: str = "a number from 0 to 1") -> float:
    """Return a confidence from 0 to 1; not-a-number is none."""
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = math.nan
    if not 0 <= epsilon <= 1:
        raise UsageError(f"{option} is {words}, not {text!r}")
    return epsilon


def parse_threshold(text: str) -> float | None:
    """Return the confidence that --epsilon gives, None for auto."""
    return None if text == "auto" else parse_epsilon(text, words="auto or a number from 0 to 1")


def parse_epsilons(text: str, option: str = "--values", most: float = MOST_EPSILONS) -> list[float]:
    """Return the confidences of a list such as 0.3,0.5,0.7 in rising order, each once."""
    values = sorted({parse_epsilon(part.strip(), option) for part in text.split(",")})
    if len(values) > most:
        raise UsageError(f"{option} takes up to {most:g} numbers, not {len(values)}")
    return values


def parse_tile(text: str, overlap: int) -> int | None:
    """Return the tile size in pixels, None for auto, and check the overlap along with it."""
    low, high = OVERLAP_RANGE
    if overlap % STEP or not low <= overlap <= high:
        raise UsageError(f"--overlap is a multiple of {STEP} from {low} to {high}, not {overlap}")
    if text == "auto":
        return None
    low, high = TILE_RANGE
    size = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
    if size % STEP or not low <= size <= high:
        raise UsageError(f"--tile is auto or a multiple of {STEP} from {low} to {high}, not {text!r}")
    least = 2 * overlap + STEP
    if size < least:
        raise UsageError(f"tiles of {size} pixels are too small for --overlap {overlap}; at least {least}")
    return size


def parse_scales(text: str) -> tuple[int, ...]:
    """Return the scales of a list such as 1,2 in rising order, each once; auto stands for all of them."""
    if text == "auto":
        return SCALES
    names = {str(scale): scale for scale in SCALES}
    parts = [part.strip() for part in text.split(",")]
    if strange := [part for part in parts if part not in names]:
        raise UsageError(f"--scales is auto or some of {', '.join(names)} such as 1,2; not {strange[0]!r}")
    return tuple(sorted({names[part] for part in parts}))


def check_findings(findings: Path | None, inputs: Sequence[Path]) -> None:
    """Accept findings beside the one photo that they are of."""
    if findings is not None and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UsageError(f"--findings {findings} describes one photo: give exactly that photo")


def check_device(name: str) -> None:
    """Accept what names a device; whether this machine has it is another question."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise UsageError(
            f"there is no device {name!r}; choose auto, cpu, cuda, cuda:0 (or another number), mps"
        )


def parse_format(name: str | None) -> str | None:
    """Return Pillow's name of a format that can be written."""
    if name is None:
        return None
    try:
        return FORMATS[name.lower()]
    except KeyError:
        raise UsageError(f"--format is jpeg, png, webp, tiff or avif, not {name!r}") from None


def check_photo_values(quality: int | None, suffix: str, megapixels: float, exposure: float) -> None:
    """Accept what can be said of reading and writing photos."""
    check_quality(quality)
    check_suffix(suffix)
    check_megapixels(megapixels)
    check_exposure(exposure)


def check_quality(quality: int | None) -> None:
    """Accept qualities of JPEG, WebP and AVIF."""
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"--quality is a number from 1 to 100, not {quality}")


def check_suffix(suffix: str) -> None:
    """Accept what can stand in a file name."""
    if any(c in "/\\\0" or not c.isprintable() for c in suffix):
        raise UsageError(f"--suffix becomes part of a file name, which {suffix!r} cannot")


def check_megapixels(megapixels: float) -> None:
    """Accept a limit above nothing."""
    if not megapixels > 0 or math.isinf(megapixels):
        raise UsageError(f"--max-megapixels is a number above 0, not {megapixels:g}")


def check_exposure(stops: float) -> None:
    """Accept a change of brightness that developing knows."""
    if not abs(stops) <= LARGEST_EXPOSURE:
        raise UsageError(
            f"--raw-exposure is a number from {-LARGEST_EXPOSURE:g} to {LARGEST_EXPOSURE:g}, not {stops:g}"
        )


def parse_jobs(text: str) -> int | None:
    """Return a number of photos, None for auto."""
    if text == "auto":
        return None
    jobs = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
    if not 1 <= jobs <= MOST_JOBS:
        raise UsageError(f"--jobs is auto or a number from 1 to {MOST_JOBS}, not {text!r}")
    return jobs


def check_folder(folder: Path, purpose: str) -> None:
    """Refuse what cannot become the folder for a purpose, such as "the folder of the run"."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: -o names {purpose}")
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except (OSError, ValueError) as error:  # a name that is too long, a NUL in it
        raise UsageError(f"{str(folder)!r} is no usable name; choose another folder with -o") from error
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to {nearest}: choose another folder with -o")


def telling(loaded: "LoadedWeights", *, motion: bool) -> "LoadedWeights":
    """Return weights, unless motion is to be drawn and their network does not tell it."""
    if motion and not loaded.network.traces:
        raise UsageError(
            f"{loaded.name} is of {loaded.architecture}, which does not tell motion: leave out --trajectory "
            "(--only-maps draws the mask alone with --mask)"
        )
    return loaded


def exclude(first: str, first_given: bool, second: str, second_given: bool) -> None:
    """Refuse two options that contradict each other."""
    if first_given and second_given:
        raise UsageError(f"{first} and {second} exclude each other; give only one of them")
