"""`deblur synth`: a repeatable dataset of motion blur made from sharp photos."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli import files
from deblur_cli.cli import options as shared
from deblur_cli.cli.options import takes
from deblur_cli.cli.output import Output
from deblur_cli.cli.train import parse_settings
from deblur_cli.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from deblur_cli.train.settings import BlurSettings

SIZES = range(16, 1 << 16, 16)  # pixels


def parse_count(text: str) -> int:
    """Return how many pictures to make."""
    return shared.whole_number(text, "--count must be a number above 0", range(1, 10**9))


def parse_size(text: str) -> int:
    """Return the side of each picture."""
    return shared.whole_number(text, "--size must be a multiple of 16", SIZES)


@dataclass(frozen=True, kw_only=True)
class SynthOptions:
    """All options of a dataset."""

    photos: Annotated[
        Path,
        typer.Argument(metavar="PHOTOS", help="Folder of sharp photos.", readable=False, show_default=False),
    ]
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the dataset.", readable=False)
    ]
    count: Annotated[int, typer.Option(metavar="N", help="Pictures to make.", parser=parse_count)] = 100
    size: Annotated[
        int, typer.Option(metavar="PIXELS", help="Side of each, a multiple of 16.", parser=parse_size)
    ] = 512
    seed: Annotated[int, typer.Option(metavar="N", help="The same number gives the same pictures.")] = 2026
    shortest: Annotated[float, typer.Option(metavar="PIXELS", help="Shortest blur.")] = 4
    longest: Annotated[float, typer.Option(metavar="PIXELS", help="Longest blur.")] = 16
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Replace a setting of the synthesis, such as objects=3."
        ),
    ] = None
    quiet: shared.Quiet = False
    debug: shared.Debug = False  # read where errors are shown

    def __post_init__(self) -> None:
        shared.check_folder(self.output, "the folder for the dataset")


@takes(SynthOptions)
def synth(options: SynthOptions) -> None:
    """Make blurred pictures from sharp photos, with their truth, blur mask and displacements."""
    from deblur_cli.train.datasets import load_photos
    from deblur_cli.train.samples import is_written, prepare_folder, write_sample
    from deblur_cli.train.synthetic import fixed_sample

    settings = read_settings(options)
    streams, size, seed = Output(quiet=options.quiet), options.size, options.seed
    pool = load_photos(options.photos)
    warn_of_small(pool, size, streams)
    with files.held(options.output), streams.bars(options.count) as bars:
        prepare_folder(options.output, pool, settings, size, seed)
        for number in range(options.count):
            if not is_written(options.output, number):
                write_sample(options.output, number, fixed_sample(pool, number, size, settings, seed))
            bars.done()
    streams.result(options.output)


def read_settings(options: SynthOptions) -> "BlurSettings":
    """Return the settings of the synthesis. Raises UsageError."""
    from deblur_cli.train.settings import SEEDS, blur_settings

    if not 0 <= options.seed < SEEDS:
        raise UsageError(f"--seed must be a number from 0 to {SEEDS - 1}, not {options.seed}")
    given = parse_settings(options.set or [], "objects=3")
    try:
        lengths = {"shortest": options.shortest, "longest": options.longest}
        return blur_settings(lengths | given, options.size)
    except TrainingError as error:
        raise UsageError(str(error)) from error


def warn_of_small(pool: "Sequence[Tensor]", size: int, streams: Output) -> None:
    """Warn of photos that have to be enlarged for pictures of a size."""
    from deblur_cli.train.datasets import count_small

    if small := count_small(pool, size):
        streams.warn(
            f"{small} of {len(pool)} photos have a side below half of --size {size}: enlarged, they look soft"
        )
