"""`deblur run --cluster`: what it says and leaves behind, with workers in this process."""

import json
import logging
import os
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import made_up_ray
import pytest
import torch
from cli_helpers import deblur, errors_in, install, make_photo, names_in, stop_at

from deblur_cli.cli.run import batch, cluster, journal
from deblur_cli.cli.run.dispatch import Reported
from deblur_cli.cli.run.journal import NAME
from deblur_cli.errors import how_to_install
from deblur_cli.stores import parse


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ray(monkeypatch):
    """Its workers share this process, and each changes loggers as if it were alone in it."""
    loggers = [logging.getLogger(name) for name in ("deblur_cli", "tifffile", "py.warnings", "imagecodecs")]
    before = [(logger, logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield made_up_ray.install(monkeypatch)
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagate, handlers


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate("abcdefgh"):
        make_photo(tmp_path / "in" / f"{name}.png", seed=number)
    make_photo(tmp_path / "in" / "calm.jpg")
    make_photo(tmp_path / "in" / "odd.png")
    return tmp_path / "in"


def run(*words):
    return deblur("run", *words, "--cluster", "local")


def files_in(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def records_of(result) -> list[dict[str, object]]:
    """What was told of each photo, by its name, and of the run; without times."""
    records = [json.loads(line) for line in result.stdout.splitlines()]
    return sorted(({**record, "seconds": None} for record in records), key=lambda one: str(one.get("input")))


def lines_in(result) -> set[str]:
    """What was said, without times and tracebacks."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("Traceback", " "))]
    return {re.sub(r"\d+\.\d s", "", line) for line in lines}


@pytest.mark.parametrize("words", ["--mask --data npz", "--only-maps", "--strict", "--debug -v"])
def test_results_records_and_messages_are_those_of_a_run_without_cluster(ray, photos, tmp_path, words):
    (photos / "text.jpg").write_text("this is no picture")
    make_photo(photos / "crash.png")
    make_photo(photos / "short.png")
    (tmp_path / "once").mkdir()
    made = deblur("run", photos / "a.png", "-o", tmp_path / "once" / "made.png")
    assert made.exit_code == 0
    (photos / "made.png").write_bytes(
        (tmp_path / "once" / "made.png").read_bytes()
    )  # a result, to be skipped
    alone = deblur("run", photos, "-o", tmp_path / "out", "--json", *words.split())
    expected = files_in(tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    together = run(photos, "-o", tmp_path / "out", "--json", *words.split())
    assert files_in(tmp_path / "out") == expected
    assert (together.exit_code, alone.exit_code) == (1, 1)
    assert records_of(together) == records_of(alone)
    assert sorted(errors_in(together)) == sorted(errors_in(alone))
    assert together.stderr.count("Traceback") == alone.stderr.count("Traceback")
    assert lines_in(alone) <= lines_in(together)


def test_a_photo_that_kills_workers_fails_and_the_run_goes_on(ray, photos, tmp_path):
    make_photo(photos / "poison.png")
    result = run(photos, "-o", tmp_path / "out")
    assert result.exit_code == 1
    (line,) = errors_in(result)
    assert line.startswith(f"error: {photos / 'poison.png'}: set aside, as 2 workers died")
    assert "11 photos: 9 restored, 1 without blur, 1 failed, " in result.stderr.splitlines()[-1]
    (photos / "poison.png").unlink()
    deblur("run", photos, "-o", tmp_path / "alone")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "alone")


def test_the_report_is_that_of_a_run_without_cluster(ray, photos, tmp_path):
    (photos / "text.jpg").write_text("this is no picture")
    run(photos, "-o", tmp_path / "out", "--report")
    deblur("run", photos, "-o", tmp_path / "alone", "--report")
    assert names_in(tmp_path / "out") == names_in(tmp_path / "alone")
    page = (tmp_path / "out" / "deblur_report" / "index.html").read_text()
    assert "text.jpg" in page and "a.png" in page


def test_photos_in_a_bucket_need_no_folder_that_machines_share(ray, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    files = fsspec.filesystem("memory")
    files.store.clear()
    make_photo(photos / "poison.png")
    for name in names_in(photos):
        (parse("memory://album") / name).put(photos / name, overwrite=True)
    result = run("memory://album/", "-o", "memory://sharp/", "--report")
    assert [line.split(": ")[1] for line in errors_in(result)] == ["memory://album/poison.png"]
    (photos / "poison.png").unlink()
    deblur("run", photos, "-o", tmp_path / "alone")
    made = {path.rpartition("/")[2]: files.cat(path) for path in files.find("/sharp") if "report" not in path}
    assert made == files_in(tmp_path / "alone")
    assert b"poison.png" in files.cat("/sharp/deblur_report/index.html")


def test_a_driver_that_dies_leaves_what_resume_goes_on_with(ray, photos, tmp_path, monkeypatch):
    out, note = tmp_path / "out", cluster.Dispatcher._note
    ray.resources = {"CPU": 1.0, "memory": 8e9}

    def die(self, events):
        if self._left < 10 and any(isinstance(event, Reported) for event in events):
            raise SystemExit  # when workers have made more, and nothing is noted or told any more
        return note(self, events)

    with monkeypatch.context() as patch:
        patch.setattr(cluster.Dispatcher, "_note", die)
        patch.setattr(cluster.Dispatcher, "_drain", lambda self: None)
        told = len(run(photos, "-o", out).stdout.splitlines())
    traces = journal.read(out / NAME).traces.values()
    assert sum(trace.stamps is not None for trace in traces) == told < len(traces)
    assert told < len(names_in(out) - {NAME}) < 10  # results that nobody noted
    status = [record.get("status") for record in records_of(run(photos, "-o", out, "--resume", "--json"))]
    assert (status.count("skipped"), status.count("done")) == (told, 10 - told)
    deblur("run", photos, "-o", tmp_path / "alone")
    assert files_in(out) == files_in(tmp_path / "alone")


def test_a_run_is_resumed_with_and_without_a_cluster(ray, photos, tmp_path):
    stop_at("c_deblurred.png", photos, "-o", tmp_path / "out")
    result = run(photos, "-o", tmp_path / "out", "--resume", "--json")
    assert result.exit_code == 0
    assert [one["status"] for one in records_of(result)[:-1]].count("skipped") == 2
    deblur("run", photos, "-o", tmp_path / "alone")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "alone")
    assert len(names_in(tmp_path / "out")) == 10


def test_what_failed_in_a_worker_lets_resume_replace_no_file_of_the_users(ray, photos, tmp_path, monkeypatch):
    (photos / "a_text.png").write_text("this is no picture")
    out = tmp_path / "out"

    def die(self):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(batch.Batch, "_conclude", die)
        run(photos, "-o", out)
    assert NAME in names_in(out)
    make_photo(photos / "a_text.png", seed=9)
    (out / "a_text_deblurred.png").write_bytes(b"precious")
    result = run(photos, "-o", out, "--resume")
    assert (out / "a_text_deblurred.png").read_bytes() == b"precious"
    assert "already exists" in result.stderr


def test_workers_get_what_is_asked_for_them_and_ray_is_told_to_keep_quiet(ray, photos, tmp_path):
    run(photos, "-o", tmp_path / "out", "--actor-cpus", "2")
    assert (ray.asked["num_cpus"], ray.asked["num_gpus"], len(ray.actors)) == (2, 0, 2)
    assert (ray.asked["include_dashboard"], ray.asked["log_to_driver"]) == (False, False)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    ray.resources = {"CPU": 6.0, "GPU": 1.0, "memory": 64e9}
    ray.actors.clear()
    result = run(photos, "-o", tmp_path / "more", "--actor-gpus", "0.5")
    assert (ray.asked["num_cpus"], ray.asked["num_gpus"], len(ray.actors)) == (3, 0.5, 4)
    assert "4 workers on 2 machines, 3 processors each" in result.stderr


def test_another_version_on_a_machine_ends_the_run_before_any_photo(ray, photos, tmp_path):
    ray.version = "0.0.1"
    result = run(photos, "-o", tmp_path / "out")
    assert (result.exit_code, names_in(tmp_path)) == (1, names_in(tmp_path) - {"out"})
    (line,) = errors_in(result) or result.stderr.splitlines()[-1:]
    assert "has deblur 0.0.1" in line and "install the same" in line
    assert not (tmp_path / "out").exists()


def test_workers_that_cannot_start_end_the_run_with_what_they_died_of(ray, photos, tmp_path, monkeypatch):
    def missing(told, number):
        raise made_up_ray.RayError("The actor died.\nModuleNotFoundError: No module named 'deblur_cli'")

    monkeypatch.setattr(ray, "greeting", missing)
    result = run(photos, "-o", tmp_path / "out")
    assert (result.exit_code, (tmp_path / "out").exists()) == (1, False)
    assert "die as they start (ModuleNotFoundError: No module named 'deblur_cli')" in result.stderr


def test_a_worker_that_dies_as_it_starts_is_replaced(ray, photos, tmp_path, monkeypatch):
    greet = ray.greeting

    def die_first(told, number):
        if number == 0:
            raise made_up_ray.RayError("The actor died.")
        return greet(told, number)

    monkeypatch.setattr(ray, "greeting", die_first)
    monkeypatch.setattr(cluster, "PATROL", 0)
    ray.resources = {"CPU": 1.0, "memory": 8e9}
    assert run(photos, "-o", tmp_path / "out", "--actor-cpus", "1").exit_code == 0
    assert len(names_in(tmp_path / "out")) == 10


def test_a_machine_that_does_not_see_the_photos_is_told_in_one_line(ray, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "LOCK", "not there")
    result = run(photos, "-o", tmp_path / "out")
    assert "cannot start: " in result.stderr and "where all machines see them" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_gone_ends_the_run_with_a_line(ray, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATROL", 0)
    greet = ray.greeting

    def go(told, number):
        ray.is_up = False
        return greet(told, number)

    monkeypatch.setattr(ray, "greeting", go)
    result = run(photos, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert errors_in(result) == [
        "error: the cluster is gone; finished results are kept, and --resume continues"
    ]


def test_ray_that_cannot_start_here_is_no_bug_of_deblur(ray, photos, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("AF_UNIX path length cannot exceed 107 bytes")

    monkeypatch.setattr(ray, "init", refuse)
    result = run(photos, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "Ray cannot start here (AF_UNIX path length" in result.stderr and "RAY_TMPDIR" in result.stderr


@pytest.mark.parametrize(
    ("answer", "is_ray"),
    [(b"\0\0\0\x04\0\0\0\0\0", True), (b"HTTP/1.1 400 Bad Request\r\n", False), (b"", False)],
)
def test_only_what_answers_like_ray_counts_as_a_cluster(answer, is_ray):
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def serve():
            visitor, _ = server.accept()
            with visitor:
                assert visitor.recv(99).startswith(b"PRI * HTTP/2.0")
                visitor.sendall(answer)

        served = pool.submit(serve)
        assert cluster.speaks_grpc(f"127.0.0.1:{server.getsockname()[1]}") is is_ray
        served.result()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--cluster", "somewhere"], "--cluster must be auto, local, or an address"),
        (["--cluster", "ray://head:10001"], "give the command on a machine of the cluster"),
        (["--cluster", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        (["--cluster", "local", "--actor-cpus", "0"], "--actor-cpus must be auto or a number from 1 to 256"),
        (["--cluster", "local", "--actor-cpus", "64"], "no machine of the cluster has the 64 processors"),
        (["--cluster", "local", "--actor-gpus", "1"], "1 processor and 1 GPU and 1 GB of memory"),
        (["--cluster", "local", "--actor-gpus", "1.5"], "--actor-gpus must be a share"),
        (["--cluster", "local", "--device", "cuda"], "--actor-gpus 1 gives each worker a GPU"),
        (["--actor-cpus", "2"], "add --cluster"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(ray, photos, tmp_path, words, line):
    result = deblur("run", photos, "-o", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert line in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_one_photo_needs_no_cluster_and_pipes_reach_none(ray, photos):
    assert "has no use for one photo" in run(photos / "a.png").stderr
    for words in (["-", "-o", "-"], [photos / "a.png", "-o", "-"]):
        assert "workers cannot reach" in run(*words).stderr


def test_without_ray_a_line_says_what_to_install(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(photos, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"error: --cluster needs Ray: run {how_to_install('cluster')}"


def test_a_dry_run_starts_no_cluster(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(photos, "-o", tmp_path / "out", "--dry-run").exit_code == 0
