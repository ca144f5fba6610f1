"""Gives the photos of a run to workers in blocks, and what a dead worker held to others. Knows no Ray.

A block goes to a worker while fewer than `AHEAD` are with it, so the number of photos under way is bounded,
and no pixels ever come here. When a worker dies, each photo it had not reported is given to an idle worker,
alone: the one to blame then shows itself, and the others are done. A photo that kills two workers which had
nothing else is set aside.
"""

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

from deblur_cli.cli.output import Output, interrupts_held
from deblur_cli.cli.run.collect import counted
from deblur_cli.cli.run.journal import Journal, begun
from deblur_cli.cli.run.messages import Failure, Outcome
from deblur_cli.cli.run.plan import Job, State
from deblur_cli.errors import EncodeError

if TYPE_CHECKING:
    from deblur_cli.cli.run.steps import Listener

BLOCK = 8  # photos at most; few are done again when a worker dies
AHEAD = 2  # blocks with each worker: the second is read while the first is in the network
SHARES = 4  # of what is left; each worker gets a block of one such share, so that all come to an end together
MOST_DEATHS = 2  # of workers that had nothing but one photo
PATIENCE = 30.0  # seconds for workers to finish what they write when a run is stopped
TURN = 1.0  # seconds in which a pool that nothing comes from looks after itself
SET_ASIDE = (
    f"set aside, as {MOST_DEATHS} workers died while they had only this photo; try it without --cluster"
)

Numbered = tuple[int, Job]


@dataclass(frozen=True)
class Row:
    """What a worker says of a photo, by its number among the jobs of the run.

    records: what the journal takes down of it; lines: what was logged about it, as (method of Output, text)
    """

    number: int
    outcome: Outcome | Failure
    records: Sequence[Mapping[str, Any]] = ()
    lines: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Arrival:
    """A worker has its network and waits for blocks."""

    worker: int


@dataclass(frozen=True)
class Death:
    """A worker is gone, and what it held with it.

    name: where it was; why: a phrase with a space before it, empty if nobody knows
    """

    worker: int
    name: str
    why: str = ""


@dataclass(frozen=True)
class Done:
    """All photos of a block are reported, or given up as the run ends."""

    worker: int
    block: int


@dataclass(frozen=True)
class Reported:
    """A worker reports a photo."""

    worker: int
    block: int
    row: Row


Event = Arrival | Death | Done | Reported


class Pool(Protocol):
    """Workers; one that dies is replaced by the pool where there is room for another."""

    def send(self, worker: int, block: int, jobs: Sequence[Numbered]) -> None:
        """Give a worker a block."""

    def wait(self, seconds: float) -> None:
        """Return as soon as anything happened, and after some seconds anyway."""

    def events(self, left: int) -> Sequence[Event]:
        """Return what happened. left: how many photos are not done. Raises DeblurError where all is lost."""

    def end(self) -> None:
        """Let workers begin nothing more, finish what they write, and report it."""


class Dispatcher:
    """One run over jobs with the workers of a pool.

    lost: numbers of photos that a worker held when it died, so that parts of files may have been left
    """

    def __init__(
        self, jobs: Sequence[Job], pool: Pool, journal: Journal, streams: Output, listener: "Listener"
    ) -> None:
        self.lost: set[int] = set()
        self._jobs = jobs
        self._pool = pool
        self._journal = journal
        self._streams = streams
        self._listener = listener
        self._fresh = deque(range(len(jobs)))
        self._suspects: deque[int] = deque()  # to be done alone
        self._held: dict[int, dict[int, set[int]]] = {}  # by worker and block: what is not reported yet
        self._deaths: Counter[int] = Counter()  # of workers that had one photo alone, by its number
        self._events: deque[tuple[Event, Failure | None]] = deque()
        self._blocks = 0
        self._left = len(jobs)
        self._ending = False

    def run(self) -> None:
        """Do all jobs. Whatever is raised meanwhile, what is being written is finished and reported first."""
        try:
            while self._left and not self._ending:
                with interrupts_held():
                    self._feed()
                self._go_on()
            self._drain()
        except BaseException:
            self.end()
            self._drain()
            raise

    def end(self) -> None:
        """Give out nothing more."""
        if not self._ending:
            self._ending = True
            self._pool.end()

    def _go_on(self) -> None:
        self._pool.wait(TURN)
        with interrupts_held():  # a row that is taken is told
            events = self._pool.events(self._left)
            self._events += zip(events, repeat(self._note(events)), strict=False)
            while self._events:  # what telling one raises leaves the others for `_drain`
                self._take(*self._events.popleft())

    def _drain(self) -> None:
        until = time.monotonic() + PATIENCE
        try:
            while any(self._held.values()) and time.monotonic() < until:
                self._go_on()
        finally:
            for blocks in self._held.values():
                self.lost.update(*blocks.values())

    def _feed(self) -> None:
        for worker, blocks in self._held.items():
            while numbers := self._next(blocks):
                jobs = [(number, self._jobs[number]) for number in numbers]
                if numbers[0] in self.lost:  # what the dead worker put in place may be replaced
                    jobs = [(number, replace(job, state=State.again)) for number, job in jobs]
                try:
                    self._journal.note(*(begun(job) for _, job in jobs))
                except EncodeError as error:
                    for number in numbers:
                        self._settle(number, Failure.of(error, debug=False))
                    continue
                self._blocks += 1
                blocks[self._blocks] = set(numbers)
                self._pool.send(worker, self._blocks, jobs)

    def _next(self, blocks: Mapping[int, set[int]]) -> list[int]:
        """Return the photos of the next block for a worker that holds these; none where it has enough."""
        has_suspect = any(held & self.lost for held in blocks.values())
        if self._ending or len(blocks) >= AHEAD or has_suspect:
            return []
        if self._suspects and not blocks:
            return [self._suspects.popleft()]
        share = max(1, len(self._fresh) // (SHARES * len(self._held)))
        return [self._fresh.popleft() for _ in range(min(BLOCK, share, len(self._fresh)))]

    def _note(self, events: Sequence[Event]) -> Failure | None:
        """Take down what is reported, all at once, and return why that could not be done."""
        rows = [event.row for event in events if isinstance(event, Reported)]
        try:
            self._journal.note(*(record for row in rows for record in row.records))
        except EncodeError as error:
            return Failure.of(error, debug=False)
        return None

    def _take(self, event: Event, refusal: Failure | None) -> None:
        match event:
            case Arrival():
                self._held[event.worker] = {}
            case Reported():
                self._held[event.worker][event.block].discard(event.row.number)
                for method, line in event.row.lines:
                    getattr(self._streams, method)(line)
                self._settle(event.row.number, refusal or event.row.outcome)
            case Done():
                del self._held[event.worker][event.block]
            case Death():
                self._bury(event)

    def _settle(self, number: int, outcome: Outcome | Failure) -> None:
        self._left -= 1
        self._listener.report(self._jobs[number], outcome)

    def _bury(self, death: Death) -> None:
        """Give what a dead worker had not reported to others."""
        held = sorted(set().union(*self._held.pop(death.worker, {}).values()))
        self.lost.update(held)
        if self._ending:
            return
        if len(held) == 1:
            self._deaths[held[0]] += 1
        fatal = [number for number in held if self._deaths[number] >= MOST_DEATHS]
        again = [number for number in held if number not in fatal]
        then = f"; {counted(len(again), 'photo')} it had not reported will be done alone" if again else ""
        self._streams.warn(f"a worker on {death.name} died{death.why}{then}")
        self._suspects += again
        for number in fatal:
            self._settle(number, Failure(SET_ASIDE))
