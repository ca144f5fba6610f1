"""Reading ahead and writing behind: order, bounds, and whose mistakes are whose."""

import logging
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from cli_helpers import deblur, install, make_photo

from deblur_cli.cli.run import steps
from deblur_cli.cli.run.options import Kind
from deblur_cli.cli.run.pipeline import Budget, Pipeline, Threads
from deblur_cli.cli.run.plan import Job
from deblur_cli.photo import encode

JOBS = [Job(Path(name), {Kind.photo: Path(f"{name}.out")}) for name in "abcdef"]


class Trace:
    """Steps that only note what happens; `hooks` are called with the job before a step is over."""

    def __init__(self, megapixels=lambda job: 1.0, **hooks):
        self.bring = megapixels
        self.hooks = hooks
        self.events: list[str] = []
        self.reports: list[tuple[str, object]] = []

    def step(self, name, job):
        self.events.append(f"{name} {job.source}")
        self.hooks.get(name, lambda job: None)(job)
        return name

    def about(self, job):
        return nullcontext()

    def enter_lane(self, lanes):
        pass

    def begin(self, job):
        pass

    def read(self, job):
        return self.step("read", job)

    def deblur(self, job, photo):
        return self.step("deblur", job)

    def write(self, job, photo, deblurred):
        return self.step("write", job)

    def report(self, job, outcome):
        self.reports.append((str(job.source), outcome))

    def run(self, *, width=1, room=100.0, lanes=1):
        threads = Threads(width)
        self.pipeline = Pipeline(self, threads, Budget(room), lanes)
        try:
            self.pipeline.run(JOBS)
        finally:
            threads.close()
        return self.reports


def test_the_next_photo_is_read_and_the_last_one_written_while_one_is_in_the_network():
    read, written = threading.Event(), threading.Event()

    def reading(job):
        if job.source.name == "c":
            read.set()

    def deblurring(job):
        if job.source.name == "b":
            assert read.wait(60), "c was not read meanwhile"
            written.set()

    def writing(job):
        if job.source.name == "a":
            assert written.wait(60), "a was not being written meanwhile"

    reports = Trace(read=reading, deblur=deblurring, write=writing).run()
    assert reports == [(name, "write") for name in "abcdef"]


def test_two_photos_are_in_the_network_side_by_side_and_given_up_together():
    inside = threading.Barrier(2, timeout=60)

    def deblurring(job):
        if job.source.name in "ab":
            inside.wait()
        elif job.source.name == "d":
            inside.wait()
            raise KeyboardInterrupt
        elif job.source.name == "c":
            inside.wait()
            while True:
                trace.pipeline.check()

    trace = Trace(deblur=deblurring)
    with pytest.raises(KeyboardInterrupt):
        trace.run(lanes=2)
    assert trace.reports == [("a", "write"), ("b", "write")]


def test_reports_come_in_order_even_if_writing_ends_in_another():
    last = threading.Event()

    def writing(job):
        if job.source.name == "a":
            assert last.wait(60)
        elif job.source.name == "c":
            last.set()

    assert [name for name, _ in Trace(write=writing).run(width=4)] == list("abcdef")


@pytest.mark.parametrize(("width", "lanes"), [(1, 1), (3, 1), (1, 2)])
def test_photos_share_a_bounded_number_of_megapixels(width, lanes):
    sizes = {"a": 4, "b": 40, "c": 6, "d": 5, "e": 200, "f": 1}
    held: dict[Job, int] = {}
    seen = []
    lock = threading.Lock()

    def reading(job):
        with lock:
            held[job] = sizes[job.source.name]
            seen.append(list(held.values()))

    def writing(job):
        with lock:
            del held[job]

    trace = Trace(lambda job: sizes[job.source.name], read=reading, write=writing)
    reports = trace.run(width=width, room=12, lanes=lanes)
    assert len(reports) == 6
    assert all(sum(sizes) <= 12 or len(sizes) == 1 for sizes in seen)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("step", ["read", "deblur", "write"])
def test_what_goes_wrong_with_a_photo_is_reported_of_that_photo(step, lanes):
    def fail(job):
        if job.source.name in "bd":
            raise ValueError(job.source.name)

    reports = Trace(**{step: fail}).run(room=1, lanes=lanes)
    assert [(name, str(outcome)) for name, outcome in reports if isinstance(outcome, ValueError)] == [
        ("b", "b"),
        ("d", "d"),
    ]
    assert [name for name, _ in reports] == list("abcdef")


def test_interruption_writes_what_came_out_of_the_network_and_reads_nothing_more():
    began = threading.Event()

    def deblurring(job):
        if job.source.name == "c":
            began.set()
            raise KeyboardInterrupt

    def writing(job):
        if job.source.name == "b":
            assert began.wait(60)

    trace = Trace(deblur=deblurring, write=writing)
    with pytest.raises(KeyboardInterrupt):
        trace.run()
    assert trace.reports == [("a", "write"), ("b", "write")]
    assert "read f" not in trace.events


def test_an_end_leaves_out_what_is_not_yet_being_written_and_waits_for_nothing():
    entered, ended = threading.Event(), threading.Event()

    def begin(job):
        if job.source.name == "c":  # which there is room for without b alone
            entered.set()

    def deblurring(job):
        if job.source.name == "b":
            assert ended.wait(60)

    def writing(job):
        assert entered.wait(60)
        trace.pipeline.end()
        ended.set()

    trace = Trace(lambda job: 2 if job.source.name == "c" else 1, deblur=deblurring, write=writing)
    trace.begin = begin
    assert trace.run(room=2, lanes=2) == [("a", "write")]


def test_log_lines_name_the_photo_of_the_thread_that_they_come_from(tmp_path, monkeypatch):
    install(monkeypatch)
    for name in ("a.png", "b.png", "c.png"):
        make_photo(tmp_path / name)
    log = logging.getLogger("deblur_cli.test")

    def noisy(act, words, which):
        def noisily(*arguments, **options):
            log.warning("%s %s", words, arguments[which].name[0])
            return act(*arguments, **options)

        return noisily

    monkeypatch.setattr(steps, "decode", noisy(steps.decode, "reading", 0))
    monkeypatch.setattr(encode, "encode", noisy(encode.encode, "writing", 1))
    lines = [line for line in deblur("run", tmp_path).stderr.splitlines() if line.startswith("warning: ")]
    assert set(lines) == {
        f"warning: {tmp_path / name}.png: {what} {name}" for name in "abc" for what in ("reading", "writing")
    }
