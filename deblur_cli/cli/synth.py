"""`deblur synth`: a repeatable dataset of motion blur made from sharp photos."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli import files
from deblur_cli.cli import options as shared
from deblur_cli.cli.options import takes
from deblur_cli.cli.output import Output
from deblur_cli.cli.train import parse_settings
from deblur_cli.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from deblur_cli.train.settings import BlurSettings


@dataclass(frozen=True, kw_only=True)
class SynthOptions:
    """All options of a dataset."""

    photos: Annotated[
        Path,
        typer.Argument(
            metavar="PHOTOS", help="Folder of sharp photos.", show_default=False, parser=shared.parse_path
        ),
    ]
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for the dataset.", parser=shared.parse_path
        ),
    ]
    count: Annotated[
        int, typer.Option(metavar="N", help="Pictures to make.", parser=shared.above_zero("--count"))
    ] = 100
    size: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            help="Side of each, a multiple of 16.",
            parser=shared.number(int, "--size must be a multiple of 16", range(16, 1 << 16, 16).__contains__),
        ),
    ] = 512
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="The same number gives the same pictures.",
            parser=shared.number(
                int, "--seed must be a number from 0 to 4294967295", range(1 << 32).__contains__
            ),
        ),
    ] = 2026
    shortest: Annotated[
        float,
        typer.Option(
            metavar="PIXELS",
            help="Shortest blur.",
            parser=shared.number(
                float, "--shortest must be a number above 0", lambda length: 0 < length < math.inf
            ),
        ),
    ] = 4
    longest: Annotated[
        float,
        typer.Option(
            metavar="PIXELS",
            help="Longest blur.",
            parser=shared.number(
                float, "--longest must be a number of at least 1", lambda length: 1 <= length < math.inf
            ),
        ),
    ] = 16
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

    streams, size, seed = Output(quiet=options.quiet), options.size, options.seed
    with shared.wrong_usage(TrainingError):
        settings = read_settings(options)
        pool = load_photos(options.photos)
    warn_of_small(pool, size, streams)
    with files.held(options.output), streams.bars(options.count) as bars:
        with shared.wrong_usage(TrainingError):
            prepare_folder(options.output, pool, settings, size, seed)
        for number in range(options.count):
            if not is_written(options.output, number):
                write_sample(options.output, number, fixed_sample(pool, number, size, settings, seed))
            bars.done()
    streams.result(options.output)


def read_settings(options: SynthOptions) -> "BlurSettings":
    """Return the settings of the synthesis. Raises TrainingError."""
    from deblur_cli.train.settings import blur_settings

    lengths = {"shortest": options.shortest, "longest": options.longest}
    return blur_settings(lengths | parse_settings(options.set or [], "objects=3"), options.size)


def warn_of_small(pool: "Sequence[Tensor]", size: int, streams: Output) -> None:
    """Warn of photos that have to be enlarged for pictures of a size."""
    from deblur_cli.train.datasets import count_small

    if small := count_small(pool, size):
        streams.warn(
            f"{small} of {len(pool)} photos have a side below half of --size {size}: enlarged, they look soft"
        )
