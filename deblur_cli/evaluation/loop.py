"""Runs weights over a dataset, picture by picture, and keeps what is measured."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from deblur_cli import __version__
from deblur_cli.errors import DecodeError, TrainingError, UnreadableError
from deblur_cli.evaluation.cases import Case, Truth
from deblur_cli.evaluation.measures import measure
from deblur_cli.evaluation.methods import Method, Tiled, Whole
from deblur_cli.evaluation.results import Key, Place, Results, Row
from deblur_cli.metrics import SSIM_WINDOW
from deblur_cli.restoration import SCALES, Tiling
from deblur_cli.restoration.deblurrer import Deblurrer
from deblur_cli.weights import LoadedWeights

Report = Callable[[str], None]


@dataclass(frozen=True)
class Contestant:
    """Weights in the way that they are run. `epsilons` are "" alone where the network has no mask.

    inference: "whole" or "tiled", the latter with `tiling` and `scales`
    """

    weights: LoadedWeights
    device: str
    precision: str
    inference: str
    tiling: Tiling
    scales: tuple[int, ...]
    keep_sharp: bool
    method: Method
    epsilons: tuple[str, ...]

    def key(self, case: Case, checksum: str, epsilon: str) -> Key:
        """What a result of theirs depends on, in the order of `results.KEYS`."""
        sizes = ("", "", "")
        if self.inference == "tiled":
            tile, overlap = str(self.tiling.size or "auto"), str(self.tiling.overlap)
            sizes = (tile, overlap, ",".join(map(str, self.scales)))
        kept = "yes" if self.keep_sharp else "no"
        detector = self.weights.detector.sha256 if self.weights.detector else ""
        return (
            *(case.name, checksum, self.weights.name, self.weights.sha256, detector, epsilon),
            *(self.inference, *sizes, kept, self.device, self.precision, __version__),
        )


def enter(
    weights: LoadedWeights,
    epsilons: Sequence[float],
    *,
    whole: bool,
    keep_sharp: bool = True,
    tiling: Tiling | None = None,
    scales: tuple[int, ...] = SCALES,
    device: str = "auto",
    precision: str = "auto",
) -> Contestant:
    """Weights ready to be evaluated. Whole pictures are neither cut nor made smaller. Raises DeviceError."""
    tiling = tiling or Tiling()
    deblurrer = Deblurrer(weights, device, precision, tiling, scales)
    method: Method = Whole(deblurrer, keep_sharp) if whole else Tiled(deblurrer, keep_sharp)
    tried = tuple(repr(epsilon) for epsilon in epsilons) if weights.network.detects else ("",)
    inference, device, precision = "whole" if whole else "tiled", deblurrer.device, deblurrer.precision
    return Contestant(weights, device, precision, inference, tiling, scales, keep_sharp, method, tried)


@dataclass(frozen=True)
class Evaluated:
    """Rows of each weights and epsilon, over the pictures in their order, and what could not be done."""

    rows: dict[Place, list[Row]]
    failures: list[str]
    reused: int


def evaluate(
    cases: Sequence[Case],
    contestants: Sequence[Contestant],
    results: Results,
    begin: Report = lambda _: None,
    done: Callable[[], None] = lambda: None,
) -> Evaluated:
    """Measure what the results do not hold yet. A picture that cannot be read is named and left out.

    `begin` is told the picture and weights at hand, `done` called after each picture.
    Raises OutOfMemoryError, and EncodeError where results cannot be kept.
    """
    rows: dict[Place, list[Row]] = {
        (contestant.weights.name, epsilon): []
        for contestant in contestants
        for epsilon in contestant.epsilons
    }
    failures: list[str] = []
    reused = 0
    for case in cases:
        try:
            keys, fresh = evaluate_case(case, contestants, results, begin)
        except (DecodeError, TrainingError, UnreadableError) as error:
            failures.append(str(error))
        else:
            reused += len(keys) - fresh
            for place, key in keys:
                rows[place].append(results.rows[key])
        done()
    return Evaluated(rows, failures, reused)


def evaluate_case(
    case: Case, contestants: Sequence[Contestant], results: Results, begin: Report
) -> tuple[list[tuple[Place, Key]], int]:
    """The keys of a picture's results by weights and epsilon, and how many had to be worked out."""
    checksum, truth, found, fresh = case.checksum(), None, [], 0
    for contestant in contestants:
        keys = {epsilon: contestant.key(case, checksum, epsilon) for epsilon in contestant.epsilons}
        missing = [epsilon for epsilon, key in keys.items() if key not in results.rows]
        if missing:
            begin(f"{case.name}, {contestant.weights.title}")
            truth = read(case) if truth is None else truth
            measured = run(contestant, truth, missing)
            results.add({keys[epsilon]: row for epsilon, row in measured.items()})
        fresh += len(missing)
        found += [((contestant.weights.name, epsilon), key) for epsilon, key in keys.items()]
    return found, fresh


def read(case: Case) -> Truth:
    """The picture and its truth. Raises UnreadableError where it is too small to be measured."""
    truth = case.read()
    if min(truth.blurred.shape[1:]) < SSIM_WINDOW:
        raise UnreadableError(f"{case.files[0]} is smaller than the {SSIM_WINDOW} pixels of a window of SSIM")
    return truth


def run(contestant: Contestant, truth: Truth, epsilons: Sequence[str]) -> dict[str, Row]:
    """Detect once and measure each epsilon; the time of each is that of detection and its restoration."""
    started = clock(contestant.device)
    found = contestant.method.detect(truth.pixels)
    detection = clock(contestant.device) - started
    rows = {}
    for epsilon in epsilons:
        started = clock(contestant.device)
        outcome = contestant.method.restore(found, float(epsilon or 0))
        seconds = detection + clock(contestant.device) - started
        rows[epsilon] = measure(outcome, truth, seconds)
    return rows


def clock(device: str) -> float:
    """The time in seconds, once the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
