"""`deblur compare`: a web page that compares any two pictures of the same size."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.cli import options as shared
from deblur_cli.cli.options import takes
from deblur_cli.errors import PhotoError, UsageError


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """All options of a comparison. Raises UsageError for a folder that cannot be made."""

    before: Annotated[
        Path,
        typer.Argument(metavar="BEFORE", help="One picture.", show_default=False, parser=shared.parse_path),
    ]
    after: Annotated[
        Path,
        typer.Argument(
            metavar="AFTER",
            help="Another one of the same size.",
            show_default=False,
            parser=shared.parse_path,
        ),
    ]
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder to make for the page and its pictures.",
            parser=shared.parse_output,
        ),
    ]
    max_megapixels: shared.MaxMegapixels = shared.DEFAULT_MAX_MEGAPIXELS
    json: shared.Json = False
    quiet: shared.Quiet = False
    debug: shared.Debug = False  # read where errors are shown

    def __post_init__(self) -> None:
        if self.output.exists() or self.output.is_symlink():
            raise UsageError(f"{self.output} already exists; choose another name for the folder of the page")
        if self.output.suffix.lower() in (".html", ".htm"):
            folder = self.output.with_suffix("")
            raise UsageError(
                f"-o names a folder, as a page needs its pictures: -o {folder} makes {folder}/index.html"
            )
        shared.check_folder(self.output, "the folder for the page")


@takes(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Make a web page that compares two pictures of the same size, such as a photo and its result."""
    from deblur_cli.cli.output import Output, terminate_like_interrupt
    from deblur_cli.photo.decode import decode
    from deblur_cli.report import write_comparison

    streams = Output(quiet=options.quiet, json=options.json)
    with terminate_like_interrupt(), streams.log_lines():
        with shared.wrong_usage(PhotoError):
            before, after = (decode(path, options.max_megapixels) for path in (options.before, options.after))
        if (before.width, before.height) != (after.width, after.height):
            raise UsageError(
                f"{options.before} has {before.width} x {before.height} pixels and {options.after} "
                f"{after.width} x {after.height}: only pictures of the same size can be compared"
            )
        page = write_comparison(options.output, before, after)
    names = {"before": str(options.before), "after": str(options.after), "output": str(page)}
    streams.tell({"type": "comparison", **names, "width": after.width, "height": after.height}, page)
