"""Blurred pictures and their truth, in memory and as files in GoPro's layout.

FOLDER/blur/0000.png, sharp/0000.png, mask/0000.png (0 or 255), motion/0000.npz (start, end: 2 H W,
float16, pixels from mid-exposure), and synthesis.json, which says how they were made.
"""

import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deblur_cli import files
from deblur_cli.errors import TrainingError
from deblur_cli.files import PARTIAL, write_file
from deblur_cli.train.settings import BlurSettings

TENSORS = ("blurred", "sharp", "mask", "start", "end")  # of a sample
DESCRIPTION = "synthesis.json"
FILES = {"blur": ".png", "sharp": ".png", "mask": ".png", "motion": ".npz"}
DAMAGED = (  # what Pillow and numpy raise for files that are not what they should be
    *(OSError, ValueError, KeyError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error),
    Image.DecompressionBombError,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """A batch of blurred pictures and their truth.

    blurred, sharp: B 3 H W in 0-1, sRGB; sharp shows the middle of the exposure
    mask: B 1 H W of zeros and ones, ones where something moved
    start, end: B 2 H W, (dy, dx) in pixels from mid-exposure to start and end; zero off the mask
    measured: both pictures come from cameras, so that nobody knows the displacements
    """

    blurred: Tensor
    sharp: Tensor
    mask: Tensor
    start: Tensor
    end: Tensor
    measured: bool = False

    def to(self, device: str) -> "Sample":
        """The same on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in TENSORS})


def join(samples: Sequence[Sample]) -> Sample:
    """Batches of the same kind as a single one."""
    joined: dict[str, Any] = {
        name: torch.cat([getattr(sample, name) for sample in samples]) for name in TENSORS
    }
    return replace(samples[0], **joined)


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """The first picture of B C H W in 0-1: H W C, or H W of a single channel, uint8."""
    values = image[0].float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values)


def prepare_folder(
    folder: Path, photos: Sequence[Tensor], settings: BlurSettings, size: int, seed: int
) -> None:
    """Make the folders and note how the samples come about; more of them can be added later.

    Raises TrainingError where samples made in another way are there already, or nothing can be written.
    """
    digest = photos_digest(photos)
    facts = {"blur": settings.model_dump(), "size": size, "seed": seed, "photos_sha256": digest}
    wanted = json.dumps(facts, indent=2, sort_keys=True) + "\n"
    note = folder / DESCRIPTION
    try:
        if not note.exists():
            check_empty(folder)
            write_file(note, [wanted.encode()], overwrite=True)  # first, so that a killed run can go on
        elif note.read_text(encoding="utf-8", errors="replace") != wanted:
            raise TrainingError(f"{folder} holds samples made in another way: choose another folder")
        for part in FILES:
            (folder / part).mkdir(exist_ok=True)
            for partial in (folder / part).glob(PARTIAL):  # of a run that was killed
                partial.unlink()
    except OSError as error:
        raise TrainingError(f"cannot write to {folder}: {error.strerror}") from error


def check_empty(folder: Path) -> None:
    """Raise TrainingError for a folder that holds anything but traces of a run that was killed."""
    if folder.exists():
        found = [path for path in folder.iterdir() if path.name != files.LOCK and not path.match(PARTIAL)]
        if found:
            raise TrainingError(f"{folder} is not empty: choose another folder")


def photos_digest(photos: Sequence[Tensor]) -> str:
    """SHA-256 of the pixels of photos."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(photo.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_digest(folder: Path) -> str:
    """SHA-256 of the photos that the samples of a folder were made from; "" where that is not known."""
    try:
        facts: Any = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return str(facts["photos_sha256"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        logger.warning("%s does not say what its samples were made from: %s", folder / DESCRIPTION, error)
        return ""


def sample_file(folder: Path, part: str, name: str) -> Path:
    """A file of the sample of a name."""
    return folder / part / f"{name}{FILES[part]}"


def is_written(folder: Path, number: int) -> bool:
    """Whether a sample is there as a whole; none of its files is empty."""
    paths = [sample_file(folder, part, f"{number:04}") for part in FILES]
    return all(path.is_file() and path.stat().st_size for path in paths)


def write_sample(folder: Path, number: int, sample: Sample) -> None:
    """Write a single sample, each file complete or not at all. Raises EncodeError where that fails."""
    for part in FILES:

        def content(file: BinaryIO, part: str = part) -> None:
            write_part(file, part, sample)

        write_file(sample_file(folder, part, f"{number:04}"), content, overwrite=True)


def write_part(file: BinaryIO, part: str, sample: Sample) -> None:
    """Write one of the files of a sample."""
    if part == "motion":
        fields = {key: getattr(sample, key)[0].half().cpu().numpy() for key in ("start", "end")}
        np.savez_compressed(file, allow_pickle=False, **fields)
        return
    images = {"blur": sample.blurred, "sharp": sample.sharp, "mask": sample.mask}
    Image.fromarray(to_pixels(images[part])).save(file, "PNG")


def holds_samples(folder: Path) -> bool:
    """Whether a folder was written by `deblur synth`."""
    return (folder / DESCRIPTION).is_file()


def read_samples(folder: Path) -> Iterator[Sample]:
    """The samples of a folder one by one, in order. Raises TrainingError where there is none."""
    found = [path.stem for path in (folder / "motion").glob("*.npz")]
    numbers = sorted(found, key=lambda name: (len(name), name))  # 10000 comes after 9999
    if not numbers:
        raise TrainingError(f"no samples in {folder}: make them with deblur synth")
    return (read_sample(folder, name) for name in numbers)


def read_sample(folder: Path, name: str) -> Sample:
    """The sample of a name. Raises TrainingError where a file of it is missing or damaged."""
    try:
        blurred, sharp, mask = (
            read_pixels(sample_file(folder, part, name)) for part in ("blur", "sharp", "mask")
        )
        with (
            sample_file(folder, "motion", name).open("rb") as file,
            np.load(file, allow_pickle=False) as motion,
        ):
            start, end = (torch.from_numpy(motion[key]).float()[None] for key in ("start", "end"))
        check_shapes(blurred, sharp, mask, start, end)
    except DAMAGED as error:
        raise TrainingError(f"cannot read sample {name} of {folder}: {error}") from error
    images = [image.permute(2, 0, 1)[None].float() / 255 for image in (blurred, sharp)]
    return Sample(images[0], images[1], (mask > 127).float()[None, None], start, end)


def check_shapes(blurred: Tensor, sharp: Tensor, mask: Tensor, start: Tensor, end: Tensor) -> None:
    """Raise ValueError where the files of a sample were not made together."""
    size = tuple(mask.shape)
    pictures = blurred.shape == sharp.shape == (*size, 3)
    if not pictures or not start.shape == end.shape == (1, 2, *size) or not (start + end).isfinite().all():
        raise ValueError("its files do not belong together: make it again with deblur synth")


def read_pixels(path: Path) -> Tensor:
    """The pixels of a picture file as it holds them, H W 3 or H W, uint8."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))
