"""Runs weights over a dataset, picture by picture, and keeps what is measured in a CSV file."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli import __version__
from deblur_cli.errors import DecodeError, EvaluationError, TrainingError, UnreadableError
from deblur_cli.evaluation.cases import Case, Truth
from deblur_cli.evaluation.measures import MEASURES, measure
from deblur_cli.evaluation.methods import Method, Tiled, Whole
from deblur_cli.files import explain, write_file
from deblur_cli.metrics import SSIM_WINDOW
from deblur_cli.restoration import SCALES, Tiling
from deblur_cli.restoration.deblurrer import Deblurrer
from deblur_cli.restoration.device import clock
from deblur_cli.weights import LoadedWeights

# What a result depends on. A row that is equal in all of them is not worked out again.
KEYS = (
    *("picture", "checksum", "weights", "sha256", "detector", "epsilon", "inference", "tile", "overlap"),
    *("scales", "keep_sharp", "device", "precision", "version"),
)
COLUMNS = (*KEYS, *MEASURES)

Key = tuple[str, ...]
Place = tuple[str, str]  # weights and epsilon
Row = dict[str, float]
Report = Callable[[str], None]


class Results:
    """Rows of one CSV file by key; each picture, weights, and epsilon has one. New ones are appended at once.

    Raises EvaluationError where the file is of another kind or cannot be read, EncodeError where it cannot
    be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        if path is not None:
            self.read(path)

    def read(self, path: Path) -> None:
        """Take over the whole rows of a file; one that was cut off when a run was killed is dropped."""
        try:
            if not path.exists():
                return rewrite(path, [])
            with path.open(newline="", encoding="utf-8") as file:
                text = file.read()
            lines = list(csv.reader(io.StringIO(text, newline="")))  # a name may hold a line break
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise EvaluationError(f"cannot use {path} for the results: {reason(error)}") from error
        if lines and tuple(lines[0]) != COLUMNS:
            raise EvaluationError(f"{path} is not of this version of deblur evaluate: choose another folder")
        rest = lines[1:] if text.endswith("\n") else lines[1:-1]
        whole = [line for line in rest if len(line) == len(COLUMNS)]
        if len(whole) + 1 != len(lines):
            rewrite(path, whole)
        for line in whole:
            values = {name: number(cell) for name, cell in zip(MEASURES, line[len(KEYS) :], strict=True)}
            self.rows[tuple(line[: len(KEYS)])] = values
        return None

    def add(self, rows: Mapping[Key, Row]) -> None:
        """Keep rows, in the file too. Raises EncodeError."""
        self.rows |= rows
        if self.path is None:
            return
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([*key, *map(cell, row.values())] for key, row in rows.items())
        except OSError as error:
            raise explain(self.path, error) from error


def rewrite(path: Path, lines: Iterable[Sequence[str]]) -> None:
    """Replace a file by the columns' names and some lines, as a whole. Raises EncodeError."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
    write_file(path, [text.getvalue().encode()], overwrite=True)


def cell(value: float) -> str:
    """A number as text that reads back the same; nothing for NaN."""
    return "" if math.isnan(value) else repr(value)


def number(text: str) -> float:
    """The inverse of `cell`."""
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise EvaluationError(
            f"the results hold {text!r} where a number belongs: choose another folder"
        ) from error


def reason(error: Exception) -> str:
    """What the system says."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"


@dataclass(frozen=True)
class Contestant:
    """Weights in the way that they are run. `epsilons` are "" alone where the network has no mask."""

    deblurrer: Deblurrer
    method: Method
    keep_sharp: bool
    epsilons: tuple[str, ...]

    @property
    def weights(self) -> LoadedWeights:
        """What is evaluated."""
        return self.deblurrer.weights

    @property
    def inference(self) -> str:
        """How pictures are taken."""
        return "tiled" if isinstance(self.method, Tiled) else "whole"

    def key(self, case: Case, checksum: str, epsilon: str) -> Key:
        """What a result of theirs depends on, in the order of KEYS."""
        sizes, tiling = ("", "", ""), self.deblurrer.tiling
        if self.inference == "tiled":
            scales = ",".join(map(str, self.deblurrer.scales))
            sizes = (str(tiling.size or "auto"), str(tiling.overlap), scales)
        detector = self.weights.detector.sha256 if self.weights.detector else ""
        return (
            *(case.name, checksum, self.weights.name, self.weights.sha256, detector, epsilon),
            *(self.inference, *sizes, "yes" if self.keep_sharp else "no"),
            *(self.deblurrer.device, self.deblurrer.precision, __version__),
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
    deblurrer = Deblurrer(weights, device, precision, tiling, scales)
    method: Method = Whole(deblurrer, keep_sharp) if whole else Tiled(deblurrer, keep_sharp)
    tried = tuple(repr(epsilon) for epsilon in epsilons) if weights.network.detects else ("",)
    return Contestant(deblurrer, method, keep_sharp, tried)


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
    device, method = contestant.deblurrer.device, contestant.method
    started = clock(device)
    found = method.detect(truth.pixels)
    detection = clock(device) - started
    rows = {}
    for epsilon in epsilons:
        started = clock(device)
        outcome = method.restore(found, float(epsilon or 0))
        rows[epsilon] = measure(outcome, truth, detection + clock(device) - started)
    return rows
