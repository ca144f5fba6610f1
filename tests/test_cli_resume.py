"""`deblur run --resume`: what a run that was interrupted leaves behind, and how another goes on with it."""

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from cli_helpers import Deblurrer, deblur, errors_in, install, make_photo, started, stop_at

from deblur_cli.cli.run import journal
from deblur_cli.cli.run.journal import NAME

KILLS = int(os.environ.get("DEBLUR_TEST_KILLS", "3"))


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate("abcd"):
        make_photo(tmp_path / "in" / f"{name}.png", seed=number)
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_resume_does_what_is_left_and_clears_up(photos, out):
    stop_at("c_deblurred.png", photos, "-o", out, "--mask")
    assert NAME in files_in(out)
    result = deblur("run", photos, "-o", out, "--mask", "--resume", "--json")
    assert result.exit_code == 0
    *records, summary = (json.loads(line) for line in result.stdout.splitlines())
    status = [(Path(record["input"]).stem, record["status"]) for record in records]
    assert status == [("a", "skipped"), ("b", "skipped"), ("c", "done"), ("d", "done")]
    assert (summary["skipped"], summary["restored"], len(Deblurrer.runs)) == (2, 2, 2)
    deblur("run", photos, "-o", out.with_name("undisturbed"), "--mask")
    assert files_in(out) == files_in(out.with_name("undisturbed"))


def test_what_was_half_done_is_replaced_and_its_temporary_files_go(photos, out):
    stop_at("c_deblurred.png", photos, "-o", out, "--mask")
    for name in ("c_deblurred.png", "c_mask.png", ".deblur-0123456789abcdef.part"):
        (out / name).write_bytes(b"of the run that was killed")
    (out / "d_deblurred.png").write_bytes(b"precious, and none of that run's")
    result = deblur("run", photos, "-o", out, "--mask", "--resume")
    assert result.exit_code == 1
    assert f"{out / 'd_deblurred.png'} already exists" in result.stderr
    deblur("run", photos / "c.png", "-o", out.with_name("undisturbed"), "--mask")
    for name, content in files_in(out.with_name("undisturbed")).items():
        assert (out / name).read_bytes() == content
    assert not [name for name in files_in(out) if name.startswith(".")]
    assert (out / "d_deblurred.png").read_bytes() == b"precious, and none of that run's"


def test_results_that_were_edited_are_kept_and_those_deleted_are_made_again(photos, out):
    out.mkdir()
    (out / "d_deblurred.png").write_bytes(b"old")
    stop_at("c_deblurred.png", photos, "-o", out, "--overwrite")
    edited, deleted = out / "a_deblurred.png", out / "b_deblurred.png"
    edited.write_bytes(b"work of hours")
    deleted.unlink()
    result = deblur("run", photos, "-o", out, "--resume")
    assert (result.exit_code, edited.read_bytes(), deleted.exists()) == (1, b"work of hours", True)
    (line,) = errors_in(result)
    assert str(edited) in line and "was changed" in line and "--overwrite" in line
    assert (out / "d_deblurred.png").read_bytes() != b"old"  # that was to be overwritten from the start


def test_photos_that_changed_are_done_again(photos, out):
    stop_at("c_deblurred.png", photos, "-o", out)
    before = (out / "a_deblurred.png").read_bytes()
    make_photo(photos / "a.png", (60, 50))
    assert deblur("run", photos, "-o", out, "--resume").exit_code == 0
    assert (out / "a_deblurred.png").read_bytes() != before
    assert len(Deblurrer.looked_at) == 3


OTHER = [
    (["-e", "0.25"], "epsilon not given, now 0.25"),
    (["--mask"], "mask off, now on"),
    (["--scales", "1,2"], "scales 1,2,4,8, now 1,2"),
    (["--format", "webp"], "format not given, now WEBP"),
    (["--raw-exposure", "1"], "raw-exposure 0.0, now 1.0"),
    (["--raw-color-space", "p3"], "raw-color-space srgb, now p3"),
    (["--no-note"], "note on, now off"),
]


def test_other_settings_are_refused_in_one_line_unless_overwrite_starts_over(photos, out):
    stop_at("c_deblurred.png", photos, "-o", out)
    before = files_in(out)
    for words, named in OTHER:
        result = deblur("run", photos, "-o", out, "--resume", *words)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert named in result.stderr and "--overwrite" in result.stderr
    assert files_in(out) == before
    assert deblur("run", photos, "-o", out, "--overwrite", "-e", "0.25").exit_code == 0
    assert [request.epsilon for request in Deblurrer.runs] == [0.25] * 4
    assert NAME not in files_in(out)


def test_other_weights_are_refused(photos, out, monkeypatch):
    stop_at("c_deblurred.png", photos, "-o", out)
    monkeypatch.setattr("deblur_cli.weights.sha256", lambda path: "cd" * 32)
    result = deblur("run", photos, "-o", out, "--resume")
    assert (result.exit_code, "weights abab" in result.stderr) == (2, True)


def test_the_same_epsilon_in_other_words_and_another_device_are_no_other_settings(photos, out):
    stop_at("c_deblurred.png", photos, "-o", out, "-e", ".5")
    words = ["-e", "0.50", "--device", "cpu", "--jobs", "3", "--scales", "8,4,2,1"]
    assert deblur("run", photos, "-o", out, "--resume", *words).exit_code == 0


def test_resume_without_a_record_says_so_and_keeps_what_exists(photos, out):
    deblur("run", photos / "a.png", "-o", out)
    result = deblur("run", photos, "-o", out, "--resume")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3)
    assert f"warning: there is no unfinished run in {out}" in result.stderr


def test_a_run_that_is_not_to_resume_points_to_what_it_could_have_resumed(photos, out):
    stop_at("c_deblurred.png", photos, "-o", out)
    result = deblur("run", photos, "-o", out)
    assert "--resume" in result.stderr.splitlines()[0]
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 2)  # c and d; a and b are refused
    assert NAME not in files_in(out)


def test_beside_their_photos_results_named_by_the_shell_are_not_deblurred(photos):
    sources = sorted(photos.glob("*.png"))
    stop_at("c_deblurred.png", *sources)
    assert (photos / NAME).is_file()
    result = deblur("run", *sorted(photos.glob("*.png")), "--resume")
    assert result.exit_code == 0
    expected = {f"{path.stem}{end}.png" for path in sources for end in ("", "_deblurred")}
    assert files_in(photos).keys() == expected


def test_dry_run_tells_what_resuming_would_do_and_touches_nothing(photos, out):
    stop_at("c_deblurred.png", photos, "-o", out)
    before = files_in(out)
    result = deblur("run", photos, "-o", out, "--resume", "--dry-run")
    assert [line.split(" (")[0] for line in result.stdout.splitlines()] == [
        str(photos / "c.png"),
        str(photos / "d.png"),
    ]
    assert files_in(out) == before


def test_a_run_that_ends_leaves_nothing_but_results(photos, out):
    (photos / "e.png").write_text("no picture")
    assert deblur("run", photos, "-o", out).exit_code == 1
    assert files_in(out).keys() == {f"{name}_deblurred.png" for name in "abcd"}
    for name in "abcd":
        (photos / f"{name}.png").write_text("no picture")
    deblur("run", photos, "-o", out.with_name("nothing") / "at all")
    assert not out.with_name("nothing").exists()


def test_a_journal_cut_anywhere_is_read_up_to_its_last_whole_line(photos, out):
    stop_at("d_deblurred.png", photos, "-o", out)
    content = (out / NAME).read_bytes()
    first = content.index(b"\n") + 1
    cut = out / "cut.jsonl"
    ends = {place + step for place in range(len(content)) if content[place] == 10 for step in (-1, 0, 1, 2)}
    for end in sorted({0, 1, *ends, *range(0, len(content), 97)} & set(range(len(content)))):
        for tail in (b"", b"\0" * 7, b"\xff\n{}\n"):
            cut.write_bytes(content[:end] + tail)
            past = journal.read(cut)
            assert (past is None) == (end < first)
            assert past is None or past.length == content.rfind(b"\n", 0, end) + 1


def test_a_second_run_into_a_folder_in_use_is_refused_at_once(photos, out):
    make_photo(photos / "slow.png")
    more = make_photo(photos.with_name("more") / "e.png")
    with started("run", photos, "-o", out, "--report") as first:
        while b"working" not in (line := first.stderr.readline()):
            assert line, "the run ended too early"
        for _ in "abcd":
            first.stdout.readline()
        before = files_in(out)
        for words in ((photos, "--resume"), (photos, "--overwrite", "--report"), (more, more.parent)):
            second = deblur("run", *words, "-o", out)
            assert (second.exit_code, second.stdout, second.stderr.count("\n")) == (2, "", 1)
            assert f"another run is using {out}" in second.stderr
        assert files_in(out) == before
        for one in (out / "one.png", out):  # has neither journal nor report
            assert deblur("run", more, "-o", one).exit_code == 0


def test_names_that_are_no_text_are_known_again(photos, out):
    (photos / "c.png").rename(photos / os.fsdecode(b"caf\xe9.png"))
    stop_at("d_deblurred.png", photos, "-o", out)
    result = deblur("run", photos, "-o", out, "--resume")
    assert (result.exit_code, result.stdout) == (0, f"{out / 'd_deblurred.png'}\n")


def test_a_run_killed_at_any_moment_goes_on_to_the_same_results(tmp_path):
    photos, out, expected = (tmp_path / name for name in ("in", "out", "expected"))
    for number in range(20):
        folder, suffix = ("", "deep/")[number % 2], (".png", ".jpg")[number % 3 // 2]
        make_photo(photos / f"{folder}{number:02}{suffix}", seed=number)
    words = ("run", "-r", photos, "--mask", "--jobs", 2)
    deblur(*words, "-o", expected)
    moments = random.Random(KILLS)
    for _ in range(KILLS):
        with started(*words, "-o", out, "--resume") as run:
            for _ in range(moments.randrange(8)):
                run.stdout.readline()
            time.sleep(moments.random() / 50)  # not to wait for anything: any moment will do
            run.kill()
        if files_in(out).keys() == files_in(expected).keys():
            assert files_in(out) == files_in(expected)
            shutil.rmtree(out)
    assert deblur(*words, "-o", out, "--resume").exit_code == 0
    assert files_in(out) == files_in(expected)
