"""`deblur ui`: a page in the browser to look at photos, correct their masks, and save them."""

import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.cli import options as shared
from deblur_cli.cli.options import takes
from deblur_cli.cli.run.options import Kind, RunOptions, parse_strength
from deblur_cli.errors import UsageError, how_to_install

if TYPE_CHECKING:
    from deblur_cli.ui.session import Item


@dataclass(frozen=True, kw_only=True)
class UiOptions(shared.NetworkOptions):
    """All options of the page."""

    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO|FOLDER",
            help="Photos, or folders of photos; others can be opened in the page.",
            show_default=False,
            parser=shared.parse_path,
        ),
    ] = ()  # type: ignore[assignment]  # Typer makes it a list
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the results.",
            show_default="next to each photo",
            parser=shared.parse_output,
        ),
    ] = None
    epsilon: Annotated[
        float | None,
        typer.Option(
            "--epsilon",
            "-e",
            metavar="auto|0-1",
            help="How sure to be before restoring, to begin with.",
            parser=shared.parse_epsilon,
            show_default="auto, as recommended",
        ),
    ] = shared.AUTO
    strength: Annotated[
        float,
        typer.Option(
            metavar="0-150", help="Percent of the change to apply, to begin with.", parser=parse_strength
        ),
    ] = 100.0
    scales: shared.Scales = shared.AUTO
    max_megapixels: shared.MaxMegapixels = shared.DEFAULT_MAX_MEGAPIXELS
    port: Annotated[
        int | None,
        typer.Option(
            metavar="auto|N",
            help="Port of this machine on which the page is served.",
            parser=shared.number(
                int,
                "--port must be auto or a number from 1 to 65535",
                range(1, 65536).__contains__,
                auto=True,
            ),
        ),
    ] = shared.AUTO
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True
    verbose: shared.Verbose = False

    def __post_init__(self) -> None:
        super().__post_init__()
        shared.exclude("--verbose", self.verbose, "--quiet", self.quiet)
        if self.output is not None:
            shared.check_folder(self.output, "the folder for the results")

    @property
    def as_run(self) -> RunOptions:
        """The options of a run that restores the same photos in the same way."""
        return RunOptions(
            inputs=list(self.inputs),
            output=self.output and shared.FolderPath(self.output),
            epsilon=self.epsilon,
            strength=self.strength,
            mask_format="gray",
            weights=self.weights,
            detector=self.detector,
            device=self.device,
            precision=self.precision,
            tile=self.tile,
            overlap=self.overlap,
            scales=self.scales,
            max_megapixels=self.max_megapixels,
            actor_cpus=None,
        )


@takes(UiOptions)
def ui(options: UiOptions) -> None:
    """Open a page in the browser to look at photos, correct their masks, and save them.

    Only this machine can reach the page, and it sends nothing anywhere. Press Ctrl-C to stop.
    """
    try:
        from deblur_cli.ui.server import listen, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("nicegui", "uvicorn", "fastapi"):
            raise
        raise UsageError(f"the page needs NiceGUI: run {how_to_install('ui')}") from error
    from deblur_cli.cli.output import Output, describe
    from deblur_cli.cli.run.command import load
    from deblur_cli.ui.session import Workbench

    streams = Output(quiet=options.quiet, verbose=options.verbose, json=options.json)
    items = _items(options.as_run, streams.warn) if options.inputs else []
    with listen(options.port) as listener, streams.log_lines():
        bench = Workbench(*load(options.as_run, streams), options.max_megapixels)

        def announce(address: str) -> None:
            streams.say("the page is open to this machine alone; press Ctrl-C to stop")
            streams.tell({"type": "page", "address": address}, address)
            if options.browser:
                Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # some wait for it

        serve(bench, items, partial(_uploaded, options.as_run), describe, listener, announce)


def _items(options: RunOptions, warn: Callable[[str], None]) -> "list[Item]":
    """Return the photos that the user names, and where their results go. Raises UsageError for none."""
    from deblur_cli.cli.run.collect import collect
    from deblur_cli.cli.run.plan import LocalJob, find_clashes, name_results
    from deblur_cli.ui.session import Item

    found = collect(options)
    for line in (*map(str, found.problems), *found.warnings()):
        warn(line)
    jobs = name_results(found.photos, options)
    clashes = find_clashes(jobs, again=False)
    if jobs and len(clashes) == len(jobs):
        raise UsageError(clashes[jobs[0]])
    for job, reason in clashes.items():
        warn(f"{job.source}: cannot be opened with the others, as {reason}")
    named = (LocalJob.of(job) for job in jobs if job not in clashes)
    return [Item(job.source, job.results[Kind.photo], job.results[Kind.gray]) for job in named]


def _uploaded(options: RunOptions, photo: Path) -> "Item":
    """Return a photo that a browser sent, and the names of its results beside it."""
    from deblur_cli.cli.run.collect import Found
    from deblur_cli.cli.run.plan import LocalJob, name_results
    from deblur_cli.ui.session import Item

    (job,) = name_results([Found(photo, Path(photo.name))], replace(options, inputs=[photo], output=None))
    job = LocalJob.of(job)
    return Item(photo, job.results[Kind.photo], job.results[Kind.gray], is_sent=True)
