"""`deblur run` on many photos: what happens when one of them fails, a disk full or the run is stopped."""

import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import (
    Deblurrer,
    deblur,
    errors_in,
    install,
    make_photo,
    names_in,
    pixels_of,
    started,
    stop_at,
)

from deblur_cli.cli.output import interrupts_held, terminate_like_interrupt
from deblur_cli.cli.run.journal import NAME
from deblur_cli.cli.run.pipeline import Pipeline


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


def huge_png(path: Path) -> Path:
    """Write a PNG of a few bytes whose header announces 3600 megapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x" * 20) + chunk(b"IEND", b"")
    )
    return path


def test_every_bad_file_is_named_on_a_line_and_the_rest_is_done(tmp_path):
    whole = make_photo(tmp_path / "a_good.jpg", (300, 200)).read_bytes()
    make_photo(tmp_path / "z_good.png")
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "empty.png").write_bytes(b"")
    make_photo(tmp_path / "crash.png")
    make_photo(tmp_path / "short.png")
    huge_png(tmp_path / "bomb.png")
    (tmp_path / "no pictures").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    result = deblur("run", tmp_path, tmp_path / "missing.jpg", tmp_path / "no pictures")
    assert result.exit_code == 1
    bad = ("text.jpg", "cut.jpg", "empty.png", "crash.png", "short.png", "bomb.png", "pipe.jpg")
    named = {str(tmp_path / name) for name in (*bad, "missing.jpg", "no pictures")}
    assert {line.split(": ")[1] for line in errors_in(result)} == named
    assert len(errors_in(result)) == len(named)
    assert result.stderr.splitlines()[-1].startswith("11 photos: 2 restored, 9 failed, ")
    outputs = ("a_good_deblurred.jpg", "z_good_deblurred.png")
    assert result.stdout.splitlines() == [str(tmp_path / name) for name in outputs]
    assert {name for name in names_in(tmp_path) if "_deblurred" in name} == set(outputs)


def test_megapixel_limit_is_the_users(tmp_path):
    photo = make_photo(tmp_path / "photo.png", (400, 300))
    refused = deblur("run", photo, "--max-megapixels", "0.1")
    assert (refused.exit_code, "--max-megapixels" in refused.stderr) == (1, True)
    assert deblur("run", photo, "--max-megapixels", "0.13").exit_code == 0


def test_programming_error_asks_for_a_report_and_debug_gives_the_traceback(tmp_path):
    photo = make_photo(tmp_path / "crash.png")
    plain, debug = deblur("run", photo), deblur("run", photo, "--debug")
    assert plain.exit_code == debug.exit_code == 1
    assert "ZeroDivisionError" in plain.stderr
    assert "--debug" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert 'raise ZeroDivisionError("division by zero")' in debug.stderr


def test_existing_results_are_refused_replaced_or_left_out(tmp_path, monkeypatch):
    old, new = make_photo(tmp_path / "a.png"), make_photo(tmp_path / "b.png", seed=1)
    result = tmp_path / "a_deblurred.png"
    result.write_bytes(b"precious")

    refused = deblur("run", old, new)
    assert (refused.exit_code, result.read_bytes()) == (1, b"precious")
    assert "--overwrite" in refused.stderr
    assert Deblurrer.looked_at == ["b.png"]

    skipped = deblur("run", old, new, "--skip-existing", "--json")
    assert (skipped.exit_code, result.read_bytes(), len(Deblurrer.runs)) == (0, b"precious", 1)
    *photos, summary = (json.loads(line) for line in skipped.stdout.splitlines())
    assert [photo["status"] for photo in photos] == ["skipped", "skipped"]
    assert summary["skipped"] == 2

    assert deblur("run", old, "--overwrite").exit_code == 0
    np.testing.assert_array_equal(pixels_of(result), 255 - pixels_of(old))


def test_results_in_the_way_are_named_once(tmp_path):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        make_photo(tmp_path / name)
    deblur("run", *(tmp_path / name for name in ("a.png", "b.png", "c.png")))
    for words, line in (([], "use --overwrite or --skip-existing"), (["--skip-existing"], "already exists")):
        for more in ([*words, "--dry-run"], words):
            shown = deblur("run", tmp_path, *more, "--json")
            assert shown.stderr.count("already exists") == 1
            assert "a_deblurred.png already exists" in shown.stderr
            assert f"{line} (2 more photos like this)" in shown.stderr
            assert len(shown.stdout.splitlines()) == 5  # four photos and the summary
        (tmp_path / "d_deblurred.png").unlink()
    assert deblur("run", tmp_path, "--skip-existing", "-v").stderr.count("already exists") == 3


def test_results_as_photos_of_the_run_are_no_way_to_do_it_again(tmp_path):
    make_photo(tmp_path / "a.png")
    deblur("run", tmp_path)
    result = deblur("run", tmp_path, "--again")
    assert "is itself a photo of this run because of --again" in result.stderr
    assert "use --overwrite without --again" in result.stderr


def test_full_disk_ends_the_run_and_keeps_what_was_finished(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        make_photo(tmp_path / name)
    stop_at("b_deblurred.png", tmp_path, "--mask")
    # The mask of b.png was written before its photo failed, and goes with it.
    found, third = names_in(tmp_path), {"c_deblurred.png", "c_mask.png"}
    assert found - third == {"a.png", "b.png", "c.png", "a_deblurred.png", "a_mask.png", NAME}
    assert found & third in (set(), third)  # which may have been under way, and is finished then


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of a certain size, where that is allowed."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("jobs", [1, 3])
def test_disk_that_fills_up_keeps_whole_results_only_and_resume_does_the_rest(tmp_path, jobs):
    for number in range(12):
        make_photo(tmp_path / "in" / f"{number:02}.png", (100, 100), seed=number)  # 30 KB each
    words = ("run", tmp_path / "in", "--mask", "--jobs", jobs)
    deblur(*words, "-o", tmp_path / "undisturbed")
    disk = tmp_path / "disk"
    with small_disk(disk, "200k"):
        result = deblur(*words, "-o", disk)
        assert result.exit_code == 1
        assert "the disk is full" in result.stderr and "--resume" in result.stderr
        done = names_in(disk) - {NAME}
        assert {str(Path(line).name) for line in result.stdout.splitlines()} == done
        assert done and all(
            (disk / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes() for name in done
        )
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        assert deblur(*words, "-o", disk, "--resume").exit_code == 0
        assert names_in(disk) == names_in(tmp_path / "undisturbed")


def test_every_photo_is_one_json_line_in_order_whatever_comes_of_it(tmp_path):
    for name in ("a.png", "b_crash.png", "c.png", "d_calm.jpg"):
        make_photo(tmp_path / name)
    (tmp_path / "e.jpg").write_text("no picture")
    result = deblur("run", tmp_path, "--json", "--jobs", "4")
    *records, summary = (json.loads(line) for line in result.stdout.splitlines())
    status = [f"{Path(record['input']).stem} {record['status']}" for record in records]
    assert status == ["a done", "b_crash failed", "c done", "d_calm done", "e failed"]
    assert records[-1]["error"].startswith("is not a picture")  # `input` names it
    counts = [summary[name] for name in ("type", "restored", "unchanged", "failed")]
    assert counts == ["summary", 2, 1, 2]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_leaves_nothing_half_written_and_sums_up(tmp_path, number, code):
    make_photo(tmp_path / "a.png")
    make_photo(tmp_path / "b_slow.png")
    make_photo(tmp_path / "c.png")
    with started("run", tmp_path, "--mask") as run:
        while b"working" not in (line := run.stderr.readline()):
            assert line, "the run ended before it could be interrupted"
        run.send_signal(number)
        out, err = run.communicate(timeout=100)
    assert run.returncode == code
    assert b"Traceback" not in err
    assert err.splitlines()[-1].startswith(b"3 photos: 1 restored, 2 not done, ")
    assert names_in(tmp_path) == {"a.png", "b_slow.png", "c.png", "a_deblurred.png", "a_mask.png", NAME}
    assert out.decode().splitlines() == [str(tmp_path / name) for name in ("a_deblurred.png", "a_mask.png")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_programs_are_loaded_waits_until_they_are(number):
    done = []
    with pytest.raises(KeyboardInterrupt), terminate_like_interrupt(), interrupts_held():
        signal.raise_signal(number)
        done.append("loaded")
    assert done == ["loaded"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_after_the_last_photo_leaves_nothing_to_resume(tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        make_photo(tmp_path / name)
    work = Pipeline.run

    def interrupt(*words):
        work(*words)
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "run", interrupt)
    result = deblur("run", tmp_path)
    assert (result.exit_code, "--resume" in result.stderr) == (130, False)
    assert "every photo was already finished" in result.stderr
    assert names_in(tmp_path) == {"a.png", "b.png", "a_deblurred.png", "b_deblurred.png"}


def test_reader_that_goes_away_ends_the_run_without_a_traceback(tmp_path):
    make_photo(tmp_path / "a.png")
    make_photo(tmp_path / "b.png")
    with started("run", tmp_path) as run:
        run.stdout.close()
        err = run.stderr.read()
        assert run.wait(100) == 1
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


def test_bars_are_drawn_on_a_terminal_and_results_stay_on_stdout(tmp_path):
    make_photo(tmp_path / "a.png")
    make_photo(tmp_path / "b.png")
    screen, terminal = pty.openpty()
    shown = b""
    with started("run", tmp_path, stderr=terminal, TERM="xterm", NO_COLOR="1") as run:
        os.close(terminal)
        while True:
            try:
                shown += os.read(screen, 4096)
            except OSError:  # how Linux says that nobody holds the terminal any more
                break
        out = run.stdout.read()
    os.close(screen)
    assert out.decode().splitlines() == [str(tmp_path / f"{name}_deblurred.png") for name in "ab"]
    assert b"photos" in shown
    assert b"2/2" in shown
    assert b"\x1b[3" not in shown  # colors 30-37
