"""A network that needs no weights, and photos to feed it, for tests of the command line.

What the network does with a photo is told by the photo's name: `calm` holds no blur, `crash` ends in
a programming error, `short` runs out of memory, `slow` takes half a minute, `odd` gives a note. Any
other photo comes back inverted.
"""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import deblur_cli
from deblur_cli import weights
from deblur_cli.cli.app import app
from deblur_cli.cli.run import steps
from deblur_cli.errors import EncodeError, OutOfMemoryError, WeightsError
from deblur_cli.nets import create
from deblur_cli.photo import encode
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration import SCALES, Tiling, deblurrer
from deblur_cli.restoration.deblurrer import Request, untouched
from deblur_cli.restoration.deblurrer import Result as Restored
from deblur_cli.restoration.engine import Progress
from deblur_cli.restoration.findings import Findings, everywhere
from deblur_cli.weights import CatalogEntry, LoadedWeights

INSTALLED = [
    CatalogEntry("m2aenet-guided", "m2aenet", Path(__file__), 9_500_000, "", "synthetic blur"),
    CatalogEntry("nafnet-gopro", "nafnet", Path("gone.safetensors"), 68_671_121, "", "GoPro"),
]


class Deblurrer(deblurrer.Deblurrer):
    """Looks at names instead of pixels; `looked_at` and `runs` are what was asked of all of them."""

    made: ClassVar[list["Deblurrer"]] = []
    looked_at: ClassVar[list[str]] = []
    runs: ClassVar[list[Request]] = []

    def __init__(
        self,
        weights: LoadedWeights,
        device: str = "auto",
        precision: str = "auto",
        tiling: Tiling | None = None,
        scales: Sequence[int] = SCALES,
    ):
        super().__init__(weights, device, "fp32" if precision == "auto" else precision, tiling, scales)
        Deblurrer.made.append(self)

    def detect(self, photo: Photo, progress: Progress | None = None) -> Findings:
        name = photo.source.name
        Deblurrer.looked_at.append(name)
        if "crash" in name:
            raise ZeroDivisionError("division by zero")
        if "short" in name:
            raise OutOfMemoryError("even the smallest tile does not fit into memory; use a smaller photo")
        if "slow" in name:
            sys.stderr.write("working\n")
            sys.stderr.flush()
            time.sleep(30)
        if progress is not None:
            progress(4, 4, "detect")
        return found_in(photo, ("one tile was rerun in float32",) if "odd" in name else ())

    def restore(
        self,
        photo: Photo,
        findings: Findings,
        request: Request,
        progress: Progress | None = None,
    ) -> Restored:
        Deblurrer.runs.append(request)
        seen = untouched(photo, findings, request)
        if progress is not None:
            progress(1, 1, "restore")
        if not seen.blurred_share:
            return seen
        inverted = replace(photo, pixels=np.iinfo(photo.pixels.dtype).max - photo.pixels)
        return replace(seen, photo=inverted, tiles_restored=1, changed=True)


def found_in(photo: Photo, notes: tuple[str, ...] = ()) -> Findings:
    """The upper half of any photo but a calm one is blurred by a motion of 6 pixels down and to the right."""
    findings = everywhere(photo.height, photo.width, 0.0)
    rows = len(findings.probability)
    findings.probability[: max(2, rows // 2)] = float("calm" not in photo.source.name)
    return replace(findings, start=findings.start - 3, end=findings.end + 3, tiles=4, notes=notes)


def load(name: str) -> LoadedWeights:
    if name != weights.DEFAULT:
        raise WeightsError(f"there are no weights named {name}; `deblur info` lists those there are")
    return LoadedWeights(name, "m2aenet", "ab" * 32, create("m2aenet", width=2, encoder=(1, 1, 1, 1)))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in network where the command line looks for the real one."""
    monkeypatch.setattr(deblurrer, "Deblurrer", Deblurrer)
    monkeypatch.setattr(steps, "advice", lambda photo, result: ())  # photos here are nothing but noise
    monkeypatch.setattr(weights, "load", load)
    monkeypatch.setattr(weights, "sha256", lambda path: "ab" * 32)
    monkeypatch.setattr(weights, "notes_of", lambda name: {})  # the stand-in finds the blur itself
    monkeypatch.setattr(weights, "installed", lambda: INSTALLED)
    for name in ("made", "looked_at", "runs"):
        monkeypatch.setattr(Deblurrer, name, [])


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
    *words: object,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    **environment: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `deblur` with the stand-in network in a process of its own, which ends with the block.

    On one core, so that photos pass the network one by one, and it is certain which are done.
    """
    command = [sys.executable, __file__, *(str(word) for word in words)]
    env = process_environment() | {"OMP_NUM_THREADS": "1"} | environment
    with subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def process_environment() -> dict[str, str]:
    """Return an environment in which another Python finds the package under test."""
    package = Path(deblur_cli.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": str(package)}


def stop_at(name: str, *words: object) -> None:
    """Run `deblur run` until a result of that name or a later one is to be written: the disk is full."""
    write = encode.encode

    def refuse(photo: Photo, path: Path, **options: object) -> None:
        if path.name >= name:  # two photos are under way at once
            raise EncodeError(f"{path}: cannot be written") from OSError(errno.ENOSPC, "full")
        write(photo, path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "encode", refuse)
        result = deblur("run", *words)
    assert (result.exit_code, "--resume continues" in result.stderr) == (1, True)
    assert "the disk is full" in result.stderr
    for asked in (Deblurrer.runs, Deblurrer.looked_at):
        asked.clear()


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def errors_in(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    main()
