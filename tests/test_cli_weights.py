"""`deblur weights convert`: a run's weights as files to embed or share, with a model card."""

import csv
import json

import pytest
import torch
from cli_helpers import deblur
from networks import lively

from deblur_cli import weights
from deblur_cli.cli.weights import parse_size
from deblur_cli.errors import UsageError
from deblur_cli.train.settings import TrainSettings

SCORES = {
    "pictures": 16,
    "blurred_psnr_w": 24.5,
    "gain_psnr_w": 1.25,
    "mask_iou": 0.61,
    "endpoint_error": None,
}


@pytest.fixture
def run_folder(tmp_path):
    """What `deblur train` leaves, without the training."""
    from dataclasses import asdict

    folder = tmp_path / "second-run"
    folder.mkdir()
    runs = [
        {
            "learned_from": [source],
            "steps": steps,
            "hours": 1.5,
            "device": "cpu",
            "precision": "float32",
            "settings": asdict(TrainSettings(patch=patch)),
            "scores": SCORES,
        }
        for source, steps, patch in (("first photos", 4728, 128), ("more photos", 1000, 192))
    ]
    weights.save(folder / "weights.safetensors", lively(), {"history": json.dumps(runs)}, half=False)
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
    assert "8 of 192 px" in text and '"patch": 192' in text
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


def test_nothing_is_replaced_unless_asked(run_folder, tmp_path):
    words = ("weights", "convert", run_folder, "-o", tmp_path / "out")
    assert deblur(*words).exit_code == 0
    card = tmp_path / "out" / "second-run.md"
    card.write_text("by hand")
    result = deblur(*words)
    assert result.exit_code == 1 and "exists already; use --overwrite" in result.stderr
    assert card.read_text() == "by hand"
    assert deblur(*words, "--overwrite").exit_code == 0
    assert card.read_text(encoding="utf-8").startswith("# second-run")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--name", "../x"], 2, "--name is made of letters"),
        (["--part-size", "3 pounds"], 2, "--part-size is a size from 1MB up"),
        (["--part-size", "10KB"], 2, "--part-size is a size from 1MB up"),
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
        (tmp_path / "file.txt", "is not a .safetensors file"),
    ):
        result = deblur("weights", "convert", source, "-o", tmp_path / "out")
        assert result.exit_code == 1 and message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(run_folder, tmp_path):
    (tmp_path / "file.txt").write_text("x")
    result = deblur("weights", "convert", run_folder, "-o", tmp_path / "file.txt" / "out")
    assert result.exit_code != 0 and "file.txt" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(("text", "size"), [("16MB", 16_000_000), ("16 MiB", 2**24), ("2000000", 2_000_000)])
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


def test_weights_alone_shows_what_there_is():
    result = deblur("weights")
    assert result.exit_code == 2 and "convert" in result.stderr


def test_a_size_of_nothing_is_refused():
    with pytest.raises(UsageError):
        parse_size("0MB")
