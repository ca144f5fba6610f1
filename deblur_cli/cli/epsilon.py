"""`deblur epsilon`: a sheet of masks to choose epsilon from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.cli import options
from deblur_cli.restoration.limits import Tiling

if TYPE_CHECKING:
    from deblur_cli.restoration.forecast import Outlook


def epsilon(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The photo.", show_default=False)],
    *,
    values: options.EpsilonValues = "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Folder for the sheet, or its name (PNG)."),
    ] = None,
    weights: options.Weights = None,
    detector: options.Detector = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = options.AUTO,
    overlap: options.Overlap = options.DEFAULT_OVERLAP,
    scales: options.Scales = options.AUTO,
    keep_sharp: options.KeepSharp = True,
    max_megapixels: options.MaxMegapixels = options.DEFAULT_MAX_MEGAPIXELS,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,  # noqa: ARG001 - read where errors are shown
) -> None:
    """Draw what would be restored at several epsilon, from one detection, to choose one by eye."""
    options.exclude("--verbose", verbose, "--quiet", quiet)
    epsilons = options.parse_epsilons(values)
    tiling = Tiling(tile, overlap)
    sheet = _sheet_path(photo, output)

    from deblur_cli.cli.catalogue import load_weights
    from deblur_cli.cli.output import Output
    from deblur_cli.files import check_target
    from deblur_cli.photo import encode
    from deblur_cli.photo.decode import decode
    from deblur_cli.photo.photo import Photo
    from deblur_cli.photo.view import eight_bits, rgb_profile
    from deblur_cli.pictures import Step, draw_sheet
    from deblur_cli.restoration.deblurrer import Deblurrer, Request
    from deblur_cli.restoration.forecast import forecast

    streams = Output(quiet=quiet, verbose=verbose)
    check_target(sheet, photo, overwrite=overwrite)
    with streams.log_lines():
        loaded = load_weights(weights, detector, streams)
        network = Deblurrer(loaded, device, precision, tiling, scales)
    with streams.log_lines(), streams.about(photo), streams.bars(1) as bars:
        seen = decode(photo, max_megapixels)
        bars.begin(photo.name)
        requests = [Request(epsilon, keep_sharp) for epsilon in epsilons]
        outlooks = forecast(network, seen, requests, bars.report)
        steps = [Step(one.result.epsilon, one.result.findings, _lines(one)) for one in outlooks]
        first = (f"{seen.width} x {seen.height} pixels", f"{network.weights.title}, {network.device}")
        pixels = draw_sheet(eight_bits(seen), steps, first)
        drawn = Photo(pixels=pixels, source=photo, format="PNG", metadata=rgb_profile(seen))
        encode.encode(drawn, sheet, format="PNG", overwrite=overwrite)
    for outlook in outlooks:
        streams.say(f"{photo}: {', '.join(_lines(outlook))}")
        if json:
            streams.json_line(_record(outlook))
    if json:
        streams.json_line({"type": "sheet", "input": str(photo), "output": str(sheet)})
    else:
        streams.result(sheet)


def _sheet_path(photo: Path, output: Path | None) -> Path:
    """Name the sheet. Raises UsageError where -o asks for another kind of picture."""
    from deblur_cli.cli.run.inputs import SHEET_ENDING
    from deblur_cli.errors import UsageError

    if output is not None and output.suffix.lower() == ".png" and not output.is_dir():
        return output
    if output is not None and output.suffix and not output.is_dir():
        raise UsageError(f"{output} is no folder, and a sheet is a PNG; name a .png file or a folder")
    return (photo.parent if output is None else output) / f"{photo.stem}{SHEET_ENDING}"


def _lines(outlook: "Outlook") -> tuple[str, str]:
    from deblur_cli.pictures import blurred
    from deblur_cli.restoration.forecast import duration

    tiles = "1 tile" if outlook.tiles_restored == 1 else f"{outlook.tiles_restored} tiles"
    share = f"epsilon {outlook.result.epsilon:g}: {blurred(outlook.result.blurred_share)}"
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
