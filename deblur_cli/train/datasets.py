"""What is learned from, as files: folders of sharp photos, and datasets of blurred and sharp pairs.

GoPro (Nah et al. 2017): SCENE/blur/NAME.png and SCENE/sharp/NAME.png. A mask/NAME.png beside them, as
`deblur synth` writes it, is used; without one the whole picture is taken for blurred.
ReLoBlur (Li et al. 2023): dataset/.../NN_blur.png and NN_sharp.png, masks at masks/.../NN.png or .npy.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deblur_cli.errors import DecodeError, TrainingError
from deblur_cli.photo.names import is_picture_name
from deblur_cli.photo.photo import Photo, to_eight_bits
from deblur_cli.train.samples import Sample

MASK_SUFFIXES = (".png", ".npy")
PNG = b"\x89PNG\r\n\x1a\n"  # what such a file begins with; a chunk's length and name, width, height follow
PACKED = b"packed by deblur for training"  # the comment of such a JPEG, which stands in its first bytes
HEAD = 64  # bytes
QUALITY = 92  # of packed photos; lower ones leave blocks that a network would learn as detail
MULTIPLE = 16  # pixels; the network halves its input four times


@dataclass(frozen=True)
class Pair:
    """Files of one moment. Without a mask the whole picture is blurred."""

    blurred: Path
    sharp: Path
    mask: Path | None = None


def load_photos(folder: Path, device: str = "cpu") -> list[Tensor]:
    """Every picture in a folder as uint8 tensors 3 H W on the device, in the order of their names.

    Raises TrainingError where there is none, DecodeError for a damaged one.
    """
    return [read_rgb(path).to(device) for path in find_photos(folder)]


def count_small(photos: Sequence[Tensor], size: int) -> int:
    """How many photos 3 H W have a side below half of a patch's, so that patches of them are soft."""
    return sum(2 * min(photo.shape[1:]) < size for photo in photos)


def read_rgb(path: Path) -> Tensor:
    """A picture file as uint8 3 H W, gray ones with three equal channels. Raises DecodeError."""
    pixels = packed_pixels(path) if is_packed(path) else to_eight_bits(decode(path).pixels)
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def decode(path: Path) -> Photo:
    """A picture file of any kind. What reads it is imported here, as packed photos do without."""
    from deblur_cli.photo.decode import decode as decode_any

    return decode_any(path)


def packed(photo: Tensor, side: int) -> bytes:
    """A photo uint8 3 H W as a JPEG of at most `side` pixels each way, to be sent to a training machine."""
    image = Image.fromarray(photo.permute(1, 2, 0).numpy())
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY, optimize=True, comment=PACKED)
    return content.getvalue()


def is_packed(path: Path) -> bool:
    """Whether a file is such a JPEG, which Pillow alone reads as it should be: upright, without a profile."""
    try:
        with path.open("rb") as file:
            return PACKED in file.read(HEAD)
    except OSError:
        return False  # decode says what is wrong


def packed_pixels(path: Path) -> NDArray[np.uint8]:
    """The pixels H W 3 of such a JPEG, as `decode` has them. Raises DecodeError."""
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except OSError as error:
        raise DecodeError(f"{path}: is damaged ({error}); pack the photos again") from error


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


def pick(count: int, generator: torch.Generator) -> int:
    """One of 0 .. count - 1."""
    return int(torch.randint(count, (), generator=generator, device=generator.device))


def find_pairs(folder: Path) -> list[Pair]:
    """Every pair below a folder, by path, in either layout.

    Raises TrainingError where there is none or where half of a pair is missing.
    """
    if not folder.is_dir():
        raise TrainingError(f"there is no folder {folder}: name a dataset")
    pairs = [*gopro_pairs(folder), *reloblur_pairs(folder)]
    if not pairs:
        raise TrainingError(
            f"no pairs in {folder}: expected blur/ and sharp/ folders (GoPro), or NN_blur.png and "
            "NN_sharp.png (ReLoBlur)"
        )
    for pair in pairs:
        if not pair.sharp.is_file():
            raise TrainingError(f"{pair.blurred} has no sharp partner {pair.sharp.name}")
    return pairs


def gopro_pairs(folder: Path) -> list[Pair]:
    """Pairs of blur/ and sharp/ folders, with the masks of mask/ where there are any."""
    found = []
    for path in sorted(folder.rglob("blur/*.png")):
        mask = path.parents[1] / "mask" / path.name
        found.append(Pair(path, path.parents[1] / "sharp" / path.name, mask if mask.is_file() else None))
    return found


def reloblur_pairs(folder: Path) -> list[Pair]:
    """Pairs NN_blur.png and NN_sharp.png; each needs a mask, or everything would count as blurred."""
    found = []
    for path in sorted(folder.rglob("*_blur.png")):
        number = path.name.removesuffix("_blur.png")
        masks = mask_folder(path.parent)
        candidates = [masks / f"{number}{suffix}" for suffix in MASK_SUFFIXES]
        mask = next((candidate for candidate in candidates if candidate.is_file()), None)
        if mask is None:
            raise TrainingError(f"{path} has no mask {candidates[0]}: unpack the dataset's masks there")
        found.append(Pair(path, path.with_name(f"{number}_sharp.png"), mask))
    return found


def mask_folder(folder: Path) -> Path:
    """Where the masks of a folder of pictures lie: masks/ in the place of the last dataset/."""
    parts = list(folder.absolute().parts)
    for place in reversed(range(len(parts))):
        if parts[place] == "dataset":
            return Path(*parts[:place], "masks", *parts[place + 1 :])
    return folder


def check_sizes(pairs: Sequence[Pair], least: int) -> None:
    """Read the headers of all pairs that are PNG files, so that no run stops on them hours later.

    Raises TrainingError where the files of a pair differ in size or have a side below `least` pixels.
    """
    for pair in pairs:
        files = [path for path in (pair.blurred, pair.sharp, pair.mask) if path and path.suffix == ".png"]
        sizes = {size for path in files if (size := png_size(path))}
        if len(sizes) > 1:
            raise TrainingError(f"{pair.blurred}: picture, sharp partner and mask differ in size")
        if sizes and min(map(min, sizes)) < least:
            raise TrainingError(f"{pair.blurred} is smaller than the patch of {least} pixels")


def png_size(path: Path) -> tuple[int, ...] | None:
    """The sides of a PNG file, the shorter first, as pictures may be turned; None for another kind."""
    try:
        with path.open("rb") as file:
            header = file.read(24)
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from error
    if not header:
        raise TrainingError(f"{path} is empty")
    if len(header) < 24 or not header.startswith(PNG):
        return None
    return tuple(sorted(struct.unpack(">II", header[16:])))


def read_pair(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """Blurred and sharp picture, 3 H W uint8, and mask, 1 H W of zeros and ones uint8.

    Raises TrainingError where the sizes differ or a file holds no mask.
    """
    blurred, sharp = read_rgb(pair.blurred), read_rgb(pair.sharp)
    mask = torch.ones_like(blurred[:1]) if pair.mask is None else read_mask(pair.mask)[None]
    if blurred.shape != sharp.shape or mask.shape[1:] != blurred.shape[1:]:
        raise TrainingError(f"{pair.blurred}: picture, sharp partner and mask differ in size")
    return blurred, sharp, mask


def read_mask(path: Path) -> Tensor:
    """A mask H W of zeros and ones, uint8, from a picture or an array; what is above zero is blurred."""
    try:
        values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else decode(path).pixels
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"cannot read {path}: {error}") from error
    if not isinstance(values, np.ndarray) or values.ndim not in (2, 3):
        raise TrainingError(f"{path} does not hold a mask")
    blurred = (values if values.ndim == 2 else values[..., 0]).astype(bool)
    return torch.from_numpy(blurred.astype(np.uint8))


def cut_pair(pair: Pair, size: int, aware: float, generator: torch.Generator) -> Sample:
    """A patch of a pair, flipped and turned at random; blur-aware cropping after Li et al. (2023).

    aware: probability that the patch is centerd on a blurred pixel rather than cut anywhere.
    Raises TrainingError where the picture is smaller than the patch.
    """
    blurred, sharp, mask = read_pair(pair)
    height, width = mask.shape[1:]
    if min(height, width) < size:
        raise TrainingError(f"{pair.blurred} is smaller than the patch of {size} pixels")
    top, left = pick(height - size + 1, generator), pick(width - size + 1, generator)
    places = mask[0].nonzero()
    if len(places) and float(torch.rand((), generator=generator)) < aware:
        row, column = places[pick(len(places), generator)].tolist()
        top = min(max(row - size // 2, 0), height - size)
        left = min(max(column - size // 2, 0), width - size)
    turns, mirrored = pick(4, generator), pick(2, generator)
    patches = []
    for values in (blurred, sharp, mask):
        patch = torch.rot90(values[:, top : top + size, left : left + size], turns, (1, 2))
        patches.append((patch.flip(2) if mirrored else patch)[None])
    still = torch.zeros(1, 2, size, size)
    return Sample(patches[0] / 255, patches[1] / 255, patches[2].float(), still, still, measured=True)


def whole_pair(pair: Pair) -> Sample:
    """A pair at full size, but for rows and columns beyond a multiple of 16 pixels."""
    blurred, sharp, mask = read_pair(pair)
    height, width = (side // MULTIPLE * MULTIPLE for side in mask.shape[1:])
    blurred, sharp, mask = (image[None, :, :height, :width] for image in (blurred, sharp, mask))
    still = torch.zeros(1, 2, height, width)
    return Sample(blurred / 255, sharp / 255, mask.float(), still, still, measured=True)
