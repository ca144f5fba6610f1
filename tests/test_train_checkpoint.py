"""The state file: whole or the old one."""

import pytest
import torch

from deblur_cli.errors import TrainingError
from deblur_cli.train import checkpoint


def test_what_was_saved_is_loaded(tmp_path):
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, {"step": 3, "weights": torch.arange(4.0)})
    state = checkpoint.load(tmp_path)
    assert state["step"] == 3 and torch.equal(state["weights"], torch.arange(4.0))


def test_a_write_that_fails_leaves_the_old_state(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, {"step": 1})

    def fill_disk(state, file):
        file.write(b"half a state")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", fill_disk)
        with pytest.raises(TrainingError, match="disk full"):
            checkpoint.save(tmp_path, {"step": 2})
    assert checkpoint.load(tmp_path) == {"step": 1}
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
