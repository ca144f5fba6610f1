"""`deblur run`: deblur photos and folders of photos."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deblur_cli.cli import checks, options
from deblur_cli.errors import UsageError

if TYPE_CHECKING:
    from deblur_cli.cli.output import Output
    from deblur_cli.cli.run.journal import Journal
    from deblur_cli.cli.run.plan import Plan
    from deblur_cli.restoration import Deblurrer, Findings, Request


def run(
    context: typer.Context,
    inputs: options.Inputs,
    *,
    output: options.Output = None,
    recursive: options.Recursive = False,
    epsilon: options.Epsilon = "auto",
    mask: options.Mask = False,
    mask_format: options.MaskFormatChoice = None,
    trajectory: options.Trajectory = False,
    trajectory_style: options.TrajectoryStyleChoice = None,
    data: options.Data = None,
    findings: options.FindingsFile = None,
    only_maps: options.OnlyMaps = False,
    report: options.Report = False,
    weights: options.Weights = None,
    detector: options.Detector = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionChoice = options.Precision.auto,
    tile: options.Tile = "auto",
    overlap: options.Overlap = options.DEFAULT_OVERLAP,
    scales: options.Scales = "auto",
    keep_sharp: options.KeepSharp = True,
    suffix: options.Suffix = options.DEFAULT_SUFFIX,
    format: options.Format = None,
    quality: options.Quality = None,
    strip_metadata: options.StripMetadata = False,
    note: options.Note = True,
    raw_white_balance: options.RawWhiteBalance = options.WhiteBalance.camera,
    raw_exposure: options.RawExposure = 0.0,
    raw_colour_space: options.RawColourSpace = options.ColourSpace.srgb,
    overwrite: options.Overwrite = False,
    skip_existing: options.SkipExisting = False,
    resume: options.Resume = False,
    jobs: options.Jobs = "auto",
    max_megapixels: options.MaxMegapixels = options.DEFAULT_MAX_MEGAPIXELS,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Find what moved in photos, restore it, and leave every other pixel as it was."""
    checks.check_device(device)
    checks.check_photo_values(quality, suffix, max_megapixels, raw_exposure)
    checks.exclude("--overwrite", overwrite, "--skip-existing", skip_existing)
    checks.exclude("--verbose", verbose, "--quiet", quiet)
    threshold = checks.parse_threshold(epsilon)
    tile_size = checks.parse_tile(tile, overlap)
    chosen_scales = checks.parse_scales(scales)
    file_format = checks.parse_format(format)
    side_by_side = checks.parse_jobs(jobs)
    checks.check_findings(findings, inputs)
    given, threshold = _read_findings(findings, threshold)

    from deblur_cli.cli.output import Output
    from deblur_cli.cli.run import pipes
    from deblur_cli.cli.run.inputs import Walk, collect
    from deblur_cli.cli.run.plan import Existing, Naming, check_output, make_plan
    from deblur_cli.cli.run.resume import Ledger, journal_path, report_folder, settings_of

    streams = Output(quiet=quiet, verbose=verbose)
    mask_format, trajectory = _wanted(
        mask, mask_format, trajectory or trajectory_style is not None, only_maps and data is None
    )
    alone = {
        **{"--mask": mask_format is not None, "--trajectory": trajectory, "--data": data is not None},
        **{"--only-maps": only_maps, "--report": report, "--json": json, "--dry-run": dry_run},
    }
    pipes.check(inputs, output, {**alone, "--resume": resume})
    load = partial(
        _load,
        streams,
        weights=weights,
        detector=detector,
        motion=trajectory,
        epsilon=threshold,
        keep_sharp=keep_sharp,
        device=device,
        precision=precision.value,
        tiling=(tile_size, overlap),
        scales=chosen_scales,
    )
    with pipes.connected(inputs, output, file_format, streams) as ends:
        naming = Naming(ends.output, suffix, file_format, **_beside(mask_format, trajectory, data, only_maps))
        found = collect(ends.inputs, Walk(recursive, suffix, leave_out=ends.output))
        check_output(naming, len(ends.inputs), found.folders)

        existing = Existing.replace if overwrite else Existing.skip if skip_existing else Existing.refuse
        shaping = settings_of(
            context,
            epsilon="auto" if threshold is None else threshold,
            tile=tile_size,
            format=file_format,
            scales=",".join(map(str, chosen_scales)),
        )
        ledger = Ledger(journal_path(ends.inputs, naming), shaping, existing, overwrite)
        ledger.look_back(resume, weights, detector, streams)
        photos = ledger.without_results(found.photos)
        plan = make_plan(photos, naming, ledger.existing, ledger.judge)
        _check_kept(findings, plan)
        for line in filter(None, (found.passed_over_line(), found.left_out_line())):
            streams.warn(line)

        if dry_run:
            from deblur_cli.cli.run.dry_run import show

            with streams.log_lines():
                code = show(
                    plan, found.problems, streams, max_megapixels, (weights, detector), load, json=json
                )
            raise typer.Exit(code)

        def open_journal(network: "Deblurrer | None") -> "Journal | None":
            return ledger.open(len(plan.jobs), None if network is None else network.weights, streams)

        from deblur_cli.cli.run.batch import Batch, Orders
        from deblur_cli.cli.run.saving import Saving
        from deblur_cli.photo.raw import RawOptions
        from deblur_cli.report import Report

        saving = Saving(
            quality, ledger.existing is Existing.replace, strip_metadata, note, trajectory_style == "flow"
        )
        orders = Orders(
            max_megapixels,
            RawOptions(raw_white_balance.value, raw_exposure, raw_colour_space.value),
            saving,
            json,
            debug,
            side_by_side,
            given,
        )
        pages = Report(report_folder(ends.inputs, naming)) if report else None
        if code := Batch(orders, streams, pages).run(plan, found.problems, load, open_journal):
            raise typer.Exit(code)
        ends.deliver()


def _load(
    streams: "Output",
    *,
    weights: str | None,
    detector: str,
    motion: bool,
    epsilon: float | None,
    keep_sharp: bool,
    device: str,
    precision: str,
    tiling: tuple[int | None, int],
    scales: tuple[int, ...],
) -> "tuple[Deblurrer, Request]":
    """Return what deblurs the photos of a run, and what it shall do with each; None stands for automatic.

    motion: whether it is to be drawn; tiling: size and overlap
    """
    from deblur_cli import restoration
    from deblur_cli.cli.catalogue import epsilon_for, load_weights

    loaded = checks.telling(load_weights(weights, detector, streams), motion=motion)
    request = restoration.Request(epsilon_for(loaded, epsilon), keep_sharp)
    return restoration.Deblurrer(loaded, device, precision, restoration.Tiling(*tiling), scales), request


def _wanted(
    mask: bool, form: options.MaskFormat | None, trajectory: bool, something: bool
) -> tuple[options.MaskFormat | None, bool]:
    """Return in which form the mask is wanted, and whether motion is; both where else nothing would be."""
    if something and not mask and form is None and not trajectory:
        return options.MaskFormat.overlay, True
    return form or (options.MaskFormat.overlay if mask else None), trajectory


def _read_findings(path: Path | None, epsilon: float | None) -> "tuple[Findings | None, float | None]":
    """Return the findings that the user gives, if any, and epsilon: theirs unless the user chose one."""
    if path is None:
        return None, epsilon
    from deblur_cli.restoration.findings import read_noted

    found, noted = read_noted(path)
    return found, noted if epsilon is None else epsilon


def _check_kept(path: Path | None, plan: "Plan") -> None:
    """Raise UsageError where a result would replace the findings that the user gives."""
    from deblur_cli.cli.run.plan import identity

    if path is not None and any(
        identity(path) == identity(result) for job in plan.jobs for result in job.missing
    ):
        raise UsageError(f"{path} is what --findings reads, and is not written; leave out --data, or use -o")


def _beside(
    form: options.MaskFormat | None, trajectory: bool, data: options.DataFormat | None, only_maps: bool
) -> dict[str, bool]:
    """Return which files are wanted, in the words of Naming."""
    return {
        "mask": form in (options.MaskFormat.overlay, options.MaskFormat.both),
        "gray": form in (options.MaskFormat.gray, options.MaskFormat.both),
        "trajectory": trajectory,
        "data": data is not None,
        "photo": not only_maps,
    }
