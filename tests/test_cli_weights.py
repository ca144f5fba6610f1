"""`deblur weights convert`: a run's weights as files to embed or share, with a model card."""

import csv
import json
import re
import tomllib

import pytest
import torch
from cli_helpers import deblur
from networks import lively, lively_detector

from deblur_cli import weights
from deblur_cli.cli.sharing import parse_size
from deblur_cli.errors import UsageError
from deblur_cli.train import checkpoint
from deblur_cli.train.settings import TrainSettings
from deblur_cli.weights.model_card import model_card

SCORES = {
    "pictures": 16,
    "blurred_psnr_w": 24.5,
    "gain_psnr_w": 1.25,
    "mask_iou": 0.61,
    "endpoint_error": None,
}


def write_run(folder, network, runs, step=1000):
    """Weights in half precision and the state that holds them in full."""
    weights.save(folder / "weights.safetensors", network, {"history": json.dumps(runs)})
    kept = network.state_dict()
    state = {"settings": {"depth": 2}, "network": kept, "average": kept, "optimizer": {}, "step": step}
    checkpoint.save(folder, state | {"elapsed": 1.0, "history": []})


def convert(source, folder, *words):
    return deblur("weights", "convert", source, "-o", folder, *words)


def refused(result, code, message):
    return result.exit_code == code and message in result.stderr and result.stderr.count("\n") == 1


@pytest.fixture
def run_folder(tmp_path):
    """What `deblur train` leaves, without the training."""
    folder = tmp_path / "second-run"
    folder.mkdir()
    runs = [
        {
            "learned_from": [source],
            "steps": steps,
            "hours": 1.5,
            "device": "cpu",
            "precision": "float32",
            "settings": TrainSettings(patch=patch).model_dump(),
            "scores": SCORES,
        }
        for source, steps, patch in (("first photos", 4728, 128), ("more photos", 1000, 192))
    ]
    write_run(folder, lively(), runs)
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["step", "seconds", "gain_psnr_w"], [100, 900, 0.5], [200, 1800, ""]])
    return folder


def test_a_run_becomes_a_file_in_half_precision_and_a_card(run_folder, tmp_path):
    result = deblur("weights", "convert", run_folder, "-o", tmp_path / "out", "--name", "mine")
    path, card = tmp_path / "out" / "mine.safetensors", tmp_path / "out" / "mine.md"
    assert (result.exit_code, result.stdout) == (0, f"{path}\n{card}\n"), result.stderr
    loaded, before = weights.load(str(path)), weights.load(str(run_folder / "weights.safetensors"))
    for name, value in before.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value.half().float()), name
    assert loaded.notes == before.notes
    text = card.read_text(encoding="utf-8")
    assert loaded.sha256 in text and f"{path.stat().st_size:,} bytes" in text
    assert "| 1 | first photos | 4,728 |" in text and "| 2 | more photos | 1,000 |" in text
    assert "8 of 192 px" in text and "\npatch = 192\n" in text
    assert "| PSNR gain in the blur, dB | +1.25 |" in text and "endpoints" not in text
    assert "| 100 | 0.25 | +0.50 |" in text and "| 200 | 0.50 |  |" in text


def test_parts_can_be_put_together_again(run_folder, tmp_path):
    result = deblur(
        "weights", "convert", run_folder, "-o", tmp_path / "parts", "--part-size", "1MB", "--full"
    )
    assert result.exit_code == 0, result.stderr
    source = result.stdout.splitlines()[0]
    result = deblur("weights", "convert", source, "-o", tmp_path / "whole", "--name", "whole", "--full")
    assert result.exit_code == 0, result.stderr
    first, second = (
        weights.load(name).network for name in (source, str(tmp_path / "whole/whole.safetensors"))
    )
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_full_numbers_are_those_that_the_run_averaged(run_folder, tmp_path):
    result = convert(run_folder, tmp_path / "out", "--full", "--name", "full")
    assert result.exit_code == 0, result.stderr
    found = weights.load(str(tmp_path / "out" / "full.safetensors"))
    average = checkpoint.load(run_folder)["average"]
    assert not all(torch.equal(value, value.half().float()) for value in average.values())
    for name, value in found.network.state_dict().items():
        assert torch.equal(value, average[name]), name
    assert "| 2 | more photos | 1,000 |" in (tmp_path / "out" / "full.md").read_text(encoding="utf-8")
    again = convert(tmp_path / "out" / "full.safetensors", tmp_path / "again", "--full")
    assert again.exit_code == 0, again.stderr


def test_full_numbers_that_are_not_there_are_not_made_up(run_folder, tmp_path):
    file, out = run_folder / "weights.safetensors", tmp_path / "out"
    assert refused(convert(file, out, "--full"), 2, "holds 16 bits per number")
    assert refused(convert("m2aenet-small", out, "--full"), 2, "holds 16 bits per number")
    checkpoint.save(run_folder, checkpoint.load(run_folder) | {"step": 1001})
    assert refused(convert(run_folder, out, "--full"), 2, "is of step 1000 and state.pt of step 1001")
    checkpoint.save(run_folder, checkpoint.load(run_folder) | {"step": 1000, "average": {}})
    assert refused(convert(run_folder, out, "--full"), 1, "is damaged")
    (run_folder / "state.pt").unlink()
    assert refused(convert(run_folder, out, "--full"), 2, "holds 16 bits per number")
    assert not out.exists()


def test_files_of_another_form_are_replaced_and_never_left_beside_the_new(run_folder, tmp_path):
    out, parts = tmp_path / "out", ("--part-size", "1MB", "--full")
    (tmp_path / "out").mkdir()
    (out / "mine-too.safetensors").write_text("of someone else")
    whole = {"mine.safetensors", "mine.md", "mine-too.safetensors"}

    def names():
        return {path.name for path in out.iterdir()}

    assert convert(run_folder, out, "--name", "mine").exit_code == 0
    assert names() == whole
    assert refused(convert(run_folder, out, "--name", "mine", *parts), 2, "already exists")
    assert convert(run_folder, out, "--name", "mine", *parts, "--overwrite").exit_code == 0
    assert "mine.safetensors.index.json" in names() and "mine.safetensors" not in names()
    assert refused(convert(run_folder, out, "--name", "mine"), 2, "already exists")
    (out / "mine.md").unlink()
    (out / "mine.safetensors.index.json").unlink()
    assert refused(convert(run_folder, out, "--name", "mine"), 2, "already exists")  # the parts are there
    assert convert(run_folder, out, "--name", "mine", "--overwrite").exit_code == 0
    assert names() == whole
    weights.load(str(out / "mine.safetensors"))


def test_earlier_files_stay_where_the_new_ones_cannot_be_written(run_folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert convert(run_folder, out, "--name", "mine").exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = convert(run_folder, out, "--name", "mine", "--overwrite", "--part-size", "1MB")
    assert refused(result, 1, "the disk is full")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    "history", ["not json", "3", "[1]", "[{}]", "[" * 10**5, '[{"learned_from": 1, "settings": []}]']
)
def test_a_damaged_note_on_the_training_costs_the_card_that_part_alone(tmp_path, history):
    weights.save(tmp_path / "net.safetensors", lively(), {"history": history})
    result = convert(tmp_path / "net.safetensors", tmp_path / "out")
    assert refused(result, 0, "warning: the card of net cannot tell what it learned from")
    text = (tmp_path / "out" / "net.md").read_text(encoding="utf-8")
    assert "Not known: the note on their training" in text and "| SHA-256 |" in text


@pytest.mark.parametrize("fingerprint", ["not json", "3", '["a"]', "[[1]]", "[" * 10**5])
def test_a_damaged_fingerprint_is_one_line(tmp_path, fingerprint):
    weights.save(tmp_path / "net.safetensors", lively(), {"fingerprint": fingerprint})
    result = deblur("weights", "verify", tmp_path / "net.safetensors")
    assert refused(result, 1, "the fingerprint in its metadata is damaged")


DETECTOR_SCORES = {
    "pictures": 16,
    "sharp_marked": 0.0123,
    "gain_psnr_w": -0.15,
    "mask_iou": 0.71,
    "mask_precision": 0.8,
    "mask_recall": 0.9,
    "wrongly_marked": 0.034,
    "soft_marked": None,
    "endpoint_error": 1.75,
}


def test_a_detectors_run_becomes_a_file_that_finds_the_same_and_a_card(tmp_path):
    folder, network = tmp_path / "finder", lively_detector(pooling=48)
    folder.mkdir()
    run = {"learned_from": ["photos"], "steps": 7, "hours": 2.5, "device": "cpu", "precision": "float32"}
    run |= {"settings": TrainSettings().model_dump(), "scores": DETECTOR_SCORES}
    weights.save(folder / "weights.safetensors", network, {"history": json.dumps([run]), "epsilon": "0.35"})
    with (folder / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", "seconds", "sharp_marked"], [7, 9000, 0.0123]])
    result = convert(folder, tmp_path / "out", "--name", "detector-mine")
    assert result.exit_code == 0, result.stderr
    loaded = weights.load(str(tmp_path / "out" / "detector-mine.safetensors"))
    kept = weights.load(str(folder / "weights.safetensors"))
    assert (loaded.architecture, loaded.epsilon) == ("detector", 0.35)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(loaded.network(image), kept.network(image), strict=True):
            assert torch.equal(found, expected)
    text = (tmp_path / "out" / "detector-mine.md").read_text()
    for words in (
        "Detector of width 8 (blocks: 1 at 1/8, 1 at 1/16, 1 at 1/32, 1 at 1/8 again; 2 channels for edges)",
        "a window of 48 pixels",
        "Recommended epsilon: 0.35.",
        "What it finds, epsilon 0.5, 16 pictures",
        "| sharp photos, marked area | 1.2% |",
        "by Richardson-Lucy along the detected motion, dB | -0.15 |",
        "| trajectory endpoints off, px | 1.75 |",
        "| 7 | 2.50 | 1.2% |",
    ):
        assert words in text
    assert "worse than" not in text and "Bare network" not in text


def test_a_detectors_window_can_be_set_and_it_becomes_no_restorer(tmp_path):
    weights.save(tmp_path / "d.safetensors", lively_detector(pooling=48), {})
    done = convert(tmp_path / "d.safetensors", tmp_path / "out", "--pooling", "64")
    assert done.exit_code == 0, done.stderr
    assert weights.load(str(tmp_path / "out" / "d.safetensors")).network.config.pooling == 64
    wrong = convert(tmp_path / "d.safetensors", tmp_path / "out", "--as", "m2aenet", "--overwrite")
    assert refused(wrong, 2, "these weights are detector")


def test_a_card_names_the_detector_that_weights_follow():
    told = lively(encoder=(1, 1, 2), decoder=(1, 1, 1), stem=2, guided=True)
    text = model_card("mine", told, {"detector": "detector-small", "epsilon": "0.3"}, [("a", 1)], "ab")
    assert "Made to follow the detector `detector-small`. Recommended epsilon: 0.3." in text
    assert "from 1/2 of the photo's size on" in text
    assert "It detects nothing itself" in model_card("mine", told, {}, [("a", 1)], "ab")


def card(*changes, curve=()):
    """A card after runs that differ from the usual one as told."""
    usual = {
        "learned_from": ["photos"],
        "steps": 10,
        "hours": 0.1,
        "device": "cpu",
        "precision": "float32",
        "settings": TrainSettings().model_dump(),
        "scores": SCORES,
    }
    runs = [usual | change for change in changes]
    return model_card("mine", lively(), {"history": json.dumps(runs)}, [("a", 1)], "ab", curve)


def test_a_card_claims_only_what_its_run_noted():
    held_out = {"scored_on": {"held_out": 8}}
    assert "16 pictures made from 8 photos that it never saw," in card(held_out)
    assert "16 pictures made from 8 photos that its last run never saw" in card({}, held_out)
    other = card({"scored_on": {"folder": "val", "learned_from": False}})
    assert "16 pictures of the folder `val`," in other and "never saw" not in other
    same = card({"scored_on": {"folder": "val", "learned_from": True}})
    assert "`val`, which shows what it learned from" in same and "never saw" not in same
    assert "never saw" not in card({})


def test_a_card_says_where_the_photo_alone_is_better():
    worse = {"scores": SCORES | {"gain_psnr_w": -0.3}}
    assert "worse than leaving the photo alone" in card(worse)
    assert "worse" not in card({})


def test_a_card_shows_no_blur_where_none_was_made():
    row = next(line for line in card({"synthetic": False}).splitlines() if line.startswith("| 1 |"))
    assert "4-16 px" not in row
    row = next(line for line in card({"synthetic": True}).splitlines() if line.startswith("| 1 |"))
    assert "4-16 px" in row


def test_a_card_is_plain_to_read():
    rows = [
        {"step": "1", "seconds": "3600", "gain_psnr_w": "0.5", "endpoint_error": "nan", "mask_iou": "nan"},
        {"step": "2", "seconds": "7200", "gain_psnr_w": "nan", "endpoint_error": "nan", "mask_iou": "0.5"},
    ]
    text = card({}, curve=rows)
    assert "nan" not in text and "endpoints" not in text.partition("## Scores over")[2]
    assert "| 1 | 1.00 | +0.50 |  |" in text and "| 2 | 2.00 |  | 0.500 |" in text
    assert "|  |  |\n| --- |" not in text
    (settings,) = re.findall("```toml\n(.*?)```", text, re.DOTALL)
    assert TrainSettings.model_validate(tomllib.loads(settings)) == TrainSettings()


def test_nothing_is_replaced_unless_asked(run_folder, tmp_path):
    words = ("weights", "convert", run_folder, "-o", tmp_path / "out")
    assert deblur(*words).exit_code == 0
    card = tmp_path / "out" / "second-run.md"
    card.write_text("by hand")
    result = deblur(*words)
    assert result.exit_code == 2 and "already exists; use --overwrite" in result.stderr
    assert card.read_text() == "by hand"
    assert deblur(*words, "--overwrite").exit_code == 0
    assert card.read_text(encoding="utf-8").startswith("# second-run")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--name", "../x"], 2, "--name must be made of letters"),
        (["--part-size", "3 pounds"], 2, "--part-size must be a size of at least 1MB"),
        (["--part-size", "10KB"], 2, "--part-size must be a size of at least 1MB"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(run_folder, tmp_path, words, code, message):
    result = deblur("weights", "convert", run_folder, "-o", tmp_path / "out", *words)
    assert result.exit_code == code
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_sources_are_one_line(tmp_path):
    (tmp_path / "file.txt").write_text("x")
    for source, message in (
        (tmp_path, "holds no weights.safetensors yet"),
        (tmp_path / "gone.safetensors", "no weights file"),
        ("runs", "no weights file or folder runs: name the folder of a training run"),
        (tmp_path / "file.txt", "is not a .safetensors file"),
    ):
        result = deblur("weights", "convert", source, "-o", tmp_path / "out")
        assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(run_folder, tmp_path):
    (tmp_path / "file.txt").write_text("x")
    result = deblur("weights", "convert", run_folder, "-o", tmp_path / "file.txt" / "out")
    assert refused(result, 2, "is a file, but -o names the folder for weights and card below it")
    result = convert(run_folder, tmp_path / "file.txt")
    assert refused(result, 2, "file.txt is a file, but -o names the folder for weights and card")


@pytest.mark.parametrize(("text", "size"), [("16MB", 16_000_000), ("16 MiB", 2**24), ("2000000", 2_000_000)])
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


def test_weights_alone_shows_what_there_is():
    result = deblur("weights")
    assert result.exit_code == 2 and "convert" in result.stderr


def test_a_size_of_nothing_is_refused():
    with pytest.raises(UsageError):
        parse_size("0MB")
