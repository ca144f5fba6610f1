"""One window: a photo, what was detected and painted in it, and what is restored. Knows no page."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.errors import CanceledError
from deblur_cli.files import check_target
from deblur_cli.nets.network import CELL, cells_of
from deblur_cli.photo import encode
from deblur_cli.photo.decode import decode
from deblur_cli.photo.photo import Photo, rgb_profile, to_eight_bits
from deblur_cli.pictures import trajectory_overlay
from deblur_cli.pictures.drawing import reduced, tinted_picture, upsample
from deblur_cli.restoration.deblurrer import Deblurrer, Request, Restoration, Result
from deblur_cli.restoration.device import return_freed_memory
from deblur_cli.restoration.engine import Progress
from deblur_cli.restoration.findings import Findings
from deblur_cli.restoration.mask import covered_share, interpolated_weights
from deblur_cli.restoration.painted import MaskMode, PaintedMask
from deblur_cli.restoration.save import save

WHOLE = 1400  # pixels, the longer side of the whole photo as it is shown
DETAIL = (720, 1152)  # rows and columns of the photo that are shown at their own size, unless told otherwise
AROUND = 16  # cells around what is shown that are restored with it, since they shape what becomes of it
STROKES = 100  # that can be undone
TINT = (255, 120, 0)
STRENGTH_OF_TINT = 0.45
RIM = 2  # pixels of the line around what is marked

Floats = NDArray[np.float32]
Pixels8 = NDArray[np.uint8]
Point = tuple[float, float]  # x, y in pixels of the photo


@dataclass(frozen=True)
class Item:
    """A photo and where its result and its mask go. is_sent: by a browser, which shall get them back."""

    source: Path
    result: Path
    mask: Path
    is_sent: bool = False


@dataclass(frozen=True)
class View:
    """What is looked at.

    center: x, y in pixels of the photo at its own size; None shows the whole photo reduced
    room: rows and columns that are shown at their own size, at most; multiples of a cell
    split: share of the width that shows the photo as it was, 0-1; the rest shows it restored
    """

    center: Point | None = None
    room: tuple[int, int] = DETAIL
    split: float = 0.5
    mask: bool = True
    motion: bool = False


@dataclass(eq=False)
class Derived:
    """What follows from a mask, as far as it is known. With a new mask begins a new one.

    opacity: how much of the change each cell gets, h w of 0-1
    whole: the photo restored, which can be had at any strength; full: with all of the change
    small: the same as it is shown, H W 3
    part: rows and columns of a part of the photo, and its pixels restored with all of the change
    """

    opacity: Floats | None = None
    whole: Restoration | None = None
    full: Result | None = None
    small: Pixels8 | None = None
    part: tuple[slice, slice, Pixels8] | None = None


class Workbench:
    """What all windows share: the network, which they use in turns, and how photos are read."""

    def __init__(self, deblurrer: Deblurrer, request: Request, max_megapixels: float) -> None:
        self.deblurrer, self.request, self.max_megapixels = deblurrer, request, max_megapixels
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, canceled: threading.Event) -> Iterator[Deblurrer]:
        """The network, when no other window uses it. Raises CanceledError."""
        while not self._lock.acquire(timeout=0.1):
            check(canceled)
        try:
            check(canceled)
            yield self.deblurrer
        finally:
            self._lock.release()


def check(canceled: threading.Event) -> None:
    """Raise CanceledError where the user wants no more."""
    if canceled.is_set():
        raise CanceledError("canceled")


class Session:
    """What one window shows. Another thread may call `cancel`, `render`, and the settings while it works.

    epsilon, strength: as in `Request`
    progress: what is being done, and how much of it is done, 0-1; None for nothing. "detect", "restore", or
    "wait" while another window uses the network
    """

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.photo: Photo | None = None
        self.findings: Findings | None = None
        self.strength = bench.request.strength
        self.progress: tuple[str, float] | None = None
        self._epsilon = bench.request.epsilon
        self._canceled = threading.Event()  # of the work under way
        self._looking = threading.Lock()
        self._closed = False
        self._paint_of: dict[Path, NDArray[np.int8]] = {}  # what was painted in photos that were open before
        self._forget()

    def _forget(self) -> None:
        """Drop all that belongs to the photo."""
        with self._looking:
            self.photo, self.findings = None, None
            self._painted = np.zeros(
                (0, 0), np.int8
            )  # 1 where added, -1 where erased; replaced, never changed
            self._strokes: list[NDArray[np.int8]] = []  # what was painted before each stroke
            self._small: tuple[Pixels8, float] | None = None
            self._derived = Derived()

    # The photo

    def open(self, path: Path) -> None:
        """Read a photo and detect blur in it. Raises PhotoError, OutOfMemoryError, and CanceledError.

        After an error no photo is open.
        """
        if self.photo is not None and self._painted.any():
            self._paint_of[self.photo.source] = self._painted
        self._forget()
        canceled = self._canceled = threading.Event()
        try:
            photo = decode(path, self.bench.max_megapixels)
            nothing = np.zeros(cells_of((photo.height, photo.width)), np.int8)
            painted = self._paint_of.pop(path, nothing)
            self._painted = painted if painted.shape == nothing.shape else nothing
            self.photo = photo
            with self._working("detect", canceled) as (deblurrer, step):
                self.findings = deblurrer.detect(photo, step)
        except BaseException:
            self._forget()
            raise

    @property
    def former_note(self) -> str | None:
        """The note of an earlier run in the photo, where it is a result."""
        return encode.note_of(self.photo) if self.photo else None

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of what is shown, if the photo has one."""
        photo = self.photo
        return None if photo is None else rgb_profile(photo).icc

    def close(self) -> None:
        """End all work, now and later, and drop the photo."""
        self._closed = True
        self.cancel()
        self._forget()
        return_freed_memory()

    def cancel(self) -> None:
        """End the work under way, soon: where it is done raises CanceledError."""
        self._canceled.set()

    @contextmanager
    def _working(
        self, phase: str, canceled: threading.Event | None = None
    ) -> Iterator[tuple[Deblurrer, Progress]]:
        """The network and what to tell its progress, when this window's turn comes. Raises CanceledError.

        canceled: of work that has begun already
        """
        canceled = self._canceled = canceled or threading.Event()
        if self._closed:
            canceled.set()

        def step(done: int, total: int, phase: str) -> None:
            check(canceled)
            self.progress = phase, done / max(total, 1)

        self.progress = "wait", 0.0
        try:
            with self.bench.turn(canceled) as deblurrer:
                self.progress = phase, 0.0
                yield deblurrer, step
        finally:
            self.progress = None
            return_freed_memory()

    # The mask

    @property
    def epsilon(self) -> float:
        """Confidence above which a cell counts as blurred."""
        return self._epsilon

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        if value != self._epsilon:
            self._epsilon = value
            self._derived = Derived()

    @property
    def request(self) -> Request:
        """What is wanted of the photo: as on the command line with --mask-file where something is painted."""
        plain = replace(self.bench.request, epsilon=self.epsilon, strength=self.strength)
        if self.findings is None or not self._painted.any():
            return plain
        _, found = plain.decide(self.findings)
        opacity = np.where(self._painted, self._painted > 0, found).astype(np.float32)
        return replace(plain, painted=PaintedMask(opacity))

    @property
    def opacity(self) -> Floats:
        """How much of the change each cell gets, h w of 0-1."""
        assert self.findings is not None
        derived = self._derived
        if derived.opacity is None:
            painted = self.request.painted
            derived.opacity = painted.opacity if painted else self.request.decide(self.findings)[1]
        return derived.opacity

    @property
    def blurred_share(self) -> float:
        """Share of the photo that is marked."""
        assert self.photo is not None
        return covered_share(self.opacity, self.photo.height, self.photo.width)

    def paint(self, points: Sequence[Point], radius: float, *, add: bool) -> None:
        """Add what a brush covers on its way to the mask, or take it away. radius: pixels of the photo."""
        if not points or self.findings is None:
            return
        covered = brushed(points, radius, self._painted.shape)
        self._strokes = [*self._strokes[-STROKES + 1 :], self._painted]
        self._painted = np.where(covered, np.int8(1 if add else -1), self._painted)
        self._derived = Derived()

    def undo(self) -> bool:
        """Take back the last stroke, and tell whether there was one."""
        if not self._strokes:
            return False
        self._painted = self._strokes.pop()
        self._derived = Derived()
        return True

    # Restoration

    @property
    def is_restored(self) -> bool:
        """Whether the whole photo is restored as the mask is now."""
        return self._derived.full is not None

    def restore(self) -> Derived:
        """Restore the whole photo, for any strength. Raises OutOfMemoryError and CanceledError."""
        assert self.photo is not None
        assert self.findings is not None
        derived, request = self._derived, replace(self.request, strength=1.0)
        with self._working("restore") as (deblurrer, step):
            whole = Restoration(deblurrer, self.photo, self.findings, request, step, keep=True)
            derived.full, derived.whole = whole.run(), whole
        return derived

    def restore_part(self, view: View) -> None:
        """Restore what a view shows of the photo at its own size. Raises as `restore`."""
        derived, (rows, columns) = self._derived, self.window(view)
        inside = np.zeros(self._painted.shape, np.float32)
        inside[around(rows), around(columns)] = 1
        request = replace(self.request, strength=1.0)
        limited = PaintedMask(inside, MaskMode.limit)
        if request.painted is not None:
            limited = PaintedMask(np.minimum(inside, request.painted.opacity))
        pixels = self._restored(replace(request, painted=limited)).photo.pixels
        derived.part = rows, columns, to_eight_bits(pixels[rows, columns])

    def _restored(self, request: Request) -> Result:
        assert self.photo is not None
        assert self.findings is not None
        with self._working("restore") as (deblurrer, step):
            return deblurrer.restore(self.photo, self.findings, request, step)

    # Files

    def save(self, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
        """Write the photo as `deblur run` would; returns and raises as `encode.encode`, and as `restore`."""
        assert self.photo is not None
        check_target(path, self.photo.source, overwrite=overwrite)  # before the time that restoring takes
        strength, derived = self.strength, self._derived
        if derived.whole is None:
            derived = self.restore()
        assert derived.whole is not None
        result = derived.full if strength == 1 else derived.whole.with_strength(strength)
        assert result is not None
        lost = save(path, self.photo, result, self.bench.deblurrer.weights.label, overwrite=overwrite)
        return_freed_memory()
        return lost

    def save_mask(self, path: Path, *, overwrite: bool = False) -> None:
        """Write what is marked as a gray PNG of the photo's size, for --mask-file. Raises EncodeError."""
        assert self.photo is not None
        gray = np.rint(255 * self.opacity).astype(np.uint8).repeat(CELL, 0).repeat(CELL, 1)
        pixels = gray[: self.photo.height, : self.photo.width, None]
        picture = Photo(pixels=pixels, source=self.photo.source, format="PNG")
        encode.encode(picture, path, format="PNG", overwrite=overwrite)

    # What is shown

    def window(self, view: View) -> tuple[slice, slice]:
        """Rows and columns that a view shows; they begin at a cell."""
        assert self.photo is not None
        height, width = self.photo.height, self.photo.width
        if view.center is None:
            return slice(0, height), slice(0, width)
        (x, y), (rows, columns) = view.center, view.room
        return span(y, rows, height), span(x, columns, width)

    def centered(self, center: Point, view: View) -> View:
        """A view at the photo's own size, moved so that all of it lies in the photo."""
        rows, columns = self.window(replace(view, center=center))
        return replace(view, center=((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2))

    def scale(self, view: View) -> float:
        """Pixels shown for each pixel of the photo."""
        return self._reduced[1] if view.center is None else 1.0

    def corner(self, view: View) -> Point:
        """The place in the photo, x, y, of the upper left corner of what is shown."""
        rows, columns = self.window(view)
        return float(columns.start), float(rows.start)

    def has_after(self, view: View) -> bool:
        """Whether what is shown is restored as the mask is now."""
        whole, part = self._derived.full, self._derived.part
        if whole is not None or view.center is None:
            return whole is not None
        return part is not None and part[:2] == self.window(view)

    def render(self, view: View) -> Pixels8 | None:
        """What is shown, H W 3: before on the left, after on the right, with mask and motion as wanted.

        None where no photo is open.
        """
        with self._looking:
            return None if self.photo is None else self._render(view)

    def _render(self, view: View) -> Pixels8:
        before, after = self._before(view), self._after(view)
        shown, column = before.copy(), round(view.split * before.shape[1])
        if after is not None:
            change = after[:, column:].astype(np.float32) - before[:, column:]
            strengthened = before[:, column:] + np.float32(self.strength) * change
            shown[:, column:] = np.rint(strengthened).clip(0, 255)
        if self.findings is not None and view.motion:
            shown = self._with_motion(shown, view)
        if self.findings is not None and view.mask:
            shown = self._with_mask(shown, view)
        if after is not None and 0 < column < shown.shape[1]:
            shown[:, column - 1 : column + 1] = 255
        return shown

    @property
    def _reduced(self) -> tuple[Pixels8, float]:
        """The whole photo as it is shown, and its pixels for each pixel of the photo."""
        assert self.photo is not None
        if self._small is None:
            self._small = reduced(to_eight_bits(self.photo.pixels), WHOLE)
        return self._small

    def _before(self, view: View) -> Pixels8:
        assert self.photo is not None
        if view.center is None:
            return self._reduced[0]
        return colored(to_eight_bits(self.photo.pixels[self.window(view)]))

    def _after(self, view: View) -> Pixels8 | None:
        derived = self._derived
        if not self.has_after(view):
            return None
        if derived.full is None:
            return None if derived.part is None else colored(derived.part[2])
        pixels = derived.full.photo.pixels
        if view.center is not None:
            return colored(to_eight_bits(pixels[self.window(view)]))
        if derived.small is None:
            derived.small = reduced(to_eight_bits(pixels), WHOLE)[0]
        return derived.small

    def _with_mask(self, shown: Pixels8, view: View) -> Pixels8:
        """What is shown with what is marked tinted, and a line around it."""
        if view.center is None:
            values = upsample(self.opacity, (0, shown.shape[0]), shown.shape[1], self.scale(view))
        else:
            values = interpolated_weights(self.opacity, *self.window(view))
        marked = values > 0.5
        inner = marked.copy()  # but for a rim
        inner[RIM:] &= marked[:-RIM]
        inner[:-RIM] &= marked[RIM:]
        inner[:, RIM:] &= marked[:, :-RIM]
        inner[:, :-RIM] &= marked[:, RIM:]
        picture = Image.fromarray(shown)
        picture.paste(tinted_picture(picture, TINT, STRENGTH_OF_TINT), mask=Image.fromarray(marked))
        picture.paste((255, 255, 255), mask=Image.fromarray(marked & ~inner))
        return np.array(picture)

    def _with_motion(self, shown: Pixels8, view: View) -> Pixels8:
        """Paths along which what is marked moved, over what is shown."""
        assert self.findings is not None
        confidence, opacity = self.request.decide(self.findings)
        maps = replace(self.findings, probability=np.where(opacity > 0, confidence, 0))
        if view.center is not None:
            maps = cut(maps, *self.window(view))
        return trajectory_overlay(shown, maps, self.epsilon, scale=self.scale(view))


def brushed(points: Sequence[Point], radius: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The cells, h w, whose middle a brush covers on its way; the one below its own middle at least."""
    covered = np.zeros(shape, np.bool_)
    radius = max(radius, CELL * 0.71)  # half the diagonal of a cell
    way = np.array(points, np.float32)
    for start, end in zip(way, way[1:] if len(way) > 1 else way, strict=False):
        (left, top), (right, bottom) = np.minimum(start, end) - radius, np.maximum(start, end) + radius
        rows = slice(max(0, int(top // CELL)), max(0, int(bottom // CELL) + 1))
        columns = slice(max(0, int(left // CELL)), max(0, int(right // CELL) + 1))
        part = covered[rows, columns]
        down, across = np.indices(part.shape, np.float32)
        places = (np.stack([across + columns.start, down + rows.start], -1) + 0.5) * CELL  # h w 2, x y
        along = end - start
        share = ((places - start) @ along / max(float(along @ along), 1e-6)).clip(0, 1)
        part |= np.hypot(*np.moveaxis(places - start - share[..., None] * along, -1, 0)) <= radius
    return covered


def span(middle: float, most: int, length: int) -> slice:
    """Up to so many rows or columns around a middle, beginning at a cell, of so many that there are."""
    start = max(0, min(round(middle - most / 2), length - most))
    start = -(-start // CELL) * CELL if start + most >= length else start // CELL * CELL
    return slice(start, min(start + most, length))


def around(part: slice) -> slice:
    """The cells of rows or columns, and those that shape what becomes of them."""
    return slice(max(0, part.start // CELL - AROUND), -(-part.stop // CELL) + AROUND)


def cut(findings: Findings, rows: slice, columns: slice) -> Findings:
    """Findings of a window of the photo that begins at a cell."""
    size = rows.stop - rows.start, columns.stop - columns.start
    cells = tuple(slice(part.start // CELL, -(-part.stop // CELL)) for part in (rows, columns))
    maps = {name: getattr(findings, name)[(..., *cells)] for name in ("probability", "start", "end", "scale")}
    return Findings(size, **maps)


def colored(pixels: Pixels8) -> Pixels8:
    """A picture H W 1 or H W 3 as H W 3."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
