"""Make the example photos: move an object of a sharp photo while the shutter is open.

    pip install scikit-image
    python examples/make_examples.py

The sharp photos come with scikit-image. README.md in this folder names their sources and licenses.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter
from skimage import data
from torch import Tensor

from deblur_cli.nets.richardson_lucy import to_linear
from deblur_cli.train.camera import CameraSettings, record
from deblur_cli.train.trajectory import Motion, expose

FOLDER = Path(__file__).parent
INSTANTS = 41  # at which the exposure is sampled
CAMERA = CameraSettings(noise=0.003, mosaic=0.0, softness=0.0, tone=0.0, quality=(98.0, 98.0))


@dataclass(frozen=True)
class Scene:
    """A photo, the outline of what moves (x, y), and its motion over the exposure in pixels (y, x)."""

    name: str
    photo: str
    outline: str  # x,y pairs
    start: tuple[float, float]
    end: tuple[float, float]
    turn: float = 0.0  # radians from mid-exposure to the end

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Corners of the outline as (x, y)."""
        return [(int(x), int(y)) for x, y in (pair.split(",") for pair in self.outline.split())]


SCENES = (
    Scene(
        "rocket.jpg",
        "rocket",
        "306,140 313,128 322,122 331,128 337,141 338,250 340,385 304,385 308,250",
        start=(6.0, 0.5),
        end=(-7.0, 0.5),
    ),
    Scene(
        "coffee.jpg",
        "coffee",
        "172,60 185,38 215,22 270,16 330,17 372,30 402,62 408,100 398,150 385,200 "
        "360,250 300,288 262,285 240,306 205,306 195,280 215,250 190,200 175,130",
        start=(1.0, -6.5),
        end=(2.0, 6.5),
        turn=0.01,
    ),
    Scene(
        "astronaut.jpg",
        "astronaut",
        "152,75 158,48 178,26 210,15 250,17 280,34 298,62 302,95 290,122 278,150 "
        "262,176 240,192 212,192 192,176 182,150 168,125 155,100",
        start=(-0.5, -5.5),
        end=(1.5, 5.5),
        turn=0.03,
    ),
)


def silhouette(size: tuple[int, int], corners: list[tuple[int, int]]) -> Tensor:
    """Soft mask of the area inside an outline, 1 1 H W in 0-1."""
    image = Image.new("L", size)
    ImageDraw.Draw(image).polygon(corners, fill=255)
    soft = image.filter(ImageFilter.GaussianBlur(1.5))
    return torch.from_numpy(np.array(soft, np.float32) / 255)[None, None]


def fill_behind(picture: Tensor, hidden: Tensor) -> Tensor:
    """Fill the area behind an object from its surroundings, coarse to fine: B C H W, hidden 1 1 H W."""
    known = (hidden < 0.02).float()
    coarse = picture
    for factor in (64, 32, 16, 8, 4, 2, 1):
        weight = F.avg_pool2d(known, factor, ceil_mode=True)
        mean = F.avg_pool2d(picture * known, factor, ceil_mode=True) / weight.clamp(min=1e-3)
        filled = F.interpolate(coarse, mean.shape[-2:], mode="bilinear", align_corners=False)
        coarse = torch.where(weight > 0.05, mean, filled)
    return coarse


def square(picture: Tensor) -> Tensor:
    """Pad to a square whose side is a multiple of 16; the synthesis needs squares."""
    height, width = picture.shape[-2:]
    side = -(-max(height, width) // 16) * 16
    return F.pad(picture, (0, side - width, 0, side - height), mode="replicate")


def make(scene: Scene) -> Image.Image:
    """Render the scene as a camera would record it."""
    photo = Image.fromarray(getattr(data, scene.photo)())
    sharp = torch.from_numpy(np.array(photo, np.float32) / 255).permute(2, 0, 1)[None]
    mask = silhouette(photo.size, scene.corners)
    background = square(fill_behind(to_linear(sharp), mask))
    sharp, mask = square(to_linear(sharp)), square(mask)
    center = torch.tensor([np.mean(scene.corners, axis=0)[::-1].tolist()], dtype=torch.float32)
    motion = Motion(
        torch.tensor([scene.start]),
        torch.tensor([scene.end]),
        center,
        torch.tensor([scene.turn]),
        torch.zeros(1),
    )
    layer = expose(torch.cat([sharp * mask, mask], 1), motion, torch.full((1, INSTANTS), 1 / INSTANTS))
    outside = torch.lerp(sharp, background, (layer[:, 3:] > 0).float())
    blurred = layer[:, :3] + (1 - layer[:, 3:]) * outside
    taken, _ = record(blurred, sharp, CAMERA, torch.Generator().manual_seed(1))
    pixels = (taken[0].permute(1, 2, 0) * 255).round().byte().numpy()
    return Image.fromarray(pixels[: photo.height, : photo.width])


def main() -> None:
    """Write every scene next to this file."""
    for scene in SCENES:
        make(scene).save(FOLDER / scene.name, quality=93, subsampling=0)
        print(FOLDER / scene.name)


if __name__ == "__main__":
    main()
