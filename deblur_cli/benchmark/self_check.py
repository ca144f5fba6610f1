"""Whether a device computes what it should: each fast path, and the whole tool, against plain float32."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.benchmark.fast_paths import (
    SEED,
    FastPath,
    Limit,
    fast_paths,
    moved_picture,
    randomize,
)
from deblur_cli.benchmark.run import describe_machine
from deblur_cli.benchmark.scene import REQUEST, Setting
from deblur_cli.errors import DeblurError, DeviceError
from deblur_cli.nets import create
from deblur_cli.photo.photo import Photo, white
from deblur_cli.restoration import Tiling
from deblur_cli.restoration.deblurrer import Deblurrer, Result
from deblur_cli.restoration.device import DTYPES, choose_device, memory_errors, whole_float32
from deblur_cli.restoration.findings import Findings, everywhere
from deblur_cli.weights import LoadedWeights

SIZE = (384, 256)  # pixels of the photo that the tool runs on, wide and high
WIDE, OVERLAP = (640, 128), 192  # of the photo in tiles; a quarter of the overlap is as far as pixels see
STEP = 1 / 255  # of white, one step of 8 bits

Step = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """What came of one path in one precision.

    error: as the reason of its limit says, else the largest as a share of the largest value expected; None
    where the device refused, and then `problem` is what it said
    seconds: of both ways, but the plain one counts once
    """

    what: str
    precision: str
    error: float | None
    limit: float
    reason: str
    seconds: float
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the error is within the limit; one that is no number is not."""
        return self.error is not None and self.error <= self.limit


@dataclass(frozen=True)
class SelfCheck:
    """All checks of a device."""

    device: str
    machine: str
    weights: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Those that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def advice(self) -> str:
        """What to do about those, in one line."""
        names = ", ".join(dict.fromkeys(check.what for check in self.failed))
        if all(check.precision != "fp32" for check in self.failed):
            cure = "use --precision fp32"
        else:
            cure = "use --device cpu" if self.device != "cpu" else "results of this machine may be wrong"
        return f"{len(self.failed)} of {len(self.checks)} checks failed ({names}): {cure}, and report this"


def run_self_check(setting: Setting, step: Step = lambda _: None) -> SelfCheck:
    """Check every path on a device, in the precision of the setting or in each. Raises DeviceError.

    On a CPU, which only emulates fp16, that has to be asked for.
    """
    device = choose_device(setting.device)
    paths, tool, tiles = list(fast_paths(setting.weights)), Tool(setting.weights, device), Tiles(device)
    offered = [name for name in DTYPES if name != "fp16" or device != "cpu"]
    precisions = offered if setting.precision == "auto" else [setting.precision]
    checks: list[Check] = []
    expected: dict[str, Tensor] = {}
    for precision in precisions:
        step(f"{precision} on {device}")
        anew = (path for path in paths if not path.always_float32 or precision == precisions[0])
        checks += (check_path(path, device, precision, expected) for path in anew)
        checks += tiles.check(precision), *tool.check(precision)
    return SelfCheck(device, describe_machine(device), setting.weights.title, tuple(checks))


def check_path(path: FastPath, device: str, precision: str, expected: dict[str, Tensor]) -> Check:
    """Compare one path with the plain way; `expected` holds what that gave before, by the path's name."""
    dtype = torch.float32 if path.always_float32 else DTYPES[precision]

    def error() -> float:
        if path.what not in expected:
            expected[path.what] = path.plain().float()
        plain = expected[path.what]
        return float((path.fast(device, dtype).float().cpu() - plain).abs().max() / plain.abs().max())

    return attempt(path.what, "fp32" if path.always_float32 else precision, path.limit(dtype), error)


def attempt(what: str, precision: str, limit: Limit, error: Callable[[], float]) -> Check:
    """Measure one error. What a device refuses to compute counts as failed."""
    started, found, problem = time.perf_counter(), None, None
    try:
        with memory_errors(), whole_float32(), torch.inference_mode():
            found = error()
    except (RuntimeError, DeblurError) as refusal:
        problem = str(refusal).partition("\n")[0] or type(refusal).__name__
    seconds = time.perf_counter() - started
    return Check(what, precision, found, limit.value, limit.reason, seconds, problem)


class Tool:
    """Detection and restoration of a photo by the weights at hand."""

    def __init__(self, weights: LoadedWeights, device: str) -> None:
        self.weights, self.device = weights, device
        self.photo = photo_of(moved_picture(*SIZE))
        self.found: dict[str, Findings] = {}  # by precision

    def deblurrer(self, device: str, precision: str) -> Deblurrer:
        """The tool, with tiles as large as the photo."""
        return Deblurrer(self.weights, device, precision, Tiling(max(SIZE)))

    @cached_property
    def expected(self) -> tuple[Findings, Result]:
        """What plain networks in float32 on the CPU make of the photo."""
        plain = self.deblurrer("cpu", "fp32")
        for engine in (plain.detector, plain.restorer):
            engine.network = engine.exact = engine.reference
        findings = plain.detect(self.photo)
        return findings, plain.restore(self.photo, findings, REQUEST)

    def detected(self, precision: str) -> Findings:
        """What the device detects in the photo."""
        if precision not in self.found:
            self.found[precision] = self.deblurrer(self.device, precision).detect(self.photo)
        return self.found[precision]

    def check(self, precision: str) -> Iterator[Check]:
        """The mask, and the picture."""
        overlap = Limit(0.05, "1 - IoU: few cells are so near to epsilon that rounding tips them")
        mean = Limit(STEP / 4, "mean of 0-1: a quarter of a step of 8 bits, which nobody sees")
        largest = Limit(
            STEP * (2 if precision == "fp32" else 8), "of 0-1: few steps of 8 bits, in single pixels"
        )
        yield attempt("tool, mask", precision, overlap, lambda: self.mask_error(precision))
        yield attempt("tool, picture, mean", precision, mean, lambda: self.mean_error(precision))
        yield attempt("tool, picture, largest", precision, largest, lambda: self.largest_error(precision))

    def mask_error(self, precision: str) -> float:
        """How far the masks differ: one minus the share of their union that is in both."""
        both = (self.detected(precision), self.expected[0])
        own, plain = (REQUEST.decide(found)[1] > 0 for found in both)
        return 1 - float((own & plain).sum() / max(1, (own | plain).sum())) if (own | plain).any() else 0.0

    def mean_error(self, precision: str) -> float:
        """Mean difference of the pictures, each restored where it was found blurred."""
        deblurrer = self.deblurrer(self.device, precision)
        result = deblurrer.restore(self.photo, self.detected(precision), REQUEST)
        return float(difference(result.photo, self.expected[1].photo).mean())

    def largest_error(self, precision: str) -> float:
        """Largest difference of the pictures, restored by the same findings."""
        findings, expected = self.expected
        result = self.deblurrer(self.device, precision).restore(self.photo, findings, REQUEST)
        return float(difference(result.photo, expected.photo).max())


class Tiles:
    """A photo in tiles and as a whole, restored by a network that does not see farther than tiles overlap."""

    def __init__(self, device: str) -> None:
        sizes = {"width": 8, "encoder": (1,), "decoder": (1,), "pooling": 16}
        network = randomize(create("nafnet", **sizes), torch.Generator().manual_seed(SEED))
        with torch.no_grad():
            network.ending.weight.mul_(0.03)  # what changes a picture more than a little counts as failed
        self.weights, self.device = LoadedWeights("random", "nafnet", "0" * 64, network), device
        self.photo = photo_of(moved_picture(*WIDE))

    def restored(self, precision: str, size: int) -> Photo:
        """The photo restored in tiles of that size."""
        deblurrer = Deblurrer(self.weights, self.device, precision, Tiling(size, OVERLAP), (1,))
        return deblurrer.restore(self.photo, everywhere(self.photo.height, self.photo.width), REQUEST).photo

    def check(self, precision: str) -> Check:
        """Tiles give what the whole gives."""
        value = STEP if precision == "fp32" else 2 * STEP
        limit = Limit(value, "of 0-1: the border of a tile must not be seen, and 8 bits are rounded")
        return attempt("tiles", precision, limit, lambda: self.error(precision))

    def error(self, precision: str) -> float:
        """Largest difference of the pictures. Raises DeblurError where nothing was restored."""
        whole, tiled = self.restored(precision, WIDE[0]), self.restored(precision, 2 * OVERLAP + 16)
        if not difference(whole, self.photo).max() > 8 * STEP:
            raise DeviceError("nothing was restored")
        return float(difference(tiled, whole).max())


def photo_of(pixels: NDArray[np.uint8]) -> Photo:
    """A photo of these pixels H W 3 that is in no file."""
    return Photo(pixels=pixels, source=Path("test picture"), format="PNG")


def difference(one: Photo, other: Photo) -> NDArray[np.float32]:
    """How far pixels are apart, H W C of 0-1."""
    values = (photo.pixels.astype(np.float32) / white(photo.pixels) for photo in (one, other))
    return np.abs(np.subtract(*values)).astype(np.float32)
