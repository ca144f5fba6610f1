"""The shipped weights at work: blur of any length becomes less, and what is sharp stays as it was."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from restoration_helpers import photo_of, run
from scipy.ndimage import binary_dilation
from skimage import data
from typer.testing import CliRunner

from deblur_cli import weights
from deblur_cli.cli.app import app
from deblur_cli.nets.richardson_lucy import to_encoded, to_linear
from deblur_cli.restoration.deblurrer import Deblurrer
from deblur_cli.train.trajectory import Motion, expose

SIDE = 512


@pytest.fixture(scope="module")
def deblurrer():
    return Deblurrer(weights.guide(weights.load()), "cpu", "fp32")


def as_light(pixels):
    """A photo H W 3 in 0-255 as linear light, 1 3 H W in 0-1."""
    return to_linear(torch.from_numpy(pixels.astype(np.float32) / 255)).permute(2, 0, 1)[None]


def cat():
    """What moves: a cat, as large as the scene."""
    light = as_light(data.chelsea()[:, 90:390])
    return F.interpolate(light, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)


def taken(length, angle, light):
    """The scene if the oval moves by so many pixels while the shutter is open: pixels and where it was."""
    y, x = torch.meshgrid(torch.arange(SIDE) - 256.0, torch.arange(SIDE) - 256.0, indexing="ij")
    cover = ((1 - ((y / 120) ** 2 + (x / 150) ** 2).sqrt()) * 60).clamp(0, 1)[None, None]
    half = torch.tensor([[np.sin(angle), np.cos(angle)]], dtype=torch.float32) * length / 2
    motion = Motion(-half, half, torch.full((1, 2), SIDE / 2), torch.zeros(1), torch.zeros(1))
    instants = max(9, length | 1)
    layer = expose(torch.cat([light * cover, cover], 1), motion, torch.full((1, instants), 1 / instants))
    scene = to_encoded(layer[:, :3] + (1 - layer[:, 3:]) * as_light(data.astronaut()))
    pixels = scene[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    return np.rint(pixels).astype(np.uint8), layer[0, 3].numpy() > 0.1


def psnr(pixels, truth, mask):
    error = (pixels[mask].astype(float) - truth[mask]) / 255
    return -10 * np.log10(np.square(error).mean())


@pytest.mark.parametrize(
    ("length", "angle", "least"), [(8, 0.3, 0.7), (25, 1.2, 0.7), (50, -0.8, 0.4)], ids=["8", "25", "50"]
)
def test_what_moved_becomes_sharper_and_the_rest_stays(deblurrer, length, angle, least):
    """Least gain in dB: about half of what was measured."""
    (blurred, mask), (still, _) = (taken(moved, angle, cat()) for moved in (length, 0))
    result = run(deblurrer, photo_of(blurred))
    pixels = result.photo.pixels
    assert psnr(pixels, still, mask) - psnr(blurred, still, mask) > least
    differs = (pixels != blurred).any(axis=2)
    assert differs[mask].mean() > 0.5
    far = ~binary_dilation(mask, iterations=40)
    assert differs[far].mean() < 0.03


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sharp_photo_stays_as_it_is(deblurrer, channels, dtype):
    sharp = data.astronaut().astype(int)
    sharp = sharp if channels == 3 else np.rint(sharp @ [[0.3], [0.59], [0.11]])
    photo = photo_of((sharp * (np.iinfo(dtype).max // 255)).astype(dtype))
    result = run(deblurrer, photo)
    assert result.photo is photo
    assert result.blurred_share == 0


def test_longer_blur_is_restored_at_a_coarser_scale(deblurrer):
    scales = []
    for length in (8, 25, 50):
        blurred, mask = taken(length, 0.3, cat())
        findings = deblurrer.detect(photo_of(blurred))
        inside = mask[4::8, 4::8] & (findings.probability > 0.5)
        scales.append(float(np.median(findings.scale[inside])))
    assert scales[0] < 1.6 < scales[1] < scales[2]


def test_the_first_command_of_the_readme_restores_the_head(tmp_path):
    root = Path(__file__).parent.parent
    line = next(
        line for line in (root / "README.md").read_text("utf-8").splitlines() if "deblur run ex" in line
    )
    words = shlex.split(line.partition("bin/deblur ")[2])
    photo, words[words.index("results")] = root / words[1], str(tmp_path)
    words[1] = str(photo)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    named = [tmp_path / f"astronaut_{part}" for part in ("deblurred.jpg", "mask.png", "trajectory.png")]
    assert sorted(tmp_path.iterdir()) == named
    before, after, *drawings = (np.asarray(Image.open(path)) for path in (photo, *named))
    assert all(drawing.shape == before.shape and (drawing != before).any() for drawing in drawings)
    head = np.zeros((SIDE, SIDE), bool)
    head[40:190, 150:290] = True
    assert psnr(after, data.astronaut(), head) - psnr(before, data.astronaut(), head) > 0.2
    assert np.abs(after[~head].astype(int) - before[~head]).mean() < 1  # JPEG's rounding
