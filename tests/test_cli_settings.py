"""`deblur.toml`: options for all runs, and what a file that nobody named may not do."""

from pathlib import Path

import pytest
import typer
from cli_helpers import Deblurrer, deblur, errors_in, install, make_photo, names_in, stop_at
from PIL import Image

from deblur_cli.cli.app import app
from deblur_cli.cli.run.settings import HARMLESS


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a photo."""
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "a.png")
    return tmp_path


def write(folder, *lines, name="deblur.toml"):
    (folder / name).write_text("\n".join(("[run]", *lines)))


def test_a_file_here_sets_options_and_is_named_once(folder):
    write(
        folder, "epsilon = 0.25", "mask = true", "skip_existing = true", "format = 'webp'", "scales = [1, 2]"
    )
    result = deblur("a.png")
    assert result.stdout == "a_deblurred.webp\na_mask.png\n"
    assert Deblurrer.runs[-1].epsilon == 0.25
    assert Deblurrer.made[-1].scales == (1, 2)
    assert result.stderr.count("deblur.toml") == 1
    assert "deblur.toml sets epsilon, mask, skip-existing, format, scales" in result.stderr
    assert "already exists" in deblur("run", "a.png").stderr
    quiet = deblur("a.png", "-q")
    assert (quiet.exit_code, quiet.stderr) == (0, "")


def test_the_command_line_wins_and_the_file_can_be_ignored_or_named(folder):
    write(folder, "epsilon = 0.25", "keep-sharp = false", name="mine.toml")
    write(folder, "epsilon = 0.75", 'exclude = ["*_edit*", "b.*"]', "trajectory = true", "note = false")
    assert deblur("a.png", "--config", "mine.toml", "-o", "1").exit_code == 0
    assert deblur("a.png", "--no-config", "-e", "0.1", "-o", "2").exit_code == 0
    result = deblur("a.png", "-e", "0.2", "--note", "--exclude", "c.png", "-o", "3")
    assert [(run.epsilon, run.keep_sharp) for run in Deblurrer.runs] == [
        (0.25, False),
        (0.1, True),
        (0.2, True),
    ]
    assert names_in(folder / "1") == names_in(folder / "2") == {"a_deblurred.png"}
    assert names_in(folder / "3") == {"a_deblurred.png", "a_trajectory.png"}
    assert "deblur.toml sets trajectory\n" in result.stderr
    make_photo(folder / "b.png"), make_photo(folder / "a_edit.png")
    excluded = deblur("run", ".", "--only-maps", "--mask", "-o", "4")
    assert names_in(folder / "4") == {"a_mask.png", "a_trajectory.png"}
    assert "2 photos left out by --exclude" in excluded.stderr


def test_patterns_for_all_runs_need_not_match(folder):
    write(folder, 'exclude = ["drafts/"]')
    assert "matches no" not in deblur("a.png").stderr
    assert "matches no" in deblur("a.png", "--exclude", "drafts/", "--overwrite").stderr


@pytest.mark.parametrize(
    ("line", "key", "hint"),
    [
        ("epsilom = 0.3", "epsilom", "epsilon"),
        ("inputs = ['a.png']", "inputs", "unknown"),
        ("help = true", "help", "unknown"),
        ("config = 'b.toml'", "config", "unknown"),
        ("no-note = true", "no-note", "note = false"),
        ("epsilon = true", "epsilon", "text or a number"),
        ("epsilon = {a = 1}", "epsilon", "text or a number"),
        ("epsilon = 1.5", "epsilon", "0 to 1"),
        ("epsilon = 1979-05-27", "epsilon", "text or a number"),
        ("mask = 'yes'", "mask", "true or false"),
        ("quality = [1, 2]", "quality", "1 to 100"),
        ("prefer = 'gif'", "prefer", "raw, jpeg or both"),
        ("scales = [3]", "scales", "1, 2, 4, 8"),
        ("exclude = [1, true]", "exclude", "text or a number"),
        ("exclude = '!a'", "exclude", "no exceptions"),
        ("tile = 17", "tile", "16"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_file_and_key(folder, line, key, hint):
    write(folder, line)
    result = deblur("a.png")
    (error,) = errors_in(result)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert error.startswith(f"error: deblur.toml: {key}: ") and hint in error
    assert names_in(folder) == {"a.png", "deblur.toml"}
    assert deblur("a.png", "--no-config").exit_code == 0
    assert deblur("run", "--help").exit_code == 0


@pytest.mark.parametrize(
    "content",
    [
        b"[run",
        b"[runs]",
        b"epsilon = 0.3",
        b"run = 1",
        b"\xff",
        b"# " + b"x" * 70_000,
        b"a = " + b"[" * 60_000,
    ],
)
def test_files_that_are_no_settings_are_one_line(folder, content):
    (folder / "deblur.toml").write_bytes(content)
    result = deblur("a.png")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: deblur.toml: ")


@pytest.mark.parametrize("name", ["missing.toml", ".", "", "a.png"])
def test_a_file_that_is_named_must_be_there(folder, name):
    result = deblur("a.png", "--config", name)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_file_that_nobody_named_cannot_harm(folder):
    """It may have come with the photos: what is read, written, replaced, and loaded is the user's alone."""
    options = {
        name.removeprefix("--"): option
        for option in typer.main.get_command(app).commands["run"].params
        for name in option.opts
        if name.startswith("--")
    }
    assert options.keys() > HARMLESS
    dangerous = {
        "output",
        "overwrite",
        "recursive",
        "weights",
        "detector",
        "findings",
        "max-megapixels",
        "resume",
    }
    dangerous |= {"quiet", "json", "debug", "dry-run", "mask-file"}
    assert not HARMLESS & dangerous
    for name in dangerous:
        is_flag = options[name].is_flag
        write(folder, f"{name} = {'true' if is_flag else repr('/tmp')}")
        result = deblur("a.png")
        assert result.exit_code == 2
        (error,) = errors_in(result)
        assert name in error and "--config" in error and "--no-config" in error
    assert names_in(folder) == {"a.png", "deblur.toml"}


def test_a_file_that_is_named_may_say_where_results_go(folder):
    write(folder, 'output = "out"', "overwrite = true", "recursive = true", name="mine.toml")
    make_photo(folder / "in" / "deep" / "b.png")
    for _ in range(2):
        result = deblur("in", "--config", "mine.toml")
        assert (result.exit_code, result.stdout) == (0, f"{Path('out') / 'deep' / 'b_deblurred.png'}\n")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["skip-existing = true"], ["--overwrite"]),
        (["overwrite = true"], ["--skip-existing"]),
        (["overwrite = true"], ["--resume"]),
        (["verbose = true"], ["--quiet"]),
        (["sidecars = true"], ["--strip-metadata"]),
        (["format = 'webp'", "quality = 80", "sidecars = true"], ["--only-maps"]),
        (["only-maps = true"], ["--quality", "80"]),
        (["mask = true", "report = true", "sidecars = true"], ["-o", "-"]),
    ],
)
def test_what_the_file_says_gives_way_to_what_contradicts_it(folder, lines, words):
    write(folder, *lines, name="mine.toml")
    result = deblur("a.png", *words, "--config", "mine.toml")
    assert (result.exit_code, errors_in(result)) == (0, [])


def test_contradictions_within_the_file_name_it(folder):
    write(folder, "only-maps = true", "quality = 80")
    result = deblur("a.png")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "deblur.toml: --quality" in result.stderr
    contradiction = deblur("a.png", "--overwrite", "--skip-existing", "--only-maps")
    assert "deblur.toml" not in contradiction.stderr  # that is not the file's fault


def test_findings_keep_their_epsilon_in_spite_of_the_file(folder):
    deblur("a.png", "--data", "npz", "-e", "0.35")
    write(folder, "epsilon = 0.9")
    assert deblur("a.png", "--findings", "a_motion.npz", "-o", "b.png").exit_code == 0
    assert Deblurrer.runs[-1].epsilon == 0.35


def test_settings_count_for_resume(folder):
    make_photo(folder / "in" / "b.png"), make_photo(folder / "in" / "c.png")
    write(folder, "epsilon = 0.3")
    stop_at("c_deblurred.png", "in", "-o", "out")
    write(folder, "epsilon = 0.4")
    refused = deblur("in", "-o", "out", "--resume")
    assert (refused.exit_code, "epsilon 0.3, now 0.4" in refused.stderr) == (2, True)
    assert deblur("in", "-o", "out", "--resume", "-e", "0.3").exit_code == 0


def test_options_without_effect_are_not_told_of_a_file(folder):
    write(folder, "quality = 80", "raw-exposure = 1", "sidecars = true")
    assert "no effect" not in deblur("a.png").stderr


def test_other_commands_have_no_settings_file(folder):
    write(folder, "epsilom = 0.3")
    assert deblur("epsilon", "a.png", "--values", "0.5").exit_code == 0


def test_the_folder_of_photos_is_not_searched_for_settings(folder):
    make_photo(folder / "in" / "b.png")
    write(folder / "in", "format = 'webp'")
    deblur("in")
    with Image.open(folder / "in" / "b_deblurred.png") as image:
        assert image.format == "PNG"
