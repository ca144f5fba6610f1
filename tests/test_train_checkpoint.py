"""The state file: whole or the old one."""

import copy
from functools import reduce

import pytest
import torch
from train_helpers import small_run, trainer, write_photos

from deblur_cli.errors import TrainingError
from deblur_cli.train import checkpoint

STATE = {
    "settings": {"depth": 1},
    "network": {"weight": torch.arange(4.0)},
    "average": {"weight": torch.arange(4.0)},
    "optimizer": {},
    "step": 3,
    "elapsed": 1.5,
    "history": [],
}
REMOVED = object()


def test_what_was_saved_is_loaded(tmp_path):
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, STATE)
    state = checkpoint.load(tmp_path)
    assert state["step"] == 3 and torch.equal(state["network"]["weight"], torch.arange(4.0))


def test_a_write_that_fails_leaves_the_old_state(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, STATE)

    def fill_disk(state, file):
        file.write(b"half a state")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", fill_disk)
        with pytest.raises(TrainingError, match="disk full"):
            checkpoint.save(tmp_path, STATE | {"step": 4})
    assert checkpoint.load(tmp_path)["step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NAME]


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_damaged_state_is_refused_in_one_line(tmp_path, keep):
    checkpoint.save(tmp_path, {"weights": torch.rand(1000)})
    path = tmp_path / checkpoint.NAME
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(TrainingError, match=r"damaged: delete it to start again") as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_text_in_place_of_a_state_is_refused(tmp_path):
    (tmp_path / checkpoint.NAME).write_text("hello")
    with pytest.raises(TrainingError, match="damaged"):
        checkpoint.load(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Photos, and the state of a run of two steps on them."""
    place = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_run(monkeypatch)
        photos = write_photos(place / "photos")
        trainer(photos, place / "run", steps=2).run()
    return photos, checkpoint.load(place / "run")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["network"], REMOVED),
        (["network"], {}),
        (["network", "intro.bias"], REMOVED),
        (["network", "intro.bias"], torch.zeros(3)),
        (["network", "intro.bias"], "text"),
        (["average", "surplus"], torch.zeros(1)),
        (["average"], [1, 2]),
        (["settings"], REMOVED),
        (["settings", "depth"], "two"),
        (["settings", "patch"], torch.zeros(2)),
        (["optimizer"], {}),
        (["optimizer", "state"], {0: "text"}),
        (["optimizer", "state", 0, "exp_avg"], torch.zeros(7)),
        (["optimizer", "param_groups", 0, "params"], [0]),
        (["optimizer", "param_groups"], [3]),
        (["step"], "many"),
        (["step"], -1),
        (["elapsed"], float("nan")),
        (["elapsed"], REMOVED),
        (["history"], [1]),
    ],
)
def test_a_state_that_is_wrong_inside_is_refused_in_one_line(run, tmp_path, monkeypatch, place, value):
    small_run(monkeypatch)
    photos, state = run[0], copy.deepcopy(run[1])
    inner = reduce(lambda table, name: table[name], place[:-1], state)
    if value is REMOVED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    checkpoint.save(tmp_path, state)
    with pytest.raises(TrainingError, match=r"state\.pt is damaged: delete it to start again") as caught:
        trainer(photos, tmp_path, steps=3).run()
    assert len(str(caught.value)) < 300
