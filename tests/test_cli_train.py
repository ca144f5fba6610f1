"""`deblur train`: from settings and photos to weights that `deblur run` takes."""

import csv
import json
import os
import signal

import pytest
import torch
from cli_helpers import deblur, make_photo
from PIL import Image
from train_helpers import picture, small_run, write_photos

from deblur_cli import files, weights
from deblur_cli.cli.train import parse_settings, parse_time_limit
from deblur_cli.errors import UsageError
from deblur_cli.train.loop import Trainer

TINY = """
patch = 32
batch = 2
steps = 4
warmup = 2
log_every = 2
[network]
width = 4
encoder = [1, 1, 1, 2]
[blur]
longest = 8
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    small_run(monkeypatch)
    return write_photos(tmp_path / "photos")


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path / "tiny.toml"


def train(config, photos, folder, *words):
    return deblur("train", config, "--photos", photos, "-o", folder, "--device", "cpu", *words)


def test_trained_weights_deblur_a_photo_at_once(config, photos, tmp_path):
    result = train(config, photos, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    path = tmp_path / "run" / "weights.safetensors"
    assert result.stdout == f"{path}\n"
    lines = result.stderr.splitlines()
    assert "trained on 4 photos, scored on 2 photos" in lines[0]
    assert [line.split()[1] for line in lines if line.startswith("step") and "rate" in line] == ["2", "4"]
    assert "mask IoU" in lines[-1]
    photo = make_photo(tmp_path / "a.png", (64, 48))
    done = deblur("run", photo, "--weights", path, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "a_deblurred.png").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_weights_and_goes_on_exactly(
    config, photos, tmp_path, monkeypatch, number, code
):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    step = Trainer.train_step

    def stopped(self):
        if self.step == 1:
            os.kill(os.getpid(), number)
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", stopped)
        result = train(config, photos, tmp_path / "run")
    assert result.exit_code == code
    assert "stopped at step 2; the same command continues from there" in result.stderr
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    weights.load(result.stdout.strip())

    again = train(config, photos, tmp_path / "run")
    assert again.exit_code == 0
    assert "continues at step 2" in again.stderr
    whole = train(config, photos, tmp_path / "whole")
    ended, expected = (weights.load(run.stdout.strip()).network.state_dict() for run in (again, whole))
    assert all(torch.equal(ended[name], value) for name, value in expected.items())


def test_a_second_ctrl_c_ends_at_once(config, photos, tmp_path, monkeypatch):
    def stopped(self):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on")

    monkeypatch.setattr(Trainer, "train_step", stopped)
    assert train(config, photos, tmp_path / "run").exit_code == 130


def test_a_finished_run_says_so_and_more_steps_take_it_on(config, photos, tmp_path):
    train(config, photos, tmp_path / "run", "--steps", "1")
    finished = train(config, photos, tmp_path / "run", "--steps", "1")
    assert finished.exit_code == 0 and "this run is finished" in finished.stderr
    longer = train(config, photos, tmp_path / "run", "--set", "steps=2", "--quiet")
    assert (longer.exit_code, longer.stderr) == (0, "")


def write_pairs(folder, count=2):
    for part in ("blur", "sharp"):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(picture((48, 64), number)).save(folder / part / f"{number}.png")
    return folder


def test_pairs_are_learned_from_and_scored_on(config, tmp_path):
    first, second = write_pairs(tmp_path / "first"), write_pairs(tmp_path / "second", 3)
    words = ("--pairs", first, "--pairs", second, "--set", f"validation={second}", "-o", tmp_path / "run")
    result = deblur("train", config, "--device", "cpu", *words)
    assert result.exit_code == 0, result.stderr
    assert f"trained on 2 pairs and 3 pairs, scored on {second}" in result.stderr
    assert "scores: in the blur" in result.stderr
    with (tmp_path / "run" / "scores.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["pictures"] == "3" and row["endpoint_error"] == "nan"


def test_a_dataset_of_deblur_synth_can_be_scored_on(config, photos, tmp_path):
    made = deblur("synth", photos, "-o", tmp_path / "set", "--count", 2, "--size", 32, "--set", "defocus=0")
    assert made.exit_code == 0, made.stderr
    result = train(config, photos, tmp_path / "run", "--set", f"validation={tmp_path / 'set'}")
    assert result.exit_code == 0, result.stderr
    assert "trained on 6 photos, scored on" in result.stderr  # none need be held out
    with (tmp_path / "run" / "scores.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["pictures"] == "2" and float(row["endpoint_error"]) >= 0
    assert [path.suffix for path in (tmp_path / "run" / "samples").iterdir()] == [".png"]


def scored_on(folder):
    """What the last run that made the weights in a folder says that it was scored on."""
    return json.loads(weights.load(str(folder / "weights.safetensors")).notes["history"])[-1]["scored_on"]


def test_scores_on_what_is_learned_from_are_warned_of_and_noted(config, photos, tmp_path):
    others = write_photos(tmp_path / "others", 3)
    for name, source in (("own", photos), ("other", others)):
        made = deblur("synth", source, "-o", tmp_path / name, "--count", 1, "--size", 32, "--longest", 8)
        assert made.exit_code == 0, made.stderr
    one = ("--steps", 1)
    result = train(config, photos, tmp_path / "a", *one, "--set", f"validation={tmp_path / 'own'}")
    assert result.exit_code == 0 and "own shows what is learned from" in result.stderr
    assert scored_on(tmp_path / "a") == {"folder": "own", "learned_from": True}
    result = train(config, photos, tmp_path / "b", *one, "--set", f"validation={tmp_path / 'other'}")
    assert result.exit_code == 0 and "warning" not in result.stderr
    assert scored_on(tmp_path / "b") == {"folder": "other", "learned_from": False}
    result = train(config, photos, tmp_path / "c", *one)
    assert result.exit_code == 0 and scored_on(tmp_path / "c") == {"held_out": 2}
    pairs = write_pairs(tmp_path / "pairs" / "deep")
    words = ("--pairs", pairs.parent, "--set", f"validation={pairs}")
    result = deblur("train", config, "--device", "cpu", "-o", tmp_path / "d", *one, *words)
    assert result.exit_code == 0 and "deep shows what is learned from" in result.stderr


def test_nothing_to_learn_from_or_to_score_on_is_said(config, tmp_path):
    words = ("train", config, "-o", tmp_path / "run")
    assert_refused(deblur(*words), 2, "nothing to learn from")
    pairs = write_pairs(tmp_path / "pairs")
    assert_refused(deblur(*words, "--pairs", pairs), 2, "nothing to score on")
    assert_refused(deblur(*words, "--pairs", tmp_path / "gone"), 2, "nothing to score on")
    gone = ("--set", f"validation={tmp_path / 'gone'}")
    assert_refused(deblur(*words, "--pairs", pairs, *gone), 2, "there is no folder")
    assert_refused(
        deblur(*words, "--pairs", tmp_path / "none", "--set", f"validation={pairs}"), 2, "no folder"
    )
    assert not (tmp_path / "run").exists()


def test_pairs_that_cannot_be_learned_from_are_refused_before_anything_is_written(config, tmp_path):
    pairs, good = write_pairs(tmp_path / "pairs"), write_pairs(tmp_path / "good")
    words = ("train", config, "--set", f"validation={good}", "-o", tmp_path / "run")
    Image.fromarray(picture((48, 80), 1)).save(pairs / "sharp" / "1.png")
    assert_refused(
        deblur(*words, "--pairs", pairs), 2, "1.png: picture, sharp partner and mask differ in size"
    )
    for part in ("blur", "sharp"):
        Image.fromarray(picture((16, 64), 1)).save(pairs / part / "1.png")
    assert_refused(deblur(*words, "--pairs", pairs), 2, "1.png is smaller than the patch of 32 pixels")
    (pairs / "blur" / "1.png").write_bytes(b"")
    assert_refused(deblur(*words, "--pairs", pairs), 2, "1.png is empty")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_another_run_trains_in_is_left_alone(config, photos, tmp_path):
    with files.held(tmp_path / "run"):
        assert_refused(train(config, photos, tmp_path / "run"), 2, "another run is using")
    assert not (tmp_path / "run").exists()
    assert train(config, photos, tmp_path / "run", "--steps", 1).exit_code == 0
    assert not (tmp_path / "run" / files.LOCK).exists()


def test_a_run_stopped_before_its_first_step_leaves_nothing(config, photos, tmp_path, monkeypatch):
    prepared = Trainer.train_until_done

    def stopped(self, *words):
        os.kill(os.getpid(), signal.SIGTERM)
        return prepared(self, *words)

    monkeypatch.setattr(Trainer, "train_until_done", stopped)
    result = train(config, photos, tmp_path / "run")
    assert (result.exit_code, result.stdout) == (143, "")
    assert "nothing was written" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_settings_file_can_be_mended_on_the_command_line(config, photos, tmp_path):
    config.write_text(TINY.replace("patch = 32", "patch = 40"))
    assert_refused(train(config, photos, tmp_path / "run"), 2, "multiple of 16")
    assert train(config, photos, tmp_path / "run", "--set", "patch=32", "--steps", 1).exit_code == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("2h", 7200), ("1.5h", 5400), ("5400s", 5400), ("30", 30)]
)
def test_times_are_read(text, seconds):
    assert parse_time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5m", "5 min", "h", "1h30m", "nan", "inf", "1e3"])
def test_other_times_are_refused(text):
    with pytest.raises(UsageError, match="such as 90m"):
        parse_time_limit(text)


def test_settings_on_the_command_line_are_read_as_toml():
    found = parse_settings(
        ["blur.longest=24", "photos=a b", "guidance_gradient=false", "betas=[0.9, 0.95]", "ema=.5"]
    )
    assert found == {
        "blur.longest": 24,
        "photos": "a b",
        "guidance_gradient": False,
        "betas": [0.9, 0.95],
        "ema": 0.5,
    }


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--time-limit", "soon"), 2, "--time-limit must be a time"),
        (("--steps", "many"), 2, "--steps must be a number above 0"),
        (("--steps", "0"), 2, "--steps must be a number above 0"),
        (("--set", "patch"), 2, "--set takes NAME=VALUE"),
        (("--set", "=3"), 2, "--set takes NAME=VALUE"),
        (("--set", "patch=40"), 2, "multiple of 16"),
        (("--set", "batch=0"), 2, "'batch' must be at least 1"),
        (("--set", "colour=1"), 2, "unknown setting 'colour'"),
        (("--set", "contexts=1"), 2, "did you mean detector.context?"),
        (("--set", "blur.longest=far"), 2, "'blur.longest' must be a number"),
        (("--device", "gpu"), 2, "not 'gpu'"),
        (("--precision", "fp16"), 2, "bf16 or fp32"),
        (("--quiet", "--verbose"), 2, "can't be used together"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(config, photos, tmp_path, words, code, message):
    result = train(config, photos, tmp_path / "run", *words)
    assert_refused(result, code, message)
    assert not (tmp_path / "run").exists()


def test_wrong_files_are_one_line_and_write_nothing(config, photos, tmp_path):
    broken, empty, few = tmp_path / "broken.toml", tmp_path / "empty", write_photos(tmp_path / "few", 2)
    broken.write_text("patch =")
    empty.mkdir()
    run = tmp_path / "run"
    assert_refused(train(tmp_path / "gone.toml", photos, run), 2, "no settings file")
    assert_refused(train(broken, photos, run), 2, "not valid TOML")
    assert_refused(train(config, tmp_path / "gone", run), 2, "there is no folder")
    assert_refused(train(config, empty, run), 2, "no pictures in")
    assert_refused(train(config, few, run), 2, "holds 2 photos")
    assert_refused(train(config, photos, config), 2, "is a file, but -o names the folder of the run")
    assert_refused(
        train(config, photos, config / "inside"), 2, "is a file, but -o names the folder of the run below it"
    )
    assert not run.exists()
    assert train(config, photos, run, "--steps", "1").exit_code == 0
    other = train(config, photos, run, "--set", "network.width=6")
    assert_refused(other, 2, "another network")


def assert_refused(result, code, message):
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    assert result.stdout == ""
