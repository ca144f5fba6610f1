"""What `--data npz` writes is read, edited and given back with `--findings`."""

import json

import numpy as np
import pytest
from cli_helpers import deblur, install, make_photo, pixels_of
from networks import lively, lively_detector

from deblur_cli import weights
from deblur_cli.restoration.findings import read_npz

CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A restorer and a detector, which between them mark part of a picture of noise, at several scales."""
    folder = tmp_path_factory.mktemp("networks")
    weights.save(folder / "restorer.safetensors", lively(pooling=64), {}, half=False)
    weights.save(folder / "detector.safetensors", lively_detector(), {"epsilon": "0.35"}, half=False)
    pair = ("-w", folder / "restorer.safetensors", "--detector", folder / "detector.safetensors")
    return (*pair, *CPU)


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path / "photo.png", (300, 170))


def found(photo, network, *words):
    """The file of findings of a photo, after a run that restored it too."""
    result = deblur("run", photo, *network, "--data", "npz", *words)
    assert result.exit_code == 0, result.stderr
    return photo.with_name("photo_motion.npz")


def edited(path, **changes):
    """The same file with some of its arrays replaced, written by NumPy."""
    with np.load(path) as held:
        arrays_of_it = dict(held)
    arrays_of_it |= {name: change(arrays_of_it[name]) for name, change in changes.items()}
    np.savez(path.with_name("edited.npz"), **arrays_of_it)
    return path.with_name("edited.npz")


@pytest.mark.parametrize("words", [(), ("--no-keep-sharp",), ("--scales", "1,4", "--epsilon", "0.2")])
def test_findings_given_back_make_the_same_bytes(photo, network, words):
    file = found(photo, network, *words)
    given_back = deblur("run", photo, *network, "--findings", file, "--suffix", "_again", "--json", *words)
    done, _ = map(json.loads, given_back.stdout.splitlines())
    assert done["changed"] and done["tiles"] == 0  # nothing was looked at
    first, again = (photo.with_name(f"photo_{end}.png") for end in ("deblurred", "again"))
    assert again.read_bytes() == first.read_bytes()


def test_maps_of_findings_given_back_are_the_same_too(photo, network):
    file = found(photo, network, "--mask", "--trajectory")
    maps = ("--only-maps", "--mask", "--trajectory", "--data", "npz", "-o", photo.parent / "out")
    assert deblur("run", photo, *network, "--findings", file, *maps).exit_code == 0
    for name in ("photo_mask.png", "photo_trajectory.png", "photo_motion.npz"):
        assert (photo.parent / "out" / name).read_bytes() == (photo.parent / name).read_bytes()


def test_only_what_the_edited_mask_holds_changes(photo, network):
    def left(probability):
        painted = np.zeros_like(probability)
        painted[:, :10] = 1
        return painted

    file = edited(found(photo, network), probability=left)
    assert deblur("run", photo, *network, "--findings", file, "--suffix", "_left").exit_code == 0
    differs = (pixels_of(photo) != pixels_of(photo.with_name("photo_left.png"))).any(axis=2)
    assert differs[:, :80].mean() > 0.5
    assert not differs[:, 80 + 12 :].any()


def test_the_scale_that_a_file_gives_is_the_one_restored_at(photo, network):
    file = edited(found(photo, network), scale=lambda scale: np.full_like(scale, 2), probability=np.ones_like)
    result = deblur("run", photo, *network, "--findings", file, "--suffix", "_half", "--json")
    done, _ = map(json.loads, result.stdout.splitlines())
    assert done["scales"] == {"1": 0, "2": 1}
    assert "restored at 1/2, " in result.stderr


def test_the_epsilon_of_the_file_counts_unless_another_is_given(photo, network):
    file = found(photo, network, "--epsilon", "0.3")
    for words, epsilon in (((), 0.3), (("--epsilon", "0.9"), 0.9)):
        again = deblur("run", photo, *network, "--findings", file, "--overwrite", "--json", *words)
        assert json.loads(again.stdout.splitlines()[0])["epsilon"] == epsilon


def test_a_mask_of_true_and_false_is_a_probability(photo, network):
    path = edited(found(photo, network), probability=lambda values: values > np.median(values))
    assert set(np.unique(read_npz(path)[0].probability)) == {0, 1}
    assert deblur("run", photo, *network, "--findings", path, "--overwrite").exit_code == 0


@pytest.fixture
def stand_in(monkeypatch):
    install(monkeypatch)


def refused(folder, *words):
    """The one line that a run says in the place of working; nothing is written."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = deblur("run", *words)
    assert result.exit_code in (1, 2)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1), result.stderr
    assert "bug" not in result.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return result.stderr


def test_findings_that_are_not_of_the_photo_are_refused_and_never_written(photo, tmp_path, stand_in):
    file = found(photo, ())
    other = make_photo(tmp_path / "other.png", (170, 300))
    line = refused(tmp_path, other, "--findings", file)
    assert "to a photo of 300 x 170 pixels, but this one has 170 x 300" in line
    for inputs in ([photo, other], [tmp_path]):
        assert "describes one photo" in refused(tmp_path, *inputs, "--findings", file, "--overwrite")
    line = refused(tmp_path, photo, "--findings", file, "--data", "npz", "--overwrite")
    assert f"--findings reads {file}" in line


def test_a_file_that_holds_no_findings_is_one_line(photo, tmp_path, stand_in):
    line = refused(tmp_path, photo, "--findings", tmp_path / "gone.npz")
    assert "cannot read the findings in" in line and "gone.npz" in line
