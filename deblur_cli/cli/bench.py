"""`deblur bench`: what a photo costs on this machine."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.cli import checks, options
from deblur_cli.errors import UsageError

if TYPE_CHECKING:
    from deblur_cli.benchmark import Benchmark, Timing

Size = Annotated[str, typer.Option("--size", metavar="WxH", help="Size of the photo in pixels.")]
Blurred = Annotated[
    float, typer.Option("--blurred", metavar="0-1", help="Share of the photo that is blurred.")
]
Repeats = Annotated[int, typer.Option("--repeats", metavar="N", help="How often each variant is timed.")]


def bench(
    size: Size = "4096x3072",
    blurred: Blurred = 0.1,
    repeats: Repeats = 3,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.PrecisionChoice = options.Precision.auto,
    tile: options.Tile = "auto",
    overlap: options.Overlap = options.DEFAULT_OVERLAP,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Time deblurring a photo against the same network run densely in float32 over all tiles."""
    del debug  # read where errors are translated
    checks.check_device(device)
    tile_size = checks.parse_tile(tile, overlap)
    width, height = parse_size(size)
    if not 0 <= blurred <= 1:
        raise UsageError(f"--blurred is a number from 0 to 1, not {blurred}")
    if repeats < 1:
        raise UsageError(f"--repeats is at least 1, not {repeats}")

    from deblur_cli.benchmark import run_benchmark
    from deblur_cli.cli.output import Output
    from deblur_cli.restore import Settings
    from deblur_cli.weights import DEFAULT, load

    streams = Output(quiet=quiet)
    settings = Settings(tile=tile_size, overlap=overlap)
    found = run_benchmark(
        load(weights or DEFAULT),
        (width, height),
        blurred,
        repeats,
        settings,
        device,
        precision.value,
        step=lambda name: streams.say(f"timing: {name}"),
    )
    if json:
        ratios = {"ratio_deblur": found.ratio(found.deblur), "ratio_detect": found.ratio(found.detect)}
        streams.json_line({**asdict(found), **ratios})
        return
    for line in table(found):
        streams.result(line)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "4096x3072"."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) >= 8 and int(height) >= 8):
        raise UsageError(f"--size is width and height of at least 8 pixels, such as 4096x3072, not {text!r}")
    return int(width), int(height)


def table(found: "Benchmark") -> list[str]:
    """The result for people: ratios first."""
    return [
        f"{found.ratio(found.deblur):.1f} times as fast as dense float32 "
        f"({found.width}x{found.height}, {found.blurred_share:.0%} blurred)",
        f"{found.ratio(found.detect):.1f} times as fast for detection alone",
        seconds("dense float32, all tiles", found.dense),
        seconds("detect", found.detect),
        seconds("deblur", found.deblur),
        f"tiles          {found.tiles_restored} of {found.tiles} restored, {found.tile_size} pixels",
        f"peak memory    {found.peak_memory / 1e9:.2f} GB"
        + (" of the GPU" if "cuda" in found.device else ""),
        f"weights        {found.weights}, {found.device}, {found.precision}",
        f"machine        {found.machine}",
    ]


def seconds(name: str, timing: "Timing") -> str:
    """Median and spread of one variant."""
    low, high = min(timing.seconds), max(timing.seconds)
    return f"{name}: {timing.median:.2f} s (median of {len(timing.seconds)}, {low:.2f} to {high:.2f})"
