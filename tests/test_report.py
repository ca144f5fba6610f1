"""The page to compare photos, in a real browser."""

import json
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from browsing import needs_browser
from cli_helpers import deblur, install, make_photo, started
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from deblur_cli.errors import EncodeError
from deblur_cli.report.report import PageEntry, taken_with

EVIL = '<script>document.title="caught"<&"\'x'


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """The page of a run over a large photo, one with a name that is markup, a calm one and a broken one."""
    folder = tmp_path_factory.mktemp("photos")
    make_photo(folder / "a.png", (1600, 1200))
    # "/" cannot be in a name, so that the tag is never closed
    Image.fromarray(np.full((300, 400, 3), 90, np.uint8)).save(folder / f"b{EVIL}.png")
    make_photo(folder / "calm.jpg", (300, 500))
    (folder / f"d{EVIL}.jpg").write_bytes(b"no picture")
    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch)
        result = deblur("run", folder, "-o", folder / "out", "--report")
    assert result.exit_code == 1
    path = folder / "out" / "deblur_report" / "index.html"
    assert result.stdout.splitlines()[-1] == str(path)
    return path


@contextmanager
def opened(browser, path, **context):
    """Open the page; any error on it and any request to the network fails the test."""
    complaints = []
    with browser.new_context(**context) as window:
        page = window.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(  # a picture that is turned away from while it loads is aborted
            "requestfailed",
            lambda asked: asked.failure == "net::ERR_ABORTED" or complaints.append(f"failed {asked.url}"),
        )
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on(
            "request", lambda asked: asked.url.startswith(("file:", "data:")) or complaints.append(asked.url)
        )
        page.goto(path.as_uri())
        yield page
        title = page.title()
    assert complaints == []
    assert title == "Before and after"


def look_at(page, number):
    page.locator(".card").nth(number).click()
    page.evaluate(
        "Promise.all([...document.querySelectorAll('#world img:not([hidden])')].map(i => i.decode()))"
        ".then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))"
    )


def screen(page):
    """The window as pixels, without what lies over the photo."""
    page.add_style_tag(content="#handle, .tag { opacity: 0 !important }")
    import io

    with Image.open(io.BytesIO(page.screenshot())) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@needs_browser
def test_line_between_before_and_after_follows_mouse_and_keys(browser, page_path):
    with opened(browser, page_path) as page:
        look_at(page, 1)
        width = page.locator("#stage").bounding_box()["width"]
        middle = screen(page)
        frame = page.locator("#stage").bounding_box()
        height = round(frame["y"] + frame["height"] / 2)
        assert abs(middle[height, int(width * 0.4)] - 90).max() < 8
        assert abs(middle[height, int(width * 0.6)] - 165).max() < 8
        box = page.locator("#handle").bounding_box()
        page.mouse.move(box["x"] + 22, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 22 - 0.15 * width, box["y"] + 130)
        page.mouse.up()
        assert int(page.locator("#handle").get_attribute("aria-valuenow")) == 35
        assert abs(screen(page)[height, int(width * 0.4)] - 165).max() < 8
        for _ in range(10):
            page.keyboard.press("ArrowRight")
        assert int(page.locator("#handle").get_attribute("aria-valuenow")) == 55


@needs_browser
@pytest.mark.parametrize("density", [1, 2])
def test_zoom_shows_the_photos_own_pixels(browser, page_path, density):
    with opened(browser, page_path, device_scale_factor=density) as page:
        look_at(page, 0)
        page.keyboard.press("End")  # all before
        page.locator("#full").click()
        assert page.locator("#zoom").inner_text() == "100%"
        shown = screen(page)
        box, frame = (page.locator(which).bounding_box() for which in ("#before", "#stage"))
        left, top = (box[side] * density for side in "xy")
        assert (left, top) == pytest.approx((round(left), round(top)), abs=0.02)  # no pixel over two
        left, top = round(left), round(top)
        place = page.locator("#before").get_attribute("src")
        with Image.open(page_path.parent / place) as image:
            stored = np.asarray(image.convert("RGB")).astype(int)
        down, across = max(round(frame["y"] * density), top) + 10, max(0, left) + 10
        expected = stored[down - top :, across - left :][:400, :700]
        assert np.abs(shown[down:, across:][:400, :700] - expected).max() <= 2


@needs_browser
def test_dragging_moves_both_pictures_and_the_line_stays(browser, page_path):
    with opened(browser, page_path) as page:
        look_at(page, 0)
        page.locator("#full").click()
        boxes = [page.locator(f"#{which}").bounding_box() for which in ("before", "after", "handle")]
        page.mouse.move(200, 300)
        page.mouse.down()
        page.mouse.move(260, 340)
        page.mouse.up()
        moved = [page.locator(f"#{which}").bounding_box() for which in ("before", "after", "handle")]
        for before, after in zip(boxes[:2], moved[:2], strict=True):
            assert (after["x"] - before["x"], after["y"] - before["y"]) == (60, 40)
        assert boxes[2] == moved[2]


def wait_until_loaded(page, picture):
    """Asked from outside: the page's own policy forbids the script by which Playwright would wait in it."""
    for _ in range(200):
        if picture.evaluate("image => image.naturalWidth > 0"):
            return
        page.wait_for_timeout(50)
    pytest.fail("the picture was not loaded within 10 s")


@needs_browser
def test_mask_and_motion_can_be_switched(browser, page_path):
    with opened(browser, page_path) as page:
        look_at(page, 0)
        for name, key in (("mask", "m"), ("motion", "t")):
            picture = page.locator(f"#{name}-picture")
            assert not picture.is_visible()
            page.locator(f"#{name}").click()
            assert picture.is_visible()
            wait_until_loaded(page, picture)
            page.keyboard.press(key)
            assert not picture.is_visible()
        page.keyboard.press("m")
        page.keyboard.press("t")
        assert not page.locator("#mask-picture").is_visible()
        assert page.locator("#motion-picture").is_visible()


@needs_browser
def test_fingers_move_the_line_and_pinch(browser, page_path):
    with opened(browser, page_path, has_touch=True, viewport={"width": 420, "height": 800}) as page:
        page.locator(".card").first.tap()
        wait_until_loaded(page, page.locator("#before"))
        session = page.context.new_cdp_session(page)

        def touch(kind, *points):
            spots = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})

        box = page.locator("#handle").bounding_box()
        x, y = box["x"] + 22, box["y"] + 50
        touch("touchStart", (x, y))
        touch("touchMove", (x + 84, y))
        touch("touchEnd")
        assert int(page.locator("#handle").get_attribute("aria-valuenow")) == 70
        before = page.locator("#before").bounding_box()["width"]
        touch("touchStart", (150, 400), (200, 400))
        touch("touchMove", (100, 400), (250, 400))
        touch("touchEnd")
        assert page.locator("#before").bounding_box()["width"] > 1.5 * before
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@needs_browser
def test_markup_in_names_is_shown_and_does_nothing(browser, page_path):
    with opened(browser, page_path) as page:
        from playwright.sync_api import expect  # waits, as a card is laid out once it is in sight

        expect(page.locator(".card .name").nth(1)).to_have_text(f"b{EVIL}.png", use_inner_text=True)
        assert f"d{EVIL}.jpg" in page.locator(".failures li").inner_text()
        look_at(page, 1)
        assert page.locator("#name").inner_text() == f"b{EVIL}.png"
        assert page.locator("script").count() == 2


@needs_browser
def test_page_shows_share_time_settings_and_failures(browser, page_path):
    with opened(browser, page_path) as page:
        assert page.locator(".failures li").count() == 1
        assert "is not a picture" in page.locator(".failures").inner_text()
        look_at(page, 0)
        facts = page.locator("#facts").inner_text()
        expected = ("50.0% blurred", "tiles restored: 1, ", "epsilon 0.5", "1600 x 1200", "m2aenet-guided")
        for part in expected:
            assert part in facts
        page.keyboard.press("n")
        page.keyboard.press("n")
        assert page.locator("#name").inner_text() == "calm.jpg"
        assert page.locator("#next").is_disabled()
        page.keyboard.press("Escape")
        assert not page.locator("#viewer").is_visible()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_the_color_scheme(browser, page_path, scheme):
    with opened(browser, page_path, color_scheme=scheme) as page:
        ground, ink = (
            page.evaluate(f"getComputedStyle(document.body).{what}.match(/\\d+/g).map(Number)[1]")
            for what in ("backgroundColor", "color")
        )
        assert (ground > ink + 150) == (scheme == "light")
        assert (ink > ground + 150) == (scheme == "dark")


@needs_browser
def test_thumbnails_out_of_sight_are_not_loaded(browser, page_path, tmp_path):
    shutil.copytree(page_path.parent, tmp_path / "report")
    page_file = tmp_path / "report" / "index.html"
    text = page_file.read_text()
    card = text[text.index("<li><button") : text.index("</li>", text.index("<li><button")) + 5]
    cards = (card.replace("thumbnail.jpg", f"thumbnail.jpg?{number}") for number in range(1000))
    page_file.write_text(text.replace(card, "".join(cards), 1))
    with opened(browser, page_file) as page:
        page.wait_for_load_state("load")
        page.wait_for_function("document.querySelector('.card img').naturalWidth > 0")
        loaded = page.evaluate(
            "[...document.querySelectorAll('.card img')].filter(i => i.naturalWidth).length"
        )
        assert 0 < loaded < 300


def test_page_needs_no_network(page_path):
    page = page_path.read_text(encoding="utf-8")
    for word in ("http:", "https:", "//cdn", "@import", "fetch(", "XMLHttpRequest", "sendBeacon"):
        assert word not in page


def test_a_second_run_adds_to_the_report_and_replaces_what_it_does_again(tmp_path, monkeypatch):
    install(monkeypatch)
    first, second = make_photo(tmp_path / "a.png"), make_photo(tmp_path / "b.png")
    deblur("run", first, "-o", tmp_path / "out", "--report")
    deblur("run", second, "-o", tmp_path / "out", "--report")
    result = deblur("run", first, "-o", tmp_path / "out", "--report", "-e", "0.25", "--overwrite")
    assert result.exit_code == 0
    page = (tmp_path / "out" / "deblur_report" / "index.html").read_text()
    start = page.index('id="data">') + len('id="data">')
    known = json.loads(page[start : page.index("</script>", start)])
    assert [(entry["name"], entry["facts"].split("epsilon ")[1][:4]) for entry in known] == [
        ("a.png", "0.25"),
        ("b.png", "0.5,"),
    ]


def test_facts_name_scales_if_the_entry_has_any():
    known = {"width": 40, "height": 30, "blurred_share": 0.5, "tiles_restored": 3, "seconds": 1.0}
    known |= {"epsilon": 0.5, "device": "cpu", "precision": "fp32", "weights": "w", "changed": True}
    known |= {"source": "a.png", "notes": []}
    assert ", tiles restored: 3, w" in PageEntry.of("a", known).facts
    known["scales"] = {"1": 0, "2": 0.1, "4": 0.4, "8": 0}
    assert ", tiles restored: 3 at 1/4 and 1/2, w" in PageEntry.of("a", known).facts


def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch):
    install(monkeypatch)
    photo = make_photo(tmp_path / "a.png")
    mine = make_photo(tmp_path / "deblur_report" / "mine.png")
    result = deblur("run", photo, "--report")
    assert result.exit_code == 2
    assert "mine.png, which is not part of a report" in result.stderr
    assert mine.exists()
    assert not (tmp_path / "a_deblurred.png").exists()


def test_pictures_of_a_report_are_not_taken_for_photos(tmp_path, monkeypatch):
    install(monkeypatch)
    make_photo(tmp_path / "in" / "a.png")
    deblur("run", tmp_path / "in", "-r", "--report")
    result = deblur("run", tmp_path / "in", "-r", "--suffix", "_again", "--dry-run")
    assert len(result.stdout.splitlines()) == 1


def text_of(page_path):
    return page_path.read_text(encoding="utf-8")


def test_photos_left_out_are_named_and_those_done_before_stay(tmp_path, monkeypatch):
    install(monkeypatch)
    first, second = make_photo(tmp_path / "a.png"), make_photo(tmp_path / "b.png")
    deblur("run", first)
    deblur("run", second, "--report")
    result = deblur("run", first, second, "--report", "--skip-existing")
    assert result.exit_code == 0
    page = text_of(tmp_path / "deblur_report" / "index.html")
    assert "1 left out" in page
    assert f"<b>{first}</b><br>skipped, {tmp_path / 'a_deblurred.png'} already exists" in page
    assert f"<b>{second}</b>" not in page
    assert page.count('class="card"') == 1


def test_photo_that_is_refused_keeps_its_earlier_entry(tmp_path, monkeypatch):
    install(monkeypatch)
    photo = make_photo(tmp_path / "a.png")
    deblur("run", photo, "--report")
    assert deblur("run", photo, "--report").exit_code == 1
    page = text_of(tmp_path / "deblur_report" / "index.html")
    assert "already exists; use --overwrite" in page
    assert page.count('class="card"') == 1


def test_photo_whose_result_cannot_be_written_is_not_shown_as_restored(tmp_path, monkeypatch):
    install(monkeypatch)
    photo = make_photo(tmp_path / "a.png")

    def refuse(*_, **__):
        raise EncodeError("no room")

    monkeypatch.setattr("deblur_cli.photo.encode.encode", refuse)
    assert deblur("run", photo, "--report").exit_code == 1
    page = text_of(tmp_path / "deblur_report" / "index.html")
    assert ("no room" in page, page.count('class="card"')) == (True, 0)
    assert list((tmp_path / "deblur_report").rglob("*.jpg")) == []


def test_page_that_cannot_be_written_is_one_line_and_the_run_is_summed_up(tmp_path, monkeypatch):
    install(monkeypatch)
    for name in "ab":
        make_photo(tmp_path / f"{name}.png")
    (tmp_path / "deblur_report" / "index.html").mkdir(parents=True)
    result = deblur("run", tmp_path, "--report")
    assert result.exit_code == 1
    *_, complaint, summary = result.stderr.splitlines()
    assert "index.html: cannot be written" in complaint
    assert summary.startswith("2 photos: 2 restored")
    (tmp_path / "deblur_report" / "index.html").rmdir()
    assert deblur("run", tmp_path, "--report", "--resume").exit_code == 0
    assert text_of(tmp_path / "deblur_report" / "index.html").count('class="card"') == 2


def test_a_file_in_place_of_the_report_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    install(monkeypatch)
    for name in "ab":
        make_photo(tmp_path / f"{name}.png")
    (tmp_path / "deblur_report").write_text("mine")
    result = deblur("run", tmp_path, "--report")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png", "deblur_report"}


def test_an_interrupted_report_is_continued(tmp_path):
    for name in ("a.png", "b.png", "slow.png", "z.png"):
        make_photo(tmp_path / name)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    words = ("run", tmp_path, "--report", "--jobs", "1")
    with started(*words) as process:
        for line in process.stderr:
            if line.startswith(b"working"):
                break
        process.send_signal(signal.SIGINT)
        process.communicate()
    page = tmp_path / "deblur_report" / "index.html"
    assert (text_of(page).count('class="card"'), "not done" in text_of(page)) == (2, True)
    (tmp_path / "slow.png").rename(tmp_path / "fast.png")
    with started(*words, "--resume") as process:
        process.communicate()
    assert text_of(page).count('class="card"') == 4
    assert "is not a picture" in text_of(page)
    assert " left out</summary>" not in text_of(page)
    assert not list(tmp_path.rglob("*.part"))


@needs_browser
@pytest.mark.parametrize("width", [320, 900])
def test_buttons_lie_side_by_side_on_any_width(browser, page_path, width):
    with opened(browser, page_path, viewport={"width": width, "height": 700}) as page:
        look_at(page, 0)
        close, mask = (page.locator(f"#{name}").bounding_box() for name in ("close", "mask"))
        assert close["x"] + close["width"] > width - 20  # where it is looked for
        assert close["y"] <= mask["y"]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@needs_browser
def test_without_javascript_the_page_says_where_the_pictures_are(browser, page_path):
    with opened(browser, page_path, java_script_enabled=False) as page:
        assert "JavaScript" in page.locator("noscript").inner_text()
        assert page.locator(".card img").first.is_visible()


@pytest.mark.parametrize(
    "name", ["new\nline \"'", "back\\slash", "50% #1?", "\u202egpj", "\udcff\udce9", "x" * 200]
)
def test_names_are_shown_whole_and_reasons_without_them(tmp_path, monkeypatch, name):
    install(monkeypatch)
    try:
        good = make_photo(tmp_path / f"{name}.png")
    except (OSError, ValueError):
        pytest.skip("no such names here")
    good.with_suffix(".jpg").write_bytes(b"no picture")
    result = deblur("run", tmp_path, "-o", tmp_path / "out", "--report")
    assert result.stderr.count("is not a picture") == result.stderr.count(".jpg: ") == 1
    page = text_of(tmp_path / "out" / "deblur_report" / "index.html")
    assert "<br>is not a picture" in page
    start = page.index('id="data">') + len('id="data">')
    (known,) = json.loads(page[start : page.index("</script>", start)])
    assert known["name"] == f"{name}.png".encode(errors="surrogateescape").decode(errors="replace")


def test_a_report_that_cannot_be_written_is_an_error_before_any_photo_is_opened(tmp_path, monkeypatch):
    install(monkeypatch)
    photo = make_photo(tmp_path / "a.png")
    deblur("run", photo, "--report")
    closed = tmp_path / "deblur_report" / "photos"
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != closed)  # root may write anywhere
    result = deblur("run", photo, "--report", "--overwrite")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"cannot write to {closed}" in result.stderr


def exif_block(model, time, number):
    exif = Image.Exif()
    exif[Base.Model] = model
    exif.get_ifd(IFD.Exif).update(
        {
            Base.ExposureTime: IFDRational(time),
            Base.FNumber: IFDRational(number),
            Base.ISOSpeedRatings: 400,
            Base.FocalLength: IFDRational(50),
        }
    )
    return exif.tobytes()[6:]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (None, ""),
        (b"II*\0rubbish", ""),
        (exif_block("EOS 300D", 1 / 60, 5.6), "EOS 300D, 1/60 s, f/5.6, ISO 400, 50 mm"),
        (exif_block("X", 2.5, 8), "X, 2.5 s, f/8, ISO 400, 50 mm"),
    ],
)
def test_camera_and_exposure_are_told(block, words):
    assert taken_with(block) == words


@given(st.data())
def test_damaged_exif_never_ends_a_report(data):
    block = bytearray(exif_block("EOS 300D", 1 / 60, 5.6))
    for place in data.draw(st.lists(st.integers(0, len(block) - 1), min_size=1, max_size=8)):
        block[place] = data.draw(st.integers(0, 255))
    assert isinstance(taken_with(bytes(block[: data.draw(st.integers(0, len(block)))])), str)


def test_the_facts_of_a_photo_begin_with_its_camera(tmp_path, monkeypatch):
    install(monkeypatch)
    photo = make_photo(tmp_path / "a.jpg", (300, 200))
    with Image.open(photo) as picture:
        picture.save(photo, exif=b"Exif\0\0" + exif_block("<b>EOS", 1 / 60, 5.6))
    assert deblur("run", photo, "--report").exit_code == 0
    (entry,) = (json.loads(path.read_text()) for path in tmp_path.glob("deblur_report/photos/*/entry.json"))
    assert PageEntry.of("a", entry).facts.startswith("<b>EOS, 1/60 s, f/5.6, ISO 400, 50 mm; ")
    assert "<b>EOS" not in (tmp_path / "deblur_report/index.html").read_text()
