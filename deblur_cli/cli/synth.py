"""`deblur synth`: a repeatable dataset of motion blur made from sharp photos."""

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli import locks
from deblur_cli.cli import options
from deblur_cli.cli.output import Output
from deblur_cli.cli.train import parse_settings
from deblur_cli.errors import TrainingError, UsageError

Photos = Annotated[
    Path, typer.Argument(metavar="PHOTOS", help="Folder of sharp photos.", readable=False, show_default=False)
]
Folder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the dataset.", readable=False)
]
Count = Annotated[int, typer.Option("--count", metavar="N", help="Pictures to make.")]
Size = Annotated[int, typer.Option("--size", metavar="PIXELS", help="Side of each, a multiple of 16.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="The same number gives the same pictures.")]
Shortest = Annotated[float, typer.Option("--shortest", metavar="PIXELS", help="Shortest blur.")]
Longest = Annotated[float, typer.Option("--longest", metavar="PIXELS", help="Longest blur.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Replace a setting of the synthesis, such as objects=3."
    ),
]


def synth(
    photos: Photos,
    *,
    output: Folder,
    count: Count = 100,
    size: Size = 512,
    seed: Seed = 2026,
    shortest: Shortest = 4,
    longest: Longest = 16,
    set: Set = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make blurred pictures with their sharp truth, blur mask and displacements from sharp photos."""
    del debug  # read where errors are translated
    for name, value in {"--count": count, "--size": size}.items():
        if value < 1:
            raise UsageError(f"{name} is a number above zero, not {value}")
    if size % 16:
        raise UsageError(f"--size is a multiple of 16, not {size}")
    options.check_folder(output, "the folder for the dataset")

    from deblur_cli.train.datasets import count_small, load_photos
    from deblur_cli.train.samples import is_written, prepare_folder, write_sample
    from deblur_cli.train.settings import SEEDS, blur_settings
    from deblur_cli.train.synthetic import fixed_sample

    overrides = {"shortest": shortest, "longest": longest, **parse_settings(set or [], "objects=3")}
    try:
        settings = blur_settings(overrides, size)
    except TrainingError as error:
        raise UsageError(str(error)) from error
    if not 0 <= seed < SEEDS:
        raise UsageError(f"--seed is a number from 0 to {SEEDS - 1}, not {seed}")
    streams = Output(quiet=quiet)
    pool = load_photos(photos)
    if small := count_small(pool, size):
        streams.warn(
            f"{small} of {len(pool)} photos have a side below half of --size {size}: enlarged, they look soft"
        )
    with locks.held(output), streams.bars(count) as bars:
        prepare_folder(output, pool, settings, size, seed)
        for number in range(count):
            if not is_written(output, number):
                write_sample(output, number, fixed_sample(pool, number, size, settings, seed))
            bars.done()
    streams.result(output)
