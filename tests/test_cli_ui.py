"""`deblur ui` without its page."""

import sys

import pytest
from cli_helpers import deblur, install, make_photo


def test_without_the_extra_it_is_named(monkeypatch, tmp_path):
    install(monkeypatch)
    monkeypatch.setitem(sys.modules, "nicegui", None)
    monkeypatch.delitem(sys.modules, "deblur_cli.ui.server", raising=False)
    monkeypatch.delitem(sys.modules, "deblur_cli.ui.page", raising=False)
    result = deblur("ui", make_photo(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert 'pip install ".[ui]"' in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gone.png",), "no such file or folder"),
        (("--port", "0"), "--port must be auto or a number from 1 to 65535"),
        (("--strength", "151"), "--strength must be a percentage"),
        (("--output", "a.png/b"), "is a file"),
    ],
)
def test_wrong_usage_is_one_line(monkeypatch, tmp_path, words, said):
    pytest.importorskip("nicegui", reason="the extra ui is not installed")
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "a.png")
    result = deblur("ui", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
