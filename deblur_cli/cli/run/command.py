"""`deblur run`: deblur photos and folders of photos."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deblur_cli.cli.errors import terminate_like_interrupt
from deblur_cli.cli.options import takes, wrong_usage
from deblur_cli.cli.run.options import Kind, RunOptions
from deblur_cli.errors import DecodeError, PhotoError, UsageError

if TYPE_CHECKING:
    from deblur_cli.cli.output import Output
    from deblur_cli.cli.run.journal import Journal
    from deblur_cli.cli.run.messages import Forecast
    from deblur_cli.cli.run.plan import Job, Plan
    from deblur_cli.restoration.deblurrer import Deblurrer, Request
    from deblur_cli.restoration.findings import Findings


@takes(RunOptions)
def run(options: RunOptions) -> None:
    """Restore what moved in photos, and leave every other pixel as it was."""
    options, findings = _read_findings(options)

    from deblur_cli.cli.output import Output
    from deblur_cli.cli.run.inputs import collect
    from deblur_cli.cli.run.journal import Journal
    from deblur_cli.cli.run.pipes import connected
    from deblur_cli.cli.run.plan import check_output, make_plan

    streams = Output(quiet=options.quiet, verbose=options.verbose)
    with terminate_like_interrupt(), connected(options, streams) as options, ExitStack() as stack:
        found = collect(options)
        check_output(options, found.folders)
        if not options.dry_run:
            _keep_others_out(options, stack)
        journal = Journal(options)
        journal.look_back(streams)
        found.photos = journal.without_results(found.photos)
        plan = make_plan(found, options, journal.existing, journal.judge)
        _check_kept(options.findings, plan)
        for line in found.warnings():
            streams.warn(line)
        if options.dry_run:
            with streams.log_lines():
                code = dry_run(plan, options, streams)
        else:
            code = deblur(plan, options, journal, findings, streams)
        if code:
            raise typer.Exit(code)


def _keep_others_out(options: RunOptions, stack: ExitStack) -> None:
    """Hold the folder of journal and report until the run ends. Raises UsageError where another run does."""
    from deblur_cli.cli.run.plan import names_a_file, result_folder
    from deblur_cli.files import held

    if options.output is not None and names_a_file(options.output) and not options.report:
        return  # then there is neither
    folder = result_folder(options)
    try:
        stack.enter_context(held(folder))
    except OSError as error:
        if options.output is not None or options.report:
            raise UsageError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
        # else it is one of several, perhaps, and its photos fail alone


def deblur(
    plan: "Plan", options: RunOptions, journal: "Journal", findings: "Findings | None", streams: "Output"
) -> int:
    """Do what is planned and return the exit code."""
    from deblur_cli.cli.run.batch import Batch
    from deblur_cli.cli.run.inputs import REPORT_FOLDER
    from deblur_cli.cli.run.plan import result_folder
    from deblur_cli.report import Report

    report = Report(result_folder(options) / REPORT_FOLDER) if options.report else None
    if report is not None:
        report.prepare()
    batch = Batch(options, streams, journal, findings, report)  # here its time begins
    return batch.run(plan, load(options, streams) if plan.jobs else None)


def _read_findings(options: RunOptions) -> "tuple[RunOptions, Findings | None]":
    """Return the findings that the user gives, if any, and options with their epsilon if none is chosen."""
    if options.findings is None:
        return options, None
    from deblur_cli.restoration.findings import read_npz

    with wrong_usage(DecodeError):
        findings, epsilon = read_npz(options.findings)
    return replace(options, epsilon=epsilon if options.epsilon is None else options.epsilon), findings


def _check_kept(path: Path | None, plan: "Plan") -> None:
    """Raise UsageError where a result would replace the findings that the user gives."""
    from deblur_cli.cli.run.inputs import identity

    results = (result for job in plan.jobs for result in job.missing.values())
    if path is not None and identity(path) in map(identity, results):
        raise UsageError(f"--findings reads {path}, so it is not written; leave out --data, or use -o")


def load(options: RunOptions, streams: "Output") -> "tuple[Deblurrer, Request]":
    """Return what deblurs the photos of a run, and what it shall do with each."""
    from deblur_cli.cli.loading import epsilon_for, load_weights
    from deblur_cli.restoration.deblurrer import Deblurrer, Request

    loaded = load_weights(options.weights, options.detector, streams)
    if Kind.trajectory in options.kinds and not loaded.network.traces:
        raise UsageError(
            f"{loaded.name} is of {loaded.architecture}, which does not estimate motion: leave out "
            "--trajectory (--only-maps draws the mask alone with --mask)"
        )
    request = Request(epsilon_for(loaded, options.epsilon), options.keep_sharp)
    place = (options.device, options.precision)
    return Deblurrer(loaded, *place, options.tiling, options.scales), request


def dry_run(plan: "Plan", options: RunOptions, streams: "Output") -> int:
    """Open every photo and tell what would be done with it; return the exit code to expect."""
    from deblur_cli.cli.run import messages
    from deblur_cli.cli.run.inputs import Problem

    for note in plan.notes:
        streams.warn(note)
    for job, why in plan.skipped:
        streams.say(f"{job.source}: {why}")
        if options.json:
            streams.json_line(messages.skip_record(job))
    failed = list(plan.problems)
    planned = []
    for job in plan.jobs:
        try:
            size, lost = _opened(job, options)
        except PhotoError as error:
            failed.append(Problem(job.source, str(error)))
            continue
        planned.append(size)
        if options.json:
            streams.json_line(messages.plan_record(job, size, lost))
        else:
            streams.result(messages.plan_line(job, size))
        if lost:
            then = "it would fail, as --strict asks" if options.strict else "left out"
            streams.warn(f"{job.source}: if anything in it is restored, {then}: {'; '.join(lost)}")
    for problem in failed:
        streams.error(str(problem))
        if options.json:
            streams.json_line(messages.failure_record(problem))
    forecast = messages.Forecast(planned, len(plan.skipped), len(failed))
    if planned:
        _estimate(forecast, options, streams)
    if options.json:
        streams.json_line(forecast.record())
    streams.say(str(forecast))
    return forecast.exit_code


def _opened(job: "Job", options: RunOptions) -> "tuple[tuple[int, int], tuple[str, ...]]":
    """Return width and height of a photo, and what its result would lack if anything in it is restored.

    Raises PhotoError where the run would: the photo is read as it would be then.
    """
    from deblur_cli.photo import encode
    from deblur_cli.photo.decode import RawOptions, decode

    raw = RawOptions(options.raw_white_balance, options.raw_exposure, options.raw_color_space)
    photo = decode(job.source, options.max_megapixels, raw)
    lost: tuple[str, ...] = ()
    if job.restores:
        name = job.results[Kind.photo].name
        encode.check_fits(photo, job.results[Kind.photo], name, options.quality)
        lost = encode.left_out(photo, encode.format_of(name), strip=options.strip_metadata)
    return (photo.width, photo.height), lost


def _estimate(forecast: "Forecast", options: RunOptions, streams: "Output") -> None:
    """Add how long the photos would take, unless the weights are still to be downloaded."""
    from deblur_cli.cli.loading import to_download_of_run
    from deblur_cli.restoration.forecast import estimate

    if missing := to_download_of_run(options.weights, options.detector):
        streams.say(f"would first download {missing}; only then can the time be estimated")
        return
    network, request = load(options, streams)
    forecast.estimate = estimate(network, request, forecast.planned)
    forecast.epsilon, forecast.weights = request.epsilon, network.weights.title
