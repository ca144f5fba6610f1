"""`deblur synth`: the same words give the same files, byte for byte, and any other folder is left alone."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from cli_helpers import deblur, make_photo
from PIL import Image
from train_helpers import tensors, write_photos

from deblur_cli.errors import TrainingError
from deblur_cli.files import held
from deblur_cli.train import samples
from deblur_cli.train.samples import Sample, read_samples, write_sample
from deblur_cli.train.settings import BlurSettings
from deblur_cli.train.synthetic import fixed_set, synthesize

PARTS = {"blur": "png", "sharp": "png", "mask": "png", "motion": "npz"}
LEVEL = 1 / 255


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("shared") / "photos", 4)


@pytest.fixture(scope="module")
def dataset(photos, tmp_path_factory):
    """Three pictures of 32 pixels, for tests that only read them."""
    folder = tmp_path_factory.mktemp("dataset") / "set"
    assert synth(photos, folder).exit_code == 0
    return folder


def synth(photos, folder, *words, count=3):
    return deblur("synth", photos, "-o", folder, "--count", count, "--size", 32, *words)


def files(folder):
    """Every file below a folder by its name there, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(count):
    return {f"{part}/{number:04}.{suffix}" for part, suffix in PARTS.items() for number in range(count)}


def assert_refused(result, code, message):
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    assert result.stdout == ""


def test_a_dataset_is_made_of_pictures_masks_and_displacements(photos, tmp_path):
    folder = tmp_path / "made" / "here"
    result = synth(photos, folder, count=2)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{folder}\n"
    assert set(files(folder)) == names(2) | {"synthesis.json"}
    for number in range(2):
        for part, mode in (("blur", "RGB"), ("sharp", "RGB"), ("mask", "L")):
            with Image.open(folder / part / f"{number:04}.png") as image:
                assert (image.size, image.mode) == ((32, 32), mode)
        with Image.open(folder / "mask" / f"{number:04}.png") as image:
            mask = np.asarray(image)
        assert set(np.unique(mask)) <= {0, 255} and mask.any()
        with np.load(folder / "motion" / f"{number:04}.npz", allow_pickle=False) as motion:
            assert set(motion) == {"start", "end"}
            assert all(motion[key].shape == (2, 32, 32) for key in motion)
            assert all(motion[key].dtype == np.float16 for key in motion)
            assert not motion["start"][:, mask == 0].any() and motion["end"].any()


def test_the_same_command_gives_the_same_bytes(photos, dataset, tmp_path, monkeypatch):
    # on another day: archives can hold the time they were made
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: 2e9)
        assert synth(photos, tmp_path / "again").exit_code == 0
    assert files(tmp_path / "again") == files(dataset)


def test_another_seed_or_setting_gives_other_pictures(photos, dataset, tmp_path):
    seeded, longer = tmp_path / "seeded", tmp_path / "longer"
    assert synth(photos, seeded, "--seed", 7, count=1).exit_code == 0
    assert synth(photos, longer, "--longest", 30, count=1).exit_code == 0
    first = (dataset / "blur" / "0000.png").read_bytes()
    assert (seeded / "blur" / "0000.png").read_bytes() != first
    assert (longer / "blur" / "0000.png").read_bytes() != first


def test_a_dataset_can_be_made_longer(photos, dataset, tmp_path):
    assert synth(photos, tmp_path / "longer", count=5).exit_code == 0
    longer, shorter = files(tmp_path / "longer"), files(dataset)
    assert set(longer) == names(5) | {"synthesis.json"}
    assert {name: longer[name] for name in shorter} == shorter
    assert synth(photos, tmp_path / "grown", count=2).exit_code == 0
    assert synth(photos, tmp_path / "grown", count=5).exit_code == 0
    assert files(tmp_path / "grown") == longer


@pytest.mark.parametrize("left", ["nothing of the last", "pictures without their motion"])
def test_an_interrupted_dataset_goes_on_to_the_same_bytes(photos, dataset, tmp_path, left):
    folder = tmp_path / "set"
    shutil.copytree(dataset, folder)
    for number in (1, 2):
        (folder / "motion" / f"{number:04}.npz").unlink()
        if left == "nothing of the last":
            (folder / "blur" / f"{number:04}.png").unlink()
    kept = (folder / "blur" / "0000.png").stat().st_mtime_ns
    assert synth(photos, folder).exit_code == 0
    assert files(folder) == files(dataset)
    assert (folder / "blur" / "0000.png").stat().st_mtime_ns == kept  # what is there is not made again


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(photos, dataset, tmp_path, monkeypatch):
    write, folder = np.savez_compressed, tmp_path / "set"

    def full(file, **fields):
        if list(folder.glob("motion/0000.npz")):
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, **fields)

    with monkeypatch.context() as patched:
        patched.setattr(samples.np, "savez_compressed", full)
        assert_refused(synth(photos, folder), 1, "the disk is full")
    assert [path.name for path in (folder / "motion").iterdir()] == ["0000.npz"]
    assert synth(photos, folder).exit_code == 0
    assert files(folder) == files(dataset)


def test_a_disk_full_from_the_first_picture_on_leaves_no_part_of_it(photos, tmp_path, monkeypatch):
    def full(image, file, *_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    assert_refused(synth(photos, tmp_path / "set"), 1, "the disk is full")
    assert set(files(tmp_path / "set")) == {"synthesis.json"}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("harm", ["missing", "empty"])
def test_what_is_missing_or_empty_is_made_again(photos, dataset, tmp_path, part, harm):
    folder = tmp_path / "set"
    shutil.copytree(dataset, folder)
    path = folder / part / f"0001.{PARTS[part]}"
    path.unlink()
    if harm == "empty":
        path.touch()
    assert synth(photos, folder).exit_code == 0
    assert files(folder) == files(dataset)


def test_a_run_killed_before_its_first_file_does_not_block_the_folder(photos, dataset, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / ".deblur-lock").touch()
    (folder / ".deblur-0123456789abcdef.part").write_bytes(b"half a note")
    assert synth(photos, folder).exit_code == 0
    made = {name: content for name, content in files(folder).items() if not name.startswith(".")}
    assert made == files(dataset)
    (folder / "blur" / ".deblur-0123456789abcdef.part").write_bytes(b"half a picture")
    assert synth(photos, folder).exit_code == 0
    assert set(files(folder / "blur")) == {f"{number:04}.png" for number in range(3)}


def test_a_folder_that_another_run_is_filling_is_left_alone(photos, tmp_path):
    with held(tmp_path / "set"):
        assert_refused(synth(photos, tmp_path / "set"), 2, "another run is using")
        assert list(files(tmp_path / "set")) == [".deblur-lock"]
    assert synth(photos, tmp_path / "set", count=1).exit_code == 0
    assert ".deblur-lock" not in files(tmp_path / "set")


def test_photos_too_small_for_the_size_are_counted_in_one_warning(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    for number in (2, 3):
        make_photo(folder / f"small{number}.png", (100, 15))
    result = synth(folder, tmp_path / "set", count=1)
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: 2 of 6 photos")


def test_settings_shape_the_dataset_and_are_written_down(photos, tmp_path):
    words = ("--shortest", 2, "--set", "longest=6", "--set", "camera.noise=0", "--set", "shake=0")
    assert synth(photos, tmp_path / "set", *words, "--seed", 3, count=1).exit_code == 0
    note = json.loads((tmp_path / "set" / "synthesis.json").read_text())
    assert (note["size"], note["seed"]) == (32, 3)
    blur = note["blur"]
    assert (blur["shortest"], blur["longest"], blur["shake"]) == (2, 6, 0)
    assert (blur["camera"]["noise"], blur["camera"]["mosaic"]) == (0, BlurSettings().camera.mosaic)


def test_reading_gives_back_what_was_made(dataset):
    pool = tensors(4)  # the pixels that `photos` holds as files
    made = list(fixed_set(pool, 3, 32, BlurSettings(), 2026))
    found = list(read_samples(dataset))
    assert len(found) == 3
    for sample, truth in zip(found, made, strict=True):
        assert (sample.blurred - truth.blurred).abs().max() <= 0.51 * LEVEL
        assert (sample.sharp - truth.sharp).abs().max() <= 0.51 * LEVEL
        assert torch.equal(sample.mask, truth.mask)
        assert torch.allclose(sample.start, truth.start, rtol=2**-11, atol=1e-4)  # half precision
        assert torch.allclose(sample.end, truth.end, rtol=2**-11, atol=1e-4)
        assert not sample.measured


def test_samples_are_read_in_the_order_of_their_numbers(tmp_path):
    for part in PARTS:
        (tmp_path / part).mkdir()
    level = {number: number % 7 / 7 for number in (3, 9999, 10000)}
    zeros = torch.zeros(1, 2, 16, 16)
    for number, value in level.items():
        image = torch.full((1, 3, 16, 16), value)
        write_sample(tmp_path, number, Sample(image, image, zeros[:, :1], zeros, zeros))
    found = [float(sample.blurred.mean()) for sample in read_samples(tmp_path)]
    assert found == pytest.approx([level[3], level[9999], level[10000]], abs=LEVEL)


def test_where_no_samples_are_reading_says_how_to_make_them(tmp_path):
    with pytest.raises(TrainingError, match="make them with deblur synth"):
        list(read_samples(tmp_path))


@pytest.mark.parametrize("part", ["sharp/0001.png", "motion/0001.npz"])
def test_a_damaged_sample_is_named(dataset, tmp_path, part):
    folder = tmp_path / "set"
    shutil.copytree(dataset, folder)
    (folder / part).write_bytes((folder / part).read_bytes()[:100])
    with pytest.raises(TrainingError, match="cannot read sample 0001"):
        list(read_samples(folder))


def test_quiet_runs_still_tell_where_the_dataset_is(photos, tmp_path):
    result = synth(photos, tmp_path / "set", "--quiet", count=1)
    assert (result.exit_code, result.stderr, result.stdout) == (0, "", f"{tmp_path / 'set'}\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--count", 0), 2, "--count must be a number above 0"),
        (("--count", "many"), 2, "--count"),
        (("--size", 0), 2, "--size must be a multiple of 16"),
        (("--size", 100), 2, "--size must be a multiple of 16"),
        (("--seed", -1), 2, "--seed"),
        (("--seed", 10**20), 2, "--seed"),
        (("--shortest", 20, "--longest", 10), 2, "shortest must be at most longest, not 20 and 10"),
        (("--shortest", 0), 2, "--shortest must be a number above 0"),
        (("--longest", "nan"), 2, "--longest must be a number"),
        (("--seed", "x"), 2, "--seed must be a number"),
        (("--set", "longest=nan"), 2, "finite"),
        (("--set", "unknown=1"), 2, "unknown setting 'unknown'"),
        (("--set", "still=2"), 2, "'still' must be at most 1, not 2"),
        (("--set", "camera.noise=loud"), 2, "'camera.noise' must be a number"),
        (("--set", "camera=1"), 2, "must be a section"),
        (("--set", "objects"), 2, "--set takes NAME=VALUE"),
        (("--set", "objects"), 2, "such as objects=3"),
        (("--set", "blur.longest=9"), 2, "did you mean longest?"),
        (("--longest", "1e9"), 2, "longest must be at most 4 times"),
        (("--set", "objects=100000"), 2, "'objects' must be at most 32"),
        (("--set", "sharp=1"), 2, "nothing would ever move"),
        (("--set", "absent=0.8"), 2, "nothing would ever move"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(photos, tmp_path, words, code, message):
    assert_refused(synth(photos, tmp_path / "set", *words), code, message)
    assert not (tmp_path / "set").exists()


def test_wrong_folders_are_one_line_and_write_nothing(photos, tmp_path):
    file, empty, damaged = make_photo(tmp_path / "a.png"), tmp_path / "empty", tmp_path / "damaged"
    empty.mkdir()
    damaged.mkdir()
    (damaged / "b.png").write_bytes(file.read_bytes()[:60])
    folder = tmp_path / "set"
    assert_refused(synth(tmp_path / "gone", folder), 2, "there is no folder")
    assert_refused(synth(file, folder), 2, "there is no folder")
    assert_refused(synth(empty, folder), 2, "no pictures in")
    assert_refused(synth(damaged, folder), 1, "b.png")
    assert_refused(synth(photos, file), 2, "is a file, but -o names the folder for the dataset")
    assert_refused(
        synth(photos, file / "inside"), 2, "is a file, but -o names the folder for the dataset below it"
    )
    assert_refused(deblur("synth", photos), 2, "--output")
    assert not folder.exists()


def test_a_folder_with_something_else_in_it_is_left_as_it_is(photos, tmp_path):
    before = files(photos)
    assert_refused(synth(photos, photos), 2, "is not empty: choose another folder")
    assert files(photos) == before
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "diary.txt").write_text("today")
    assert_refused(synth(photos, folder), 2, "is not empty")
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("words", [("--seed", 1), ("--set", "objects=3"), ("--size", 48)])
def test_samples_made_in_another_way_are_left_as_they_are(photos, dataset, words):
    before = files(dataset)
    assert_refused(synth(photos, dataset, *words), 2, "made in another way")
    assert files(dataset) == before


def test_a_dataset_is_not_continued_from_other_photos(photos, dataset, tmp_path):
    others = write_photos(tmp_path / "others", 3)
    before = files(dataset)
    assert_refused(synth(others, dataset), 2, "made in another way")
    assert files(dataset) == before


def test_a_damaged_description_is_told_as_another_way(photos, dataset, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(dataset, folder)
    (folder / "synthesis.json").write_bytes(b"\xff\xfe{")
    assert_refused(synth(photos, folder), 2, "made in another way")


def test_an_empty_folder_is_taken(photos, tmp_path):
    (tmp_path / "set").mkdir()
    assert synth(photos, tmp_path / "set", count=1).exit_code == 0
    assert set(files(tmp_path / "set")) == names(1) | {"synthesis.json"}


def test_every_picture_holds_motion(photos, tmp_path):
    # seldom anything moves, so that most pictures drawn hold none
    assert synth(photos, tmp_path / "set", "--set", "sharp=0.8", count=6).exit_code == 0
    assert all(sample.mask.any() for sample in read_samples(tmp_path / "set"))
    drawn = synthesize(tensors(), 6, 32, BlurSettings(sharp=0.8), torch.Generator().manual_seed(0))
    assert not drawn.mask.flatten(1).any(1).all()
