"""`deblur run`: deblur photos and folders of photos."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from deblur_cli.cli.options import takes, wrong_usage
from deblur_cli.cli.output import interrupts_held, is_disk_full, terminate_like_interrupt
from deblur_cli.cli.run.options import Kind, RunOptions
from deblur_cli.errors import DeblurError, DecodeError, PhotoError, UsageError

if TYPE_CHECKING:
    from deblur_cli.cli.output import Output
    from deblur_cli.cli.run.copies import Copies
    from deblur_cli.cli.run.journal import Journal
    from deblur_cli.cli.run.plan import Job, LocalJob, Plan
    from deblur_cli.photo.photo import Photo
    from deblur_cli.restoration.deblurrer import Deblurrer, Request
    from deblur_cli.restoration.findings import Findings
    from deblur_cli.weights import LoadedWeights

DASH = Path("-")
_PIECE = 1 << 16  # bytes; what a pipe holds
USES_STDOUT = (
    *("mask", "mask_format", "trajectory", "trajectory_style", "data"),
    *("only_maps", "report", "json", "sidecars"),
)
READS_AGAIN = ("dry_run", "resume")


@takes(RunOptions)
def run(options: RunOptions) -> None:
    """Restore what moved in photos, and leave every other pixel as it was."""
    options, findings = _read_findings(options)

    from deblur_cli.cli.output import Output
    from deblur_cli.cli.run.collect import collect
    from deblur_cli.cli.run.journal import Journal
    from deblur_cli.cli.run.plan import check_output, make_plan

    streams = Output(quiet=options.quiet, verbose=options.verbose, json=options.json)
    if options.config is not None:
        streams.say(str(options.config))
    with terminate_like_interrupt(), _connected(options, streams) as options, ExitStack() as stack:
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
                code = dry_run(plan, options, findings, streams)
        else:
            code = deblur(plan, options, journal, findings, streams)
        if code:
            raise typer.Exit(code)


def _keep_others_out(options: RunOptions, stack: ExitStack) -> None:
    """Hold the folder of journal and report until the run ends. Raises UsageError where another run does."""
    from deblur_cli.cli.run.journal import home_of
    from deblur_cli.cli.run.plan import names_a_file, result_folder
    from deblur_cli.files import InUseError, held

    if names_a_file(options) and not options.report:
        return  # then there is neither
    folder = result_folder(options)
    home = home_of(folder)
    if home != folder:
        stack.callback(_remove_empty, home)
    try:
        stack.enter_context(held(home, folder))
    except InUseError:
        if not options.is_one_photo or options.report or options.resume:
            raise  # else it has neither, too
    except OSError as error:
        if home != folder:
            how = "name another folder with XDG_STATE_HOME"
            raise UsageError(f"cannot keep a journal in {home}: {error.strerror}; {how}") from error
        if options.output is not None or options.report:
            raise UsageError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
        # else it is one of several, perhaps, and its photos fail alone


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # a journal is left in it
        folder.rmdir()


def deblur(
    plan: "Plan", options: RunOptions, journal: "Journal", findings: "Findings | None", streams: "Output"
) -> int:
    """Do what is planned and return the exit code."""
    with interrupts_held():
        from deblur_cli.cli.run.batch import Batch
    from deblur_cli.cli.run.collect import REPORT_FOLDER
    from deblur_cli.cli.run.plan import result_folder

    report = None
    if options.report:
        with interrupts_held():
            from deblur_cli.report import Report
        report = Report(result_folder(options) / REPORT_FOLDER)
        report.prepare()
    batch = Batch(options, streams, journal, report)  # here its time begins
    if not plan.jobs:
        return batch.run(plan, None)
    if options.cluster is None:
        with interrupts_held():
            from deblur_cli.cli.run.steps import Steps
        return batch.run(plan, Steps(options, streams, journal, *load(options, streams), report, findings))
    with interrupts_held():
        from deblur_cli.cli.run.cluster import gathered
    network = load_network(options, streams)
    with gathered(plan.jobs, options, network, journal, streams, report) as cluster:
        return batch.run(plan, cluster)


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
    from deblur_cli.cli.run.collect import identity

    results = (result for job in plan.jobs for result in job.missing.values())
    if path is not None and identity(path) in map(identity, results):
        raise UsageError(f"--findings reads {path}, so it is not written; leave out --data, or use -o")


def load(options: RunOptions, streams: "Output") -> "tuple[Deblurrer, Request]":
    """Return what deblurs the photos of a run, and what it shall do with each."""
    loaded, request = load_network(options, streams)
    from deblur_cli.restoration.deblurrer import Deblurrer

    return Deblurrer(loaded, options.device, options.precision, options.tiling, options.scales), request


def load_network(options: RunOptions, streams: "Output") -> "tuple[LoadedWeights, Request]":
    """Return the weights of a run, not yet on any device, and what they shall do with each photo."""
    with interrupts_held():
        from deblur_cli.cli.options import epsilon_for, load_weights
        from deblur_cli.restoration.deblurrer import Request

    loaded = load_weights(options.weights, options.detector, streams)
    if Kind.trajectory in options.kinds and not loaded.network.traces:
        raise UsageError(
            f"{loaded.name} is of {loaded.architecture}, which does not estimate motion: leave out "
            "--trajectory (--only-maps draws the mask alone with --mask)"
        )
    request = Request(
        epsilon_for(loaded, options.epsilon),
        options.keep_sharp,
        options.strength / 100,
        options.thorough,
    )
    return loaded, request


def dry_run(plan: "Plan", options: RunOptions, findings: "Findings | None", streams: "Output") -> int:
    """Open every photo and tell what would be done with it; return the exit code to expect."""
    from deblur_cli.cli.run.copies import Copies

    with Copies(streams) as copies:
        return _dry_run(plan, options, findings, copies, streams)


def _dry_run(
    plan: "Plan", options: RunOptions, findings: "Findings | None", copies: "Copies", streams: "Output"
) -> int:
    from deblur_cli.cli.run import messages
    from deblur_cli.cli.run.collect import Problem
    from deblur_cli.cli.run.plan import FormerResultError

    loaded, missing = _network_of(plan, options, streams)
    for note in plan.notes:
        streams.warn(note)
    problems, lines = messages.opening_lines(plan, verbose=options.verbose)
    skipped, failed = [job for job, _ in plan.skipped], list(plan.problems)
    planned = []
    for job in plan.jobs:
        try:
            with copies.brought(job) as here:
                size, lost, is_certain = _opened(job, here, options, findings)
        except FormerResultError as error:
            lines.append(f"{job.source}: {error}")
            skipped.append(job)
            continue
        except PhotoError as error:
            failed.append(Problem(job.source, str(error)))
            problems.append(str(failed[-1]))
            continue
        planned.append(size)
        streams.tell(messages.plan_record(job, size, lost), messages.plan_line(job, size))
        if lost:
            when = "" if is_certain else "if anything in it is restored, "
            then = "it would fail, as --strict asks" if options.strict else "left out"
            streams.warn(f"{job.source}: {when}{then}: {'; '.join(lost)}")
    for line in lines:
        streams.say(line)
    for job in skipped:
        streams.tell(messages.skip_record(job))
    for line in problems:
        streams.error(line)
    for problem in failed:
        streams.tell(messages.failure_record(problem))
    forecast = messages.Forecast(planned, len(skipped), len(failed), plan.left_out)
    if planned and missing:
        streams.say(f"would first download {missing}; only then can the time be estimated")
    elif planned and loaded:
        from deblur_cli.cli.run.steps import lanes_on  # here, as these take torch
        from deblur_cli.restoration.forecast import estimate

        network, request = loaded
        forecast.estimate = estimate(network, request, planned, lanes_on(network.device))
        forecast.epsilon, forecast.weights = request.epsilon, network.weights
    streams.tell(forecast.record())
    streams.say(str(forecast))
    return forecast.exit_code


def _opened(
    job: "Job", here: "LocalJob", options: RunOptions, findings: "Findings | None"
) -> "tuple[tuple[int, int], tuple[str, ...], bool]":
    """Return width and height of a photo, what its result would lack, and whether it surely would.

    Raises PhotoError where the run would: the photo is read as it would be then.
    """
    from deblur_cli.cli.run.plan import check_photo
    from deblur_cli.photo.decode import RawOptions, decode

    raw = RawOptions(options.raw_white_balance, options.raw_exposure, options.raw_color_space)
    photo = decode(here.source, options.max_megapixels, raw, develop=False)
    check_photo(photo, job, here, options, findings)
    if here.mask is not None:
        from deblur_cli.restoration.painted import read_mask  # raises as the run would

        read_mask(here.mask, photo.height, photo.width, options.max_megapixels)
    return (photo.width, photo.height), *_losses(here, photo, options)


def _losses(job: "LocalJob", photo: "Photo", options: RunOptions) -> tuple[tuple[str, ...], bool]:
    """Return what the result of a photo would lack, and whether it surely would.

    It would not where nothing in the photo is restored and its file is copied. Raises EncodeError where it
    would and options are strict.
    """
    from deblur_cli.photo import encode

    if not job.restores:
        return (), True
    form, strip = encode.format_of(job.results[Kind.photo].name), options.strip_metadata
    is_certain = not encode.is_copy_possible(photo, form, strip=strip)
    return encode.left_out(photo, form, strip=strip, strict=options.strict and is_certain), is_certain


def _network_of(
    plan: "Plan", options: RunOptions, streams: "Output"
) -> "tuple[tuple[Deblurrer, Request] | None, str | None]":
    """Return what would deblur the photos, if there are any, or what has to be downloaded for it.

    Raises what the run would, before any photo is opened.
    """
    from deblur_cli.cli.options import to_download_of_run

    if not plan.jobs:
        return None, None
    if missing := to_download_of_run(options.weights, options.detector):
        return None, missing
    return load(options, streams), None


def _check_dash(options: RunOptions) -> None:
    """Refuse what cannot go together with `-` for stdin or stdout."""
    from deblur_cli.cli.run.plan import names_a_file

    inputs, output = options.inputs, options.output
    if len(inputs) > 1:
        raise UsageError("- stands for one photo; give it no other inputs")
    if output == DASH:
        if inputs[0].is_dir():
            raise UsageError(
                f"{inputs[0]} is a folder, but only one photo can go to stdout; give -o a folder"
            )
        if name := _first_given(options, USES_STDOUT + READS_AGAIN):
            raise UsageError(f"{name} cannot go with -o -, which puts the photo on stdout; use -o FILE")
        if sys.stdout.isatty():
            raise UsageError("stdout is a terminal, which cannot show a photo; redirect it or use -o FILE")
    elif not names_a_file(options):
        raise UsageError("a photo from stdin has no name; use -o FILE or -o - to say where its result goes")
    if inputs[0] == DASH:
        if name := _first_given(options, READS_AGAIN):
            raise UsageError(f"{name} cannot go with a photo from stdin, which can be read only once")
        if options.sidecars:
            raise UsageError("--sidecars cannot go with a photo from stdin, which has no XMP files beside it")
        if sys.stdin.isatty():
            raise UsageError("stdin is a terminal; send a photo into it, such as deblur run - -o - < a.jpg")


def _first_given(options: RunOptions, names: tuple[str, ...]) -> str | None:
    """Return the first of these options that is given, as the user spells it."""
    return next((f"--{name.replace('_', '-')}" for name in names if getattr(options, name)), None)


@contextmanager
def _connected(options: RunOptions, streams: "Output") -> Iterator[RunOptions]:
    """Put private files in the place of stdin and stdout, for as long as the block lasts.

    What the block made goes to stdout at its end, unless it raises.
    """
    if DASH not in options.inputs and options.output != DASH:
        yield options
        return
    from deblur_cli.cli.run.plan import extension

    _check_dash(options)
    with tempfile.TemporaryDirectory(prefix="deblur-") as name:
        source, output = options.inputs[0], options.output
        if source == DASH:
            source = _take_stdin(Path(name) / "stdin")
            streams.call(source, "stdin")
        if output == DASH:
            output = Path(name) / f"stdout{extension(source, options.format)}"
            streams.call(output, "stdout")
            streams.keep_stdout_free()
        yield replace(options, inputs=[source], output=output)
        if isinstance(output, Path) and options.output == DASH:
            streams.send(output)


def _take_stdin(path: Path) -> Path:
    """Write stdin to a file, and give it the suffix of what it holds."""
    from deblur_cli.photo.header import identify

    stdin = cast("BufferedReader", sys.stdin.buffer)
    try:
        with path.open("xb") as file:
            # `read1`: a signal that comes between two reads of a longer `read` would wait for more input
            while piece := stdin.read1(_PIECE):
                file.write(piece)
    except OSError as error:
        what = "the disk is full" if is_disk_full(error) else error.strerror
        raise DeblurError(
            f"stdin cannot be kept in {path.parent}: {what}; name another folder with TMPDIR"
        ) from error
    if path.stat().st_size == 0:
        raise DeblurError("stdin is empty; send a photo into it, such as deblur run - -o - < a.jpg")
    try:
        return path.rename(path.with_suffix(f".{identify(path).lower()}"))
    except DecodeError:  # the run will say what is wrong with it
        return path
