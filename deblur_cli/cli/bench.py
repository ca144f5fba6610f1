"""`deblur bench`: what a photo costs on this machine."""

import re
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.cli import options
from deblur_cli.cli.output import Output
from deblur_cli.cli.plotting import check_plot, save_plot
from deblur_cli.cli.signals import terminate_like_interrupt
from deblur_cli.errors import UsageError
from deblur_cli.restoration.limits import Tiling

if TYPE_CHECKING:
    from deblur_cli.benchmark.measuring import Timing
    from deblur_cli.benchmark.profiling import Profile, Share
    from deblur_cli.benchmark.run import Benchmark
    from deblur_cli.benchmark.sweep import Sweep

SWEPT_MEGAPIXELS = (0.75, 1.5, 3.0, 6.0, 12.0)
SWEPT_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
SHOWN_OPERATORS = 15
SIDES = (8, 65500)  # pixels; the photo is a JPEG, and libjpeg writes no more
LARGEST_MEGAPIXELS = 1000
LONGEST_BLUR = 1000  # pixels


class Over(StrEnum):
    """What a sweep varies."""

    megapixels = "megapixels"
    blurred = "blurred"


Size = Annotated[str, typer.Option("--size", metavar="WxH", help="Size of the photo in pixels.")]
Blurred = Annotated[
    float, typer.Option("--blurred", metavar="0-1", help="Share of the photo that is blurred.")
]
Length = Annotated[
    float,
    typer.Option(
        "--length",
        metavar="PX",
        help="Length of that blur in pixels, which tells the scale at which it is restored; 32 is long.",
    ),
]
Repeats = Annotated[int, typer.Option("--repeats", metavar="N", help="How often each variant is timed.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="VARIANT", help="Time this variant, such as detect; repeat for several."),
]
SweepOver = Annotated[
    Over | None, typer.Option("--sweep", help="Time the tool over photo sizes or blurred shares instead.")
]
Values = Annotated[
    str | None, typer.Option("--values", metavar="X,X,...", help="Megapixels or shares of the sweep.")
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw the sweep with its fitted line.", readable=False),
]
Profiled = Annotated[
    bool, typer.Option("--profile", help="Tell instead where the time goes, by operator and part.")
]


def bench(
    size: Size = "4096x3072",
    blurred: Blurred = 0.1,
    length: Length = 10.0,
    repeats: Repeats = 3,
    only: Only = None,
    sweep: SweepOver = None,
    values: Values = None,
    plot: Plot = None,
    profile: Profiled = False,
    weights: options.Weights = None,
    detector: options.Detector = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = options.AUTO,
    overlap: options.Overlap = options.DEFAULT_OVERLAP,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Time deblurring a photo against the same network run densely in float32 over all tiles."""
    del debug  # read where errors are translated
    tiling = Tiling(tile, overlap)
    width, height = parse_size(size)
    if not 0 <= blurred <= 1:
        raise UsageError(f"--blurred is a number from 0 to 1, not {blurred}")
    if not 0 < length <= LONGEST_BLUR:
        raise UsageError(f"--length is a number above 0 and up to {LONGEST_BLUR} pixels, not {length:g}")
    if repeats < 1:
        raise UsageError(f"--repeats is at least 1, not {repeats}")
    options.exclude("--profile", profile, "--sweep", sweep is not None)
    options.exclude("--only", bool(only), "--profile", profile)
    options.exclude("--only", bool(only), "--sweep", sweep is not None)
    if sweep is None and (values is not None or plot is not None):
        raise UsageError("--values and --plot belong to --sweep megapixels or --sweep blurred")
    swept = parse_values(values, sweep) if sweep is not None else ()

    check_plot(plot)

    from deblur_cli.benchmark.scene import Setting
    from deblur_cli.cli.catalogue import load_weights

    streams = Output(quiet=quiet)
    network = load_weights(weights, detector, streams)
    setting = Setting(network, tiling, device, precision)

    def step(name: str) -> None:
        streams.say(f"timing: {name}")

    with terminate_like_interrupt():
        if profile:
            from deblur_cli.benchmark.profiling import profile_run

            where = profile_run(setting, (width, height), blurred, length)
            show(streams, asdict(where), profile_lines(where), json=json)
        elif sweep is not None:
            from deblur_cli.benchmark.sweep import diagram
            from deblur_cli.benchmark.sweep import sweep as run_sweep

            sizes = (
                [scaled(width, height, value) for value in swept]
                if sweep is Over.megapixels
                else [(width, height)]
            )
            shares = [blurred] if sweep is Over.megapixels else list(swept)
            swept_times = run_sweep(setting, sizes, shares, length, repeats, step)
            show(streams, asdict(swept_times), sweep_lines(swept_times), json=json)
            if plot is not None:
                save_plot(plot, [diagram(swept_times)], streams)
        else:
            from deblur_cli.benchmark.run import run_benchmark

            found = run_benchmark(setting, (width, height), blurred, length, repeats, step, only or ())
            ratios = {name: found.ratio(name) for name in found.timings}
            facts = {**asdict(found), "ratios": ratios, "detection_ratio": found.detection_ratio}
            show(streams, facts, table(found), json=json)


def show(streams: Output, fields: dict[str, object], lines: list[str], *, json: bool) -> None:
    """Give the result to a program or to people."""
    if json:
        streams.json_line(fields)
        return
    for line in lines:
        streams.result(line)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "4096x3072"."""
    width, _, height = text.lower().partition("x")
    sides = [int(side) if re.fullmatch("[0-9]{1,9}", side) else 0 for side in (width, height)]
    low, high = SIDES
    if not all(low <= side <= high for side in sides) or sides[0] * sides[1] > LARGEST_MEGAPIXELS * 1e6:
        raise UsageError(
            f"--size is width and height, such as 4096x3072, from {low} to {high} pixels and up to "
            f"{LARGEST_MEGAPIXELS} megapixels, not {text!r}"
        )
    return sides[0], sides[1]


def parse_values(text: str | None, over: Over) -> tuple[float, ...]:
    """The values of a sweep, at least two different ones, rising."""
    if text is None:
        return SWEPT_MEGAPIXELS if over is Over.megapixels else SWEPT_SHARES
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        values = []
    low, high = (0.01, LARGEST_MEGAPIXELS) if over is Over.megapixels else (0, 1)
    if len(values) < 2 or not all(low <= value <= high for value in values):
        raise UsageError(f"--values are two or more numbers from {low:g} to {high:g}, not {text!r}")
    return tuple(values)


def scaled(width: int, height: int, megapixels: float) -> tuple[int, int]:
    """Width and height of a photo of the same shape with so many megapixels."""
    factor = (megapixels * 1e6 / (width * height)) ** 0.5
    return round(width * factor), round(height * factor)


def table(found: "Benchmark") -> list[str]:
    """The result for people: ratios first."""
    photo = (
        f"({found.width}x{found.height}, {found.blurred_share:.0%} blurred by {found.blur_length:g} pixels)"
    )
    lines = []
    for name, words in (("deblur", ""), ("detect", " for detection alone")):
        if (ratio := found.ratio(name)) is not None:
            lines.append(f"{ratio:.1f} times as fast as dense float32{words} {photo}")
    if (ratio := found.detection_ratio) is not None:
        lines.append(f"{ratio:.2f} times as long for detection at all scales as at full size alone")
    lines += [timing_line(name, timing, found.ratio(name)) for name, timing in found.timings.items()]
    if {"deblur", "detect"} <= set(found.timings):
        seconds = found.timings["deblur"].median - found.timings["detect"].median
        lines.append(f"{'restore: deblur - detect':<26}{seconds:9.2f} s")
    parts = [found.timings[name].median for name in ("decode", "deblur", "encode") if name in found.timings]
    if len(parts) == 3:
        lines.append(f"{'decode, deblur and encode':<26}{sum(parts):9.2f} s")
    scales = (
        ", ".join(
            f"{share:.1%} at {'full size' if scale == 1 else f'1/{scale}'}"
            for scale, share in found.scale_shares.items()
        )
        or "nothing"
    )
    return [
        *lines,
        f"tiles          {found.tiles} looked at, {found.tiles_restored} restored, {found.tile_size} pixels",
        f"scales         {scales} restored",
        f"weights        {found.weights}, {found.device}, {found.precision}",
        f"machine        {found.machine}",
    ]


def timing_line(name: str, timing: "Timing", ratio: float | None = None) -> str:
    """Median, spread, ratio, work and memory of one variant."""
    low, high = min(timing.seconds), max(timing.seconds)
    text = f"{name:<26}{timing.median:9.2f} s (median of {len(timing.seconds)}, {low:.2f} to {high:.2f})"
    text += "" if ratio is None else f", {ratio:5.2f} x"
    text += "" if timing.macs is None else f", {timing.macs / 1e9:7.1f} GMACs"
    return text + ("" if timing.memory is None else f", {timing.memory / 1e9:.2f} GB")


def sweep_lines(found: "Sweep") -> list[str]:
    """Slope first, then every value."""
    unit = "megapixel" if found.over == "megapixels" else "whole photo"
    lines = [
        f"{found.slope:.3f} s more for a {unit}, {found.intercept:.2f} s at none; R2 {found.r_squared:.4f}"
    ]
    if found.spread is not None:
        lines.append(f"seconds per megapixel within {found.spread:.0%} of their mean")
    return lines + [timing_line(timing.name, timing) for timing in found.timings]


def profile_lines(found: "Profile") -> list[str]:
    """The longest operators, then all parts of the network."""
    lines = ["operators, without what they call:", *map(share_line, found.operators[:SHOWN_OPERATORS])]
    return [*lines, "parts of the network:", *map(share_line, found.parts)]


def share_line(found: "Share") -> str:
    """One operator or part."""
    return f"{found.share:6.1%} {found.seconds:8.3f} s {found.calls:6} x  {found.name}"
