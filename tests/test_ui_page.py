"""The page in a real browser, served by a process of its own with the shipped weights."""

import http.client
import io
import re
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsing import needs_browser
from cli_helpers import deblur, process_environment
from PIL import Image

from deblur_cli.errors import printable

pytest.importorskip("nicegui", reason="the extra ui is not installed")
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

EVIL = "b\u202e<img src=x onerror=document.title='caught'>.png"
SLOW = 60_000  # milliseconds that a loaded machine may take


@contextmanager
def serving(*words):
    """The address of a page, which ends with the block."""
    command = [sys.executable, "-m", "deblur_cli", "ui", *map(str, words), "--no-browser"]
    command += ["--epsilon", "0.6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=process_environment()) as process:
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A photo with a blurred head, one with a hostile name, and what is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open("examples/astronaut.jpg") as image:
        image.crop((120, 0, 376, 256)).save(folder / "a.jpg", quality=92)
        image.crop((120, 0, 248, 128)).save(folder / EVIL)
    (folder / "c.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with serving(folder, "-o", folder / "out") as address:
        yield address


@contextmanager
def window(browser, address, **context):
    """Open the page; any error on it, and any request to elsewhere, fails the test."""
    complaints = []
    home = "{0.scheme}://{0.netloc}/".format(urlsplit(address))
    with browser.new_context(**context) as own:
        page = own.new_page()
        page.set_default_timeout(SLOW)
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: asked.url.startswith((home, "data:", "blob:")) or complaints.append(asked.url),
        )
        page.goto(address)
        settled(page)
        yield page
        title = page.title()
    assert complaints == []
    assert title == "deblur"


STILL = """new Promise(done => {
    let place = -1, frames = 0;
    const look = () => {
        frames = scrollY === place ? frames + 1 : 0;
        place = scrollY;
        frames < 12 ? requestAnimationFrame(look) : done();
    };
    look();
})"""  # is there once the page has not scrolled for some frames


def settled(page):
    """Wait until the photo is looked at."""
    expect(page.get_by_text(re.compile("% blurred|Nothing is marked"))).to_be_visible(timeout=SLOW)


def share(page):
    """How much is marked, in percent."""
    return float(re.search(r"([\d.]+)% blurred", page.get_by_text(re.compile("% blurred")).inner_text())[1])


def move(page, name, key, times):
    """Move a slider with the keyboard."""
    page.get_by_role("slider", name=name).focus()
    for _ in range(times):
        page.keyboard.press(key)


def stroke(page, tool, *places):
    """Draw on the photo, through places in shares of its width and height."""
    page.get_by_role("button", name=tool).click()
    box = page.locator(".stage").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def said(page, text):
    expect(page.get_by_role("status")).to_contain_text(text, timeout=SLOW)


def changes(page, before):
    """Wait for another share of the photo to be marked, and return it."""
    expect(page.get_by_text(re.compile("% blurred"))).not_to_contain_text(f"{before}% blurred", timeout=SLOW)
    return share(page)


@needs_browser
def test_what_is_painted_and_saved_is_what_the_command_line_makes(browser, address, folder):
    with window(browser, address) as page:
        found = share(page)
        move(page, "Epsilon", "ArrowRight", 20)
        expect(page.get_by_text("Epsilon 0.80")).to_be_visible()
        less = changes(page, found)
        assert less < found
        move(page, "Strength", "ArrowLeft", 30)
        expect(page.get_by_text("Strength 70%")).to_be_visible()
        move(page, "Radius of the brush", "ArrowLeft", 34)
        stroke(page, "Brush", (0.1, 0.8), (0.5, 0.85))
        more = changes(page, less)
        assert more > less
        stroke(page, "Brush", (0.9, 0.1), (0.95, 0.2))
        changes(page, more)
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_text(f"{more}% blurred")).to_be_visible()
        stroke(page, "Eraser", (0.45, 0.2), (0.5, 0.3))
        assert changes(page, more) < more
        page.get_by_role("button", name="Save mask").click()
        said(page, "a_mask_gray.png")
        page.get_by_role("button", name="Save", exact=True).click()
        said(page, "a_deblurred.jpg")
        page.get_by_role("button", name="Save", exact=True).click()
        said(page, "already exists")
    saved, mask, made = (
        folder / "out" / f"a_{name}" for name in ("deblurred.jpg", "mask_gray.png", "made.jpg")
    )
    result = deblur("run", folder / "a.jpg", "-o", made, "--mask-file", mask, "--strength", 70)
    assert result.exit_code == 0
    assert saved.read_bytes() == made.read_bytes()
    assert made.read_bytes() != (folder / "a.jpg").read_bytes()


@needs_browser
def test_names_are_shown_as_they_are_and_damage_is_said(browser, address):
    with window(browser, address) as page:
        move(page, "Strength", "ArrowLeft", 10)
        page.get_by_role("button", name="Next photo").click()
        settled(page)
        expect(page.locator(".chooser")).to_contain_text(printable(EVIL))
        expect(page.get_by_text("Strength 90%")).to_be_visible()  # settings stay
        page.get_by_role("button", name="Next photo").click()
        said(page, "c.jpg: ")
        for name in ("Next photo", "Save", "Save mask", "Restore all"):
            expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
        page.locator(".chooser").click()
        expect(page.locator("[aria-current=true]")).to_have_text("c.jpg")
        page.get_by_role("listitem").filter(has_text="a.jpg").click()
        settled(page)
        expect(page.locator(".chooser")).to_contain_text("a.jpg")


@needs_browser
def test_keys_alone_look_paint_and_restore(browser, address):
    with window(browser, address, viewport={"width": 420, "height": 800}, color_scheme="dark") as page:
        found = share(page)
        page.locator(".stage").focus()
        page.keyboard.press("z")
        expect(page.get_by_role("switch", name="100%")).to_be_checked()
        expect(page.get_by_text("not restored yet")).to_be_hidden(timeout=SLOW)
        page.get_by_role("button", name="Brush").press("Enter")
        page.locator(".stage").focus()
        for key in ("ArrowDown", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        more = changes(page, found)
        assert more > found
        page.keyboard.press("Control+z")
        assert changes(page, more) == found
        shown = page.locator(".stage img").first.get_attribute("src")
        page.keyboard.down("Shift")
        for _ in range(12):  # 576 pixels: beyond the view, up to the border of the photo
            page.keyboard.press("ArrowRight")
        page.keyboard.up("Shift")
        assert changes(page, found) > found
        assert page.locator(".stage img").first.get_attribute("src") != shown
        page.keyboard.press("Meta+z")  # the whole line at once
        expect(page.get_by_text(f"{found}% blurred")).to_be_visible(timeout=SLOW)
        page.keyboard.press("Shift+Z")
        expect(page.get_by_role("switch", name="100%")).not_to_be_checked()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 18)"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # Chromium would ask its maker how to fill in fields for text
        fields = "input:not([type=checkbox], [type=file], [type=range]), textarea, select"
        assert page.locator(fields).count() == 0


@needs_browser
@pytest.mark.parametrize("density", [1, 2])
def test_at_100_percent_a_pixel_of_the_photo_is_one_of_the_screen(browser, address, folder, density):
    with window(browser, address, device_scale_factor=density) as page:
        page.get_by_role("switch", name="100%").click()
        page.get_by_role("switch", name="Mask").click()
        move(page, "Before and after", "PageUp", 10)
        page.wait_for_timeout(1500)
        box = page.locator(".stage img").first.bounding_box()
        assert (box["width"] * density, box["height"] * density) == (256, 256)
        with (
            Image.open(io.BytesIO(page.locator(".stage").screenshot())) as shown,
            Image.open(folder / "a.jpg") as photo,
        ):
            assert shown.size == photo.size
            difference = np.asarray(shown.convert("RGB")).astype(int) - np.asarray(photo.convert("RGB"))
        assert np.abs(difference).mean() < 2


@needs_browser
def test_at_100_percent_nothing_is_cut_off(browser, address):
    with window(browser, address, viewport={"width": 240, "height": 600}) as page:
        page.get_by_role("switch", name="100%").click()
        page.wait_for_function("document.querySelector('.stage img').clientWidth >= 190")
        assert page.evaluate("document.querySelector('.frame').scrollWidth <= 208")


@needs_browser
def test_a_finger_paints_drags_and_scrolls(browser, address):
    sizes = {"viewport": {"width": 390, "height": 500}, "device_scale_factor": 2}
    with window(browser, address, **sizes, has_touch=True, is_mobile=True) as page:
        touch = page.context.new_cdp_session(page)

        def swipe(*places):
            """Through places in shares of the photo's width and height."""
            page.evaluate(STILL)  # the browser may yet scroll on from what came before
            page.evaluate("scrollTo(0, 0)")
            box = page.locator(".stage").bounding_box()
            for number, (x, y) in enumerate(places):
                point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
                kind = "touchMove" if number else "touchStart"
                touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        up = [(0.1, y / 10) for y in range(9, 1, -1)]
        found = share(page)
        swipe(*up)
        page.wait_for_function("scrollY > 0")
        assert share(page) == found
        page.get_by_role("button", name="Brush").tap()
        swipe(*up)
        assert changes(page, found) > found
        assert page.evaluate("scrollY") == 0


@needs_browser
def test_windows_do_not_disturb_each_other(browser, address):
    with window(browser, address) as one, window(browser, address) as other:
        found = share(one)
        stroke(one, "Brush", (0.1, 0.9), (0.6, 0.9))
        assert changes(one, found) > found
        assert share(other) == found


@needs_browser
def test_a_photo_from_the_browser_goes_back_to_it(browser, address, folder, tmp_path):
    with window(browser, address) as page:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open …").click()
        photo = tmp_path / "mine.png"
        Image.fromarray(np.full((64, 96, 3), 90, np.uint8)).save(photo)
        with page.expect_request(lambda asked: "/upload/" in asked.url) as sent:
            chooser.value.set_files(photo)
        expect(page.locator(".chooser")).to_contain_text("mine.png")
        settled(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save", exact=True).click()
        assert download.value.suggested_filename == "mine_deblurred.png"
        assert download.value.path().read_bytes() == photo.read_bytes()  # nothing in it is blurred
        assert page.request.post(sent.value.url, multipart={"text": "no file"}).status == 400
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open …").click()
        chooser.value.set_files({"name": "bad.png", "mimeType": "image/png", "buffer": b"no picture"})
        said(page, "bad.png: ")
        assert page.get_by_role("status").inner_text().startswith("bad.png: ")  # and no folder of ours


@needs_browser
def test_the_whole_photo_is_restored_with_a_bar_that_can_be_canceled(browser, tmp_path):
    with Image.open("examples/astronaut.jpg") as image:
        image.resize((2000, 2000)).save(tmp_path / "large.jpg")
    small = ("--device", "cpu", "--tile", "256")  # many tiles
    with serving(tmp_path, *small) as address, window(browser, address) as page:
        page.get_by_role("button", name="Restore all").click()
        expect(page.get_by_role("progressbar")).to_be_visible(timeout=SLOW)
        expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
        page.get_by_role("button", name="Cancel").click()
        said(page, "Canceled.")
        expect(page.get_by_text("After: press “Restore all”")).to_be_visible(timeout=SLOW)
        expect(page.get_by_role("progressbar")).to_be_hidden(timeout=SLOW)
        page.reload()
        page.get_by_role("button", name="Cancel").click()
        said(page, "Opening large.jpg was canceled.")
        expect(page.locator(".stage")).to_be_hidden()
        page.get_by_role("button", name="Open again").click()
        settled(page)
        (tmp_path / "large.jpg").touch()
        (tmp_path / "large.jpg").write_bytes(b"another photo")
        page.get_by_role("button", name="Save", exact=True).click()
        said(page, "Saving large_deblurred.jpg …")
        expect(page.get_by_role("button", name="Save mask")).to_be_disabled()
        said(page, "was changed after it was read")


def answer(address, path=None, **headers):
    """Status and text that the server gives a request with such headers."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    with closing(connection):
        connection.request("GET", path or url.path, headers={"Host": url.netloc, **headers})
        with connection.getresponse() as response:
            return response.status, response.read()


def test_other_sites_cannot_use_it(address):
    url = urlsplit(address)
    assert answer(address)[0] == 200
    assert answer(address, Host=f"localhost:{url.port}")[0] == 200
    for headers in (
        {"Host": f"evil.example:{url.port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{url.port + 1}"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ):
        assert answer(address, **headers)[0] == 403, headers
        socket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw=="}
        place = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        assert answer(address, place, **headers, **socket, **key)[0] == 403, headers


def test_it_serves_its_own_files_alone(address, folder):
    assert answer(address, "/")[0] == 404
    for place in (
        f"{folder}/a.jpg",
        "/_nicegui/../../../../etc/passwd",
        "/etc/passwd",
        "/..%2f..%2fetc/passwd",
    ):
        status, text = answer(address, place)
        assert status == 404
        assert b"root:" not in text


def test_a_taken_port_is_said_before_weights_are_loaded(address):
    result = deblur("ui", "--no-browser", "--port", urlsplit(address).port)
    assert (result.exit_code, "leave out --port" in result.stderr) == (2, True)


@needs_browser
def test_closing_the_page_ends_its_work(browser, tmp_path):
    """The network is free for another window soon after the one that used it is gone."""
    with Image.open("examples/astronaut.jpg") as image:
        image.resize((3000, 3000)).save(tmp_path / "large.jpg")
        image.crop((120, 0, 248, 128)).save(tmp_path / "small.jpg")
    with serving(tmp_path) as address:
        with browser.new_context() as own:
            page = own.new_page()
            page.goto(address)
            expect(page.get_by_text(re.compile("Detecting blur"))).to_be_visible(timeout=SLOW)
        began = time.monotonic()
        with browser.new_context() as own:
            page = own.new_page()
            page.goto(address)
            expect(page.get_by_role("button", name="Next photo")).to_be_visible(timeout=SLOW)
            page.get_by_role("button", name="Next photo").click()
            settled(page)
        assert time.monotonic() - began < 30
