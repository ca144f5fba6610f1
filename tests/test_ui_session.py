"""One window of the page, without a browser."""

import gc
import threading
import time
import weakref

import numpy as np
import pillow_heif
import pytest
import tifffile
from cli_helpers import deblur, make_photo
from networks import lively, weights_of
from photo_raw import make_dng
from PIL import Image
from restoration_helpers import findings_of, picture

from deblur_cli import weights
from deblur_cli.errors import CanceledError, DecodeError, EncodeError, PhotoTooLargeError
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import output_suffix
from deblur_cli.restoration.deblurrer import Deblurrer, Request
from deblur_cli.ui.session import DETAIL, Session, View, Workbench


class Kept(Deblurrer):
    """Detects what it is told to, and counts how often it is asked."""

    detected = 0

    def detect(self, photo, progress=None):
        self.detected += 1
        if progress is not None:
            progress(1, 1, "detect")
        return findings_of(photo.height, photo.width, scale=1)


@pytest.fixture
def bench():
    return Workbench(Kept(weights_of(lively()), "cpu", "fp32"), Request(0.5), 2.0)


def opened(bench, path, size=(160, 200)):
    Image.fromarray(picture(*size)).save(path)
    session = Session(bench)
    session.open(path)
    return session


def changed_cells(before, after):
    """The cells, row and column, in which a pixel differs."""
    rows, columns = np.nonzero((before != after).any(2))
    return set(zip(rows // 8, columns // 8, strict=True))


def test_moving_epsilon_and_strength_detects_nothing_again(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    some = session.blurred_share
    session.epsilon = 0.1
    assert session.blurred_share > some
    session.restore()
    session.strength = 0.5
    session.render(View())
    assert bench.deblurrer.detected == 1


def test_half_the_strength_shows_half_the_change(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    session.restore()
    view = View(split=0.0, mask=False)
    before = session.render(View(split=1.0, mask=False)).astype(int)
    whole = session.render(view).astype(int)
    session.strength = 0.5
    half = session.render(view).astype(int)
    assert np.abs(whole - before).max() > 10
    assert np.abs((before + whole) / 2 - half).max() <= 0.5


def test_brush_adds_eraser_takes_and_undo_takes_back(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    found = session.opacity
    free = np.argwhere(found == 0)[0]
    spot = [(8 * free[1] + 4.0, 8 * free[0] + 4.0)]
    session.paint(spot, 2, add=True)
    assert session.opacity[tuple(free)] == 1
    marked = np.argwhere(found > 0)[0]
    session.paint([(8 * marked[1] + 4.0, 8 * marked[0] + 4.0)], 2, add=False)
    assert session.opacity[tuple(marked)] == 0
    assert session.undo()
    assert session.opacity[tuple(marked)] == 1
    assert session.undo()
    assert not session.undo()
    assert np.array_equal(session.opacity, found)
    assert session.request.painted is None


def test_painted_cells_stay_when_epsilon_moves(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    session.paint([(20.0, 20.0), (60.0, 20.0)], 8, add=True)
    session.paint([(150.0, 100.0)], 16, add=False)
    for epsilon in (0.05, 0.9):
        session.epsilon = epsilon
        assert session.opacity[2, 2:8].all()
        assert not session.opacity[12, 18]


def test_what_is_restored_is_shown_only_while_it_fits_the_mask(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    session.restore()
    assert session.has_after(View())
    session.paint([(20.0, 20.0)], 8, add=True)
    assert not session.has_after(View())
    assert np.array_equal(
        session.render(View(split=0, mask=False)), session.render(View(split=1, mask=False))
    )


def test_what_is_saved_is_shown_and_not_restored_again(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    session.save(tmp_path / "b.png")
    assert session.has_after(View())
    after = session.render(View(split=0, mask=False))
    with Image.open(tmp_path / "b.png") as image:
        assert np.array_equal(np.asarray(image), after)


def test_a_part_in_view_is_restored_as_in_the_whole_photo(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png", (1000, 1400))
    center = (700.0, 500.0)
    session.restore_part(View(center))
    view = View(center, split=0, mask=False)
    part = session.render(view)
    assert part.shape[:2] == DETAIL
    session.restore()
    difference = np.abs(session.render(view).astype(int) - part)
    assert (difference > 2).mean() < 0.001


def test_views_at_the_border_show_pixels_of_the_photo(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png", (1001, 1403))
    pixels = session.photo.pixels
    for center in ((0.0, 0.0), (1403.0, 1001.0), (5000.0, -3.0)):
        view = View(center, split=1, mask=False)
        shown, (left, top) = session.render(view), map(int, session.corner(view))
        assert np.array_equal(shown, pixels[top : top + shown.shape[0], left : left + shown.shape[1]])
        assert shown.shape[0] > DETAIL[0] - 8


@pytest.mark.parametrize("center", [(3.0, 2.0), (130.0, 90.0), (-40.0, 900.0)])
def test_a_moved_view_stays_in_the_photo_and_begins_at_a_cell(bench, tmp_path, center):
    session = opened(bench, tmp_path / "a.png", (161, 203))
    view = session.centered(center, View(room=(64, 80)))
    rows, columns = session.window(view)
    assert (rows.start % 8, columns.start % 8) == (0, 0)
    assert 0 <= rows.start < rows.stop <= 161 and 0 <= columns.start < columns.stop <= 203
    assert session.window(session.centered(view.center, view)) == (rows, columns)
    assert session.render(view).shape == (rows.stop - rows.start, columns.stop - columns.start, 3)


def test_mask_and_motion_are_drawn_where_something_is_marked(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    plain = session.render(View(mask=False))
    assert changed_cells(plain, session.render(View())) >= set(zip(*np.nonzero(session.opacity), strict=True))
    for center in (None, (100.0, 80.0)):
        assert not np.array_equal(plain, session.render(View(center, mask=False, motion=True)))


def test_paint_stays_with_its_photo(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    session.paint([(20.0, 20.0)], 12, add=True)
    painted = session.opacity.copy()
    session.open(make_photo(tmp_path / "b.png", (90, 60)))
    assert session.opacity.shape != painted.shape
    session.open(tmp_path / "a.png")
    assert np.array_equal(session.opacity, painted)


def test_a_photo_is_given_up_while_it_is_being_read(bench, tmp_path, monkeypatch):
    session = Session(bench)

    def slow(path, max_megapixels):
        session.cancel()  # as the button does meanwhile
        return decode(path, max_megapixels)

    monkeypatch.setattr("deblur_cli.ui.session.decode", slow)
    with pytest.raises(CanceledError):
        session.open(make_photo(tmp_path / "a.png", (200, 100)))
    assert session.photo is None and session.progress is None


def test_canceled_work_ends_and_the_photo_stays_open(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png", (600, 600))
    with bench.turn(threading.Event()):  # another window is at work
        failed = []

        def work():
            with pytest.raises(CanceledError):
                session.restore()
            failed.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.2)
        assert session.progress == ("wait", 0.0)
        session.cancel()
        thread.join(5)
    assert failed
    assert session.progress is None
    assert not session.has_after(View())
    session.restore()
    assert session.has_after(View())


@pytest.mark.parametrize("broken", ["text", "large", "gone"])
def test_a_photo_that_cannot_be_used_is_not_open(bench, tmp_path, broken):
    path = tmp_path / "b.png"
    if broken == "text":
        path.write_bytes(b"no picture")
    elif broken == "large":
        Image.new("RGB", (2001, 1000)).save(path)
    session = opened(bench, tmp_path / "a.png")
    with pytest.raises(PhotoTooLargeError if broken == "large" else DecodeError):
        session.open(path)
    assert session.photo is None


def test_two_windows_do_not_disturb_each_other(bench, tmp_path):
    one, other = (opened(bench, tmp_path / f"{name}.png") for name in "ab")
    one.epsilon = 0.1
    one.paint([(20.0, 20.0)], 8, add=True)
    assert other.epsilon == 0.5
    assert other.request.painted is None


def test_nothing_of_a_photo_stays_when_the_next_one_is_open(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    session.paint([(20.0, 20.0)], 8, add=True)
    session.restore_part(View((100.0, 80.0)))
    derived = session.restore()
    session.save(tmp_path / "b.png")
    session.render(View())
    kept = (session.photo, session.photo.pixels, session.findings, derived, derived.whole, derived.full)
    left = [weakref.ref(one) for one in (*kept, derived.full.photo.pixels, derived.small, derived.part[2])]
    del derived, kept
    session.open(tmp_path / "b.png")
    gc.collect()
    assert [one() for one in left] == [None] * len(left)
    assert not session.undo()


def test_each_step_gives_memory_back(bench, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("deblur_cli.ui.session.return_freed_memory", lambda: given.append(True))
    session = opened(bench, tmp_path / "a.png")
    steps = (session.restore, lambda: session.restore_part(View((100.0, 80.0))), session.close)
    for number, step in enumerate((lambda: session.save(tmp_path / "b.png"), *steps)):
        given.clear()
        step()
        assert given, number


def test_a_closed_window_holds_no_photo(bench, tmp_path):
    session = opened(bench, tmp_path / "a.png")
    session.restore()
    session.close()
    assert (session.photo, session.findings) == (None, None)


def head(path):
    """Write a photo of a blurred head in the format of its suffix, 16 bits deep where that can be."""
    with Image.open("examples/astronaut.jpg") as image:
        crop, exif = image.crop((120, 0, 376, 256)), image.getexif()
    match path.suffix:
        case ".tif":
            tifffile.imwrite(path, np.asarray(crop).astype(np.uint16) * 257, photometric="rgb")
        case ".dng":
            path.write_bytes(make_dng((np.asarray(crop) / 255.0) ** 2.2))
        case ".heic":
            pillow_heif.from_pillow(crop).save(path, quality=90)
        case _:
            crop.save(path, quality=90, exif=exif)
    return path


@pytest.mark.parametrize("kind", ["jpg", "tif", "dng", "heic"])
def test_the_saved_file_is_what_the_command_line_makes(tmp_path, kind):
    """With the shipped weights; first as detected, then as painted."""
    source = head(tmp_path / f"a.{kind}")
    suffix = output_suffix(source.suffix)
    loaded = weights.guide(weights.load(weights.DEFAULT), "auto")
    session = Session(Workbench(Deblurrer(loaded), Request(loaded.epsilon), 10.0))
    session.open(source)
    session.epsilon, session.strength = 0.4, 0.7
    found, made = tmp_path / f"found{suffix}", tmp_path / f"made{suffix}"
    session.save(found)
    assert deblur("run", source, "-o", made, "--epsilon", "0.4", "--strength", "70").exit_code == 0
    assert found.read_bytes() == made.read_bytes()

    session.paint([(30.0, 200.0), (120.0, 210.0)], 14, add=True)
    session.paint([(128.0, 60.0)], 20, add=False)
    mask, painted = tmp_path / "mask.png", tmp_path / f"painted{suffix}"
    session.save_mask(mask)
    session.save(painted)
    words = ("--mask-file", mask, "--strength", "70", "--overwrite")
    assert deblur("run", source, "-o", made, *words).exit_code == 0
    assert painted.read_bytes() == made.read_bytes() != found.read_bytes()
    if source.suffix == suffix:
        with pytest.raises(EncodeError, match="is the source"):
            session.save(source, overwrite=True)
    with pytest.raises(EncodeError, match="already exists"):
        session.save(painted)
