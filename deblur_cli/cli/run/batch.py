"""A run over photos: tells what comes of each, counts it, and goes on when one of them fails."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from deblur_cli.cli.output import FAILED, Bars, Output, exit_code
from deblur_cli.cli.run.collect import Problem
from deblur_cli.cli.run.journal import Journal
from deblur_cli.cli.run.messages import (
    Failure,
    Outcome,
    Tally,
    failure_record,
    opening_lines,
    skip_record,
)
from deblur_cli.cli.run.options import RunOptions
from deblur_cli.cli.run.plan import Job, Plan
from deblur_cli.errors import EncodeError
from deblur_cli.stores import Address

if TYPE_CHECKING:
    from deblur_cli.cli.run.steps import Listener
    from deblur_cli.report import Report
    from deblur_cli.weights import LoadedWeights


class Executor(Protocol):
    """What works through the photos of a run: this process, or others."""

    @property
    def weights(self) -> "LoadedWeights":
        """What restores the photos."""

    @property
    def epsilon(self) -> float:
        """How sure to be before restoring."""

    def run(self, jobs: Sequence[Job], listener: "Listener") -> None:
        """Work through jobs and tell what comes of each."""

    def end(self) -> None:
        """Begin nothing more. What is being written is finished and reported."""


class Batch:
    """One run over many photos, and the listener of what works through them.

    report: the page to make, if one is wanted
    """

    _bars: Bars  # these are set before any photo is read
    _executor: Executor

    def __init__(
        self, options: RunOptions, streams: Output, journal: Journal, report: "Report | None"
    ) -> None:
        self._options = options
        self._streams = streams
        self._journal = journal
        self._page = report
        self._tally = Tally()
        self._entered: dict[Job, None] = {}  # photos that entered the network and are not reported, in order
        self._shown: Job | None = None  # the last one of them

    def run(self, plan: Plan, executor: Executor | None) -> int:
        """Do what is planned and return the exit code; what goes wrong with a photo is reported.

        executor: what works through the photos, None if there are none.
        Raises what opening the journal raises, before any photo is opened.
        """
        self._journal.open(len(plan.jobs), executor.weights if executor else None, self._streams)
        finished = False
        try:
            self._tally.counts["not_done"] = len(plan.jobs)
            self._tally.left_out = plan.left_out
            for note in plan.notes:
                self._streams.warn(note)
            problems, skipped = opening_lines(plan, verbose=self._options.verbose)
            for line in problems:
                self._streams.error(line)
            for problem in plan.problems:
                self._count_failure(problem)
            for line in skipped:
                self._streams.say(line)
            for job, why in plan.skipped:
                self._count_skip(job, why)
            if executor is not None:
                self._executor = executor
                self._tally.epsilon = executor.epsilon
                with self._streams.log_lines():
                    self._work(plan)
            self._conclude()
            finished = self._tally.stopped != FAILED and not self._tally.counts["not_done"]
        finally:  # last of all, so that a run killed before this line can be resumed
            self._journal.close(finished=finished)
        return self._tally.exit_code

    def _work(self, plan: Plan) -> None:
        try:
            with self._streams.bars(len(plan.jobs)) as self._bars:
                self._executor.run(plan.jobs, self)
        except KeyboardInterrupt as interrupt:
            self._tally.stopped = exit_code(interrupt)
            if not self._tally.counts["not_done"]:
                self._streams.say("interrupted when every photo was already finished")
                return
            where = " and ".join(str(job.source) for job in self._entered)
            self._streams.say(f"stopped{where and f' at {where}'}; {self._what_stays()}")

    def _what_stays(self) -> str:
        how_to_go_on = "; --resume continues from there" if self._journal.is_kept else ""
        return f"finished results are kept{how_to_go_on}"

    def enters(self, job: Job) -> None:
        """Show the photo as the one in the network."""
        self._entered[job] = None
        self._shown = job
        self._bars.begin(job.source.name)

    def progress(self, job: Job, done: int, total: int, phase: str) -> None:
        """Show how many tiles are done of the photo that entered last."""
        if job is self._shown:
            self._bars.report(done, total, phase)

    def report(self, job: Job, outcome: Outcome | Failure) -> None:
        """Tell what came of a photo and count it; end the run where no other can be written."""
        self._tally.counts["not_done"] -= 1
        self._entered.pop(job, None)
        if isinstance(outcome, Failure):
            self._give_up(job, outcome)
        else:
            self._tell(job, outcome)
        self._bars.done()
        if self._tally.stopped is not None:
            self._executor.end()

    def _tell(self, job: Job, outcome: Outcome) -> None:
        done = "restored" if outcome.changed else "unchanged"
        self._tally.counts[done if job.restores else "looked_at"] += 1
        for note in outcome.notes:
            self._streams.warn(f"{job.source}: {note}")
        if outcome.left_out:
            self._streams.warn(f"{job.source}: left out: {'; '.join(outcome.left_out)}")
        self._streams.say(f"{job.source}: {outcome.line}")
        self._streams.tell(outcome.record, *job.missing.values())

    def _give_up(self, job: Job, failure: Failure) -> None:
        if failure.is_former:
            self._streams.say(f"{job.source}: {failure.reason}")
            self._count_skip(job, failure.reason)
            return
        self._streams.verbatim(failure.traceback)
        problem = Problem(job.source, failure.reason)
        self._streams.error(str(problem))
        self._count_failure(problem)
        output = self._options.output
        is_refused = failure.is_refused and isinstance(output, Address)  # else another store may take more
        if (failure.is_disk_full or is_refused) and self._tally.stopped is None:
            self._tally.stopped = FAILED
            why = f"{output} takes no results" if is_refused else "the disk is full"
            self._streams.error(f"{why}, so the run ends here; {self._what_stays()}")

    def _count_failure(self, problem: Problem) -> None:
        self._tally.counts["failed"] += 1
        if self._page is not None:
            self._page.fail(problem.path, problem.bare_reason)
        self._streams.tell(failure_record(problem))

    def _count_skip(self, job: Job, why: str) -> None:
        self._tally.counts["skipped"] += 1
        if self._page is not None:
            self._page.skip(job.source, why)
        self._streams.tell(skip_record(job))

    def _conclude(self) -> None:
        """Make the page and sum the run up."""
        if self._page is not None:
            self._finish_page(self._page)
        self._streams.tell(self._tally.record())
        if self._tally.photos != 1 or self._tally.stopped is not None or str(self._tally.left_out):
            self._streams.say(str(self._tally))

    def _finish_page(self, report: "Report") -> None:
        try:
            path = report.finish(str(self._tally))
        except EncodeError as error:  # what became of the photos is told all the same
            self._streams.error(f"{error}; repeat with --resume or --skip-existing to make the page")
            self._tally.stopped = self._tally.stopped or FAILED
            return
        self._streams.tell({"type": "report", "path": str(path)}, path)
