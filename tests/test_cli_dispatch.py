"""Which worker gets which photos, and what happens to them when one dies: with workers that are made up."""

from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from deblur_cli.cli.output import Output
from deblur_cli.cli.run import dispatch
from deblur_cli.cli.run.dispatch import AHEAD, BLOCK, Arrival, Death, Dispatcher, Done, Reported, Row
from deblur_cli.cli.run.messages import Failure, Outcome
from deblur_cli.cli.run.options import Kind
from deblur_cli.cli.run.plan import Job, State
from deblur_cli.errors import EncodeError


class Workers:
    """A pool whose workers do one photo a turn; `fatal` tells whether one dies of its photo instead."""

    def __init__(self, number, fatal=lambda worker, photo: False):
        self.fatal = fatal
        self.names = count(1)
        self.happened = [Arrival(next(self.names)) for _ in range(number)]
        self.held = {event.worker: {} for event in self.happened}
        self.sizes: list[int] = []
        self.together: list[tuple[int, int]] = []  # how many photos were sent, and with the worker already
        self.begun: Counter[int] = Counter()
        self.redone: set[int] = set()
        self.is_ended = False

    def send(self, worker, block, jobs):
        held = self.held[worker]
        assert len(held) < AHEAD and not self.is_ended
        self.together.append((len(jobs), sum(map(len, held.values()))))
        held[block] = list(jobs)
        self.sizes.append(len(jobs))
        self.redone |= {number for number, job in jobs if job.state is State.again}

    def wait(self, seconds):
        pass

    def events(self, left):
        for worker in list(self.held):
            self.work(worker, self.held[worker])
        happened, self.happened = self.happened, []
        return happened

    def work(self, worker, held):
        for block, jobs in list(held.items())[:1]:
            if jobs and not self.is_ended:
                number, _ = jobs.pop(0)
                self.begun[number] += 1
                if self.fatal(worker, number):
                    del self.held[worker]
                    self.happened.append(Death(worker, "vm"))
                    self.held[new := next(self.names)] = {}
                    self.happened.append(Arrival(new))
                    return
                self.happened.append(Reported(worker, block, Row(number, Outcome(True, (), (), "", {}))))
            if not jobs or self.is_ended:
                del held[block]
                self.happened.append(Done(worker, block))

    def end(self):
        self.is_ended = True


class Run:
    """Listener and journal of a run over so many photos."""

    def __init__(self, photos, pool):
        self.jobs = [
            Job(Path(f"{number}.png"), {Kind.photo: Path(f"{number}.out")}) for number in range(photos)
        ]
        self.outcomes: list[tuple[int, Outcome | Failure]] = []
        self.notes: list[str] = []
        self.dispatcher = Dispatcher(self.jobs, pool, self, Output(quiet=True), self)
        self.after_report = lambda: None

    def note(self, *records):
        self.notes += [record["event"] for record in records]

    def report(self, job, outcome):
        self.outcomes.append((self.jobs.index(job), outcome))
        self.after_report()

    @property
    def failed(self):
        return [number for number, outcome in self.outcomes if isinstance(outcome, Failure)]

    def done_once(self):
        return sorted(number for number, _ in self.outcomes) == list(range(len(self.jobs)))


@pytest.mark.parametrize(("photos", "workers"), [(1, 3), (7, 1), (500, 4)])
def test_every_photo_is_done_once_in_blocks_that_get_smaller_towards_the_end(photos, workers):
    pool = Workers(workers)
    run = Run(photos, pool)
    run.dispatcher.run()
    assert run.done_once() and not run.failed
    assert max(pool.sizes) <= BLOCK and pool.sizes[-1] == 1
    assert pool.sizes == sorted(pool.sizes, reverse=True)
    assert max(before + sent for sent, before in pool.together) <= AHEAD * BLOCK
    assert run.notes == ["begin"] * photos


def test_what_dead_workers_held_is_done_by_others_and_nothing_twice():
    deaths = iter([5, 40, 41, 90])
    next_death = [next(deaths)]

    def fatal(worker, photo):
        if sum(pool.begun.values()) != next_death[0]:
            return False
        next_death[0] = next(deaths, 0)
        return True

    pool = Workers(2, fatal)
    run = Run(100, pool)
    run.dispatcher.run()
    assert run.done_once() and not run.failed
    assert sum(pool.begun.values()) == 104  # only those at which a worker died were begun twice
    assert {number for number, times in pool.begun.items() if times == 2} <= pool.redone
    assert pool.redone == run.dispatcher.lost


def test_a_photo_that_kills_workers_is_set_aside_and_takes_no_other_with_it():
    poison = {3, 17}
    pool = Workers(2, lambda worker, photo: photo in poison)
    run = Run(40, pool)
    run.dispatcher.run()
    assert run.done_once()
    assert sorted(run.failed) == sorted(poison)
    assert all("set aside" in outcome.reason for number, outcome in run.outcomes if number in poison)
    # Once in company, where nobody can tell which photo it was, and twice alone.
    assert {number: pool.begun[number] for number in poison} == {3: 3, 17: 3}


def test_a_suspect_is_with_its_worker_alone():
    pool = Workers(1, lambda worker, photo: photo == 2 and worker == 1)
    sent = []
    send = pool.send
    pool.send = lambda worker, block, jobs: (
        sent.append((sum(map(len, pool.held[worker].values())), [job.state for _, job in jobs])),
        send(worker, block, jobs),
    )
    run = Run(20, pool)
    run.dispatcher.run()
    suspects = [(before, states) for before, states in sent if State.again in states]
    assert suspects and all(entry == (0, [State.again]) for entry in suspects)
    assert run.done_once()


def test_an_interrupt_lets_workers_report_what_they_finish_and_gives_out_nothing_more():
    pool = Workers(2)
    run = Run(60, pool)

    def interrupt():
        if len(run.outcomes) == 10:
            raise KeyboardInterrupt

    run.after_report = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.dispatcher.run()
    assert pool.is_ended and not any(pool.held.values())
    assert len(run.outcomes) < 20 and len({number for number, _ in run.outcomes}) == len(run.outcomes)


def test_a_worker_that_never_answers_does_not_hold_up_the_end_for_ever(monkeypatch):
    monkeypatch.setattr(dispatch, "PATIENCE", 0.01)
    pool = Workers(1)
    run = Run(10, pool)
    pool.work = lambda worker, held: held and run.dispatcher.end()
    run.dispatcher.run()
    assert run.outcomes == []
    assert len(run.dispatcher.lost) == 4  # that it held, and may have left parts of files of


def test_a_journal_that_cannot_be_written_fails_photos_before_they_are_sent(tmp_path):
    pool = Workers(1)
    run = Run(3, pool)

    def refuse(*records):
        raise EncodeError("journal: cannot be written")

    run.note = refuse
    run.dispatcher.run()
    assert sorted(run.failed) == [0, 1, 2] and not pool.begun
