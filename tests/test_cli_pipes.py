"""`-` for stdin and stdout."""

import errno
import json
import signal
import subprocess
import tempfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_helpers import deblur, install, make_photo, started
from PIL import Image
from typer.testing import CliRunner

from deblur_cli.cli.app import app
from deblur_cli.cli.run import command


@pytest.fixture(autouse=True)
def network(monkeypatch, tmp_path):
    install(monkeypatch)
    (tmp_path / "private").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "private"))
    yield
    assert not list((tmp_path / "private").iterdir())  # whatever came of it, nothing of the photo remains


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path / "photo.png")


def piped(content: bytes, *words: object):
    return CliRunner().invoke(app, ["run", *map(str, words)], input=content)


@pytest.mark.parametrize(
    ("suffix", "answer"),
    [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF"), ("bmp", "PNG")],
)
def test_a_photo_goes_in_and_what_a_file_would_hold_comes_out(tmp_path, suffix, answer):
    photo = make_photo(tmp_path / f"photo.{suffix}")
    result = piped(photo.read_bytes(), "-", "-o", "-")
    assert result.exit_code == 0
    (written,) = deblur("run", photo).stdout.splitlines()
    assert result.stdout_bytes == Path(written).read_bytes()
    assert result.stderr.startswith("stdin: 50.0% blurred, ") and result.stderr.count("\n") == 1
    with Image.open(BytesIO(result.stdout_bytes)) as image:
        assert image.format == answer


def test_a_photo_without_blur_comes_out_byte_for_byte_or_in_another_format(tmp_path):
    photo = make_photo(tmp_path / "calm.jpg")
    assert piped(b"", photo, "-o", "-").stdout_bytes == photo.read_bytes()
    result = piped(photo.read_bytes(), "-", "-o", "-", "--format", "tiff")
    with Image.open(BytesIO(result.stdout_bytes)) as image:
        assert image.format == "TIFF"


def test_either_end_may_be_a_file(photo, tmp_path):
    out = tmp_path / "new" / "out.png"
    result = piped(photo.read_bytes(), "--mask", "-", "-o", out, "--json")
    record, summary = (json.loads(line) for line in result.stdout.splitlines())
    assert (record["input"], record["output"], summary["restored"]) == ("stdin", str(out), 1)
    assert {path.name for path in out.parent.iterdir()} == {"out.png", "stdin_mask.png"}
    sent = piped(b"", photo, "-o", "-")
    assert sent.stdout_bytes == out.read_bytes()
    assert str(photo) in sent.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "new", "private"}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "stdin is empty"),
        (b"no picture", "stdin: is not a picture"),
        (b"\xff\xd8\xff\xe0 cut", "stdin: "),
    ],
)
def test_what_is_no_photo_is_one_line_and_nothing_on_stdout(content, named):
    result = piped(content, "-", "-o", "-")
    assert (result.exit_code, result.stdout_bytes, result.stderr.count("\n")) == (1, b"", 1)
    assert result.stderr.startswith(f"error: {named}")
    assert "/private/" not in result.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-", "-o", "-", "--json"], "--json"),
        (["-", "-o", "-", "--mask"], "--mask"),
        (["-", "-o", "-", "--trajectory"], "--trajectory"),
        (["a.png", "-o", "-", "--dry-run"], "--dry-run"),
        (["-", "-o", "out.png", "--dry-run"], "--dry-run"),
        (["-", "-o", "-", "--resume"], "--resume"),
        (["-"], "-o FILE"),
        (["-", "-o", "folder"], "-o FILE"),
        (["-", "a.png", "-o", "-"], "one photo"),
        (["a.png", "b.png", "-o", "-"], "one photo"),
        ([".", "-o", "-"], "folder"),
        (["-", "-o", "out.png", "--format", "jpeg"], "--format"),
    ],
    ids=" ".join,
)
def test_what_cannot_go_with_a_dash_is_wrong_usage(tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    result = piped(b"never read", *words)
    assert (result.exit_code, result.stdout_bytes, result.stderr.count("\n")) == (2, b"", 1)
    assert named in result.stderr


def test_a_terminal_is_neither_written_to_nor_read_from(photo, monkeypatch):
    terminal, file = (SimpleNamespace(isatty=lambda is_one=is_one: is_one) for is_one in (True, False))
    for name, words in (("stdout", (photo, "-o", "-")), ("stdin", ("-", "-o", "-"))):
        streams = {"stdin": file, "stdout": file} | {name: terminal}
        monkeypatch.setattr(command, "sys", SimpleNamespace(**streams))
        result = deblur("run", *words)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert f"{name} is a terminal" in result.stderr


def test_a_full_disk_for_stdin_names_the_way_out(photo, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    content = photo.read_bytes()
    monkeypatch.setattr(Path, "open", full)
    result = piped(content, "-", "-o", "-")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "disk is full" in result.stderr and "TMPDIR" in result.stderr


def test_a_stdout_that_takes_nothing_is_named(photo):
    for words in ((photo, "-o", "-"), (photo,)):
        with Path("/dev/full").open("wb") as full, started("run", *words, stdout=full) as run:
            *_, line = run.stderr.read().splitlines()
            assert (run.wait(60), line[:39]) == (1, b"error: cannot write to standard output:")


def test_a_run_stopped_while_it_reads_stdin_leaves_nothing_behind(tmp_path):
    with started("run", "-", "-o", "-", stdin=subprocess.PIPE, TMPDIR=str(tmp_path / "private")) as run:
        run.stdin.write(b"x" * 1_000_000)  # more than a pipe holds, so it is being read when this returns
        run.stdin.flush()
        run.send_signal(signal.SIGTERM)
        assert run.stdout.read() == b""
        assert b"Traceback" not in run.stderr.read()
        assert run.wait(60) == 143
