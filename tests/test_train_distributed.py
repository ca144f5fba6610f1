"""Several processes train one network as if it were one process with all their batches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from train_helpers import small_run, trainer, write_photos

import deblur_cli
from deblur_cli import weights
from deblur_cli.train import checkpoint
from deblur_cli.train.data import Batches
from deblur_cli.train.loop import Team, join_team

STEPS = 3
MEMBER = """
import sys
from pathlib import Path
import torch
from train_helpers import settings
from deblur_cli.train import data
from deblur_cli.train.loop import Trainer, join_team, leave_team
data.HELD_OUT, data.SCORED = 2, (1, 32)
torch.set_num_threads(1)
team = join_team()
photos, folder, steps = sys.argv[1:]
run = Trainer(settings(photos, steps=10**6), Path(folder), "cpu", torch.float32, team)
run.run(stop=lambda: team.rank == 1 and run.step == int(steps))
torch.save(run.network.state_dict(), Path(folder) / f"rank{team.rank}.pt")
if team.leads:
    run.export()
leave_team()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run by two processes, ended by the one that does not lead."""
    place = tmp_path_factory.mktemp("team")
    photos = write_photos(place / "photos")
    script = place / "member.py"
    script.write_text(MEMBER)
    path = os.pathsep.join([str(Path(deblur_cli.__file__).parents[1]), str(Path(__file__).parent)])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, script, photos, place / "run", str(STEPS)], env=environment, check=True, timeout=200
    )
    return place / "run"


def test_all_processes_hold_the_same_network_and_stop_together(trained):
    first, second = (torch.load(trained / f"rank{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert checkpoint.load(trained)["step"] == STEPS


def test_the_network_is_that_of_one_process_with_all_batches(trained, tmp_path, monkeypatch):
    small_run(monkeypatch)
    photos = str(trained.parent / "photos")
    run = trainer(photos, tmp_path / "alone", steps=10**6)
    sources = [Batches(run.settings, run.photos, "cpu", tmp_path, rank) for rank in range(2)]
    for step in range(STEPS):
        gradients = [gradient_of(run, source, step) for source in sources]
        for parameter, *parts in zip(run.network.parameters(), *gradients, strict=True):
            parameter.grad = sum(parts) / 2
        run.update()
    found = checkpoint.load(trained)["network"]
    for name, value in run.network.state_dict().items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5), name


def gradient_of(run, source, step):
    """What one process contributes to a step."""
    sample = source.make(step, run.settings.blur)
    torch.manual_seed(source.seed(step))
    torch.rand(())  # the choice of the mask
    run.network.train()
    run.network.zero_grad()
    answer = run.lesson.answer(run.student, sample, true_mask=False)
    run.lesson.terms(answer, sample)["total"].backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in run.network.parameters()]


def test_only_the_leader_writes(trained):
    assert (trained / "log.csv").read_text().count("\n") == 3  # the head, step 2 and the last one
    assert not (trained / "scores.csv").exists()  # stopped before the end
    assert isinstance(weights.load(str(trained / "weights.safetensors")).network, nn.Module)


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = join_team()
    assert (team.rank, team.size, team.leads) == (0, 1, True)
    assert team.agree(True) and not team.agree(False)
    assert team.follow(1.5) == 1.5
    assert team.device("cuda") == "cuda"


def test_each_process_of_several_has_a_gpu_of_its_own():
    assert Team(rank=5, size=8, local_rank=1).device("cuda:0") == "cuda:1"
    assert Team(rank=1, size=2, local_rank=1).device("cpu") == "cpu"
