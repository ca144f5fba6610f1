"""`deblur bench`: what a photo costs on this machine, and whether it computes what it should."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deblur_cli.cli import options as shared
from deblur_cli.cli.options import takes
from deblur_cli.cli.output import Output, check_plot, columns, save_plot, terminate_like_interrupt
from deblur_cli.errors import SelfCheckError, UsageError

if TYPE_CHECKING:
    from deblur_cli.benchmark.profiling import Profile, Share
    from deblur_cli.benchmark.run import Benchmark, Sweep, Timing
    from deblur_cli.benchmark.scene import Setting
    from deblur_cli.benchmark.self_check import SelfCheck

SWEPT = {"megapixels": "0.75,1.5,3,6,12", "blurred": "0,0.1,0.25,0.5,0.75,1"}
SHOWN_PIECES, SHOWN_OPERATORS = 5, 15
FILES = ("decode", "encode")  # variants of a benchmark that are no way through a network
SIDES = range(8, 65501)  # pixels; the photo is a JPEG, and libjpeg writes no more
LARGEST_MEGAPIXELS = 1000
LONGEST_BLUR = 1000  # pixels


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a size such as 4096x3072."""
    width, _, height = text.lower().partition("x")
    sides = [int(side) if re.fullmatch("[0-9]{1,9}", side) else 0 for side in (width, height)]
    if not all(side in SIDES for side in sides) or sides[0] * sides[1] > LARGEST_MEGAPIXELS * 1e6:
        raise UsageError(
            f"--size must be width and height, such as 4096x3072, from {SIDES[0]} to {SIDES[-1]} pixels and "
            f"up to {LARGEST_MEGAPIXELS} megapixels, not {text!r}"
        )
    return sides[0], sides[1]


@dataclass(frozen=True, kw_only=True)
class BenchOptions(shared.NetworkOptions):
    """All options of a benchmark. Raises UsageError for those that contradict each other."""

    size: Annotated[
        Any, typer.Option(metavar="WxH", help="Size of the photo in pixels.", parser=parse_size)
    ] = "4096x3072"
    blurred: Annotated[
        float,
        typer.Option(
            metavar="0-1",
            help="Fraction of the photo that is blurred.",
            parser=shared.share("--blurred must be a number from 0 to 1"),
        ),
    ] = 0.1
    length: Annotated[
        float,
        typer.Option(
            metavar="PX",
            help="Length of that blur in pixels, which decides at which scale it is restored; 32 is long.",
            parser=shared.number(
                float,
                f"--length must be a number above 0 and up to {LONGEST_BLUR} pixels",
                lambda length: 0 < length <= LONGEST_BLUR,
            ),
        ),
    ] = 10.0
    repeats: Annotated[
        int,
        typer.Option(
            metavar="N", help="How often each variant is timed.", parser=shared.above_zero("--repeats")
        ),
    ] = 3
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT", help="Time only this variant, such as detect; repeat for several."),
    ] = None
    sweep: Annotated[
        Literal["megapixels", "blurred"] | None,
        typer.Option(help="Time the tool over photo sizes or blurred shares instead."),
    ] = None
    values: Annotated[
        str | None, typer.Option(metavar="X,X,...", help="Megapixels or shares of the sweep.")
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the sweep with its fitted line.", readable=False),
    ] = None
    profile: Annotated[
        bool, typer.Option("--profile", help="Show instead where the time goes, by operator and part.")
    ] = False
    self_check: Annotated[
        bool,
        typer.Option(
            "--self-check", help="Check instead that every fast path here computes what the plain one does."
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.swept  # raises UsageError
        for name, given in (("--profile", self.profile), ("--sweep", self.sweep), ("--only", self.only)):
            shared.exclude("--self-check", self.self_check, name, bool(given))
        shared.exclude("--profile", self.profile, "--sweep", self.sweep is not None)
        shared.exclude("--only", bool(self.only), "--profile", self.profile)
        shared.exclude("--only", bool(self.only), "--sweep", self.sweep is not None)
        if self.sweep is None and (self.values is not None or self.plot is not None):
            raise UsageError("--values and --plot belong to --sweep megapixels or --sweep blurred")

    @property
    def swept(self) -> tuple[float, ...]:
        """The values of the sweep, at least two different ones, rising; none without a sweep."""
        if self.sweep is None:
            return ()
        text = SWEPT[self.sweep] if self.values is None else self.values
        low, high = (0.01, LARGEST_MEGAPIXELS) if self.sweep == "megapixels" else (0, 1)
        try:
            values = sorted({float(part) for part in text.split(",")})
        except ValueError:
            values = []
        if len(values) < 2 or not all(low <= value <= high for value in values):
            raise UsageError(
                f"--values must be two or more different numbers from {low:g} to {high:g}, not {text!r}"
            )
        return tuple(values)


@takes(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Time deblurring a photo against running the same network densely in float32."""
    check_plot(options.plot)

    from deblur_cli.benchmark.scene import Setting
    from deblur_cli.cli.options import load_weights
    from deblur_cli.nets import restorer_of

    streams = Output(quiet=options.quiet, json=options.json)
    network = load_weights(options.weights, options.detector, streams)
    if options.self_check:
        check_itself(Setting(network, options.tiling, options.device, options.precision), streams)
        return
    if not any(True for _ in restorer_of(network.network).parameters()):
        raise UsageError(f"{network.name} has no layers that could run densely: choose other weights")
    setting = Setting(network, options.tiling, options.device, options.precision)
    with terminate_like_interrupt():
        time_it = run_profile if options.profile else run_sweep if options.sweep else run_variants
        facts, lines = time_it(options, setting, streams)
    streams.tell(facts, *lines)


def check_itself(setting: "Setting", streams: Output) -> None:
    """Check every fast path, and show how near it came. Raises SelfCheckError where one came too far off."""
    from deblur_cli.benchmark.self_check import run_self_check

    with streams.log_lines(), terminate_like_interrupt():
        found = run_self_check(setting, lambda name: streams.say(f"checking: {name}"))
    facts = {**asdict(found), "passed": not found.failed}
    streams.tell(facts, *check_lines(found))
    if found.failed:
        raise SelfCheckError(found.advice)


Timed = tuple[dict[str, object], list[str]]  # for programs, and for people


def run_variants(options: BenchOptions, setting: "Setting", streams: Output) -> Timed:
    """Time the variants side by side."""
    from deblur_cli.benchmark.run import run_benchmark

    found = run_benchmark(
        setting,
        options.size,
        options.blurred,
        options.length,
        options.repeats,
        lambda name: streams.say(f"timing: {name}"),
        options.only or (),
    )
    ratios = {name: found.ratio(name) for name in found.timings}
    return {**asdict(found), "ratios": ratios, "detection_ratio": found.detection_ratio}, table(found)


def run_sweep(options: BenchOptions, setting: "Setting", streams: Output) -> Timed:
    """Time the tool over sizes or shares, and draw that if asked to."""
    from deblur_cli.benchmark.run import diagram, sweep

    sizes, shares = [options.size], [options.blurred]
    if options.sweep == "megapixels":
        width, height = options.size
        sizes = [scaled(width, height, value) for value in options.swept]
    else:
        shares = list(options.swept)
    found = sweep(
        setting, sizes, shares, options.length, options.repeats, lambda name: streams.say(f"timing: {name}")
    )
    if options.plot is not None:
        save_plot(options.plot, [diagram(found)], streams)
    return asdict(found), sweep_lines(found)


def run_profile(options: BenchOptions, setting: "Setting", streams: Output) -> Timed:
    """Say where the time goes."""
    from deblur_cli.benchmark.profiling import profile_run

    with streams.log_lines():  # the profiler's own library writes to stderr
        found = profile_run(setting, options.size, options.blurred, options.length)
    return asdict(found), profile_lines(found)


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
    for name, timing in found.timings.items():
        lines.append(timing_line(name, timing, None if name in FILES else found.ratio(name)))
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
        f"tiles          {found.tiles} detected, {found.tiles_restored} restored, {found.tile_size} pixels",
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


def check_lines(found: "SelfCheck") -> list[str]:
    """A row for each check, then why those that failed must not, and where all was run."""
    rows = [("PATH", "PRECISION", "ERROR", "LIMIT", "VERDICT", "SECONDS")]
    for check in found.checks:
        error = "none" if check.error is None else f"{check.error:.1e}"
        verdict = "ok" if check.passed else "FAILED"
        row = (check.what, check.precision, error, f"{check.limit:.1e}", verdict, f"{check.seconds:.2f}")
        rows.append(row)
    lines = columns(rows)
    for check in found.failed:
        why = check.problem or f"the error may be at most {check.limit:.1e} ({check.reason})"
        lines.append(f"FAILED: {check.what}, {check.precision}: {why}")
    count, seconds = len(found.checks), sum(check.seconds for check in found.checks)
    return [
        *lines,
        f"{count - len(found.failed)} of {count} checks passed in {seconds:.0f} s",
        f"weights        {found.weights}, {found.device}",
        f"machine        {found.machine}",
    ]


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
    """The longest pieces at a glance, the longest operators, then all parts of the network."""
    shown = found.pieces[:SHOWN_PIECES]
    rest = max(0.0, 1 - sum(piece.share for piece in shown))
    lines = [
        f"where most of {found.seconds:.2f} s goes:",
        *map(share_line, shown),
        f"{rest:6.1%} {rest * found.seconds:8.3f} s            all else",
    ]
    computing = sum(operator.seconds for operator in found.operators)
    lines += [f"of {computing:.2f} s in operators, each without what it calls:"]
    lines += map(share_line, found.operators[:SHOWN_OPERATORS])
    return [*lines, "of the same, by part of the network:", *map(share_line, found.parts)]


def share_line(found: "Share") -> str:
    """One operator or part."""
    return f"{found.share:6.1%} {found.seconds:8.3f} s {found.calls:6} x  {found.name}"
