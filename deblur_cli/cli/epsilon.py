"""`deblur epsilon`: a sheet of masks to choose epsilon from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.cli import options as shared
from deblur_cli.cli.options import takes
from deblur_cli.errors import EncodeError, UsageError

if TYPE_CHECKING:
    from deblur_cli.photo.photo import Photo
    from deblur_cli.restoration.forecast import Outlook


STEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def _parse_values(text: str) -> list[float] | None:
    return None if text == shared.AUTO else shared.parse_epsilons(text)


@dataclass(frozen=True, kw_only=True)
class SheetOptions(shared.DeblurOptions):
    """All options of a sheet. Raises UsageError for those that contradict each other."""

    photo: Annotated[
        Path,
        typer.Argument(metavar="PHOTO", help="The photo.", show_default=False, parser=shared.parse_path),
    ]
    values: Annotated[
        Sequence[float] | None,
        typer.Option(
            metavar="E,E,...",
            help="The values to compare, from 0 to 1; lower restores more.",
            parser=_parse_values,
            show_default="0.1 to 0.8, the recommended one among them",
        ),
    ] = shared.AUTO
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for the sheet, or its name (PNG).",
            show_default="next to the photo",
            parser=shared.parse_output,
        ),
    ] = None
    max_megapixels: shared.MaxMegapixels = shared.DEFAULT_MAX_MEGAPIXELS
    overwrite: shared.Overwrite = False
    verbose: shared.Verbose = False

    def __post_init__(self) -> None:
        super().__post_init__()
        shared.exclude("--verbose", self.verbose, "--quiet", self.quiet)


@takes(SheetOptions)
def epsilon(options: SheetOptions) -> None:
    """Draw what several values of epsilon would restore, to choose one by eye."""
    if options.photo.is_dir():
        raise UsageError(f"{options.photo} is a folder; give one photo")
    if not options.photo.is_file():
        raise UsageError(f"there is no photo {options.photo}: check the name")
    sheet = _sheet_path(options.photo, options.output)
    shared.check_folder(sheet.parent, "the folder for the sheet")

    from deblur_cli.cli.options import epsilon_for, load_weights
    from deblur_cli.cli.output import Output
    from deblur_cli.files import check_target
    from deblur_cli.photo import encode
    from deblur_cli.photo.decode import decode
    from deblur_cli.restoration.deblurrer import Deblurrer, Request
    from deblur_cli.restoration.forecast import forecast

    streams = Output(quiet=options.quiet, verbose=options.verbose, json=options.json)
    with shared.wrong_usage(EncodeError):
        check_target(sheet, options.photo, overwrite=options.overwrite)
    with streams.log_lines():
        loaded = load_weights(options.weights, options.detector, streams)
        usual = epsilon_for(loaded, None)
        network = Deblurrer(loaded, options.device, options.precision, options.tiling, options.scales)
    with streams.log_lines(), streams.about(options.photo), streams.bars(1) as bars:
        photo = decode(options.photo, options.max_megapixels)
        bars.begin(options.photo.name)
        requests = [Request(value, options.keep_sharp) for value in options.values or _steps_with(usual)]
        found = forecast(network, photo, requests, bars.report)
        drawn = _draw(photo, found, usual, f"{network.weights.title}, {network.device}")
        encode.encode(drawn, sheet, format="PNG", overwrite=options.overwrite)
    for outlook in found:
        streams.say(f"{options.photo}: {', '.join(_lines(outlook, usual))}")
        streams.tell(_record(outlook))
    streams.tell({"type": "sheet", "input": str(options.photo), "output": str(sheet)}, sheet)


def _steps_with(usual: float) -> list[float]:
    """The usual values, with the recommended one in the place of the nearest."""
    nearest = min(STEPS, key=lambda step: abs(step - usual))
    return [usual if step == nearest else step for step in STEPS]


def _draw(photo: "Photo", found: "list[Outlook]", usual: float, network: str) -> "Photo":
    """Draw the sheet. usual: the epsilon that is recommended"""
    from deblur_cli.photo.photo import Photo, rgb_profile, to_eight_bits
    from deblur_cli.pictures import Step, draw_sheet

    steps = [Step(one.result.epsilon, one.result.findings, _lines(one, usual)) for one in found]
    pixels = draw_sheet(
        to_eight_bits(photo.pixels), steps, (f"{photo.width} x {photo.height} pixels", network)
    )
    return Photo(pixels=pixels, source=photo.source, format="PNG", metadata=rgb_profile(photo))


def _sheet_path(photo: Path, output: Path | None) -> Path:
    """Name the sheet. Raises UsageError where -o asks for another kind of picture."""
    from deblur_cli.cli.run.collect import SHEET_ENDING

    name = f"{photo.stem}{SHEET_ENDING}"
    if output is None:
        return photo.with_name(name)
    if not output.suffix or output.is_dir() or isinstance(output, shared.FolderPath):
        return output / name
    if output.suffix.lower() != ".png":
        raise UsageError(
            f"{output} is not a folder, and the sheet is a PNG; name a .png file, or a folder as {output}/"
        )
    return output


def _lines(outlook: "Outlook", usual: float) -> tuple[str, str]:
    from deblur_cli.pictures import blurred
    from deblur_cli.restoration.forecast import duration

    tiles = "1 tile" if outlook.tiles_restored == 1 else f"{outlook.tiles_restored} tiles"
    mark = " (default)" if outlook.result.epsilon == usual else ""
    share = f"epsilon {outlook.result.epsilon:g}{mark}: {blurred(outlook.result.blurred_share)}"
    return share, f"{tiles} to restore, about {duration(outlook.seconds)}"


def _record(outlook: "Outlook") -> dict[str, object]:
    from deblur_cli.cli.run.messages import scales_of

    return {
        "type": "epsilon",
        "epsilon": outlook.result.epsilon,
        "blurred_share": round(outlook.result.blurred_share, 6),
        "scales": scales_of(outlook.result),
        "tiles": outlook.result.tiles,
        "tiles_restored": outlook.tiles_restored,
        "seconds": round(outlook.seconds, 3),
    }
