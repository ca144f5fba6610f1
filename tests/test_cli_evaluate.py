import json
import sys

import pytest
from networks import lively
from PIL import Image
from test_evaluation import dataset
from typer.testing import CliRunner

from deblur_cli import files
from deblur_cli import weights as catalog
from deblur_cli.cli.app import app
from deblur_cli.evaluation import loop


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    catalog.save(path, lively(pooling=64), {}, half=False)
    return path


def evaluate(*words):
    arguments = ["evaluate", *words, "--device", "cpu", "--precision", "fp32"]
    return CliRunner().invoke(app, [str(word) for word in arguments])


def test_several_weights_and_epsilons_in_one_pass(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 2)
    other = tmp_path / "nafnet.safetensors"
    catalog.save(other, lively("nafnet"), {}, half=False)
    words = [folder, "-w", weights_file, "-w", other, "-e", "0.6, 0.3", "-o", tmp_path / "out", "--json"]
    done = evaluate(*words)
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["epsilon"] for record in records] == [0.3, 0.6] * 2  # NAFNet follows the detector
    assert [record["weights"] for record in records] == [str(weights_file)] * 2 + [str(other)] * 2
    gain = records[0]["measures"]["gain_psnr_w"]
    assert gain["count"] == 2
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == records
    assert len((tmp_path / "out" / "pictures.csv").read_text().splitlines()) == 1 + 2 * 4
    again = evaluate(*words)
    assert "8 results were measured before" in again.stderr
    assert [json.loads(line) for line in again.stdout.splitlines()] == records


def test_scales_are_told_and_taken(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 1)
    plain = evaluate(folder, "-w", weights_file)
    assert "tiled, scales 1, 2, 4, 8, laid over" in plain.stdout.splitlines()[0]
    words = [folder, "-w", weights_file, "-o", tmp_path / "out", "--json"]
    for scales in ("2, 1", "1"):
        done = evaluate(*words, "--scales", scales)
        assert json.loads(done.stdout)["scales"] == {"2, 1": "1,2", "1": "1"}[scales]
        assert "already" not in done.stderr
    whole = evaluate(*words, "--whole", "--scales", "1")
    assert json.loads(whole.stdout)["scales"] == "1"


def test_the_plot_is_a_picture(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 1)
    done = evaluate(folder, "-w", weights_file, "-e", "0.3,0.6", "--plot", tmp_path / "new" / "e.png")
    assert done.exit_code == 0, done.stderr
    with Image.open(tmp_path / "new" / "e.png") as image:
        assert image.convert("L").getextrema() != (255, 255)


def test_a_plot_that_cannot_be_is_told_before_any_work(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 1)
    (tmp_path / "folder.png").mkdir()
    for name in ("e.docx", "e", "folder.png"):
        done = evaluate(folder, "-w", weights_file, "--plot", tmp_path / name)
        assert done.exit_code == 2
        assert ".png, .svg or .pdf" in done.stderr
        assert not done.stdout
    plain = tmp_path / "nafnet.safetensors"
    catalog.save(plain, lively("nafnet"), {}, half=False)
    done = evaluate(folder, "-w", plain, "--detector", "none", "--plot", tmp_path / "e.png")
    assert done.exit_code == 2
    assert "no mask" in done.stderr
    assert not done.stdout


def test_weights_of_one_file_name_are_told_apart(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 1)
    names = [tmp_path / run / "$x$ weights.safetensors" for run in ("_first", "second")]
    for name in names:
        name.parent.mkdir()
        name.write_bytes(weights_file.read_bytes())
    done = evaluate(folder, "-w", names[0], "-w", names[1], "--plot", tmp_path / "e.svg")
    assert done.exit_code == 0, done.stderr
    head = done.stdout.splitlines()[1]
    assert head.split("  ")[-2].strip().startswith("_first/$x$")
    assert head.split("  ")[-1].strip().startswith("second/$x$")
    assert "<!-- second/$x$ weights" in (tmp_path / "e.svg").read_text()  # what Matplotlib drew as a path


def test_two_runs_do_not_write_into_one_folder(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 1)
    with files.held(tmp_path / "out"):
        done = evaluate(folder, "-w", weights_file, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "another run is using" in done.stderr
    assert evaluate(folder, "-w", weights_file, "-o", tmp_path / "out").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pictures.csv", "summary.json"]


@pytest.mark.parametrize("kept", [True, False])
def test_ctrl_c_says_what_becomes_of_what_was_measured(tmp_path, weights_file, monkeypatch, kept):
    folder = dataset(tmp_path / "set", 3)
    plain, done = loop.run, []

    def interrupted(*words):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return plain(*words)

    monkeypatch.setattr(loop, "run", interrupted)
    words = [folder, "-w", weights_file, *(["-o", tmp_path / "out"] if kept else [])]
    stopped = evaluate(*words)
    assert stopped.exit_code == 130
    assert ("the same command continues" in stopped.stderr) == kept
    assert ("nothing is kept without -o" in stopped.stderr) != kept
    assert not stopped.stdout
    assert stopped.stderr.splitlines()[-1].startswith("Interrupted; ")
    if kept:
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["pictures.csv"]
        monkeypatch.setattr(loop, "run", plain)
        assert "1 results were measured before" in evaluate(*words).stderr


def test_results_that_cannot_be_kept_are_still_shown(tmp_path, weights_file):
    folder = dataset(tmp_path / "set", 1)
    (tmp_path / "out" / "summary.json").mkdir(parents=True)
    done = evaluate(folder, "-w", weights_file, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "summary.json" in done.stderr
    assert done.stdout.startswith("1 picture,")
    file = tmp_path / "file"
    file.write_text("")
    done = evaluate(folder, "-w", weights_file, "-o", file)
    assert done.exit_code == 2
    assert not done.stdout


def test_a_missing_plot_library_is_told_before_any_work(tmp_path, weights_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = evaluate(dataset(tmp_path / "set", 1), "-w", weights_file, "--plot", tmp_path / "e.png")
    assert done.exit_code == 1
    assert 'pip install ".[plot]"' in done.stderr
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
        (["--whole", "--scales", "1,2"], 2, "--scales"),
        (["--scales", "1,3"], 2, "'3'"),
        (["--layout", "synth"], 2, "deblur synth"),
        (["--layout", "none"], 2, "none"),
        (["-w", "none.safetensors"], 2, "none.safetensors"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, weights_file, words, code, text):
    done = evaluate(dataset(tmp_path / "set", 1), *(() if "-w" in words else ("-w", weights_file)), *words)
    assert done.exit_code == code
    assert text in done.stderr
    assert not done.stdout
