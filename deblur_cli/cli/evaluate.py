"""`deblur evaluate`: how good weights are on a dataset whose truth is known."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deblur_cli.cli import options as shared
from deblur_cli.cli.options import takes
from deblur_cli.cli.output import (
    FAILED,
    OK,
    Output,
    check_plot,
    exit_code,
    save_plot,
    terminate_like_interrupt,
)
from deblur_cli.errors import EvaluationError, TrainingError, UsageError
from deblur_cli.files import held, write_file
from deblur_cli.restoration import SCALES
from deblur_cli.weights import DEFAULT

if TYPE_CHECKING:
    from deblur_cli.evaluation.loop import Contestant, Evaluated, Place
    from deblur_cli.evaluation.summary import Mean


def parse_epsilons(text: str) -> list[float] | None:
    """Return the confidences to try, None for those that are recommended."""
    return None if text == "auto" else shared.parse_epsilons(text, "--epsilon", math.inf)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(shared.DeblurOptions):
    """All options of an evaluation. Raises UsageError for those that contradict each other."""

    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET", help="Folder of the dataset.", show_default=False, parser=shared.parse_path
        ),
    ]
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-w",
            metavar="NAME|FILE",
            help="Weights; repeat to compare several.",
            show_default=DEFAULT,
        ),
    ] = None  # type: ignore[assignment]  # several
    layout: Annotated[
        Literal["auto", "reloblur", "gopro", "pairs", "synth"],
        typer.Option(help="How the folders of the dataset are laid out."),
    ] = "auto"
    epsilon: Annotated[
        Sequence[float] | None,
        typer.Option(
            "--epsilon",
            "-e",
            metavar="auto|0-1,...",
            help="Confidences to try, such as 0.3,0.5,0.7; auto is what each detector or weights recommend, "
            "else 0.5.",
            parser=parse_epsilons,
        ),
    ] = shared.AUTO
    whole: Annotated[
        bool,
        typer.Option("--whole/--tiled", help="Whole pictures, as in papers, or tiles, as in `run`."),
    ] = False
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for pictures.csv and summary.json; results in there are not measured again.",
            parser=shared.parse_path,
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Only the first N pictures.",
            show_default="all",
            parser=shared.above_zero("--limit"),
        ),
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw quality and computation over epsilon.", readable=False),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whole and self.tile is not None:
            raise UsageError("--whole takes pictures in one piece; leave out --tile")
        if self.whole and tuple(self.scales) not in (SCALES, (1,)):
            raise UsageError("--whole takes pictures at their own size; leave out --scales")
        if self.output is not None:
            shared.check_folder(self.output, "the folder for the results")


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Measure PSNR, SSIM, masks and trajectories on a dataset whose truth is known.

    As in papers: --whole --no-keep-sharp --precision fp32. Where the dataset knows the motion, gains are also
    given by length of blur.
    """
    check_plot(options.plot)

    from deblur_cli.evaluation.cases import find_cases
    from deblur_cli.evaluation.loop import Results
    from deblur_cli.evaluation.loop import evaluate as run

    output = options.output
    with shared.wrong_usage(EvaluationError, TrainingError):
        cases = find_cases(options.dataset, options.layout)[: options.limit]
    streams = Output(quiet=options.quiet)
    contestants = enter(options, streams)
    with terminate_like_interrupt(), nullcontext() if output is None else held(output):
        with shared.wrong_usage(EvaluationError):
            results = Results(None if output is None else output / "pictures.csv")
        with streams.log_lines(), streams.bars(len(cases)) as bars, told_where_it_stopped(streams, output):
            found = run(cases, contestants, results, bars.begin, bars.done)
        report(found, contestants, options, streams)
    raise typer.Exit(FAILED if found.failures else OK)


def enter(options: EvaluateOptions, streams: Output) -> "list[Contestant]":
    """Return the weights that are asked for, ready to run."""
    from deblur_cli.cli.options import epsilon_for, load_weights
    from deblur_cli.evaluation import loop
    from deblur_cli.weights import DEFAULT

    contestants = []
    with streams.log_lines():
        for name in dict.fromkeys(options.weights or [DEFAULT]):
            loaded = load_weights(name, options.detector, streams)
            contestants.append(
                loop.enter(
                    loaded,
                    [epsilon_for(loaded, None)] if options.epsilon is None else options.epsilon,
                    whole=options.whole,
                    keep_sharp=options.keep_sharp,
                    tiling=options.tiling,
                    scales=tuple(options.scales),
                    device=options.device,
                    precision=options.precision,
                )
            )
    if options.plot is not None and not any(any(contestant.epsilons) for contestant in contestants):
        raise UsageError(
            "--plot has nothing to draw over epsilon, as these weights have no mask: leave it out"
        )
    return contestants


@contextmanager
def told_where_it_stopped(streams: Output, output: Path | None) -> Iterator[None]:
    """Say on Ctrl-C what becomes of what was measured."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        kept = "nothing is kept without -o" if output is None else "the same command continues from there"
        streams.say(f"Interrupted; {kept}.")
        raise typer.Exit(exit_code(interrupt)) from interrupt


def report(
    found: "Evaluated", contestants: "Sequence[Contestant]", options: EvaluateOptions, streams: Output
) -> None:
    """Print the means, and write and draw them where that is asked for."""
    from deblur_cli.evaluation.summary import over_epsilon, summarize

    for failure in found.failures:
        streams.error(failure)
    means = {place: summarize(rows) for place, rows in found.rows.items()}
    if not any(found.rows.values()):
        raise EvaluationError("no picture of the dataset could be measured")
    records = [record(place, named, contestants, options) for place, named in means.items()]
    if options.json:
        for fields in records:
            streams.json_line(fields)
    else:
        print_table(found, means, contestants, options, streams)
    if options.output is not None:
        summary = json.dumps(records, indent=2) + "\n"
        write_file(options.output / "summary.json", [summary.encode()], overwrite=True)
    if options.plot is not None:
        save_plot(options.plot, over_epsilon(means), streams)
    if found.reused:
        streams.say(f"{found.reused} results were measured before")


def print_table(
    found: "Evaluated",
    means: "dict[Place, dict[str, Mean]]",
    contestants: "Sequence[Contestant]",
    options: EvaluateOptions,
    streams: Output,
) -> None:
    """Print how and on what was measured, then the means."""
    from deblur_cli.evaluation.summary import table

    pictures, first = max(map(len, found.rows.values())), contestants[0].deblurrer
    number = "1 picture" if pictures == 1 else f"{pictures} pictures"
    sizes = "whole" if options.whole else f"tiled, scales {', '.join(map(str, options.scales))}"
    kind = "laid over the picture" if options.keep_sharp else "bare output"
    detectors = dict.fromkeys(detector_name(contestant) for contestant in contestants)
    kind += "".join(f", detector {name}" for name in detectors if name)
    streams.result(
        f"{number}, {sizes}, {kind}, {first.device}, {first.precision}; "
        "means [95% intervals, bootstrap over pictures]"
    )
    for line in table(means):
        streams.result(line)


def detector_name(contestant: "Contestant") -> str | None:
    """Return what detects the blur for weights, None for themselves."""
    detector = contestant.weights.detector
    return None if detector is None else detector.name


def record(
    place: "Place",
    means: "dict[str, Mean]",
    contestants: "Sequence[Contestant]",
    options: EvaluateOptions,
) -> dict[str, object]:
    """Return means as JSON gives them, with what they hold for; what is not a number is null."""
    weights, epsilon = place
    contestant = next(one for one in contestants if one.weights.name == weights)
    measures = {
        name: {key: None if math.isnan(value) else value for key, value in asdict(mean).items()}
        for name, mean in means.items()
    }
    return {
        "dataset": str(options.dataset),
        "inference": contestant.inference,
        "scales": "1" if options.whole else ",".join(map(str, options.scales)),
        "keep_sharp": options.keep_sharp,
        "device": contestant.deblurrer.device,
        "precision": contestant.deblurrer.precision,
        "detector": detector_name(contestant),
        "weights": weights,
        "epsilon": float(epsilon) if epsilon else None,
        "measures": measures,
    }
