"""What several commands share: options, checks of what they give, and the weights that they name.

Typer passes the text of an option to its parser, which returns the value or raises UsageError.
"""

import inspect
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from deblur_cli import weights
from deblur_cli.errors import DeblurError, UsageError, WeightsError
from deblur_cli.restoration import OVERLAP_RULE, OVERLAPS, SCALES, TILE_RULE, TILE_SIDES, Tiling
from deblur_cli.stores import Address, Location, is_address, parse

if TYPE_CHECKING:
    from deblur_cli.cli.output import Output
    from deblur_cli.weights import LoadedWeights

AUTO: Any = "auto"  # a default that the help shows; Typer parses it as if the user had typed it
DEFAULT_MAX_MEGAPIXELS = 250.0
DEFAULT_OVERLAP = Tiling.overlap
MOST_EPSILONS = 24  # pictures on a sheet

# The panels of options in the help (rich_help_panel), in the order in which every command shows them.
COMMON = "Most used"
RESTORE = "What to restore"
WRITE = "What to write"
DRAW = "What else to draw"
RAW = "Camera RAW"
BATCH = "Batches"
MACHINE = "Networks and machine"
MESSAGES = "Messages"
PANELS = (COMMON, RESTORE, WRITE, DRAW, RAW, BATCH, MACHINE, MESSAGES)

Options = TypeVar("Options")


def takes(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Make a command of a function: its options are the fields of a dataclass, which it gets as one object.

    Typer reads the options of a command from its signature, so the command is given the dataclass's, with the
    options that it inherits behind its own.
    """
    order = list(dict.fromkeys(name for kind in options.__mro__ for name in inspect.get_annotations(kind)))

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        @wraps(function)
        def command(**values: Any) -> None:
            function(options(**values))

        signature = inspect.signature(options)
        parameters = sorted(signature.parameters.values(), key=lambda one: order.index(one.name))
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def exclude(first: str, first_given: bool, second: str, second_given: bool) -> None:
    """Refuse two options that contradict each other."""
    if first_given and second_given:
        raise UsageError(f"{first} and {second} can't be used together")


@contextmanager
def wrong_usage(*kinds: type[DeblurError]) -> Iterator[None]:
    """Count errors of these kinds as wrong usage, where they are about what the user names."""
    try:
        yield
    except kinds as error:
        raise UsageError(str(error)) from error


def parse_path(text: str) -> Path:
    """Return a path of this machine. An empty text is refused, since Path("") is the current folder."""
    place = parse_location(text)
    if isinstance(place, Address):
        raise UsageError(f"{place}: only `deblur run` takes addresses, for photos, masks, and results")
    return place


def parse_location(text: str) -> Location:
    """Return a path or an address. Raises UsageError as `parse_path` does."""
    if not text:
        raise UsageError("a name is empty: give a file or folder, or . for the current folder")
    return parse(text)


class FolderPath(type(Path())):  # type: ignore[misc]  # before Python 3.12, Path itself cannot be a base
    """A path that was given with a slash at its end, which makes it a folder whether it exists or not."""


def parse_output(text: str) -> Path:
    """Return where results shall go, as a FolderPath if a slash says so."""
    path = parse_path(text)
    return FolderPath(path) if text.endswith(("/", os.sep)) else path


def parse_output_location(text: str) -> Location:
    """Return the same, or an address."""
    return parse_location(text) if is_address(text) else parse_output(text)


def is_folder_name(place: Location) -> bool:
    """Tell whether a place was given with a slash at its end."""
    return place.is_folder if isinstance(place, Address) else isinstance(place, FolderPath)


def check_folder(folder: Path, purpose: str) -> None:
    """Refuse, before any work, what cannot be written into as "the folder for the results" or the like."""
    from deblur_cli.files import advice

    try:
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not nearest.is_dir():
            below = "" if nearest == folder else f" below it, {folder}"
            raise UsageError(f"{nearest} is a file, but -o names {purpose}{below}; choose another folder")
        with TemporaryFile(dir=nearest):  # asking for permission tells root nothing
            pass
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {advice(error)}") from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"cannot write to {folder}: {error}; choose another folder") from error


Number = TypeVar("Number", int, float)


def number(
    kind: type[Number], rule: str, fits: Callable[[Number], bool], *, auto: bool = False
) -> Callable[[str], Number | None]:
    """Return a parser of numbers that fit, or raise UsageError with the rule; "auto" may stand for None."""

    def parse(text: str) -> Number | None:
        if auto and text == "auto":
            return None
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise UsageError(f"{rule}, not {text!r}")
        return value

    return parse


def above_zero(option: str) -> Callable[[str], int | None]:
    """Return a parser of how many things to do."""
    return number(int, f"{option} must be a number above 0", lambda count: 0 < count < 10**9)


def share(rule: str, *, auto: bool = False) -> Callable[[str], float | None]:
    """Return a parser of numbers from 0 to 1, which the rule says."""
    return number(float, rule, lambda value: 0 <= value <= 1, auto=auto)


def parse_epsilons(text: str, option: str = "--values", most: float = MOST_EPSILONS) -> list[float]:
    """Return the confidences of a list such as 0.3,0.5,0.7 in rising order, each once."""
    parse = share(f"{option} must be numbers from 0 to 1")
    values = sorted({parse(part.strip()) or 0.0 for part in text.split(",")})
    if len(values) > most:
        raise UsageError(f"{option} takes up to {most:g} numbers, not {len(values)}")
    return values


def parse_device(name: str) -> str:
    """Return what names a device; whether this machine has it is another question."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise UsageError(f"--device must be auto, cpu, cuda, cuda:0 (or another number) or mps, not {name!r}")
    return name


def parse_scales(text: str) -> tuple[int, ...]:
    """Return the scales of a list such as 1,2 in rising order; auto stands for all of them."""
    if text == "auto":
        return SCALES
    names = {str(scale): scale for scale in SCALES}
    parts = [part.strip() for part in text.split(",")]
    if strange := [part for part in parts if part not in names]:
        raise UsageError(
            f"--scales must be auto or some of {', '.join(names)} such as 1,2; not {strange[0]!r}"
        )
    if twice := [part for part in names if parts.count(part) > 1]:
        raise UsageError(f"--scales names {twice[0]} twice: give each scale once")
    return tuple(sorted(names[part] for part in parts))


parse_epsilon = share("--epsilon must be auto or a number from 0 to 1", auto=True)
parse_tile = number(int, TILE_RULE, TILE_SIDES.__contains__, auto=True)
parse_overlap = number(int, OVERLAP_RULE, OVERLAPS.__contains__)
parse_megapixels = number(
    float, "--max-megapixels must be a number above 0", lambda value: 0 < value < math.inf
)

Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights of the restorer: a name from `deblur weights list`, a file, or hf://owner/repo/file; "
        "richardson-lucy is a classic method without a network.",
        rich_help_panel=MACHINE,
        show_default=weights.DEFAULT,
    ),
]
Detector = Annotated[
    str,
    typer.Option(
        "--detector",
        metavar="auto|own|none|NAME|FILE",
        help="What detects the blur: a detector, given like --weights; auto is the one that the "
        "weights name, own is the weights themselves, and none restores the whole photo.",
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Where to compute; auto takes a GPU if there is one.",
        parser=parse_device,
        rich_help_panel=MACHINE,
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(
        "--precision",
        case_sensitive=False,
        help="Number format; auto is the fastest safe one.",
        rich_help_panel=MACHINE,
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        metavar="auto|PIXELS",
        help="Side of the tiles that a photo is cut into, a multiple of 16; auto fits the memory.",
        parser=parse_tile,
        rich_help_panel=MACHINE,
    ),
]
Overlap = Annotated[
    int,
    typer.Option(
        "--overlap",
        metavar="PIXELS",
        help="How far the tiles overlap.",
        parser=parse_overlap,
        rich_help_panel=MACHINE,
    ),
]
Scales = Annotated[
    Sequence[int],
    typer.Option(
        "--scales",
        metavar="auto|1,2,4,8",
        help="Sizes at which to detect and restore: 1 is the photo's own, 2 is half; auto is all of them.",
        parser=parse_scales,
        rich_help_panel=RESTORE,
    ),
]
KeepSharp = Annotated[
    bool,
    typer.Option(
        "--keep-sharp/--no-keep-sharp",
        help="Leave sharp pixels exactly as they were, or let the network change them too.",
        rich_help_panel=RESTORE,
    ),
]
MaxMegapixels = Annotated[
    float,
    typer.Option(
        "--max-megapixels",
        metavar="N",
        help="Refuse photos larger than this.",
        parser=parse_megapixels,
        rich_help_panel=MACHINE,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that already exist.", rich_help_panel=COMMON)
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Write results to stdout as JSON, one object a line.", rich_help_panel=MESSAGES
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show more on stderr.", rich_help_panel=MESSAGES)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show only errors on stderr.", rich_help_panel=MESSAGES)
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show where in the code an error occurred.", rich_help_panel=MESSAGES)
]
Version = Annotated[
    bool,
    typer.Option("--version", help="Show the version and exit.", is_eager=True),
]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Options of every command that runs a network. Raises UsageError for tiles that only overlap."""

    weights: Weights = None
    detector: Detector = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    tile: Tile = AUTO
    overlap: Overlap = DEFAULT_OVERLAP
    json: Json = False
    quiet: Quiet = False
    debug: Debug = False  # read where errors are shown

    def __post_init__(self) -> None:
        _ = self.tiling

    @property
    def tiling(self) -> Tiling:
        """How photos are cut."""
        return Tiling(self.tile, self.overlap)


@dataclass(frozen=True, kw_only=True)
class DeblurOptions(NetworkOptions):
    """Options of every command that detects at several scales."""

    scales: Scales = AUTO
    keep_sharp: KeepSharp = True


def load_weights(name: str | None, detector: str, streams: "Output") -> "LoadedWeights":
    """Return the network of a run with its detector; what is not here is downloaded.

    name: None for the default; detector: as --detector gives it
    Raises UsageError for what cannot be used as such, WeightsError for what cannot be downloaded.
    """
    name = name or weights.DEFAULT
    weights.detector_for({}, detector)  # refuses what is no detector before anything is downloaded
    if weights.is_remote(name):
        bring(name, streams)
    with wrong_usage(WeightsError):
        loaded = weights.load(name)
    detector_name = weights.detector_for(loaded.notes, detector)
    if detector_name is not None and weights.is_remote(detector_name):
        bring(detector_name, streams)
    with wrong_usage(WeightsError):
        return weights.guide(loaded, detector)


def epsilon_for(loaded: "LoadedWeights", asked: float | None) -> float:
    """Return the epsilon of a run: as asked for, else what is recommended, else one half.

    Raises WeightsError where the recommendation is damaged.
    """
    from deblur_cli.restoration.deblurrer import Request

    if asked is not None:
        return asked
    return Request.epsilon if loaded.epsilon is None else loaded.epsilon


def to_download_of_run(name: str | None, detector: str) -> str | None:
    """Say what a run would have to download before it starts; None where all is here.

    Raises WeightsError for names that stand for nothing.
    """
    name = name or weights.DEFAULT
    names = [name, weights.detector_for(weights.notes_of(name), detector)]
    missing = [to_download(wanted) for wanted in names if wanted is not None]
    return " and ".join(filter(None, missing)) or None


def to_download(name: str) -> str | None:
    """Say what has to be downloaded for weights; None where they are here.

    Raises WeightsError for a name that stands for nothing.
    """
    source = weights.source_of(name)
    if source.path is not None or source.hub is None:
        return None
    size = f" ({source.entry.bytes / 1e6:.1f} MB)" if source.entry and source.entry.bytes else ""
    return f"{source.name}{size} from {source.hub}"


def bring(name: str, streams: "Output") -> Path:
    """Return the path of weights; those that are not here are named and downloaded. Raises WeightsError."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if (missing := to_download(name)) is None:
        return weights.pull(name)
    streams.say(f"downloading {missing}")
    if streams.quiet:
        with disable_progress_bars():
            return weights.pull(name)
    return weights.pull(name)
