"""Works through the photos of a run, and goes on when one of them fails."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from deblur_cli.cli.errors import FAILED, describe, exit_code, is_disk_full
from deblur_cli.cli.output import Bars, Output
from deblur_cli.cli.run.inputs import Problem
from deblur_cli.cli.run.journal import Journal
from deblur_cli.cli.run.pipeline import Budget, Pipeline, Steps
from deblur_cli.cli.run.plan import Job, Plan
from deblur_cli.cli.run.saving import Saving, is_copied, save
from deblur_cli.cli.run.sizes import megapixels
from deblur_cli.cli.run.summary import Tally, Work, failure_record, skip_record, sum_up
from deblur_cli.cli.signals import terminate_like_interrupt
from deblur_cli.errors import EncodeError
from deblur_cli.photo import encode
from deblur_cli.photo.decode import decode
from deblur_cli.photo.photo import Photo
from deblur_cli.photo.raw import RawOptions
from deblur_cli.report import Report
from deblur_cli.restoration import untouched

if TYPE_CHECKING:
    from deblur_cli.cli.run.pipeline import Deblurred
    from deblur_cli.restoration import Deblurrer, Findings, Request, Result

Load = Callable[[], tuple["Deblurrer", "Request"]]
OpenJournal = Callable[["Deblurrer | None"], Journal | None]

BYTES_PER_PIXEL = 24  # what a photo takes at most beside the network: 16 bits, its result, and its file
MEMORY_SHARE = 0.25  # of the free memory, for photos; the tiles in the network need the rest
MOST_AUTOMATIC_JOBS = 8  # more of them than that wait for the disk anyway


@dataclass(frozen=True)
class Orders:
    """What holds for every photo of a run.

    jobs: None for as many as suit the machine; findings: of the one photo, if they need not be found
    """

    max_megapixels: float
    raw: RawOptions
    saving: Saving
    json: bool
    debug: bool
    jobs: int | None = None
    findings: "Findings | None" = None


class Batch:
    """One run over many photos."""

    def __init__(self, orders: Orders, output: Output, pages: Report | None = None) -> None:
        self._orders = orders
        self._output = output
        self._tally = Tally()
        self._seconds: defaultdict[Job, float] = defaultdict(float)  # spent on each photo under way
        self._current: Job | None = None  # the photo in the network
        self._journal: Journal | None = None
        self._pages = pages

    def run(self, plan: Plan, problems: Iterable[Problem], load: Load, open_journal: OpenJournal) -> int:
        """Do what is planned and return the exit code; `load` is called if there is anything to do.

        Raises what `load` and `open_journal` raise, before any photo is opened; what goes wrong with a
        photo is reported.
        """
        if self._pages is not None:
            self._pages.prepare()
        network = load() if plan.jobs else None
        self._tally.epsilon = network[1].epsilon if network else None
        self._journal = open_journal(network[0] if network else None)
        finished = False
        try:
            self._tally.left = len(plan.jobs)
            self._report_undone(plan, problems)
            if network is not None:
                with self._output.log_lines(), terminate_like_interrupt():
                    self._work(plan.jobs, *network)
            self._finish_report()
            if self._orders.json:
                self._output.json_line(self._tally.record())
            if self._tally.photos != 1 or self._tally.stopped is not None:
                self._output.say(str(self._tally))
            finished = self._tally.stopped is None
        finally:  # last of all, so that a run killed before this line can be resumed
            if self._journal is not None:
                self._journal.close(finished=finished)
        return self._tally.exit_code

    def _finish_report(self) -> None:
        if self._pages is None:
            return
        try:
            page = self._pages.finish(str(self._tally))
        except EncodeError as error:  # what became of the photos is told all the same
            self._output.error(f"{error}; repeat with --resume or --skip-existing to make the page")
            self._tally.stopped = self._tally.stopped or FAILED
            return
        if self._orders.json:
            self._output.json_line({"type": "report", "path": str(page)})
        else:
            self._output.result(page)

    def _report_undone(self, plan: Plan, problems: Iterable[Problem]) -> None:
        for problem in (*problems, *plan.problems):
            self._fail(problem)
        for job in plan.skipped:
            self._skip(job, f"skipped, {job.main} exists already")
        for job in plan.finished:
            self._skip(job, f"was finished before, {job.main}")

    def _work(self, jobs: tuple[Job, ...], network: "Deblurrer", request: "Request") -> None:
        try:
            with self._output.bars(len(jobs)) as bars:
                self._pipeline(network, request, bars).run(jobs)
        except KeyboardInterrupt as interrupt:
            self._tally.stopped = exit_code(interrupt)
            where = f" at {self._current.source}" if self._current else ""
            self._output.error(f"stopped{where}; what was finished before stays{self._how_to_go_on()}")

    def _how_to_go_on(self) -> str:
        return "" if self._journal is None else ", and --resume goes on from there"

    def _pipeline(self, network: "Deblurrer", request: "Request", bars: Bars) -> Pipeline:
        def deblur(job: Job, photo: Photo) -> "Deblurred":
            with self._timed(job):
                found = self._orders.findings or network.detect(photo, bars.report)
                if job.photo:
                    return found, network.restore(photo, found, request, bars.report)
                return found, untouched(photo, found, request, network.scales_for(photo.height, photo.width))

        def write(job: Job, photo: Photo, deblurred: "Deblurred") -> Work:
            self._write(job, photo, deblurred, network)
            return self._sum_up(job, photo, deblurred[1], network)

        def report(job: Job, outcome: Work | Exception) -> None:
            self._report(job, outcome)
            bars.done()
            if self._tally.stopped is not None:
                pipeline.end()

        def begin(job: Job) -> None:
            self._current = job
            bars.begin(job.source.name)

        room = psutil.virtual_memory().available * MEMORY_SHARE / BYTES_PER_PIXEL / 1e6
        pipeline = Pipeline(
            Steps(self._output.about, begin, self._read, deblur, write, report),
            self._orders.jobs or automatic_jobs(network.device),
            Budget(room),
            lambda job: megapixels(job.source) or room,
        )
        return pipeline

    @contextmanager
    def _timed(self, job: Job) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[job] += time.monotonic() - began

    def _read(self, job: Job) -> Photo:
        with self._timed(job):
            photo = decode(job.source, self._orders.max_megapixels, self._orders.raw)
            if self._orders.findings is not None:
                self._orders.findings.check_fits(photo.height, photo.width)
            if job.photo:
                encode.check_fits(photo, job.output, job.output.name, self._orders.saving.quality)
            return photo

    def _write(self, job: Job, photo: Photo, deblurred: "Deblurred", network: "Deblurrer") -> None:
        findings, result = deblurred
        with self._timed(job):
            if self._journal is not None:
                self._journal.begin(job)
            if self._pages is not None:  # first: a photo that counts as done has its place there
                record = self._sum_up(job, photo, result, network).record
                self._pages.add(photo, result, record, flow=self._orders.saving.flow)
            save(job, photo, findings, result, network.weights.label, self._orders.saving)
            if self._journal is not None:
                self._journal.finish(job)

    def _sum_up(self, job: Job, photo: Photo, result: "Result", network: "Deblurrer") -> Work:
        copied = job.photo and is_copied(job.output, photo, result, self._orders.saving)
        return sum_up(job, result, network, self._seconds[job], copied=copied)

    def _report(self, job: Job, outcome: Work | Exception) -> None:
        self._seconds.pop(job, None)
        self._tally.left -= 1
        if isinstance(outcome, Exception):
            self._give_up(job, outcome)
            return
        if not job.photo:
            self._tally.looked_at += 1
        elif outcome.changed:
            self._tally.restored += 1
        else:
            self._tally.unchanged += 1
        for note in outcome.notes:
            self._output.warn(f"{job.source}: {note}")
        self._output.say(f"{job.source}: {outcome.line}")
        if self._orders.json:
            self._output.json_line(outcome.record)
        else:
            for path in job.missing:
                self._output.result(path)

    def _give_up(self, job: Job, error: Exception) -> None:
        if self._orders.debug:
            self._output.traceback(error)
        self._fail(Problem(job.source, describe(error)))
        if is_disk_full(error) and self._tally.stopped is None:
            self._tally.stopped = FAILED
            stays = f"what was finished before stays{self._how_to_go_on()}"
            self._output.error(f"the disk is full, so the run ends here; {stays}")

    def _fail(self, problem: Problem) -> None:
        self._tally.failed += 1
        self._output.error(str(problem))
        if self._pages is not None:
            self._pages.fail(problem.path, problem.bare_reason)
        if self._orders.json:
            self._output.json_line(failure_record(problem))

    def _skip(self, job: Job, why: str) -> None:
        self._tally.skipped += 1
        self._output.say(f"{job.source}: {why}")
        if self._pages is not None:
            self._pages.skip(job.source, why)
        if self._orders.json:
            self._output.json_line(skip_record(job))


def automatic_jobs(device: str) -> int:
    """How many photos to read, and to write, side by side.

    One on a processor, which the network keeps busy anyway; half the cores beside another device, as
    compressing a photo takes longer than deblurring it there.
    """
    return 1 if device == "cpu" else min(MOST_AUTOMATIC_JOBS, max(1, (os.cpu_count() or 2) // 2))
