"""Synthetic samples as files, in GoPro's layout with masks and displacements beside it.

FOLDER/blur/0000.png, sharp/0000.png, mask/0000.png (0 or 255), motion/0000.npz (start, end: 2 H W,
float16, pixels from mid-exposure) and synthesis.json, which says how they were made.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deblur_cli.errors import TrainingError
from deblur_cli.train.synthetic import BlurSettings, Sample

DESCRIPTION = "synthesis.json"
PARTS = ("blur", "sharp", "mask", "motion")


def prepare_folder(
    folder: Path, photos: Sequence[Tensor], settings: BlurSettings, size: int, seed: int
) -> None:
    """Make the folders and note how the samples come about; more of them can be added later.

    Raises TrainingError where samples made in another way are there already, or nothing can be written.
    """
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(photo.cpu().contiguous().numpy().tobytes())
    facts = {"blur": asdict(settings), "size": size, "seed": seed, "photos_sha256": digest.hexdigest()}
    wanted = json.dumps(facts, indent=2, sort_keys=True)
    note = folder / DESCRIPTION
    try:
        if note.exists():
            if note.read_text(encoding="utf-8", errors="replace") != wanted + "\n":
                raise TrainingError(f"{folder} holds samples made in another way: choose another folder")
        elif folder.exists() and any(folder.iterdir()):
            raise TrainingError(f"{folder} is not empty: choose another folder")
        for part in PARTS:
            (folder / part).mkdir(parents=True, exist_ok=True)
        note.write_text(wanted + "\n", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"cannot write to {folder}: {error.strerror}") from error


def is_written(folder: Path, number: int) -> bool:
    """Whether a sample is there as a whole; its motion is written last."""
    return (folder / "motion" / f"{number:04}.npz").exists()


def write_sample(folder: Path, number: int, sample: Sample) -> None:
    """Write a single sample, each file complete or not at all. Raises TrainingError where that fails."""
    name = f"{number:04}"
    try:
        for part, image in (("blur", sample.blurred), ("sharp", sample.sharp), ("mask", sample.mask)):
            path = folder / part / f"{name}.png"
            partial = path.with_suffix(".part")
            Image.fromarray(to_pixels(image)).save(partial, "PNG")
            partial.replace(path)
        motion = folder / "motion" / f"{name}.npz"
        partial = motion.with_suffix(".part")
        with partial.open("wb") as file:
            fields = {key: getattr(sample, key)[0].half().cpu().numpy() for key in ("start", "end")}
            np.savez_compressed(file, allow_pickle=False, **fields)
        partial.replace(motion)
    except OSError as error:
        raise TrainingError(f"cannot write {folder}: {error.strerror}") from error


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """1 C H W in 0-1 -> H W 3 or H W, uint8."""
    values = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.asarray(values[..., 0] if values.shape[2] == 1 else values)


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
        blurred, sharp, mask = (read_pixels(folder / part / f"{name}.png") for part in PARTS[:3])
        path = folder / "motion" / f"{name}.npz"
        with path.open("rb") as file, np.load(file, allow_pickle=False) as motion:
            start, end = (torch.from_numpy(motion[key]).float()[None] for key in ("start", "end"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingError(f"cannot read sample {name} of {folder}: {error}") from error
    images = [image.permute(2, 0, 1)[None].float() / 255 for image in (blurred, sharp)]
    return Sample(images[0], images[1], (mask > 127).float()[None, None], start, end)


def read_pixels(path: Path) -> Tensor:
    """The pixels of a picture file as it holds them, H W 3 or H W, uint8."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))
