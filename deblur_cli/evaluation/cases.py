"""The pictures of a dataset with whatever truth it has."""

import glob
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.errors import EvaluationError, TrainingError, UnreadableError
from deblur_cli.photo.names import is_picture_name
from deblur_cli.train.datasets import Pair, gopro_pairs, read_pair, reloblur_pairs
from deblur_cli.train.samples import FILES, holds_samples, read_sample, sample_file

BLURRED_FOLDERS = ("blur", "blurred", "input")  # names in common use for either half of a pair
SHARP_FOLDERS = ("sharp", "target", "gt")


@dataclass(frozen=True)
class Truth:
    """One picture and what is known about it.

    blurred, sharp: 3 H W uint8; mask: 1 H W of zeros and ones uint8, None where no mask exists
    start, end: 2 H W float32, (dy, dx) in pixels from mid-exposure, None where they are unknown
    """

    blurred: Tensor
    sharp: Tensor
    mask: Tensor | None
    start: Tensor | None = None
    end: Tensor | None = None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The blurred picture as photos are kept, H W 3."""
        return np.ascontiguousarray(self.blurred.permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Case:
    """A picture of the dataset that is not read yet. `files` are all that its truth is read from."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Truth]

    def checksum(self) -> str:
        """Of its files, so that a result can be told to be that of other pictures of the same name.

        Raises UnreadableError where one cannot be read.
        """
        total = 0
        for path in self.files:
            try:
                total = zlib.crc32(path.read_bytes(), total)
            except OSError as error:
                raise UnreadableError(f"cannot read {path}: {error.strerror}") from error
        return f"{total:08x}"


def find_cases(folder: Path, layout: str = "auto") -> list[Case]:
    """Every picture of a dataset, by name, in the layout of that name; "auto" looks which one it is.

    Raises EvaluationError where there is none, TrainingError where all sharp partners are missing or a
    picture of ReLoBlur has no mask.
    """
    if not folder.is_dir():
        raise EvaluationError(f"there is no folder {folder}: name a dataset")
    tried = LAYOUTS if layout == "auto" else {layout: LAYOUTS[layout]}
    for find, _ in tried.values():
        if cases := find(folder):
            return sorted(cases, key=lambda case: natural(case.name))
    wanted = "; ".join(f"{name}: {words}" for name, (_, words) in tried.items())
    raise EvaluationError(f"no pictures with their truth in {folder}; expected are {wanted}")


def synth_cases(folder: Path) -> list[Case]:
    """What `deblur synth` wrote."""
    if not holds_samples(folder):
        return []
    return [synth_case(folder, path.stem) for path in (folder / "motion").glob("*.npz")]


def synth_case(folder: Path, number: str) -> Case:
    """The case of a sample."""
    files = tuple(sample_file(folder, part, number) for part in FILES)
    return Case(number, files, lambda: read_synth(folder, number))


def read_synth(folder: Path, number: str) -> Truth:
    """Picture, truth, mask and displacements of a sample."""
    sample = read_sample(folder, number)
    blurred, sharp = ((image[0] * 255).round().byte() for image in (sample.blurred, sample.sharp))
    return Truth(blurred, sharp, sample.mask[0].byte(), sample.start[0], sample.end[0])


def pair_cases(folder: Path, pairs: list[Pair]) -> list[Case]:
    """Cases of published pairs, named by their path in the dataset. A lone half is left to be named later."""
    if pairs and not any(pair.sharp.is_file() for pair in pairs):
        raise TrainingError(
            f"none of the {len(pairs)} blurred pictures in {folder} has its sharp partner, such as "
            f"{pairs[0].sharp}: unpack them there"
        )
    return [pair_case(folder, pair) for pair in pairs]


def pair_case(folder: Path, pair: Pair) -> Case:
    """The case of a pair."""
    files = tuple(path for path in (pair.blurred, pair.sharp, pair.mask) if path is not None)
    return Case(pair.blurred.relative_to(folder).as_posix(), files, lambda: read_pair_truth(pair))


def read_pair_truth(pair: Pair) -> Truth:
    """Picture, truth and, where there is a file of it, mask."""
    blurred, sharp, mask = read_pair(pair)
    return Truth(blurred, sharp, mask if pair.mask else None)


def plain_pairs(folder: Path) -> list[Pair]:
    """Pairs of equal names in two sibling folders, in any format, with masks from mask/ if it is there."""
    found = []
    for blurred in sorted(path for name in BLURRED_FOLDERS for path in folder.rglob(name) if path.is_dir()):
        sharp = next((place for name in SHARP_FOLDERS if (place := blurred.with_name(name)).is_dir()), None)
        for path in sorted(blurred.iterdir()):
            if sharp is None or not is_picture_name(path):
                continue
            partner = same_stem(sharp, path) or sharp / path.name
            found.append(Pair(path, partner, same_stem(blurred.with_name("mask"), path)))
    return found


def same_stem(folder: Path, path: Path) -> Path | None:
    """The picture in a folder that is called like another one, whatever its suffix."""
    candidates = sorted(folder.glob(f"{glob.escape(path.stem)}.*"))
    return next((candidate for candidate in candidates if is_picture_name(candidate)), None)


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts numbers inside names by value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]


Find = Callable[[Path], list[Case]]
LAYOUTS: dict[str, tuple[Find, str]] = {  # how to find it, what it looks like
    "synth": (synth_cases, "the folder of deblur synth"),
    "gopro": (lambda folder: pair_cases(folder, gopro_pairs(folder)), "blur/ and sharp/ with .png files"),
    "pairs": (lambda folder: pair_cases(folder, plain_pairs(folder)), "blur/ or input/ beside sharp/ or gt/"),
    "reloblur": (
        lambda folder: pair_cases(folder, reloblur_pairs(folder)),
        "NN_blur.png and NN_sharp.png with masks",
    ),
}
