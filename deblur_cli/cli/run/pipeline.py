"""Photos are read ahead and written behind while another one is in the network.

Reading and writing run in threads, the network in the calling thread and, where it has several lanes, in
others: some of what a photo needs runs on one core whatever it is given, so that two photos side by side take
less time than one after the other. Reports come in the order of the jobs, one at a time, and from a thread,
where no signal can break them in two.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deblur_cli.cli.run.messages import Outcome
    from deblur_cli.cli.run.plan import Job
    from deblur_cli.cli.run.steps import Steps
    from deblur_cli.photo.photo import Photo
    from deblur_cli.restoration.deblurrer import Result
    from deblur_cli.restoration.findings import Findings

    Deblurred = tuple[Findings, Result]  # what was detected, before regions were judged, and what was done


class DiscardedError(Exception):
    """The run ends, and this photo will not be read."""


class Budget:
    """Bounds how many megapixels are in memory at once; a photo larger than that has it all to itself.

    Photos get their share strictly in order: a later one could otherwise take what an earlier one
    needs, and wait for that one forever.
    """

    def __init__(self, megapixels: float) -> None:
        self._limit = megapixels
        self._held: dict[int, float] = {}
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, turn: int, megapixels: float) -> None:
        """Wait until photo number `turn` fits in. Raises DiscardedError once the budget is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(turn, megapixels))
            if self._closed:
                raise DiscardedError
            self._held[turn] = megapixels
            self._next += 1
            self._changed.notify_all()

    def _fits(self, turn: int, megapixels: float) -> bool:
        return turn == self._next and (not self._held or sum(self._held.values()) + megapixels <= self._limit)

    def give_back(self, turn: int) -> None:
        """Free the share of a photo."""
        with self._changed:
            self._held.pop(turn, None)
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether no more photos are let in."""
        return self._closed

    def close(self) -> None:
        """Let no more photos in."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Threads:
    """Threads of a pipeline: `width` that read, and as many that write. They may serve several in turn."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.readers = ThreadPoolExecutor(width)
        self.writers = ThreadPoolExecutor(width)

    def close(self) -> None:
        """End them, once they have done what they were told."""
        self.readers.shutdown()
        self.writers.shutdown()


class Pipeline:
    """Takes photos through their steps, as many side by side as there are threads.

    lanes: how many photos are in the network at once, at most
    What `read`, `deblur` or `write` raises is what came of the photo; what `report` raises ends the run.
    """

    def __init__(self, steps: "Steps", threads: Threads, budget: Budget, lanes: int = 1) -> None:
        self._steps = steps
        self._threads = threads
        self._budget = budget
        self._lanes = lanes
        self._jobs: Sequence[Job] = ()
        self._next = 0  # turn of the photo that is to enter the network; this and the two below are shared
        self._shared = threading.Lock()
        self._reading: deque[Future[Photo]] = deque()
        self._writing: set[Future[None]] = set()
        self._ending = threading.Event()
        self._over = threading.Event()  # photos in the network are given up
        self._turnstile = threading.Lock()
        self._waiting: dict[int, tuple[Job, Outcome | Exception]] = {}
        self._reported = 0

    def end(self) -> None:
        """Begin nothing more, no writing either. What is being written is finished and reported."""
        self._ending.set()

    def check(self) -> None:
        """Raise DiscardedError where the run is over, for a photo in the network to be given up."""
        if self._over.is_set():
            raise DiscardedError

    def run(self, jobs: Sequence["Job"]) -> None:
        """Take all jobs through. When it returns or raises, what came out of the network is written."""
        self._jobs = jobs
        lanes = max(1, min(self._lanes, len(jobs)))
        others = ThreadPoolExecutor(lanes)
        running = [others.submit(self._pass_through, lanes) for _ in range(lanes - 1)]
        try:
            self._pass_through(lanes)
            for lane in running:
                lane.result()
            self._await(at_most=0)
        finally:
            self._over.set()
            self._budget.close()
            for reading in self._reading:
                reading.cancel()
            others.shutdown()
            wait(self._reading)
            wait(self._writing)
            self._report_the_rest()

    def _pass_through(self, lanes: int) -> None:
        """Take photos through the network, one of so many lanes, until none is left."""
        self._steps.enter_lane(lanes)
        try:
            while (taken := self._take()) is not None:
                write = self._deblur(*taken)
                if self._over.is_set():
                    return
                with self._shared:
                    self._writing.add(self._threads.writers.submit(write))
        except BaseException:
            self._over.set()
            raise

    def _take(self) -> "tuple[int, Job, Future[Photo]] | None":
        """Return what is the next in the network, once not too many are being written; None for none."""
        width, jobs, reading = self._threads.width, self._jobs, self._reading
        self._await(at_most=width)
        with self._shared:
            turn = self._next
            if self._ending.is_set() or self._over.is_set() or turn == len(jobs):
                return None
            for ahead in range(turn + len(reading), min(turn + width + 1, len(jobs))):
                reading.append(self._threads.readers.submit(self._read, ahead, jobs[ahead]))
            self._next += 1
            self._steps.begin(jobs[turn])
            return turn, jobs[turn], reading.popleft()

    def _await(self, at_most: int) -> None:
        """Wait until no more than so many are being written. Raises what reporting raised."""
        while True:
            with self._shared:
                done = {future for future in self._writing if future.done()}
                self._writing -= done
                waiting = set(self._writing)
            for future in done:
                future.result()
            if len(waiting) <= at_most:
                return
            wait(waiting, return_when=FIRST_COMPLETED)

    def _read(self, turn: int, job: "Job") -> "Photo":
        with self._steps.about(job):
            try:
                megapixels = self._steps.bring(job)
            except Exception:
                self._budget.take(turn, 0)  # as all behind it wait for its turn
                raise
            self._budget.take(turn, megapixels)
            return self._steps.read(job)

    def _deblur(self, turn: int, job: "Job", reading: Future["Photo"]) -> Callable[[], None]:
        """Take a photo through the network and return what a writer shall do then."""
        try:
            photo = reading.result()
            with self._steps.about(job):
                deblurred = self._steps.deblur(job, photo)
        except Exception as error:  # noqa: BLE001 - one photo must not end the others, whatever happens to it
            return partial(self._conclude, turn, job, error)
        return partial(self._write, turn, job, photo, deblurred)

    def _write(self, turn: int, job: "Job", photo: "Photo", deblurred: "Deblurred") -> None:
        if self._ending.is_set():
            self._budget.give_back(turn)  # another lane may be waiting for a photo that needs it
        else:
            self._conclude(turn, job, self._written(job, photo, deblurred))

    def _written(self, job: "Job", photo: "Photo", deblurred: "Deblurred") -> "Outcome | Exception":
        try:
            with self._steps.about(job):
                return self._steps.write(job, photo, deblurred)
        except Exception as error:  # noqa: BLE001 - as above
            return error  # held by no frame of its own traceback, so the photo's memory is freed with it

    def _conclude(self, turn: int, job: "Job", outcome: "Outcome | Exception") -> None:
        """Report a job, once all before it are reported."""
        self._budget.give_back(turn)
        with self._turnstile:
            self._waiting[turn] = job, outcome
            while self._reported in self._waiting:
                self._reported += 1
                self._steps.report(*self._waiting.pop(self._reported - 1))

    def _report_the_rest(self) -> None:
        """Report what was done after a photo that was given up."""
        for turn in sorted(self._waiting):
            self._steps.report(*self._waiting.pop(turn))
