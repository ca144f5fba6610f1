"""`deblur run`: deblur photos and folders of photos."""

from typing import TYPE_CHECKING

import typer

from deblur_cli.cli import checks, options

if TYPE_CHECKING:
    from deblur_cli.restore import Deblurrer, Settings


def run(
    inputs: options.Inputs,
    *,
    output: options.Output = None,
    recursive: options.Recursive = False,
    epsilon: options.Epsilon = "0.5",
    mask: options.Mask = False,
    trajectory: options.Trajectory = False,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.PrecisionChoice = options.Precision.auto,
    tile: options.Tile = "auto",
    overlap: options.Overlap = options.DEFAULT_OVERLAP,
    keep_sharp: options.KeepSharp = True,
    suffix: options.Suffix = options.DEFAULT_SUFFIX,
    format: options.Format = None,
    quality: options.Quality = None,
    overwrite: options.Overwrite = False,
    skip_existing: options.SkipExisting = False,
    max_megapixels: options.MaxMegapixels = options.DEFAULT_MAX_MEGAPIXELS,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Find what moved in photos, restore it, and leave every other pixel as it was."""
    checks.check_device(device)
    checks.check_quality(quality)
    checks.check_suffix(suffix)
    checks.check_megapixels(max_megapixels)
    checks.exclude("--overwrite", overwrite, "--skip-existing", skip_existing)
    checks.exclude("--verbose", verbose, "--quiet", quiet)
    threshold = checks.parse_epsilon(epsilon)
    tile_size = checks.parse_tile(tile, overlap)
    file_format = checks.parse_format(format)

    from deblur_cli.cli.inputs import Walk, collect
    from deblur_cli.cli.output import Output
    from deblur_cli.cli.plan import Existing, Naming, check_output, make_plan

    streams = Output(quiet=quiet, verbose=verbose)
    naming = Naming(output, suffix, file_format, mask=mask, trajectory=trajectory)
    found = collect(inputs, Walk(recursive, suffix, leave_out=output))
    check_output(naming, len(inputs), found.folders)
    existing = Existing.replace if overwrite else Existing.skip if skip_existing else Existing.refuse
    plan = make_plan(found.photos, naming, existing)

    if line := found.passed_over_line():
        streams.warn(line)

    if dry_run:
        from deblur_cli.cli.dry_run import show

        if weights is not None:  # a wrong name should be known before the real run
            from deblur_cli.weights import find

            find(weights)
        raise typer.Exit(show(plan, found.problems, streams, max_megapixels, json=json))

    def load() -> "tuple[Deblurrer, Settings]":
        from deblur_cli import restore
        from deblur_cli import weights as catalogue

        loaded = catalogue.load(weights or catalogue.DEFAULT)
        settings = restore.Settings(epsilon=threshold, tile=tile_size, overlap=overlap, keep_sharp=keep_sharp)
        return restore.Deblurrer(loaded, device=device, precision=precision.value), settings

    from deblur_cli.cli.batch import Batch, Orders

    orders = Orders(max_megapixels, quality, overwrite, json, debug)
    raise typer.Exit(Batch(orders, streams).run(plan, found.problems, load))
