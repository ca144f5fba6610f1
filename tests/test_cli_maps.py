"""Maps and masks on request, without and beside restoring; the sheet of masks for several epsilon."""

import json

import numpy as np
import pytest
from cli_helpers import Deblurrer, deblur, install, make_photo, pixels_of
from PIL import Image

from deblur_cli.cli import options
from deblur_cli.errors import UsageError


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path / "photo.png", (160, 120))


def new_files(folder):
    return {path.name for path in folder.iterdir()} - {"photo.png"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--mask-format", "gray"], {"photo_deblurred.png", "photo_mask_gray.png"}),
        (["--mask-format", "both"], {"photo_deblurred.png", "photo_mask_gray.png", "photo_mask.png"}),
        (["--mask", "--mask-format", "overlay"], {"photo_deblurred.png", "photo_mask.png"}),
        (["--trajectory-style", "flow"], {"photo_deblurred.png", "photo_trajectory.png"}),
        (["--only-maps"], {"photo_mask.png", "photo_trajectory.png"}),
        (["--only-maps", "--data", "npz"], {"photo_motion.npz"}),
    ],
)
def test_what_is_asked_for_is_written_and_named_on_stdout(photo, tmp_path, options, expected):
    result = deblur("run", photo, *options)
    assert result.exit_code == 0
    assert new_files(tmp_path) == expected
    assert {line.rsplit("/", 1)[1] for line in result.stdout.splitlines()} == expected


def test_only_maps_restores_nothing_and_says_so(photo):
    result = deblur("run", photo, "--only-maps", "--json")
    done, summary = (json.loads(line) for line in result.stdout.splitlines())
    assert (Deblurrer.looked_at, Deblurrer.runs) == (["photo.png"], [])
    assert (done["output"], done["changed"], done["tiles_restored"]) == (None, False, 0)
    assert done["blurred_share"] == done["scales"]["1"] == pytest.approx(7 / 15, abs=1e-6)
    assert (summary["looked_at"], summary["restored"], summary["unchanged"]) == (1, 0, 0)
    assert "46.7% blurred, not restored" in result.stderr


def test_gray_mask_is_white_where_restored_and_black_where_untouched(photo, tmp_path):
    deblur("run", photo, "--mask-format", "gray")
    with Image.open(tmp_path / "photo_mask_gray.png") as image:
        assert (image.mode, image.size) == ("L", (160, 120))
        mask = np.asarray(image)
    assert (mask[:56] == 255).all()  # the stand-in's blurred cells
    assert (mask[56 + 12 :] == 0).all()


def test_maps_are_loaded_as_the_readme_says(photo, tmp_path):
    deblur("run", photo, "--data", "npz")
    with np.load(tmp_path / "photo_motion.npz") as maps:
        assert maps["probability"].shape == (15, 20)
        assert maps["start"].shape == maps["end"].shape == (2, 15, 20)
        assert maps["scale"].shape == (15, 20)
        floats = ("probability", "start", "end", "scale")
        assert {maps[name].dtype for name in floats} == {np.dtype(np.float32)}
        assert (maps["size"].tolist(), int(maps["cell"]), float(maps["epsilon"])) == ([120, 160], 8, 0.5)
        assert str(maps["orientation"]).startswith("upright")
        np.testing.assert_array_equal(maps["end"], 3)
        np.testing.assert_array_equal(maps["scale"], 1)


def test_existing_maps_are_kept_and_missing_ones_added(photo, tmp_path):
    deblur("run", photo, "--mask-format", "both")
    before = (tmp_path / "photo_mask.png").stat().st_mtime_ns
    refused = deblur("run", photo, "--only-maps", "--mask", "--data", "npz")
    assert (refused.exit_code, (tmp_path / "photo_motion.npz").exists()) == (1, False)
    result = deblur("run", photo, "--only-maps", "--mask", "--data", "npz", "--skip-existing")
    assert result.stdout == f"{tmp_path / 'photo_motion.npz'}\n"
    assert (tmp_path / "photo_mask.png").stat().st_mtime_ns == before


def test_maps_of_photos_that_differ_in_their_ending_bear_the_whole_name(tmp_path):
    pair = make_photo(tmp_path / "a.png"), make_photo(tmp_path / "a.jpg")
    other = make_photo(tmp_path / "b.jpg")
    options = ("--only-maps", "--mask-format", "both", "--data", "npz")
    result = deblur("run", *pair, other, *options, "-o", tmp_path / "out")
    assert result.exit_code == 0
    endings = ("_mask.png", "_mask_gray.png", "_motion.npz")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        stem + ending for stem in ("a.png", "a.jpg", "b") for ending in endings
    }


def test_maps_with_whole_names_are_no_photos_of_the_next_run(tmp_path):
    for name in ("a.png", "a.jpg"):
        make_photo(tmp_path / name)
    assert deblur("run", tmp_path, "--mask-format", "both", "--trajectory").exit_code == 0
    again = deblur("run", tmp_path, "--dry-run", "--overwrite")
    planned = [line.split(" ")[0] for line in again.stdout.splitlines()]
    assert planned == [str(tmp_path / "a.jpg"), str(tmp_path / "a.png")]


def test_sheet_comes_of_one_detection_and_tells_share_and_time(photo, tmp_path):
    result = deblur("epsilon", photo, "--values", "0.5,0.3,0.5")
    sheet = tmp_path / "photo_epsilon.png"
    assert result.stdout == f"{sheet}\n"
    assert (Deblurrer.looked_at, Deblurrer.runs) == (["photo.png"], [])
    lines = [line for line in result.stderr.splitlines() if "epsilon" in line]
    assert [line.split("epsilon ")[1][:3] for line in lines] == ["0.3", "0.5"]
    assert all("% blurred" in line and "about" in line for line in lines)
    picture = pixels_of(sheet)
    assert picture.shape[0] * picture.shape[1] > 3 * 160 * 120
    again = deblur("epsilon", photo)
    assert (again.exit_code, "already exists" in again.stderr) == (2, True)
    usual = deblur("epsilon", photo, "--overwrite")
    assert (usual.exit_code, usual.stderr.count("epsilon 0.5 (default): ")) == (0, 1)
    assert usual.stderr.count("(default)") == 1 and usual.stderr.count("% blurred") == 8


def test_a_recommended_epsilon_is_on_the_sheet(photo, monkeypatch):
    monkeypatch.setattr("deblur_cli.cli.options.epsilon_for", lambda *_: 0.45)
    lines = deblur("epsilon", photo).stderr.splitlines()
    values = [line.split("epsilon ")[1].split(":")[0] for line in lines]
    assert values == ["0.1", "0.2", "0.3", "0.45 (default)", "0.5", "0.6", "0.7", "0.8"]


def test_a_sheet_of_a_folder_is_refused(photo, tmp_path):
    result = deblur("epsilon", tmp_path)
    assert (result.exit_code, result.stderr) == (2, f"error: {tmp_path} is a folder; give one photo\n")


def test_sheet_of_one_folder_run_is_not_a_photo_of_the_next(photo, tmp_path):
    deblur("epsilon", photo)
    assert len(deblur("run", tmp_path, "--dry-run").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--values", "0.5,2"], "from 0 to 1"),
        (["--values", ""], "from 0 to 1"),
        (["-o", "sheet.jpg"], "the sheet is a PNG"),
        (["--tile", "7"], "--tile must be auto or"),
    ],
)
def test_wrong_wishes_for_a_sheet_are_refused(photo, tmp_path, words, complaint):
    result = deblur("epsilon", photo, *words)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert new_files(tmp_path) == set()


def test_sheet_of_what_is_no_photo_fails_with_one_line(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    for name, code in (("a.jpg", 1), ("gone.jpg", 2)):
        result = deblur("epsilon", tmp_path / name)
        assert (result.exit_code, result.stderr.count("\n")) == (code, 1)


def test_values_are_sorted_and_taken_once():
    assert options.parse_epsilons("0.7, 0.3,0.70,1e-1") == [0.1, 0.3, 0.7]


def test_too_many_values_are_refused():
    with pytest.raises(UsageError, match="up to 24"):
        options.parse_epsilons(",".join(str(n / 100) for n in range(25)))
