"""Sharp photos, decoded once and cut into patches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.errors import TrainingError
from deblur_cli.photo.decode import decode, is_picture_name
from deblur_cli.photo.photo import to_eight_bits


def load_photos(folder: Path, device: str = "cpu") -> list[Tensor]:
    """Every picture in a folder as uint8 tensors 3 H W on the device, in the order of their names.

    Raises TrainingError where there is none, DecodeError for a damaged one.
    """
    return [read_rgb(path).to(device) for path in find_photos(folder)]


def count_small(photos: Sequence[Tensor], size: int) -> int:
    """How many photos 3 H W have a side below half of a patch's, so that patches of them are soft."""
    return sum(2 * min(photo.shape[1:]) < size for photo in photos)


def read_rgb(path: Path) -> Tensor:
    """A picture file as uint8 3 H W, grey ones with three equal channels. Raises DecodeError."""
    pixels = to_eight_bits(decode(path).pixels)
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def find_photos(folder: Path) -> list[Path]:
    """Every picture file of a folder, by name. Raises TrainingError where there is none."""
    if not folder.is_dir():
        raise TrainingError(f"there is no folder {folder}: name a folder of sharp photos")
    try:
        paths = sorted(path for path in folder.iterdir() if is_picture_name(path))
    except OSError as error:
        raise TrainingError(f"cannot read {folder}: {error.strerror}") from error
    if not paths:
        raise TrainingError(f"no pictures in {folder}: name a folder of sharp photos")
    return paths


def draw(low: float, high: float, generator: torch.Generator) -> float:
    """One number, evenly between low and high."""
    return low + (high - low) * float(torch.rand((), generator=generator, device=generator.device))


def pick(count: int, generator: torch.Generator) -> int:
    """One of 0 .. count - 1."""
    return int(torch.randint(count, (), generator=generator, device=generator.device))


def cut_patches(
    photos: Sequence[Tensor],
    count: int,
    size: int,
    generator: torch.Generator,
    tries: int = 1,
    shrink: float = 2.0,
    enlarge: float = 1.25,
) -> Tensor:
    """Random patches, count 3 size size, float32 in 0-1.

    Each is cut at a random place, enlarged or shrunk by at most what is given, flipped and turned. Of
    several tries the one with most detail is kept, since a patch without shows no blur.
    """
    numbers = torch.rand(count, 4 * tries + 2, generator=generator, device=generator.device).tolist()
    sides = size / enlarge, size * shrink
    return torch.stack([cut_one(photos, size, drawn, sides) for drawn in numbers])  # a GPU waits once


def cut_one(photos: Sequence[Tensor], size: int, numbers: list[float], sides: tuple[float, float]) -> Tensor:
    """The most detailed of several patches 3 size size; numbers in 0-1, four for each and two to turn it."""
    *places, turns, mirrored = numbers
    patches = [
        cut_window(photos, size, places[first : first + 4], sides) for first in range(0, len(places), 4)
    ]
    best = max(patches, key=detail) if len(patches) > 1 else patches[0]
    turned = torch.rot90(best, int(4 * turns), (1, 2))
    return turned.flip(2) if mirrored < 0.5 else turned


def detail(patch: Tensor) -> float:
    """Mean difference of vertical neighbours."""
    return float((patch[:, 1:] - patch[:, :-1]).abs().mean())


def cut_window(
    photos: Sequence[Tensor], size: int, numbers: list[float], sides: tuple[float, float]
) -> Tensor:
    """A window of one of the photos, of a side between two, resampled to 3 size size.

    A photo smaller than that is enlarged.
    """
    which, scale, down, right = numbers
    photo = photos[int(which * len(photos))]
    height, width = photo.shape[1:]
    smallest, largest = sides
    side = min(round(smallest + (largest - smallest) * scale), height, width)
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    window = photo[:, top : top + side, left : left + side].float() / 255
    if side == size:
        return window
    resized = F.interpolate(
        window.unsqueeze(0), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.squeeze(0).clamp(0, 1)
