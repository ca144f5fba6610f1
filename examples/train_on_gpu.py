"""Train the shipped weights further on a GPU machine without a network, lent for a quarter of an hour.

    python examples/train_on_gpu.py pack PHOTOS BUNDLE --python 3.12    # here
    python3 BUNDLE/train_on_gpu.py train OUT small 12                   # there
    deblur run photo.jpg --weights OUT/weights.safetensors              # here again

The bundle holds all that training needs beside PyTorch, NumPy, Pillow, and safetensors: deblur, its weights,
other packages as wheels, and the photos, shrunk to fit. The second half of this file runs there. It begins
with the standard library alone.
"""

import argparse
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import zipfile
from pathlib import Path

BEGAN = time.monotonic()
THERE = {"torch": "torch", "numpy": "numpy", "PIL": "pillow", "safetensors": "safetensors"}  # module: package
NEEDED = ("filelock>=4.0", "psutil>=5.9", "pydantic>=2.10", "typer>=0.29")  # and not there
STARTS = {"small": "m2aenet-guided", "detector": "detector-small"}  # settings: weights that they begin from
GLIBC = (17, 24, 27, 28)  # minor versions whose wheels run on every Linux that PyTorch runs on
SETTINGS = {  # what a large GPU does differently; no GPU has tried it yet
    "patch": 256,  # pixels, as in base-gpu
    "patches.count": 0,  # patches are made on the GPU in every step
    "learning_rate": 1e-3,  # of larger batches than on a CPU, so each step goes as far in a better direction
    "warmup": 100,  # steps, of some thousands
    "cooldown": 0.3,  # share of the time
    "ema": 0.995,  # the mean over some 200 steps, which the cool-down outlasts
    "save_every": 120,  # seconds
    "log_every": 20,  # steps
}
BATCH = {"small": 32, "detector": 64}  # patches
RESERVED = 1 / 12  # of the time, for reading photos, scores, and the last file
PART = 15_000_000  # bytes of a file in OUT at most
WEIGHTS = "weights.safetensors"


class UnusableError(Exception):
    """What keeps either half from doing its work, in one line."""


# ---------------------------------------------------------------- here


def pack(photos: Path, bundle: Path, pythons: list[str], megabytes: float) -> None:
    """Write the bundle; it appears whole or not at all."""
    from deblur_cli.errors import DeblurError

    if bundle.exists():
        raise UnusableError(f"{bundle} exists: name a new folder")
    check_writable(bundle.parent)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=bundle.parent) as parent:
        folder = Path(parent) / bundle.name
        try:
            paths = found(photos)
            copy_code_and_weights(folder)
            for python in pythons:
                download(python, folder / "wheels")
            # a folder of the same name, as the new weights tell what they learned from
            room = int(megabytes * 1e6) - size(folder)
            copy_photos(paths, folder / "photos" / photos.resolve().name, room)
        except DeblurError as error:
            raise UnusableError(error) from error
        folder.rename(bundle)
    print(f"{bundle}: {size(bundle):,} bytes, {len(paths)} photos, for Python {', '.join(pythons)}")


def found(photos: Path) -> list[Path]:
    """The photos to learn from and to score on."""
    from deblur_cli.train.data import HELD_OUT
    from deblur_cli.train.datasets import find_photos

    paths = find_photos(photos)
    if len(paths) <= HELD_OUT:
        raise UnusableError(f"{photos} holds {len(paths)} photos; at least {HELD_OUT + 1} are needed")
    return paths


def copy_code_and_weights(folder: Path) -> None:
    """Deblur, this file, and the weights to begin from, with the catalog that knows them."""
    from deblur_cli import weights

    package = Path(weights.__file__).parents[1]
    kept = folder / package.name / "_weights"
    shutil.copytree(package, kept.parent, ignore=shutil.ignore_patterns("__pycache__", kept.name))
    shutil.copy(__file__, folder)
    kept.mkdir()
    shutil.copy(weights.catalog_folder() / "catalog.toml", kept)
    for name in STARTS.values():
        shutil.copy(weights.source_of(name).path, kept)


def copy_photos(paths: list[Path], folder: Path, limit: int) -> None:
    """The photos, shrunk so that all of them fit into so many bytes."""
    from pack_photos import largest_fit

    if limit <= 0:
        raise UnusableError(f"no room for photos: raise --megabytes by at least {1 - limit / 1e6:.0f}")
    folder.mkdir(parents=True)
    for name, content in largest_fit(paths, limit).items():
        (folder / name).write_bytes(content)


def download(python: str, folder: Path) -> None:
    """The wheels of what is needed there, for Linux on x86-64 and a version of Python."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", folder]
    command += ["--python-version", python, "--implementation", "cp"]
    for minor in GLIBC:
        command += ["--platform", f"manylinux_2_{minor}_x86_64"]
    done = subprocess.run([*command, *NEEDED], check=False, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        reason = textwrap.shorten(lines[0].removeprefix("ERROR: "), 150)
        raise UnusableError(f"pip finds no packages for Python {python}: {reason}")


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- there


def train(out: Path, what: str, minutes: float, device: str, changes: list[str]) -> int:
    """Train further and keep OUT up to date; the same command goes on after a kill. Returns the exit code."""
    bundle = Path(__file__).resolve().parent
    check_machine()
    run = bundle / "runs" / what
    if not (run / "state.pt").exists() and any(out.glob(f"{WEIGHTS}*")):
        raise UnusableError(f"{out} holds the weights of another run: name another folder")
    for folder in (out, run):
        check_writable(folder)
    sys.path[:0] = [str(unpack(bundle / "wheels", bundle / "packages")), str(bundle)]
    import deblur_cli.train.loop  # noqa: F401 - takes a while, which the time limit has to know
    from deblur_cli.cli.app import app

    (photos,) = (bundle / "photos").iterdir()
    seconds = 60 * minutes * (1 - RESERVED) - (time.monotonic() - BEGAN)
    if seconds <= 0:
        raise UnusableError(f"{minutes:g} minutes are too short: starting alone takes longer")
    settings = {"start": STARTS[what], "batch": BATCH[what], **SETTINGS}
    command = ["train", what, "--photos", str(photos), "-o", str(run), "--time-limit", f"{seconds:.0f}s"]
    command += ["--device", device]
    for assignment in [*(f"{name}={value}" for name, value in settings.items()), *changes]:
        command += ["--set", assignment]
    keeper = Keeper(run, out, BEGAN + 60 * minutes)
    keeper.start()
    try:
        code = app(command, prog_name="deblur")
    except SystemExit as ended:
        code = ended.code
    keeper.finish()
    hand_over(run, out)
    return 0 if keeper.time_is_up and code == 128 + signal.SIGTERM else code


class Keeper(threading.Thread):
    """Hands over what was saved whenever that is new, and ends training when the time is up."""

    def __init__(self, run: Path, out: Path, deadline: float) -> None:
        super().__init__(daemon=True)
        self.run_folder, self.out, self.deadline = run, out, deadline
        self.time_is_up = False
        self.done = threading.Event()

    def run(self) -> None:
        handed_over = 0  # so that a run that goes on hands over at once what it has
        while not self.done.wait(1):
            if not self.time_is_up and time.monotonic() > self.deadline:
                self.time_is_up = True
                os.kill(os.getpid(), signal.SIGTERM)  # training saves and ends after the step at hand
            if saved_at(self.run_folder) != handed_over:
                handed_over = saved_at(self.run_folder)
                try:
                    hand_over(self.run_folder, self.out)
                except OSError as error:
                    print(f"warning: {error}", file=sys.stderr)

    def finish(self) -> None:
        """Stop, after what is at hand."""
        self.done.set()
        self.join()


def saved_at(run: Path) -> int:
    """When the weights were last written, 0 before."""
    return (run / WEIGHTS).stat().st_mtime_ns if (run / WEIGHTS).exists() else 0


def hand_over(run: Path, out: Path) -> None:
    """Copy weights, logs, and the last sheet of samples into OUT; each file appears whole."""
    files = {name: run / name for name in (WEIGHTS, "log.csv", "scores.csv")}
    files["samples.png"] = max((run / "samples").glob("*.png"), default=run / "none")
    for name, source in files.items():
        content = source.read_bytes() if source.exists() else b""
        pieces = [content[first : first + PART] for first in range(0, len(content), PART)]
        for number, piece in enumerate(pieces, 1):
            part = out / f".{name}.new"
            part.write_bytes(piece)
            part.replace(out / (name if len(pieces) == 1 else f"{name}.part{number}"))


def check_machine() -> None:
    """Raise UnusableError where the wheels do not run, Python is too old, or lacks what has to be there."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise UnusableError(f"the bundle is for Linux on x86-64, and this is {platform.platform()}")
    if sys.version_info < (3, 11):  # noqa: UP036 - nothing has looked at that there
        raise UnusableError(f"deblur needs Python 3.11 or newer, and {sys.executable} is older")
    missing = [package for module, package in THERE.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UnusableError(f"{sys.executable} lacks {', '.join(missing)}: use a Python that has them")


def check_writable(folder: Path) -> None:
    """Make a folder. Raises UnusableError where files cannot be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UnusableError(f"cannot write to {folder}: {error.strerror}") from error


def unpack(wheels: Path, packages: Path) -> Path:
    """The folder with the packages of those wheels that are for this Python."""
    here = f"cp3{sys.version_info.minor}"
    tags = {path: path.stem.split("-")[-3:-1] for path in sorted(wheels.glob("*.whl"))}
    versions = sorted({python for python, abi in tags.values() if python == abi})  # others suit every version
    if here not in versions:
        known = ", ".join(version.replace("cp3", "3.") for version in versions)
        raise UnusableError(
            f"the bundle is for Python {known}, and this is 3.{sys.version_info.minor}: use one of those, or "
            f"pack with --python 3.{sys.version_info.minor}"
        )
    folder = packages / here
    for path, (python, abi) in tags.items():
        if abi != python or python == here:
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(folder)
    return folder


# ---------------------------------------------------------------- both


def version(text: str) -> str:
    """A version of Python that deblur runs on, as pip takes it."""
    if not re.fullmatch(r"3\.1[1-9]", text):
        raise argparse.ArgumentTypeError(f"must be such as 3.12, from 3.11 on, not {text}")
    return text


def main() -> int:
    """Run one half; what keeps it from its work becomes one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    halves = parser.add_subparsers(dest="half", required=True)
    here = halves.add_parser("pack", help="here: write the bundle")
    here.add_argument("photos", type=Path, help="folder of sharp photos")
    here.add_argument("bundle", type=Path, help="folder to write")
    running = f"3.{sys.version_info.minor}"
    here.add_argument(
        "--python", nargs="+", type=version, default=[running], help=f"versions there [{running}]"
    )
    here.add_argument("--megabytes", type=float, default=45.0, help="size of the bundle [%(default)s]")
    there = halves.add_parser("train", help="there: train what the bundle holds")
    there.add_argument("out", type=Path, help="folder for the weights")
    there.add_argument("what", nargs="?", choices=STARTS, default="small", help="[%(default)s]")
    there.add_argument("minutes", nargs="?", type=float, default=12.0, help="all included [%(default)s]")
    there.add_argument("--device", default="cuda", help="[%(default)s]")
    there.add_argument("--set", action="append", default=[], help="replace a setting, as of deblur train")
    choices = parser.parse_args()
    try:
        if choices.half == "pack":
            pack(choices.photos, choices.bundle, choices.python, choices.megabytes)
            return 0
        return train(choices.out, choices.what, choices.minutes, choices.device, choices.set)
    except (UnusableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
