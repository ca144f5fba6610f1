"""Sharp photos, decoded once and cut into patches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.errors import TrainingError
from deblur_cli.photo.decode import decode, is_picture_name


def load_photos(folder: Path, device: str = "cpu") -> list[Tensor]:
    """Every picture in a folder as uint8 tensors 3 H W on the device, in the order of their names.

    Raises TrainingError where there is none, DecodeError for a damaged one.
    """
    photos = []
    for path in find_photos(folder):
        pixels = decode(path).pixels
        rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        photos.append(torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).to(device))
    return photos


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
    photos: Sequence[Tensor], count: int, size: int, generator: torch.Generator, tries: int = 1
) -> Tensor:
    """Random patches, count 3 size size, float32 in 0-1.

    Each is cut at a random place, resampled to between half and 1.25 times its size, flipped and turned.
    Of several tries the one with most detail is kept, since a patch without detail shows no blur.
    """
    return torch.stack([cut_one(photos, size, generator, tries) for _ in range(count)])


def cut_one(photos: Sequence[Tensor], size: int, generator: torch.Generator, tries: int) -> Tensor:
    """One patch 3 size size, the most detailed of several tries."""
    best, most = None, -1.0
    for _ in range(tries):
        patch = cut_window(photos[pick(len(photos), generator)], size, draw(0.8, 2, generator), generator)
        detail = float((patch[:, 1:] - patch[:, :-1]).abs().mean()) if tries > 1 else 0.0
        if detail > most:
            best, most = patch, detail
    assert best is not None
    turned = torch.rot90(best, pick(4, generator), (1, 2))
    return turned.flip(2) if pick(2, generator) else turned


def cut_window(photo: Tensor, size: int, shrink: float, generator: torch.Generator) -> Tensor:
    """A window of a photo 3 H W resampled to 3 size size; a photo smaller than that is enlarged."""
    height, width = photo.shape[1:]
    side = min(round(size * shrink), height, width)
    top, left = pick(height - side + 1, generator), pick(width - side + 1, generator)
    window = photo[:, top : top + side, left : left + side].float() / 255
    if side == size:
        return window
    resized = F.interpolate(
        window.unsqueeze(0), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.squeeze(0).clamp(0, 1)
