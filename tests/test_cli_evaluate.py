import json
import sys

import pytest
from networks import lively
from PIL import Image
from test_evaluation import dataset
from typer.testing import CliRunner

from deblur_cli import weights as catalogue
from deblur_cli.cli.app import app


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    catalogue.save(path, lively(pooling=64), {}, half=False)
    return path


def evaluate(*words):
    arguments = ["evaluate", *words, "--device", "cpu", "--precision", "fp32"]
    return CliRunner().invoke(app, [str(word) for word in arguments])


def test_several_weights_and_epsilons_in_one_pass(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 2)
    other = tmp_path / "nafnet.safetensors"
    catalogue.save(other, lively("nafnet"), {}, half=False)
    words = [folder, "-w", weights_file, "-w", other, "-e", "0.6, 0.3", "-o", tmp_path / "out", "--json"]
    done = evaluate(*words)
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["epsilon"] for record in records] == [0.3, 0.6, None]
    assert [record["weights"] for record in records] == [str(weights_file)] * 2 + [str(other)]
    gain = records[0]["measures"]["gain_psnr_w"]
    assert gain["count"] == 2
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == records
    assert len((tmp_path / "out" / "pictures.csv").read_text().splitlines()) == 1 + 2 * 3
    again = evaluate(*words)
    assert "6 results were there already" in again.stderr
    assert [json.loads(line) for line in again.stdout.splitlines()] == records


def test_the_plot_is_a_picture(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 1)
    done = evaluate(folder, "-w", weights_file, "-e", "0.3,0.6", "--plot", tmp_path / "new" / "e.png")
    assert done.exit_code == 0, done.stderr
    with Image.open(tmp_path / "new" / "e.png") as image:
        assert image.convert("L").getextrema() != (255, 255)
    wrong = evaluate(folder, "-w", weights_file, "--plot", tmp_path / "e.docx")
    assert wrong.exit_code == 1
    assert ".png, .svg or .pdf" in wrong.stderr


def test_a_missing_plot_library_is_told_before_any_work(tmp_path, weights_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = evaluate(dataset(tmp_path / "set", 1), "-w", weights_file, "--plot", tmp_path / "e.png")
    assert done.exit_code == 1
    assert 'pip install "deblur-cli[plot]"' in done.stderr
    assert not done.stdout


def test_a_picture_that_fails_makes_the_exit_code_one(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 2)
    (folder / "sharp" / "0.png").write_bytes(b"no picture")
    done = evaluate(folder, "-w", weights_file)
    assert done.exit_code == 1
    assert "0.png" in done.stderr
    assert done.stdout.startswith("1 picture,")
    (folder / "sharp" / "1.png").write_bytes(b"no picture")
    done = evaluate(folder, "-w", weights_file)
    assert done.exit_code == 1
    assert "no picture of the dataset could be measured" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["-e", "0.3,2"], 2, "'2'"),
        (["-e", ""], 2, "--epsilon"),
        (["--limit", "0"], 2, "--limit"),
        (["--whole", "--tile", "256"], 2, "--tile"),
        (["--layout", "synth"], 1, "deblur synth"),
        (["--layout", "none"], 2, "none"),
        (["-w", "none.safetensors"], 1, "none.safetensors"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, weights_file, words, code, text):
    done = evaluate(dataset(tmp_path / "set", 1), *(() if "-w" in words else ("-w", weights_file)), *words)
    assert done.exit_code == code
    assert text in done.stderr
    assert not done.stdout
