"""What runs in each worker of a cluster: the steps of a run over blocks of photos, with a network of its own.

What a run without a cluster would say and note at once is kept with each photo and goes back with it.
"""

import hashlib
import os
import queue
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import deblur_cli
from deblur_cli.cli.output import Output
from deblur_cli.cli.run.dispatch import AHEAD, Numbered, Row
from deblur_cli.cli.run.journal import begun, finished, stamp, withdrawn
from deblur_cli.cli.run.messages import Failure, Outcome
from deblur_cli.cli.run.options import Existing, RunOptions
from deblur_cli.cli.run.pipeline import Threads
from deblur_cli.cli.run.plan import Job
from deblur_cli.cli.run.steps import Place, Steps, automatic_jobs
from deblur_cli.errors import CanceledError, DeblurError
from deblur_cli.report import Report
from deblur_cli.restoration import deblurrer
from deblur_cli.stores import Location
from deblur_cli.weights import LoadedWeights


@dataclass(frozen=True)
class Kit:
    """What every worker of a run gets.

    weights: whole, so that all have the same and none downloads any; existing: what happens to results
    cpus: of each worker; folder: the current one, from which relative names count; seen: files that each
    worker must find; page: the folder of the report, if one is wanted
    """

    options: RunOptions
    weights: LoadedWeights
    request: deblurrer.Request
    existing: Existing
    device: str
    cpus: int
    folder: Path
    seen: Sequence[Location]
    page: Location | None


@dataclass(frozen=True)
class Greeting:
    """Who a worker is."""

    version: str
    machine: str
    node: str  # Ray's name of the machine


@dataclass(frozen=True)
class Skill:
    """What a worker computes with."""

    device: str
    precision: str
    torch: str

    def __str__(self) -> str:
        return f"{self.device}, {self.precision}, torch {self.torch}"


def version_of_code() -> str:
    """Return the version with a hash of the package's code, as clones of one version may differ."""
    package = Path(deblur_cli.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{deblur_cli.__version__} (code {digest.hexdigest()[:8]})"


class Heard(Output):
    """Keeps what is said about each photo instead of writing it."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        super().__init__(quiet=quiet, verbose=verbose)
        self._lines: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)

    def say(self, line: str) -> None:
        """Keep a line of information."""
        self._lines[self.subject].append(("say", line))

    def warn(self, line: str) -> None:
        """Keep a warning."""
        self._lines[self.subject].append(("warn", line))

    def error(self, line: str) -> None:
        """Keep an error."""
        self._lines[self.subject].append(("error", line))

    def about_now(self, subject: object) -> list[tuple[str, str]]:
        """Return what was said about a photo, and about none, since the last one; (method, line)."""
        return self._lines.pop("", []) + self._lines.pop(str(subject), [])


class Rows:
    """The rows of a block, in the order in which photos are done; ledger and listener of its steps."""

    def __init__(
        self, jobs: Sequence[Numbered], kit: Kit, heard: Heard, page: Report | None, ending: threading.Event
    ) -> None:
        self._numbers = {job: number for number, job in jobs}
        self._kit = kit
        self._heard = heard
        self._page = page
        self._ending = ending
        self._records: defaultdict[Job, list[Mapping[str, Any]]] = defaultdict(list)
        self._rows: queue.SimpleQueue[Row | None] = queue.SimpleQueue()

    def collect(self, steps: Steps) -> None:
        """Take all photos through their steps, for `__iter__` in another thread."""
        try:
            steps.run(list(self._numbers), self)
        finally:
            self._rows.put(None)

    def __iter__(self) -> Iterator[Row]:
        while (row := self._rows.get()) is not None:
            yield row

    @property
    def existing(self) -> Existing:
        """What happens to results that exist."""
        return self._kit.existing

    def begin(self, job: Job) -> None:
        """Note that the missing results of a photo are about to be put in place."""
        self._records[job].append(begun(job, stamp(job.source)))

    def finish(self, job: Job) -> None:
        """Note that all of them are in place."""
        self._records[job].append(finished(job))

    def enters(self, job: Job) -> None:
        """Nothing is told of a photo before it is done."""

    def progress(self, _job: Job, _done: int, _total: int, _phase: str) -> None:
        """Give up the photo in the network where the run ends. Raises CanceledError."""
        if self._ending.is_set():
            raise CanceledError("the run ends")

    def report(self, job: Job, outcome: Outcome | Failure) -> None:
        """Put together what is to be known of a photo; where the run ends, one that is not done is left."""
        lines = self._heard.about_now(job.source)
        records = self._records.pop(job, [])
        if isinstance(outcome, Failure):
            if self._ending.is_set():
                return
            if self._page is not None:
                self._page.fail(job.source, outcome.reason)
            records = records or [withdrawn(job)]
        self._rows.put(Row(self._numbers[job], outcome, records, lines))


class Worker:
    """One network, and what is done with it. Its methods run side by side, in threads of an actor."""

    _kit: Kit  # these are set by `load`
    _deblurrer: deblurrer.Deblurrer
    _sharers: int

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._turn = threading.Lock()  # one photo at a time is in the network
        self._lanes: queue.SimpleQueue[Threads] = queue.SimpleQueue()  # threads stay: torch and stores keep
        self._networks = ThreadPoolExecutor(AHEAD)  # things for each that take a while to make
        self._under_way: set[Steps] = set()
        self._stack = ExitStack()

    def hello(self) -> Greeting:
        """Say who this is: before `load`, whose arguments another version may not understand."""
        import ray

        return Greeting(version_of_code(), socket.gethostname(), ray.get_runtime_context().get_node_id())

    def load(self, kit: Kit, sharers: int) -> Skill:
        """Get ready for blocks. sharers: how many workers this machine has room for

        Raises DeblurError where it cannot do what is asked.
        """
        torch.set_num_threads(kit.cpus)
        with suppress(OSError):  # then names that are relative are missed below
            os.chdir(kit.folder)
        for path in kit.seen:
            try:
                is_seen = path.exists()
            except OSError as error:
                raise DeblurError(f"{path} cannot be reached: {error.strerror}") from error
            if not is_seen:
                raise DeblurError(
                    f"{path} is not there; photos and results must be where all machines see them"
                )
        self._kit, self._sharers = kit, sharers
        how = (kit.device, kit.options.precision, kit.options.tiling, kit.options.scales)
        self._deblurrer = deblurrer.Deblurrer(kit.weights, *how)
        self._page = Report(kit.page) if kit.page else None
        for _ in range(AHEAD):
            self._lanes.put(Threads(kit.options.jobs or automatic_jobs(self._deblurrer.device, kit.cpus)))
        self._heard = Heard(quiet=kit.options.quiet, verbose=kit.options.verbose)
        self._stack.enter_context(self._heard.log_lines(libraries=False))  # until the process ends
        return Skill(self._deblurrer.device.split(":")[0], self._deblurrer.precision, torch.__version__)

    def work(self, jobs: Sequence[Numbered]) -> Iterator[Row]:
        """Take the photos of a block through all steps, and yield what comes of each once it is known."""
        threads = self._lanes.get()
        rows = Rows(jobs, self._kit, self._heard, self._page, self._ending)
        steps = Steps(
            self._kit.options,
            self._heard,
            rows,
            self._deblurrer,
            self._kit.request,
            self._page,
            place=Place(threads, self._sharers * AHEAD, self._turn),
        )
        self._under_way.add(steps)
        if self._ending.is_set():
            return
        done = self._networks.submit(rows.collect, steps)
        yield from rows
        done.result()
        self._under_way.discard(steps)
        self._lanes.put(threads)

    def end(self) -> None:
        """Begin nothing more, and give up the photo in the network at its next tile."""
        self._ending.set()
        for steps in self._under_way.copy():
            steps.end()
