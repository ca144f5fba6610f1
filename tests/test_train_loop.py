"""The training loop: exact resume, whatever ended the run, and weights that can be used."""

import csv
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from train_helpers import HELD_OUT, changed, same_weights, small_run, trainer, write_photos

import deblur_cli
from deblur_cli import weights
from deblur_cli.errors import OutOfMemoryError, TrainingError, WeightsError
from deblur_cli.nets import create_detector
from deblur_cli.train import checkpoint, data, lessons, loop, synthetic
from deblur_cli.train.settings import DetectorSizes, NetworkSettings, read_settings
from deblur_cli.train.synthetic import synthesize
from deblur_cli.weights.model_card import settings_text

KILLED = """
import sys
from pathlib import Path
import torch
from train_helpers import trainer
from deblur_cli.train import data
data.HELD_OUT, data.SCORED = 2, (1, 32)
torch.set_num_threads(int(sys.argv[3]))
trainer(sys.argv[1], Path(sys.argv[2]), steps=500, save_every=0.0).run()
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    small_run(monkeypatch)
    return write_photos(tmp_path / "photos")


def test_a_resumed_run_ends_with_the_same_bits(photos, tmp_path):
    whole = trainer(photos, tmp_path / "whole")
    whole.run()
    first = trainer(photos, tmp_path / "parts")
    first.run(stop=lambda: first.step == 3)
    second = trainer(photos, tmp_path / "parts")
    assert second.step == 3
    second.run()
    assert second.step == whole.step == 6
    assert same_weights(whole.network, second.network)
    assert same_weights(whole.average, second.average)
    assert not same_weights(whole.network, first.network)


def test_a_run_killed_at_any_moment_goes_on_exactly(photos, tmp_path):
    folder, here = tmp_path / "killed", Path(__file__).parent
    path = os.pathsep.join([str(Path(deblur_cli.__file__).parents[1]), str(here)])
    command = [sys.executable, "-c", KILLED, photos, folder, str(torch.get_num_threads())]
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, env=environment) as process:
        try:
            while not (folder / checkpoint.NAME).exists():
                assert process.poll() is None, "the run ended before it was killed"
                time.sleep(0.01)
            time.sleep(random.random() * 0.5)
        finally:
            process.kill()
    step = checkpoint.load(folder)["step"]
    again = trainer(photos, folder, steps=500)
    again.run(stop=lambda: again.step == step + 1)
    whole = trainer(photos, tmp_path / "whole", steps=500)
    whole.run(stop=lambda: whole.step == step + 1)
    assert same_weights(whole.network, again.network)


def test_an_interrupt_between_two_changes_of_a_step_keeps_the_last_whole_state(photos, tmp_path, monkeypatch):
    run = trainer(photos, tmp_path / "run")
    run.run(stop=lambda: run.step == 2)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "update_average", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert checkpoint.load(run.folder)["step"] == 2


def test_an_interrupt_elsewhere_saves_every_step_that_was_made(photos, tmp_path, monkeypatch):
    run = trainer(photos, tmp_path / "run", save_every=1000.0)

    def interrupted(*_):
        raise KeyboardInterrupt

    run.train_step()
    monkeypatch.setattr(data, "synthesize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert checkpoint.load(run.folder)["step"] == 1


def test_the_time_limit_ends_a_run_and_leaves_weights_that_load(photos, tmp_path):
    run = trainer(photos, tmp_path / "run", steps=10**6, time_limit=0.3)
    rows = []
    run.run(rows.append)
    assert run.elapsed >= 0.3 and run.step < 1000
    assert run.progress() == 1
    path = run.export()
    loaded = weights.load(str(path)).network
    assert loaded.config.pooling == 48  # once and a half the patch
    for name, value in run.average.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    (made,) = json.loads(notes["history"])
    assert (made["learned_from"], made["steps"]) == (["photos"], run.step)
    assert made["hours"] == pytest.approx(run.elapsed / 3600, abs=1e-3)
    assert made["scores"]["pictures"] == 1 and made["settings"]["patch"] == 32
    assert rows[-1]["step"] == run.step and "gain_psnr_w" in rows[-1]


def test_photos_held_out_are_scored_on_and_never_trained_on(photos, tmp_path, monkeypatch):
    seen = {"train": [], "score": []}

    def spy(where):
        def synthesize_seen(pool, *rest):
            seen[where] += pool
            return synthesize(pool, *rest)

        return synthesize_seen

    monkeypatch.setattr(data, "synthesize", spy("train"))
    monkeypatch.setattr(synthetic, "synthesize", spy("score"))
    run = trainer(photos, tmp_path / "run", steps=2)
    run.run()
    assert {id(photo) for photo in seen["train"]} == {id(photo) for photo in run.photos}
    assert {id(photo) for photo in seen["score"]} == {id(photo) for photo in run.held_out}
    assert (len(run.photos), len(run.held_out)) == (6 - HELD_OUT, HELD_OUT)
    assert not any(torch.equal(a, b) for a in run.photos for b in run.held_out)


def test_a_single_batch_is_learned(photos, tmp_path, monkeypatch):
    fixed = []

    def the_same(*arguments):
        fixed[:] = fixed or [synthesize(*arguments)]
        return fixed[0]

    monkeypatch.setattr(data, "synthesize", the_same)
    run = trainer(photos, tmp_path / "run", steps=40, learning_rate=1e-2, true_masks=1.0)
    losses = [run.train_step() for _ in range(40)]
    assert losses[-1]["reconstruction"] < 0.5 * losses[0]["reconstruction"]
    assert losses[-1]["total"] < 0.5 * losses[0]["total"]


def test_mask_and_motion_leave_the_reconstruction_alone_where_asked(photos, tmp_path):
    run = trainer(photos, tmp_path / "run", guidance_gradient=False, true_masks=1.0)
    generator = torch.Generator().manual_seed(0)
    sample = synthesize(run.photos, 2, 32, run.settings.blur, generator)
    with torch.no_grad():  # a fresh network passes nothing of its motion on to the picture
        for parameter in run.network.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.2)
    for gradient in (False, True):
        run.student.guidance_gradient = gradient
        run.network.zero_grad()
        run.lesson.answer(run.student, sample, true_mask=True).image.sum().backward()
        moved = run.network.motion_analyzer.weight.grad
        assert (moved is not None and bool(moved.any())) == gradient


def test_a_step_without_finite_gradient_is_left_out(photos, tmp_path, monkeypatch):
    run = trainer(photos, tmp_path / "run")
    run.train_step()
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    real = lessons.training_loss

    def broken(*arguments):
        return {name: value * math.nan for name, value in real(*arguments).items()}

    monkeypatch.setattr(lessons, "training_loss", broken)
    monkeypatch.setattr(loop, "LOST_STEPS", 2)
    run.train_step()
    assert run.step == 2
    assert all(torch.equal(before[name], value) for name, value in run.network.state_dict().items())
    with pytest.raises(TrainingError, match="no finite gradient for 2 steps"):
        run.train_step()
    monkeypatch.setattr(lessons, "training_loss", real)
    run.train_step()
    assert run.lost_steps == 0
    assert all(value.isfinite().all() for value in run.network.state_dict().values())
    assert not all(torch.equal(before[name], value) for name, value in run.network.state_dict().items())


def test_logged_means_are_over_the_steps_since_the_last_row(photos, tmp_path):
    stopped, ended = [], []
    first = trainer(photos, tmp_path / "run", log_every=3, steps=5)
    first.run(stopped.append, stop=lambda: first.step == 2)
    assert [row["step"] for row in stopped] == [2]
    second = trainer(photos, tmp_path / "run", log_every=3, steps=5)
    made = []
    step = second.train_step
    second.train_step = lambda: made.append(step()) or made[-1]
    second.run(ended.append)
    first_row, last_row, _scores = ended
    assert first_row["total"] == pytest.approx(made[0]["total"])  # one step, not a third of it
    assert last_row["total"] == pytest.approx((made[1]["total"] + made[2]["total"]) / 2)
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "3", "5"]


def test_settings_changed_on_resuming_hold_from_there_on(photos, tmp_path, caplog):
    trainer(photos, tmp_path / "run", steps=1).run()
    again = trainer(photos, tmp_path / "run", steps=2, weight_decay=0.5, betas=(0.8, 0.95))
    assert "weight_decay 0.001 -> 0.5" in caplog.text
    assert "steps" not in caplog.text
    group = again.optimizer.param_groups[0]
    assert (group["weight_decay"], tuple(group["betas"])) == (0.5, (0.8, 0.95))


def test_more_depth_can_be_taken_up_later(photos, tmp_path, caplog):
    shallow = trainer(photos, tmp_path / "run", steps=2, depth=1, learning_rate=0.01)
    shallow.run()
    last = shallow.average.encoders[-1][1]
    assert not last.beta.any() and not last.gamma.any()
    deep = trainer(photos, tmp_path / "run", steps=6, depth=2, learning_rate=0.01)
    assert "optimizer starts afresh" in caplog.text
    deep.run()
    assert deep.network.encoders[-1][1].gamma.any()


def test_a_run_begins_from_weights_where_asked_and_from_its_own_state_after_that(photos, tmp_path):
    first = trainer(photos, tmp_path / "first", steps=2)
    first.run()
    start = str(first.export())
    second = trainer(photos, tmp_path / "second", start=start, steps=3)
    assert same_weights(second.network, weights.load(start).network)
    assert same_weights(second.average, second.network)
    second.run()
    again = trainer(photos, tmp_path / "second", start=start, steps=3)
    assert again.step == 3 and same_weights(again.network, second.network)
    made = json.loads(weights.load(str(again.export())).notes["history"])
    assert [run["steps"] for run in made] == [2, 3]


def test_weights_of_another_network_are_no_start(photos, tmp_path):
    first = trainer(photos, tmp_path / "first", steps=1)
    first.run()
    start = str(first.export())
    wider = changed(trainer(photos, tmp_path / "x").settings.network, width=6)
    with pytest.raises(TrainingError, match="another network"):
        trainer(photos, tmp_path / "second", start=start, network=wider)
    with pytest.raises(WeightsError):
        trainer(photos, tmp_path / "second", start="nowhere.safetensors")
    assert not (tmp_path / "second").exists()


def test_running_out_of_memory_says_what_helps(photos, tmp_path, monkeypatch):
    run = trainer(photos, tmp_path / "run")

    def exhausted(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")

    monkeypatch.setattr(data, "synthesize", exhausted)
    with pytest.raises(OutOfMemoryError, match="lower batch or patch"):
        run.run()


def test_nafnet_trains_and_scores_without_mask_and_motion(photos, tmp_path):
    network = changed(trainer(photos, tmp_path / "x").settings.network, architecture="nafnet")
    run = trainer(photos, tmp_path / "run", steps=1, network=network)
    run.run()
    assert math.isnan(run.scores.endpoint_error) and run.scores.mask_iou == 0
    with safe_open(run.export(), framework="pt") as file:
        (made,) = json.loads(file.metadata()["history"])
    assert made["scores"]["endpoint_error"] is None


def test_weights_too_large_for_half_precision_are_kept_in_full(photos, tmp_path, caplog):
    run = trainer(photos, tmp_path / "run", steps=1)
    run.run()
    with torch.no_grad():
        run.average.intro.bias[0] = 1e6
    loaded = weights.load(str(run.export()))
    assert loaded.network.intro.bias[0] == 1e6
    assert "intro.bias" in caplog.text


SMALL_DETECTOR = DetectorSizes(width=8, before=1, context=1, after=1)


def test_a_detector_learns_scores_and_recommends_an_epsilon(photos, tmp_path):
    network = NetworkSettings(architecture="detector")
    run = trainer(photos, tmp_path / "run", network=network, detector=SMALL_DETECTOR, steps=2)
    rows = []
    run.run(rows.append)
    loaded = weights.load(str(run.export()))
    assert loaded.architecture == "detector" and loaded.network.config.pooling == 48
    assert float(loaded.notes["epsilon"]) == rows[-1]["epsilon"]
    assert {"mask_iou", "endpoint_error", "sharp_marked", "gain_psnr_w"} <= rows[-1].keys()
    assert [path.suffix for path in (tmp_path / "run" / "samples").iterdir()] == [".png"]


def test_a_guided_restorer_follows_its_detector_and_notes_it(photos, tmp_path):
    detector = tmp_path / "detector.safetensors"
    weights.save(detector, create_detector(width=8, before=1, context=1, after=1), {"epsilon": "0.37"})
    guided = NetworkSettings(width=4, encoder=(1, 1, 1), decoder=(1, 1, 1), stem=2, guided=True)
    run = trainer(photos, tmp_path / "run", network=guided, follows=str(detector), steps=2)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.run()
    assert not torch.equal(run.network.state_dict()["ending.weight"], before["ending.weight"])
    notes = weights.load(str(run.export())).notes
    assert notes["detector"] == str(detector) and notes["epsilon"] == "0.37"
    printed = settings_text(json.loads(notes["history"])[0]).strip("`").removeprefix("toml")
    (tmp_path / "printed.toml").write_text(printed)
    unknown = {"photos": str(photos)}  # folders are not told to others
    assert read_settings(tmp_path / "printed.toml", unknown) == run.settings
    with pytest.raises(TrainingError, match="not a detector"):
        trainer(photos, tmp_path / "other", network=guided, follows=str(run.export()))
