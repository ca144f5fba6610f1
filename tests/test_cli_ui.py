"""`deblur ui` without its page."""

import sys

import pytest
from cli_helpers import deblur, install, make_photo

from deblur_cli.cli.options import FolderPath
from deblur_cli.cli.run.options import RunOptions
from deblur_cli.cli.ui import _items

PLAIN = {"epsilon": None, "tile": None, "scales": (1,), "jobs": None, "actor_cpus": None}


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


def test_photos_whose_results_would_be_originals_or_shared_are_left_out(monkeypatch, tmp_path):
    """The page saves one photo after another, and none of them may replace another one."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "b_deblurred.jpg", "d1/c.jpg", "d2/c.jpg"):
        make_photo(tmp_path / name)
    said: list[str] = []
    options = RunOptions(
        inputs=[tmp_path / "b.jpg", tmp_path / "b_deblurred.jpg"], mask_format="gray", **PLAIN
    )
    (item,) = _items(options, said.append)
    assert item.source.name == "b_deblurred.jpg"
    assert "b.jpg: cannot be opened with the others" in said[-1] and "original" in said[-1]
    inputs = [tmp_path / "d1/c.jpg", tmp_path / "d2/c.jpg"]
    options = RunOptions(inputs=inputs, output=FolderPath("out"), mask_format="gray", **PLAIN)
    assert [one.source for one in _items(options, said.append)] == inputs[:1]
    assert "has the same result" in said[-1]
