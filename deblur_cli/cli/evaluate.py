"""`deblur evaluate`: how good weights are on a dataset whose truth is known."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli import locks
from deblur_cli.cli import options
from deblur_cli.cli.errors import FAILED
from deblur_cli.cli.output import Output
from deblur_cli.cli.plotting import check_plot, save_plot
from deblur_cli.cli.signals import terminate_like_interrupt
from deblur_cli.errors import EvaluationError, UsageError
from deblur_cli.restoration.limits import SCALES, Tiling

if TYPE_CHECKING:
    from deblur_cli.evaluation.loop import Evaluated
    from deblur_cli.evaluation.results import Place
    from deblur_cli.evaluation.summary import Mean


class Layout(StrEnum):
    """How a dataset's folders are laid out."""

    auto = "auto"
    reloblur = "reloblur"
    gopro = "gopro"
    pairs = "pairs"
    synth = "synth"


Dataset = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Folder of the dataset.", readable=False, show_default=False)
]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weights", "-w", metavar="NAME|FILE", help="Weights; repeat to put several side by side."),
]
LayoutChoice = Annotated[Layout, typer.Option("--layout", help="Folders that the dataset comes in.")]
Epsilons = Annotated[
    str,
    typer.Option(
        "--epsilon",
        "-e",
        metavar="auto|0-1,...",
        help="Confidences to try, such as 0.3,0.5,0.7; auto takes what each detector or weights recommend, "
        "else 0.5.",
    ),
]
Whole = Annotated[
    bool, typer.Option("--whole/--tiled", help="Whole pictures, as papers do it, or tiles, as `run` does.")
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Folder for pictures.csv and summary.json; what it holds already is not done again.",
        readable=False,
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="Only the first N pictures.")]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw quality and work over epsilon.", readable=False),
]


def evaluate(
    dataset: Dataset,
    *,
    weights: Weights = None,
    detector: options.Detector = "auto",
    layout: LayoutChoice = Layout.auto,
    epsilon: Epsilons = "auto",
    whole: Whole = False,
    keep_sharp: options.KeepSharp = True,
    output: Folder = None,
    limit: Limit = None,
    plot: Plot = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = options.AUTO,
    overlap: options.Overlap = options.DEFAULT_OVERLAP,
    scales: options.Scales = options.AUTO,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure PSNR, SSIM, PSNR_w and SSIM_w, masks and trajectories on a dataset whose truth is known.

    As papers evaluate: --whole --no-keep-sharp --precision fp32. Gains are told by length of blur too, where
    the dataset knows the motion.
    """
    del debug  # read where errors are translated
    epsilons = None if epsilon == "auto" else options.parse_epsilons(epsilon, "--epsilon", math.inf)
    tiling = Tiling(tile, overlap)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is a number above zero, not {limit}")
    if whole and tile is not None:
        raise UsageError("--whole takes pictures in one piece; leave out --tile")
    if whole and tuple(scales) not in (SCALES, (1,)):
        raise UsageError("--whole takes pictures at their own size; leave out --scales")
    if output is not None:
        options.check_folder(output, "the folder for the results")
    check_plot(plot)

    from deblur_cli.cli.catalogue import epsilon_for, load_weights
    from deblur_cli.evaluation.cases import find_cases
    from deblur_cli.evaluation.loop import enter
    from deblur_cli.evaluation.loop import evaluate as run
    from deblur_cli.evaluation.results import Results
    from deblur_cli.weights import DEFAULT

    cases = find_cases(dataset, layout.value)[:limit]
    streams = Output(quiet=quiet)
    with streams.log_lines():
        entrants = [load_weights(name, detector, streams) for name in dict.fromkeys(weights or [DEFAULT])]
        contestants = [
            enter(
                loaded,
                [epsilon_for(loaded, None)] if epsilons is None else epsilons,
                whole=whole,
                keep_sharp=keep_sharp,
                tiling=tiling,
                scales=tuple(scales),
                device=device,
                precision=precision,
            )
            for loaded in entrants
        ]
    if plot is not None and not any(any(contestant.epsilons) for contestant in contestants):
        raise EvaluationError("there is nothing to draw over epsilon: these weights have no mask")
    facts: dict[str, object] = {
        "dataset": str(dataset),
        "inference": "whole" if whole else "tiled",
        "scales": "1" if whole else ",".join(map(str, scales)),
        "keep_sharp": keep_sharp,
        "device": contestants[0].device,
        "precision": contestants[0].precision,
    }
    with terminate_like_interrupt(), nullcontext() if output is None else locks.held(output):
        results = Results(None if output is None else output / "pictures.csv")
        with streams.log_lines(), streams.bars(len(cases)) as bars, told_where_it_stopped(streams, output):
            found = run(cases, contestants, results, bars.begin, bars.done)
        finders = {loaded.name: loaded.detector.name if loaded.detector else None for loaded in entrants}
        code = report(found, facts, finders, streams, output, plot, json=json)
    raise typer.Exit(code)


@contextmanager
def told_where_it_stopped(streams: Output, output: Path | None) -> Iterator[None]:
    """Say on Ctrl-C what becomes of what was measured."""
    try:
        yield
    except KeyboardInterrupt:
        kept = "nothing is kept without -o" if output is None else "the same command goes on from there"
        streams.say(f"stopped; {kept}")
        raise


def report(
    found: "Evaluated",
    facts: dict[str, object],
    detectors: dict[str, str | None],
    streams: Output,
    output: Path | None,
    plot: Path | None,
    *,
    json: bool,
) -> int:
    """Print the summary, write it, draw it, and return the exit code.

    facts: what holds for all; detectors: what found the blur for each weights, None for themselves
    """
    from deblur_cli.evaluation.curves import over_epsilon
    from deblur_cli.evaluation.summary import summarise, table

    for failure in found.failures:
        streams.error(failure)
    summaries = {place: summarise(rows) for place, rows in found.rows.items()}
    pictures = max(map(len, found.rows.values()))
    if not pictures:
        raise EvaluationError("no picture of the dataset could be measured")
    records = [
        record(place, means, {**facts, "detector": detectors[place[0]]}) for place, means in summaries.items()
    ]
    if json:
        for fields in records:
            streams.json_line(fields)
    else:
        number = "1 picture" if pictures == 1 else f"{pictures} pictures"
        kind = "laid over the picture" if facts["keep_sharp"] else "bare output"
        kind += "".join(f", detector {name}" for name in dict.fromkeys(detectors.values()) if name)
        at = "" if facts["inference"] == "whole" else f" at scale {facts['scales']}"
        streams.result(
            f"{number}, {facts['inference']}{at}, {kind}, {facts['device']}, {facts['precision']}; "
            "means [95 % intervals, bootstrap over pictures]"
        )
        for line in table(summaries):
            streams.result(line)
    if output is not None:
        write_summary(output / "summary.json", records)
    if plot is not None:
        save_plot(plot, over_epsilon(summaries), streams)
    if found.reused:
        streams.say(f"{found.reused} results were there already")
    return FAILED if found.failures else 0


def record(place: "Place", means: "dict[str, Mean]", facts: dict[str, object]) -> dict[str, object]:
    """A summary as JSON gives it; what is not a number is null."""
    weights, epsilon = place
    measures = {
        name: {key: known(value) for key, value in asdict(mean).items()} for name, mean in means.items()
    }
    return {**facts, "weights": weights, "epsilon": float(epsilon) if epsilon else None, "measures": measures}


def known(value: float) -> float | None:
    """A number, or None where it is not one."""
    return None if math.isnan(value) else value


def write_summary(path: Path, records: list[dict[str, object]]) -> None:
    """Write the summaries as a whole. Raises EncodeError."""
    import json

    from deblur_cli.files import write_file

    write_file(path, [(json.dumps(records, indent=2) + "\n").encode()], overwrite=True)
