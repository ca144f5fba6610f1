"""`deblur compare`: the page of two pictures."""

import json

import numpy as np
import pytest
from cli_helpers import deblur, make_photo, names_in
from PIL import Image
from test_report import look_at, needs_browser, opened

from deblur_cli.errors import EncodeError
from deblur_cli.report import report

PICTURES = {"index.html", "photos/1/before.jpg", "photos/1/after.jpg", "photos/1/thumbnail.jpg"}


@pytest.fixture
def pair(tmp_path):
    return make_photo(tmp_path / "one.png", (300, 200)), make_photo(tmp_path / "two.jpg", (300, 200), seed=1)


def test_the_page_holds_both_pictures_whatever_their_formats(pair, tmp_path):
    result = deblur("compare", *pair, "-o", tmp_path / "page", "--json")
    record = json.loads(result.stdout)
    assert (result.exit_code, record["width"], record["height"]) == (0, 300, 200)
    assert record["output"] == str(tmp_path / "page" / "index.html")
    assert names_in(tmp_path / "page") == PICTURES
    for name, photo in zip(("before", "after"), pair, strict=True):
        with Image.open(tmp_path / "page" / "photos" / "1" / f"{name}.jpg") as seen, Image.open(photo) as own:
            apart = np.abs(np.asarray(seen, int) - np.asarray(own.convert("RGB"), int))
        assert apart.mean() < 6


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("one.png", "small.png", "-o", "page"), "one.png has 300 x 200 pixels and small.png 30 x 20: "),
        (("one.png", "text.jpg", "-o", "page"), "text.jpg: is not a picture"),
        (("one.png", "gone.jpg", "-o", "page"), "gone.jpg: there is no such file"),
        (("one.png", "two.jpg", "-o", "there"), "there already exists"),
        (("one.png", "two.jpg", "-o", "text.jpg"), "text.jpg already exists"),
        (("one.png", "two.jpg", "-o", "p.html"), "-o names a folder"),
        (("one.png", "two.jpg", "-o", "/proc/x"), "cannot write to /proc/x"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_one_line_and_leaves_nothing(pair, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "small.png", (30, 20))
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "there").mkdir()
    before = set(tmp_path.rglob("*"))
    result = deblur("compare", *words)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"error: {line}")
    assert set(tmp_path.rglob("*")) == before


def test_a_page_that_cannot_be_finished_leaves_no_folder(pair, tmp_path, monkeypatch):
    def refuse(*words):
        raise EncodeError("the disk is full")

    monkeypatch.setattr(report, "render", refuse)
    result = deblur("compare", *pair, "-o", tmp_path / "page")
    assert (result.exit_code, result.stderr) == (1, "error: the disk is full\n")
    assert not (tmp_path / "page").exists()


@needs_browser
def test_the_page_offers_no_mask_and_no_motion(browser, pair, tmp_path):
    deblur("compare", *pair, "-o", tmp_path / "page")
    with opened(browser, tmp_path / "page" / "index.html") as page:
        assert page.locator(".card").count() == 1
        look_at(page, 0)
        page.keyboard.press("m")
        assert page.locator("#handle").is_visible()
        for part in ("#mask", "#motion", "#layers", "#mask-picture"):
            assert not page.locator(part).is_visible()
        assert page.locator("#name").inner_text() == "one.png | two.jpg"
