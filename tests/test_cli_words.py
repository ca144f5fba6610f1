"""What the words of a command line are taken for: photos without a command, commands, calls for help."""

import re

import pytest
from cli_helpers import deblur, install, make_photo, names_in


@pytest.fixture(autouse=True)
def network(monkeypatch, tmp_path):
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("a.png",),
        ("in",),
        ("a.png", "--mask"),
        ("-o", "out", "--mask", "a.png"),
        ("a.png", "--mask", "in/b.jpg", "in"),
        ("--suffix", "info", "a.png"),
        ("in", "a.png", "-ro", "out"),
        ("-q", "in", "--epsilon", "0.3"),
    ],
    ids=" ".join,
)
def test_photos_without_a_command_are_restored_as_by_run(tmp_path, monkeypatch, words):
    made = {}
    for before in ((), ("run",)):
        folder = tmp_path / "-".join(("here", *before))
        make_photo(folder / "a.png")
        make_photo(folder / "in" / "b.jpg")
        monkeypatch.chdir(folder)
        result = deblur(*before, *words)
        made[before] = result.exit_code, result.stdout, names_in(folder)
    assert made[()] == made["run",]
    assert made[()][0] == 0 and made[()][1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("epsilom", "a.png"), "no such command or file: epsilom; did you mean `deblur epsilon`?"),
        (("gone.png",), "no such command or file: gone.png; `deblur --help` shows the commands"),
        (("gone.png", "a.png"), "no such command or file: gone.png; `deblur --help` shows the commands"),
        (("-q", "info"), "info is a command, so it comes first: deblur info ..."),
        (("a.png", "-o", "out", "run"), "run is a command, so it comes first: deblur run ..."),
        (("a.png", "--thorough", "yes"), "--thorough takes no value, and there is no file or folder yes"),
        (
            ("a.png", "--trajectory", "flow"),
            "--trajectory takes no value; did you mean --trajectory-style flow?",
        ),
        (
            ("a.png", "--mask", "face.png", "-q"),
            "--mask takes no file; did you mean --mask-file face.png? If it is one more photo to deblur, put"
            " it before --mask",
        ),
        (("a.png", "--mask=face.png"), "--mask takes no file; did you mean --mask-file face.png?"),
        (("a.png", "--report=a.png"), "--report takes no value"),
        (("help", "epsilom"), "no such command or file: epsilom; did you mean `deblur epsilon`?"),
        (("--nosuch", "a.png"), "No such option: --nosuch"),
        (("",), "a name is empty: give a file or folder, or . for the current folder"),
    ],
    ids=str,
)
def test_words_that_are_neither_command_nor_file_are_one_line(tmp_path, words, line):
    make_photo(tmp_path / "a.png")
    result = deblur(*words)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {line}\n")
    assert names_in(tmp_path) == {"a.png"}


def test_a_file_named_like_a_command_takes_a_path(tmp_path):
    make_photo(tmp_path / "a.png").rename(tmp_path / "info")
    assert "Python" in deblur("info").stdout
    assert deblur("./info").stdout == "info_deblurred.png\n"
    assert "deblur ./info" in deblur("--help").stdout


def test_a_second_name_that_was_meant_for_the_result_gets_a_hint(tmp_path):
    make_photo(tmp_path / "in.png")
    result = deblur("in.png", "out.jpg")
    assert (result.exit_code, result.stdout) == (1, "in_deblurred.png\n")
    assert "error: out.jpg: no such file or folder; to name the result, use -o out.jpg\n" in result.stderr
    assert "use -o" not in deblur("in.png", "out.jpg", "-o", "out").stderr


@pytest.mark.parametrize("words", [(), ("run",), ("info",), ("weights",), ("weights", "pull"), ("a.png",)])
def test_h_is_help_everywhere(tmp_path, words):
    make_photo(tmp_path / "a.png")
    short, long = deblur(*words, "-h"), deblur(*words, "--help")
    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert "-h, --help" in short.stdout
    assert names_in(tmp_path) == {"a.png"}


def test_the_first_screen_of_help_is_enough_for_most(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = deblur("run", "--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    screen = "\n".join(lines[:23])
    for wanted in (" run [OPTIONS] PHOTO|FOLDER...", "deblur dog.jpg ", "lower restores"):
        assert wanted in screen
    for option in ("--output", "--recursive", "--epsilon", "--mask", "--report", "--resume", "--dry-run"):
        assert option in screen


def test_every_option_is_in_a_panel_and_tells_its_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = deblur("run", "--help").stdout
    assert "\nOptions:" not in text  # where an option lands that names no panel
    without = {"--exclude", "--mask-file", "--findings", "--data"}
    rows = re.findall(r"^  ((?:-\w, )?--[a-z].*(?:\n {10,}.*)*)", text, re.MULTILINE)
    assert len(rows) > 30
    for row in rows:
        name, takes_value = re.match(r"(?:-\w, )?(--[a-z-]+)( [^ ])?", row).groups()
        if takes_value and name not in without:
            assert "default: " in " ".join(row.split()), row


@pytest.mark.parametrize("command", [(), ("run",), ("weights", "pull")], ids=" ".join)
def test_the_word_help_shows_the_help(command):
    assert deblur("help", *command).stdout == deblur(*command, "--help").stdout != ""
