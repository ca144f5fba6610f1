"""`--mask-file`, `--strength` and `--thorough`: what is restored, and how much of it, in the user's hand."""

import json

import numpy as np
import pytest
from cli_helpers import Deblurrer, deblur, install, make_photo
from PIL import Image

from deblur_cli.cli.run import steps
from deblur_cli.restoration.painted import MaskMode


@pytest.fixture(autouse=True)
def stand_in(monkeypatch, tmp_path):
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)


def paint(path, size=(48, 32), left=16):
    """A mask that is white in its first columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[:, :left] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_a_mask_strength_and_orientations_are_asked_of_the_network(tmp_path):
    photo, mask = make_photo(tmp_path / "a.png"), paint(tmp_path / "brush.png")
    words = ("--mask-file", mask, "--mask-mode", "add", "--strength", "80%", "--thorough", "--json")
    result = deblur("run", photo, *words)
    assert result.exit_code == 0, result.stderr
    (request,) = Deblurrer.runs
    assert (request.strength, request.thorough, request.painted.mode) == (0.8, True, MaskMode.add)
    assert np.array_equal(request.painted.opacity, [[1, 1, 0, 0, 0, 0]] * 4)
    done, _ = map(json.loads, result.stdout.splitlines())
    assert (done["strength"], done["thorough"]) == (80, True)
    assert (done["mask_file"], done["mask_mode"]) == (str(mask), "add")
    assert "and painted, strength 80%, thorough)" in result.stderr
    with Image.open(tmp_path / "a_deblurred.png") as picture:
        assert "and painted, strength 80%, thorough" in picture.getexif()[0x0131]


def test_masks_of_a_folder_are_matched_by_name(tmp_path):
    for name in ("in/a.png", "in/b.jpg", "in/deep/a.png", "in/c.png", "in/c.jpg"):
        make_photo(tmp_path / name)
    for number, name in enumerate(("a.png", "b_mask_gray.png", "deep/a.png", "c.png.png", "c.jpg.png"), 1):
        paint(tmp_path / "masks" / name, left=8 * number)
    result = deblur("run", "in", "-r", "-o", "out", "--mask-file", "masks", "--json")
    assert result.exit_code == 0, result.stderr
    used = {row["input"]: row["mask_file"] for row in map(json.loads, result.stdout.splitlines()[:-1])}
    assert used == {
        "in/a.png": "masks/a.png",
        "in/b.jpg": "masks/b_mask_gray.png",
        "in/deep/a.png": "masks/deep/a.png",
        "in/c.png": "masks/c.png.png",
        "in/c.jpg": "masks/c.jpg.png",
    }
    assert sorted(int(run.painted.opacity[0].sum()) for run in Deblurrer.runs) == [1, 2, 3, 4, 5]


def test_one_mask_counts_for_every_photo_of_its_shape(tmp_path):
    make_photo(tmp_path / "in/a.png", (96, 64))
    make_photo(tmp_path / "in/b.png", (64, 96))
    result = deblur("run", "in", "-o", "out", "--mask-file", paint(tmp_path / "brush.png"))
    assert result.exit_code == 1
    assert (tmp_path / "out/a_deblurred.png").exists() and not (tmp_path / "out/b_deblurred.png").exists()
    assert "in/b.png: the mask" in result.stderr.replace("\n", " ")
    foretold = deblur("run", "in", "-o", "new", "--mask-file", "brush.png", "--dry-run", "--json")
    states = [json.loads(line).get("status") for line in foretold.stdout.splitlines()]
    assert states.count("planned") == states.count("failed") == 1


def test_a_mask_for_all_photos_is_read_once(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        make_photo(tmp_path / f"in/{name}.png", (96, 64))
    read, plain = [], steps.read_mask
    monkeypatch.setattr(steps, "read_mask", lambda *words: read.append(words) or plain(*words))
    result = deblur("run", "in", "-o", "out", "--mask-file", paint(tmp_path / "brush.png"))
    assert result.exit_code == 0, result.stderr
    assert len(read) == 1 and len(list(tmp_path.glob("out/*"))) == 3


def test_masks_in_folders_belong_to_photos_in_folders(tmp_path):
    """One flat mask could be that of either photo, so neither gets it; below folders each has its own."""
    for place in ("a", "b"):
        make_photo(tmp_path / "in" / place / "p.png")
    paint(tmp_path / "masks/p.png")
    result = deblur("run", "in", "-r", "-o", "out", "--mask-file", "masks")
    assert result.exit_code == 1 and not list(tmp_path.glob("out/*/*.png"))
    assert "masks/p.png could be that of several photos; put the mask of this one into" in result.stderr
    (tmp_path / "masks/p.png").unlink()
    paint(tmp_path / "masks/a/p.png")
    result = deblur("run", "in", "-r", "-o", "out", "--mask-file", "masks", "--json")
    states = [json.loads(line) for line in result.stdout.splitlines()[:-1]]
    assert {state["input"]: state["mask_file"] for state in states} == {
        "in/a/p.png": "masks/a/p.png",
        "in/b/p.png": None,
    }


@pytest.mark.parametrize("foretell", [(), ("--dry-run",)])
def test_a_photo_without_its_mask_is_left_alone_unless_masks_only_add(tmp_path, foretell):
    make_photo(tmp_path / "in/a.png")
    make_photo(tmp_path / "in/b.png")
    paint(tmp_path / "masks/a.png")
    result = deblur("run", "in", "-o", "out", "--mask-file", "masks", *foretell)
    assert result.exit_code == 1
    assert "in/b.png: there is no mask for it in masks; name it like the photo, b.png" in result.stderr
    assert not (tmp_path / "out/b_deblurred.png").exists()
    words = ("--mask-file", "masks", "--mask-mode", "add", *foretell)
    assert deblur("run", "in", "-o", "new", *words).exit_code == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--strength", "151"), "--strength must be a percentage from 0 to 150, not '151'"),
        (("--strength", "much"), "--strength must be a percentage from 0 to 150, not 'much'"),
        (("--mask-mode", "add"), "--mask-mode add says how a painted mask counts: add --mask-file"),
        (("--mask-file", "none.png"), "--mask-file none.png: no such file or folder"),
        (
            ("--mask-file", "in/a.png", "--no-keep-sharp"),
            "--mask-file and --no-keep-sharp can't be used together",
        ),
        (("--only-maps", "--strength", "50"), "--strength has no effect with --only-maps"),
        (("--only-maps", "--thorough"), "--thorough has no effect with --only-maps"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, words, line):
    make_photo(tmp_path / "in/a.png")
    result = deblur("run", "in/a.png", *words)
    assert result.exit_code == 2
    assert line in result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "in"]


def test_the_mask_that_is_read_is_never_written(tmp_path):
    photo, mask = make_photo(tmp_path / "a.png"), paint(tmp_path / "a_mask_gray.png")
    before = mask.read_bytes()
    words = ("--mask-file", mask, "--mask-format", "gray", "--overwrite")
    result = deblur("run", photo, *words)
    assert result.exit_code == 1
    assert "is the mask to read, so it is not written" in result.stderr
    assert mask.read_bytes() == before
