"""Works through the photos of a run one by one, and goes on when one of them fails."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from deblur_cli.cli.errors import FAILED, Terminated, describe, exit_code, is_disk_full
from deblur_cli.cli.inputs import Problem
from deblur_cli.cli.output import Bars, Output
from deblur_cli.cli.plan import Job, Plan
from deblur_cli.cli.saving import save
from deblur_cli.cli.summary import Tally, Work, failure_record, skip_record
from deblur_cli.photo import encode
from deblur_cli.photo.decode import decode

if TYPE_CHECKING:
    from deblur_cli.restore import Deblurrer, Settings


@dataclass(frozen=True)
class Orders:
    """What holds for every photo of a run."""

    max_megapixels: float
    quality: int | None
    overwrite: bool
    json: bool
    debug: bool


class Batch:
    """One run over many photos."""

    def __init__(self, orders: Orders, output: Output) -> None:
        self._orders = orders
        self._output = output
        self._tally = Tally()

    def run(
        self,
        plan: Plan,
        problems: Iterable[Problem],
        load: Callable[[], tuple["Deblurrer", "Settings"]],
    ) -> int:
        """Do what is planned and return the exit code; `load` is called if there is anything to do.

        Raises what `load` raises, before any photo is opened; what goes wrong with a photo is reported.
        """
        network = load() if plan.jobs else None
        self._tally.left = len(plan.jobs)
        for problem in (*problems, *plan.problems):
            self._fail(problem)
        for job in plan.skipped:
            self._skip(job)
        if network is not None:
            with self._output.log_lines(), terminate_like_interrupt():
                self._work(plan.jobs, *network)
        if self._orders.json:
            self._output.json_line(self._tally.record())
        if self._tally.photos != 1 or self._tally.stopped is not None:
            self._output.say(str(self._tally))
        return self._tally.exit_code

    def _work(self, jobs: tuple[Job, ...], deblurrer: "Deblurrer", settings: "Settings") -> None:
        try:
            with self._output.bars(len(jobs)) as bars:
                for job in jobs:
                    self._output.subject = str(job.source)
                    self._do(job, deblurrer, settings, bars)
                    bars.done()
                    if self._tally.stopped is not None:
                        break
        except KeyboardInterrupt as interrupt:
            self._tally.stopped = exit_code(interrupt)
            where = f" at {self._output.subject}" if self._output.subject else ""
            self._output.error(f"stopped{where}; what was finished before stays")

    def _do(self, job: Job, deblurrer: "Deblurrer", settings: "Settings", bars: Bars) -> None:
        """Work on one photo, whatever comes of it, and report that."""
        began = time.monotonic()
        try:
            progress = bars.begin(job.source.name)
            photo = decode(job.source, self._orders.max_megapixels)
            encode.check_fits(photo, job.output, job.output.name, self._orders.quality)
            result = deblurrer.run(photo, settings, progress)
            save(job, photo, result, quality=self._orders.quality, overwrite=self._orders.overwrite)
        except Exception as error:  # noqa: BLE001 - one photo must not end the batch, whatever happens to it
            self._give_up(job, error)
        else:
            self._report(Work(job, result, deblurrer, time.monotonic() - began))
        self._tally.left -= 1

    def _give_up(self, job: Job, error: Exception) -> None:
        if self._orders.debug:
            self._output.traceback(error)
        self._fail(Problem(job.source, describe(error)))
        if is_disk_full(error):
            self._tally.stopped = FAILED
            self._output.error("the disk is full, so the run ends here; what was finished before stays")

    def _report(self, work: Work) -> None:
        if work.result.changed:
            self._tally.restored += 1
        else:
            self._tally.unchanged += 1
        for note in work.result.notes:
            self._output.warn(f"{work.job.source}: {note}")
        self._output.say(f"{work.job.source}: {work}")
        if self._orders.json:
            self._output.json_line(work.record())
        else:
            for path in work.job.missing:
                self._output.result(path)

    def _fail(self, problem: Problem) -> None:
        self._tally.failed += 1
        self._output.error(str(problem))
        if self._orders.json:
            self._output.json_line(failure_record(problem))

    def _skip(self, job: Job) -> None:
        self._tally.skipped += 1
        self._output.say(f"{job.source}: skipped, {job.output} exists already")
        if self._orders.json:
            self._output.json_line(skip_record(job))


@contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, so that nothing is left half-written."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
