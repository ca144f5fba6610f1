"""The state file: whole or the old one."""

import pytest
import torch
from train_helpers import small_run, trainer, write_photos

from deblur_cli.errors import EncodeError, TrainingError
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
        with pytest.raises(EncodeError, match="the disk is full"):
            checkpoint.save(tmp_path, STATE | {"step": 4})
    assert checkpoint.load(tmp_path)["step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NAME]


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    (tmp_path / ".deblur-0123.part").write_bytes(b"half a state")
    checkpoint.save(tmp_path, STATE)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NAME]


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_damaged_state_is_refused_in_one_line(tmp_path, keep):
    checkpoint.save(tmp_path, STATE | {"weights": torch.rand(1000)})
    path = tmp_path / checkpoint.NAME
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(TrainingError, match=r"damaged: delete it to start again") as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", {}),
        ("network", {"surplus": torch.zeros(1)}),
        ("average", [1, 2]),
        ("optimizer", {}),
        ("step", "many"),
        ("elapsed", None),
    ],
)
def test_a_state_that_is_wrong_inside_is_refused_in_one_line(tmp_path, monkeypatch, name, value):
    small_run(monkeypatch)
    photos = write_photos(tmp_path / "photos")
    first = trainer(photos, tmp_path / "run", steps=2)
    first.train_step()
    first.save()
    checkpoint.save(tmp_path / "run", checkpoint.load(tmp_path / "run") | {name: value})
    with pytest.raises(TrainingError, match=r"state\.pt is damaged: delete it to start again") as caught:
        trainer(photos, tmp_path / "run", steps=3)
    assert "\n" not in str(caught.value)
