"""What a file holds survives, or the run says what did not; and what a dry run foretells."""

import io
import json
import struct
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
from cli_helpers import deblur, errors_in, install, make_photo
from photo_files import file_bytes
from PIL import Image

from deblur_cli.cli.run.journal import Journal

THERMAL = b"\xff\xe1" + struct.pack(">H", 2 + 5 + 40) + b"FLIR\0" + bytes(range(40))
CREDENTIALS = b"jumb\0\0\0\x11jumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\x03c2pa\0"
C2PA = (
    b"\xff\xeb"
    + struct.pack(">H", 2 + 8 + 4 + len(CREDENTIALS))
    + b"JP\0\1\0\0\0\1"
    + struct.pack(">I", len(CREDENTIALS) + 4)
    + CREDENTIALS
)


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def with_video(tmp_path):
    path = make_photo(tmp_path / "moving.jpg")
    path.write_bytes(path.read_bytes() + b"\0\0\0\x18ftypmp42" + bytes(100))
    return path


def records_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_what_is_left_out_is_said_and_listed(with_video):
    result = deblur("run", with_video, "--json")
    assert "moving.jpg: left out: the video of its motion photo" in " ".join(result.stderr.split())
    assert records_of(result)[0]["left_out"] == ["the video of its motion photo"]
    assert result.exit_code == 0


def test_strict_makes_a_loss_an_error_and_writes_nothing(with_video, tmp_path):
    result = deblur("run", with_video, "--strict", "--mask", "-o", tmp_path / "out")
    assert result.exit_code == 1
    (line,) = errors_in(result)
    assert "would lose the video of its motion photo" in line
    assert not list((tmp_path / "out").glob("*"))
    plain = make_photo(tmp_path / "plain.jpg")
    assert deblur("run", plain, "--strict").exit_code == 0


def test_a_strict_run_leaves_what_an_earlier_run_put_into_the_report(with_video, tmp_path):
    options = ("-o", tmp_path / "out", "--report", "--overwrite")
    assert deblur("run", with_video, *options).exit_code == 0
    entry = next(tmp_path.rglob("entry.json"))
    before = entry.stat().st_mtime_ns
    assert deblur("run", with_video, *options, "--strict").exit_code == 1
    assert entry.stat().st_mtime_ns == before


def test_segments_of_other_programs_survive(tmp_path):
    path = make_photo(tmp_path / "warm.jpg")
    content = path.read_bytes()
    path.write_bytes(content[:2] + THERMAL + content[2:])
    assert "left out" not in deblur("run", path).stderr
    assert THERMAL in (tmp_path / "warm_deblurred.jpg").read_bytes()


@pytest.mark.parametrize(
    ("name", "format", "result"),
    [
        ("a.jpg", "PNG", "a_deblurred.png"),
        ("a.png", "JPEG", "a_deblurred.jpg"),
        ("a.jpeg", "JPEG", "a_deblurred.jpeg"),
        ("a", "JPEG", "a_deblurred.jpg"),
        ("a.tiff", "TIFF", "a_deblurred.tiff"),
        ("a.nef", "TIFF", "a_deblurred.tif"),
    ],
)
def test_the_content_decides_how_a_result_is_written(tmp_path, name, format, result):
    with Image.open(make_photo(tmp_path / "source.png")) as image:
        (tmp_path / name).write_bytes(file_bytes(image, format))
    run = deblur("run", tmp_path / name)
    assert run.stdout == f"{tmp_path / result}\n"
    with Image.open(tmp_path / result) as written:
        assert written.format == format
    assert ("is not what its name says" in run.stderr) == (name in ("a.jpg", "a.png"))


def test_a_lossless_jpeg_is_not_said_to_have_a_wrong_name(tmp_path):
    with Image.open(make_photo(tmp_path / "a.png")) as image:
        pixels = np.asarray(image.convert("RGB"))
    (tmp_path / "rare.jpg").write_bytes(bytes(imagecodecs.jpeg8_encode(pixels, 98, lossless=True)))
    run = deblur("run", tmp_path / "rare.jpg")
    assert run.stdout == f"{tmp_path / 'rare_deblurred.png'}\n"
    line = "is a lossless or 12-bit JPEG, which deblur does not write; its result is rare_deblurred.png"
    assert line in " ".join(run.stderr.split())


def test_an_opaque_photo_becomes_a_jpeg_and_a_transparent_one_does_not(tmp_path):
    opaque, glass = Image.new("RGBA", (32, 32), (9, 9, 9, 255)), Image.new("RGBA", (32, 32), (9, 9, 9, 254))
    opaque.save(tmp_path / "opaque.png")
    glass.save(tmp_path / "glass.png")
    result = deblur("run", tmp_path, "--format", "jpeg")
    assert result.stdout == f"{tmp_path / 'opaque_deblurred.jpg'}\n"
    (line,) = errors_in(result)
    assert "glass.png" in line or "glass_deblurred.jpg" in line


def test_a_photo_that_is_replaced_while_it_waits_is_not_written(tmp_path, monkeypatch):
    photo = make_photo(tmp_path / "a.png")
    begin = Journal.begin

    def replaced_before(*arguments, **options):
        make_photo(tmp_path / "a.png", seed=7)
        return begin(*arguments, **options)

    monkeypatch.setattr(Journal, "begin", replaced_before)
    result = deblur("run", photo)
    assert result.exit_code == 1
    assert "was changed after it was read" in " ".join(result.stderr.split())
    assert not (tmp_path / "a_deblurred.png").exists()


def test_a_photo_that_another_kind_replaces_before_it_is_read_is_refused(tmp_path, monkeypatch):
    photo = make_photo(tmp_path / "a.jpg")
    judge = Journal.judge

    def replaced_after(*arguments):
        found = judge(*arguments)
        Image.new("RGB", (32, 32)).save(photo, "PNG")
        return found

    monkeypatch.setattr(Journal, "judge", replaced_after)
    result = deblur("run", photo)
    assert result.exit_code == 1
    assert "was changed since the run began; run it again" in " ".join(result.stderr.split())
    assert not (tmp_path / "a_deblurred.jpg").exists()


def test_what_tifffile_says_of_a_file_is_not_on_stderr(tmp_path):
    content = file_bytes(Image.new("RGB", (32, 32)), "TIFF", tiffinfo={305: "Lake 1.0"})
    entry = content.index(struct.pack("<HH", 305, 2))
    (tmp_path / "a.tif").write_bytes(content[: entry + 2] + b"\x51" + content[entry + 3 :])  # an unknown type
    code = "import pathlib, sys; from deblur_cli.photo.header import identify as kind"
    code += "; print(kind(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, tmp_path / "a.tif"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("TIFF\n", "")


def test_a_dry_run_foretells_losses_and_every_failure(tmp_path, with_video):
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:-900])
    (tmp_path / "layers.jpg").write_bytes(b"8BPS\0\1" + bytes(30))
    (tmp_path / "pages.tif").write_bytes(
        file_bytes(
            Image.new("L", (40, 30)),
            "TIFF",
            save_all=True,
            append_images=[Image.new("L", (99, 70))],
        )
    )
    foretold, done = deblur("run", tmp_path, "--dry-run"), deblur("run", tmp_path)
    assert errors_in(foretold) == errors_in(done)
    assert len(errors_in(done)) == 3
    assert "a Photoshop document" in " ".join(done.stderr.split())
    assert "left out: the video of its motion photo" in " ".join(foretold.stderr.split())


def test_a_dry_run_knows_whether_a_loss_is_certain(tmp_path, with_video):
    copied = "if anything in it is restored, it would fail, as --strict asks"
    assert copied in " ".join(deblur("run", with_video, "--strict", "--dry-run").stderr.split())
    words = ("run", with_video, "--format", "png", "-o", tmp_path / "out")
    foretold, done = deblur(*words, "--dry-run"), deblur(*words)
    line = f"warning: {with_video}: left out: the video of its motion photo"
    assert all(line in " ".join(result.stderr.split()) for result in (foretold, done))
    strict = (*words, "--strict", "--overwrite")
    foretold, done = deblur(*strict, "--dry-run"), deblur(*strict)
    assert errors_in(foretold) == errors_in(done) != []
    assert foretold.exit_code == done.exit_code == 1


def test_a_dry_run_checks_the_findings_that_are_given(tmp_path):
    small, large = make_photo(tmp_path / "small.png"), tmp_path / "large.png"
    Image.new("RGB", (256, 256)).save(large)
    assert deblur("run", small, "--data", "npz").exit_code == 0
    words = ("run", large, "--findings", tmp_path / "small_motion.npz")
    foretold, done = deblur(*words, "--dry-run"), deblur(*words)
    assert errors_in(foretold) == errors_in(done) != []


@pytest.mark.parametrize("verbose", [False, True])
def test_what_c_libraries_print_goes_to_the_log(verbose):
    code = (
        "import logging, os; from deblur_cli.cli.output import Output\n"
        f"streams = Output(quiet=False, verbose={verbose})\n"
        "with streams.log_lines():\n"
        "    os.write(2, b'TIFFReadDirectory: noise\\n'); streams.warn('ours')\n"
        "    logging.getLogger('imagecodecs').warning('more noise')\n"
        "streams.warn('later')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert ("TIFFReadDirectory: noise" in done.stderr) == ("more noise" in done.stderr) == verbose
    assert [line for line in lines if "noise" not in line] == ["warning: ours", "warning: later"]
