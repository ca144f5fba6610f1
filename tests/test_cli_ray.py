"""`deblur run --cluster` on a real Ray cluster: one short run in which a worker is killed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from cli_helpers import deblur, install, make_photo, names_in, process_environment

pytest.importorskip("ray")


def test_a_cluster_makes_what_one_process_makes_even_if_a_worker_is_killed(tmp_path, monkeypatch):
    install(monkeypatch)
    names = [f"{number:02}.png" for number in range(18)] + ["calm.png", "crash.png", "odd.jpg"]
    for seed, name in enumerate(names):
        make_photo(tmp_path / "in" / name, seed=seed)
    env = process_environment() | {"DEBLUR_TEST_FATAL": str(tmp_path / "05.png")}
    env["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    script = [sys.executable, str(Path(__file__).parent / "ray_run.py")]
    words = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--cluster", "local"]
    run = subprocess.run([*script, "run", *words], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr

    deblur("run", tmp_path / "in", "-o", tmp_path / "alone")
    assert names_in(tmp_path / "out") == names_in(tmp_path / "alone")
    for name in names_in(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    results = [str(tmp_path / "out" / name) for name in names_in(tmp_path / "out")]
    assert sorted(run.stdout.splitlines()) == sorted(results)

    lines = run.stderr.splitlines()
    assert sum(" died; " in line for line in lines) == 1
    assert [line.split(": ")[1] for line in lines if line.startswith("error: ")] == [
        str(tmp_path / "in" / "crash.png")
    ]
    ours = ("warning: ", "error: ", "2 workers on ", "21 photos: ", str(tmp_path))
    assert all(line.startswith(ours) for line in lines)  # and none of Ray's

    def is_left(process):
        try:
            return process.environ().get("DEBLUR_TEST_FATAL") == env["DEBLUR_TEST_FATAL"]
        except psutil.Error:
            return False

    _, alive = psutil.wait_procs([one for one in psutil.process_iter() if is_left(one)], timeout=10)
    assert not alive
