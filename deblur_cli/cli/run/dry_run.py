"""Says what a run would do, from names and file headers, and how long that would take."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deblur_cli.cli.catalogue import to_download_of_run
from deblur_cli.cli.errors import FAILED, OK
from deblur_cli.cli.output import Output
from deblur_cli.cli.run.inputs import Problem
from deblur_cli.cli.run.plan import Job, Plan
from deblur_cli.cli.run.sizes import upright_size
from deblur_cli.cli.run.summary import Forecast, failure_record, plan_record, skip_record

if TYPE_CHECKING:
    from deblur_cli.restoration import Deblurrer, Request

Size = tuple[int, int]  # width and height


def show(
    plan: Plan,
    problems: Iterable[Problem],
    output: Output,
    max_megapixels: float,
    weights: tuple[str | None, str],
    load: Callable[[], tuple["Deblurrer", "Request"]],
    *,
    json: bool,
) -> int:
    """Tell what would be done with every photo and return the exit code that can be foreseen.

    weights: those of the run and its detector, as asked for; `load` is called, and may raise, if there is
    something to do and both are here: its time is measured.
    """
    for job in plan.skipped:
        output.say(f"{job.source}: skipped, {job.main} exists already")
    for job in plan.finished:
        output.say(f"{job.source}: was finished before, {job.main}")
    for job in (*plan.skipped, *plan.finished) if json else ():
        output.json_line(skip_record(job))
    failed = [*problems, *plan.problems]
    planned: list[Size] = []
    for job in plan.jobs:
        size = _usable_size(job, max_megapixels)
        if isinstance(size, Problem):
            failed.append(size)
            continue
        planned.append(size)
        if json:
            output.json_line(plan_record(job, size))
        else:
            output.result(_line(job, size))
    for problem in failed:
        output.error(str(problem))
        if json:
            output.json_line(failure_record(problem))
    code = FAILED if failed else OK
    skipped = len(plan.skipped) + len(plan.finished)
    forecast = Forecast(planned, skipped, len(failed), code)
    if planned and (wanted := to_download_of_run(*weights)):
        output.say(f"would first download {wanted}; how long the photos take is told once it is here")
    elif planned:
        from deblur_cli.restoration.forecast import estimate

        network, request = load()
        forecast.estimate = estimate(network, request, planned)
        forecast.epsilon, forecast.weights = request.epsilon, network.weights.title
    if json:
        output.json_line(forecast.record())
    output.say(str(forecast))
    return code


def _usable_size(job: Job, max_megapixels: float) -> Size | Problem:
    size = upright_size(job.source)
    if isinstance(size, str):
        return Problem(job.source, size)
    if size[0] * size[1] > max_megapixels * 1e6:
        return Problem(job.source, f"more than {max_megapixels:g} megapixels; see --max-megapixels")
    return size


def _line(job: Job, size: Size) -> str:
    results = ", ".join(str(path) for path in job.missing)
    return f"{job.source} ({size[0]} x {size[1]}, {size[0] * size[1] / 1e6:.1f} megapixels) -> {results}"
