"""A network that needs no weights, and photos to feed it, for tests of the command line.

What the network does with a photo is told by the photo's name: `calm` holds no blur, `crash` ends in
a programming error, `short` runs out of memory, `slow` takes half a minute, `odd` gives a note. Any
other photo comes back inverted.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import deblur_cli
from deblur_cli import restore, weights
from deblur_cli.cli.app import app
from deblur_cli.errors import DeviceError, OutOfMemoryError, WeightsError
from deblur_cli.nets import create
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.tiles import Grid
from deblur_cli.weights import CatalogueEntry, LoadedWeights

INSTALLED = [
    CatalogueEntry("m2aenet-small", "m2aenet", Path(__file__), 9_500_000, "", "synthetic blur"),
    CatalogueEntry("nafnet-gopro", "nafnet", Path("gone.safetensors"), 68_671_121, "", "GoPro"),
]


class Deblurrer:
    runs: ClassVar[list[restore.Settings]] = []

    def __init__(self, weights: LoadedWeights, device: str = "auto", precision: str = "auto"):
        if device.startswith("cuda"):
            raise DeviceError(f"there is no {device} on this machine; use --device cpu")
        self.weights = weights
        self.device = "cpu"
        self.precision = "fp32" if precision == "auto" else precision
        self.precision_reason = "a test"

    def grid(self, height: int, width: int, settings: restore.Settings) -> Grid:
        return Grid(height, width, settings.tile or 256, settings.overlap)

    def run(
        self,
        photo: Photo,
        settings: restore.Settings,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> restore.Result:
        Deblurrer.runs.append(settings)
        name = photo.source.name
        if "crash" in name:
            raise ZeroDivisionError("division by zero")
        if "short" in name:
            raise OutOfMemoryError("even the smallest tile does not fit into memory; use a smaller photo")
        if "slow" in name:
            sys.stderr.write("working\n")
            sys.stderr.flush()
            time.sleep(30)
        blurred = "calm" not in name
        changed = blurred and settings.restore
        if progress is not None:
            progress(0, 4, "detect")
            progress(4, 4, "restore")
        return restore.Result(
            replace(photo, pixels=np.iinfo(photo.pixels.dtype).max - photo.pixels) if changed else photo,
            _maps(photo, blurred=blurred),
            settings.epsilon,
            0.25 if blurred else 0.0,
            *(4, 1 if changed else 0, 0),
            ("one tile was rerun in float32",) if "odd" in name else (),
            *(0.1, 256),
            changed,
        )


def _maps(photo: Photo, *, blurred: bool) -> restore.MotionMaps:
    size = (-(-photo.height // 8), -(-photo.width // 8))
    probability = np.zeros(size, np.float32)
    probability[:2, :2] = float(blurred)
    moved = np.full((2, *size), 3, np.float32)
    return restore.MotionMaps(probability, -moved, moved)


def load(name: str) -> LoadedWeights:
    if name != weights.DEFAULT:
        raise WeightsError(f"there are no weights named {name}; `deblur info` lists those there are")
    return LoadedWeights(name, "m2aenet", "ab" * 32, create("m2aenet", width=2, encoder=(1, 1, 1, 1)))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in network where the command line looks for the real one."""
    monkeypatch.setattr(restore, "Deblurrer", Deblurrer)
    monkeypatch.setattr(weights, "load", load)
    monkeypatch.setattr(weights, "sha256", lambda path: "ab" * 32)
    monkeypatch.setattr(weights, "notes_of", lambda name: {})  # the stand-in finds the blur itself
    monkeypatch.setattr(weights, "installed", lambda: INSTALLED)
    monkeypatch.setattr(Deblurrer, "runs", [])


def main() -> None:
    """Run the command line in this process with the stand-in network."""
    from deblur_cli.__main__ import main

    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch)
        main()


def make_photo(path: Path, size: tuple[int, int] = (48, 32), seed: int = 0) -> Path:
    """Write a picture of noise, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def deblur(*words: object) -> Result:
    """Run `deblur` in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


@contextmanager
def started(
    *words: object, stderr: int = subprocess.PIPE, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `deblur` with the stand-in network in a process of its own, which ends with the block."""
    command = [sys.executable, __file__, *(str(word) for word in words)]
    env = process_environment() | environment
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def process_environment() -> dict[str, str]:
    """Return an environment in which another Python finds the package under test."""
    package = Path(deblur_cli.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": str(package)}


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    main()
