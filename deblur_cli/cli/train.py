"""`deblur train`: train a network on motion blur made from sharp photos."""

import re
import signal
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli import files
from deblur_cli.cli import options as shared
from deblur_cli.cli.options import takes
from deblur_cli.cli.output import INTERRUPTED, OK, TERMINATED, Output
from deblur_cli.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from deblur_cli.train.loop import Team, Trainer
    from deblur_cli.train.settings import TrainSettings

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
COURSE = ("step", "seconds", "rate")  # what every row of the logs begins with


def parse_time_limit(text: str) -> float:
    """Return the seconds of a time such as 90m, 1.5h, 5400s or 5400."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh]?)", text.strip())
    seconds = float(found[1]) * SECONDS[found[2]] if found else 0.0
    if not seconds:
        raise UsageError(f"--time-limit must be a time above 0 such as 90m, 2h or 5400s, not {text!r}")
    return seconds


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """All options of a training run. Raises UsageError for those that contradict each other."""

    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A .toml file, or one of detector, small, paper, base-gpu, small-cpu, small-cpu-further.",
            show_default=False,
        ),
    ]
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder of the run; an unfinished one continues.",
            parser=shared.parse_path,
        ),
    ]
    photos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of sharp photos.", parser=shared.parse_path)
    ] = None
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of blurred and sharp pictures as in GoPro or ReLoBlur; repeat for several.",
            parser=shared.parse_path,
        ),
    ] = None
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="90m|2h|5400s",
            help="Training time, over all runs in the folder.",
            parser=parse_time_limit,
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Steps to train at most.", parser=shared.above_zero("--steps")),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace a setting, such as blur.longest=24."),
    ] = None
    device: shared.Device = "auto"
    precision: shared.Precision = "auto"
    verbose: shared.Verbose = False
    quiet: shared.Quiet = False
    debug: shared.Debug = False  # read where errors are shown

    def __post_init__(self) -> None:
        shared.exclude("--verbose", self.verbose, "--quiet", self.quiet)
        shared.check_folder(self.output, "the folder of the run")

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings that are given here instead of in the file."""
        given = {
            "photos": self.photos and str(self.photos),
            "pairs": [str(folder) for folder in self.pairs or ()],
            "time_limit": self.time_limit,
            "steps": self.steps,
            "device": None if self.device == "auto" else self.device,
            "precision": None if self.precision == "auto" else self.precision,
        }
        return parse_settings(self.set or []) | {name: value for name, value in given.items() if value}


@takes(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train a network on motion blur made from sharp photos, or on datasets of blurred and sharp pictures.

    The same command again goes on where it stopped. On several GPUs: torchrun -m deblur_cli train ...
    """
    from deblur_cli.train.settings import find_config, read_settings

    with shared.wrong_usage(TrainingError):
        settings = read_settings(find_config(options.config), options.overrides)
    raise typer.Exit(train_here(settings, options))


def train_here(settings: "TrainSettings", options: TrainOptions) -> int:
    """Train as one process, or as one of those that torchrun started, and return the exit code."""
    from deblur_cli.train.loop import join_team, leave_team

    team = join_team()
    streams = Output(quiet=options.quiet or not team.leads, verbose=options.verbose)
    try:
        with streams.log_lines(), files.held(options.output) if team.leads else nullcontext():
            with shared.wrong_usage(TrainingError):
                trainer = prepare(settings, options.output, streams, team)
            return run(trainer, streams)
    finally:
        leave_team()


def parse_settings(assignments: list[str], example: str = "blur.longest=24") -> dict[str, Any]:
    """Return the values of name=value pairs, as TOML reads them; what it cannot read is text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", name.strip()):
            raise UsageError(f"--set takes NAME=VALUE such as {example}, not {assignment!r}")
        number = re.sub(r"^([+-]?)\.(?=\d)", r"\g<1>0.", text.strip())  # TOML knows no .5
        try:
            values[name.strip()] = tomllib.loads(f"value = {number}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = text
    return values


def prepare(settings: "TrainSettings", folder: Path, streams: Output, team: "Team") -> "Trainer":
    """Load photos and network, and say what will be trained on what."""
    from deblur_cli.restoration.device import choose_device, choose_precision, keep_freed_memory
    from deblur_cli.train.loop import Trainer

    device = team.device(choose_device(settings.device))
    precision = choose_precision(device, settings.precision)
    if precision.name == "fp16":
        raise UsageError("training needs the range of bf16 or fp32: choose one of them with --precision")
    keep_freed_memory()
    trainer = Trainer(settings, folder, device, precision.dtype, team)
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    streams.say(
        f"{settings.network.architecture}, {parameters / 1e6:.2f} million parameters; "
        f"{learned_from(trainer)}; {device}, {precision.name} ({precision.reason})"
    )
    if trainer.step:
        streams.say(f"continues at step {trainer.step}, after {trainer.elapsed / 60:.1f} min")
    return trainer


def learned_from(trainer: "Trainer") -> str:
    """Say what there is to learn from and to score on."""
    sources = [f"{len(trainer.photos)} photos"] if trainer.photos else []
    sources += [f"{len(pairs)} pairs" for pairs in trainer.batches.datasets]
    scored = trainer.settings.validation or f"{len(trainer.held_out)} photos"
    return f"trained on {' and '.join(sources)}, scored on {scored}"


def run(trainer: "Trainer", streams: Output) -> int:
    """Train, write the weights, and return the exit code."""
    if trainer.progress() >= 1:
        streams.say("this run is finished; a larger --steps or --time-limit lets it continue")
    with StopRequest(streams).listening() as stop:
        trainer.run(lambda row: streams.say(row_line(row)), lambda: stop.code != OK)
        weights = trainer.export() if trainer.team.leads and trainer.step else None
    if stop.code != OK and not trainer.step:
        streams.say("stopped before the first step; nothing was written")
    elif stop.code != OK:
        streams.say(f"stopped at step {trainer.step}; the same command continues from there")
    if weights is not None:
        streams.result(weights)
    return stop.code


def row_line(row: Mapping[str, float]) -> str:
    """Lay out a row of the logs for people: means of the loss terms, or scores."""
    head = f"step {row['step']:6.0f}  {row['seconds'] / 60:6.1f} min"
    if "total" in row:
        terms = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name not in COURSE)
        return f"{head}  rate {row['rate']:.2e}  {terms}"
    found = (
        f"mask IoU {row['mask_iou']:.3f}, {100 * row['wrongly_marked']:.1f}% wrongly marked, sharp photos "
        f"{100 * row['sharp_marked']:.1f}% marked, endpoints {row['endpoint_error']:.1f} px off"
    )
    if "epsilon" in row:
        found += (
            f", recommended epsilon {row['epsilon']:g} ({row['kept_gain']:+.2f} dB, "
            f"{100 * row['sharp_touched']:.1f}% of sharp photos touched)"
        )
    if "gain_ssim_w" not in row:
        return f"{head}  scores: {found}, Richardson-Lucy along the motion {row['gain_psnr_w']:+.2f} dB"
    by_length = ", ".join(f"{row[f'gain_{length}']:+.2f}" for length in ("short", "medium", "long"))
    return (
        f"{head}  scores: in the blur {row['gain_psnr_w']:+.2f} dB ({by_length} up to 8, 16, more px) and "
        f"{row['gain_ssim_w']:+.4f} SSIM over {row['blurred_psnr_w']:.2f} dB, {found}, "
        f"outside {row['outside_psnr']:.1f} dB"
    )


class StopRequest:
    """Ctrl-C and SIGTERM, kept until the step at hand is done, so that the saved state is a whole one.

    code: exit code of the signal that came, OK while none has
    """

    def __init__(self, streams: Output) -> None:
        self.code = OK
        self._streams = streams

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Catch the signals; a second Ctrl-C ends the program at once."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.code != OK:
            raise KeyboardInterrupt
        self.code = INTERRUPTED if number == signal.SIGINT else TERMINATED
        self._streams.say("stopping after this step")
