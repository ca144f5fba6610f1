"""The page: one window in a browser, built of NiceGUI's elements around a `Session`."""

import asyncio
import base64
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from nicegui import events, run, ui

from deblur_cli.errors import CanceledError, DeblurError, printable
from deblur_cli.nets.network import CELL
from deblur_cli.pictures import blurred
from deblur_cli.report.report import jpeg, shown
from deblur_cli.ui.controls import KEYS, ROOM, SHOW_ACTIVE, STYLE, Slider
from deblur_cli.ui.session import Item, Point, Session, View, Workbench

QUALITY = 92  # of the JPEG that is shown
PHASES = {"detect": "Detecting blur", "restore": "Restoring", "wait": "Waiting for another window"}
REPLACE = "Replace existing results"
OVERWRITE = "already exists; allow replacing it with --overwrite or choose another name"  # without a page
KEPT = f"already exists; check “{REPLACE}” to save over it"
LOOK, BRUSH, ERASER = "Look", "Brush", "Eraser"
PAINTS = {BRUSH: "#ff7800", ERASER: "#3aa0ff"}
SIZES = (8, 400)  # pixels of the photo: the radius of the brush
TALLEST = 75  # percent of the height of the window, which the whole photo takes at most
NEAR = 100  # photos before and after the open one in the list, which grows slow otherwise
LEAST = 64  # pixels of the photo that are shown across and down, however small the window
STEP = 0.25  # of what is shown, by which an arrow key moves the view
ARROWS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0), "ArrowUp": (0, -1), "ArrowDown": (0, 1)}
T = TypeVar("T")


class Page:
    """One window and what its user does there.

    items: the photos to step through; make_item: names the results of one that is sent by the browser
    describe: one line for an error
    """

    def __init__(
        self,
        bench: Workbench,
        items: Sequence[Item],
        make_item: Callable[[Path], Item],
        describe: Callable[[BaseException], str],
    ) -> None:
        self.session, self.view = Session(bench), View()
        self.items, self.number = list(items), 0
        self.make_item, self.describe = make_item, describe
        self.sent = tempfile.TemporaryDirectory(prefix="deblur-ui-")
        self.turn = asyncio.Lock()  # one job at a time
        self.is_waiting = False  # for a photo that is being read
        self.is_busy = False
        self.is_drawing = self.is_stale = self.is_following = self.is_outdated = False
        self.points: list[Point] = []  # of the stroke under way, in pixels of the photo
        self.is_keyed = False  # whether it is drawn with keys
        self.density = 1.0  # pixels of the screen for each of the page's
        self.cursor: Point | None = None  # of brush and keyboard

    def close(self) -> None:
        """End all work of this window."""
        self.session.close()
        self.sent.cleanup()

    # Layout

    def build(self) -> None:
        """Fill the window, and open the first photo."""
        ui.add_css(STYLE)
        ui.colors(primary="#c2570c")
        ui.context.client.on_exception(lambda error: self.say(self.explain(error)))
        with ui.row(wrap=True).classes("w-full gap-4 p-4 items-start"):
            with ui.column().classes("gap-2").style("flex: 1 1 32rem; min-width: min(100%, 20rem)"):
                self.build_files()
                self.build_stage()
            with ui.column().classes("gap-1").style("flex: 0 1 22rem; min-width: min(100%, 18rem)"):
                self.build_controls()
        ui.keyboard(self.typed, repeating=False, ignore=[])
        ui.timer(0.2, self.tick)
        ui.timer(0.0, lambda: self.open(0), once=True)

    def build_files(self) -> None:
        """The photo that is open, and the way to others."""
        with ui.row(wrap=True).classes("w-full items-center gap-2"):
            self.back = ui.button(icon="chevron_left", on_click=lambda: self.open(self.number - 1))
            self.back.props('flat dense aria-label="Previous photo"')
            # no field for text, of which Chromium would ask its maker how to fill it in
            self.chooser = ui.dropdown_button("Photo", auto_close=True).props("outline no-caps")
            self.chooser.classes("chooser").style("flex: 1 1 0; min-width: 8rem")
            self.chooser.on("show", js_handler=SHOW_ACTIVE)
            self.forth = ui.button(icon="chevron_right", on_click=lambda: self.open(self.number + 1))
            self.forth.props('flat dense aria-label="Next photo"')
            self.upload = ui.upload(label="Open another photo", auto_upload=True, on_upload=self.uploaded)
            self.upload.classes("hidden")
            ui.button("Open …", on_click=lambda: self.upload.run_method("pickFiles")).props("outline no-caps")

    def build_stage(self) -> None:
        """The photo."""
        with ui.element("div").classes("frame w-full"):
            observer = ui.element("q-resize-observer").props("debounce=200")
            observer.on("resize", self.resized, js_handler=ROOM)
            self.stage = ui.interactive_image(
                on_mouse=self.pointed,
                events=["pointerdown", "pointermove", "pointerup", "pointerleave"],
                sanitize=False,  # only numbers of ours are drawn
            )
            self.again = ui.button("Open again", icon="refresh", on_click=lambda: self.open(self.number))
            self.again.props("outline no-caps")
        self.stage.classes("stage").props(
            'tabindex=0 role=application aria-label="Photo. Arrow keys move the view or the brush, '
            'with Shift the brush draws a line, Enter paints a dot, Z switches to 100 percent."'
        )
        self.stage.on("keydown", self.pressed, js_handler=KEYS)
        name = "Before and after: percent of the width that shows the photo as it was"
        self.split = Slider(name, (0, 100), 50, self.looked)
        self.split.classes("below")
        self.captions = ui.row().classes("below justify-between text-caption")
        with self.captions:
            ui.label("Before")
            self.facts = ui.label("")
            self.after = ui.label("After")

    def build_controls(self) -> None:
        """All that can be set and done."""
        session = self.session
        with ui.row(wrap=True).classes("gap-3"):
            self.mask = ui.switch("Mask", value=True, on_change=self.looked)
            self.motion = ui.switch("Motion", on_change=self.looked)
            self.full = ui.switch("100%", on_change=self.zoomed)
        self.epsilon_text = ui.label()
        name, begin = "Epsilon: how sure to be before restoring; lower restores more", session.epsilon
        self.epsilon = Slider(name, (0, 1), begin, self.moved, step=0.01, on_release=self.follow)
        self.strength_text = ui.label()
        name, begin = "Strength: percent of the change", 100 * session.strength
        self.strength = Slider(name, (0, 150), begin, self.moved, on_release=self.follow)
        with ui.row(wrap=True).classes("items-center gap-3"):
            self.tool = ui.toggle([LOOK, BRUSH, ERASER], value=LOOK, on_change=self.draw_cursor).props(
                "no-caps"
            )
            ui.button("Undo", icon="undo", on_click=self.undo).props("flat dense no-caps")
        ui.label("Brush size")
        self.size = Slider("Radius of the brush in pixels of the photo", SIZES, 48, self.draw_cursor)
        with ui.row(wrap=True).classes("items-center gap-2"):
            self.actions = [
                ui.button("Restore all", on_click=self.restore).props("outline no-caps"),
                ui.button("Save", icon="save", on_click=self.save).props("no-caps"),
                ui.button("Save mask", on_click=self.save_mask).props("flat no-caps"),
            ]
        self.overwrite = ui.checkbox(REPLACE)
        with ui.row().classes("w-full items-center gap-2 no-wrap"):
            self.progress = ui.linear_progress(0.0, show_value=False).props('aria-label="Progress"')
            self.cancel = ui.button("Cancel", on_click=self.stop).props("flat dense no-caps")
        self.status = ui.label().classes("w-full").style("white-space: pre-line; overflow-wrap: anywhere")
        self.status.props("role=status aria-live=polite")
        self.label_settings()
        self.show_progress()
        self.allow(True)

    def say(self, line: str) -> None:
        """Show one line on what came of something."""
        self.status.set_text(line)

    def explain(self, error: BaseException) -> str:
        """One line for an error, in the words of the page."""
        line = self.describe(error).replace(OVERWRITE, KEPT)
        line = re.sub(re.escape(self.sent.name) + r"[\\/]\w+[\\/]", "", line)  # the user knows the name alone
        return f"{line} (options of deblur ui)" if re.search(r" --?[a-z]", line) else line

    def label_settings(self) -> None:
        """Name the values of the sliders."""
        self.epsilon_text.set_text(f"Epsilon {self.session.epsilon:.2f} (lower restores more)")
        self.strength_text.set_text(f"Strength {100 * self.session.strength:.0f}%")

    async def tick(self) -> None:
        """Show how far the work is, and a photo as soon as it is read."""
        self.show_progress()
        if self.is_waiting and self.session.photo is not None:
            self.is_waiting = False
            await self.refresh()

    def show_progress(self) -> None:
        """Show how far the work is."""
        progress = self.session.progress
        self.progress.set_visibility(progress is not None)
        self.cancel.set_visibility(progress is not None)
        if progress is not None:
            phase, share = progress
            self.progress.set_value(round(share, 3))
            self.facts.set_text(f"{PHASES[phase]} …" + (f" {share:.0%}" if phase != "wait" else ""))

    # Jobs

    async def job(self, task: Callable[[], T], canceled: str = "Canceled.") -> T | None:
        """Do something that takes a while, one thing at a time; what goes wrong is said in one line."""
        if self.is_following:  # which nobody asked for
            self.session.cancel()
        async with self.turn:
            self.allow(False)
            try:
                done: T | None = await run.io_bound(task)
                return done
            except CanceledError:
                self.say(canceled)
            except (DeblurError, MemoryError, OSError) as error:
                self.say(self.explain(error))
            finally:
                self.show_progress()
                self.show_facts()
                self.allow(True)
        return None

    def stop(self) -> None:
        """End what is being done, after the tile at hand."""
        self.session.cancel()
        self.say("Canceling …")

    def allow(self, is_allowed: bool) -> None:
        """Let the user start further jobs, as far as there is a photo, or not."""
        self.is_busy = not is_allowed
        session = self.session
        for button in self.actions:
            button.set_enabled(is_allowed and session.findings is not None)
        self.again.set_visibility(is_allowed and session.photo is None and bool(self.items))
        for element in (self.stage, self.split, self.captions):
            element.set_visibility(session.photo is not None or self.is_busy)

    async def open(self, number: int) -> None:
        """Open a photo of the list."""
        if not self.items:
            self.say("Open a photo to begin.")
            return
        self.number = max(0, min(number, len(self.items) - 1))
        item = self.items[self.number]
        self.list_photos()
        self.back.set_enabled(self.number > 0)
        self.forth.set_enabled(self.number < len(self.items) - 1)
        self.view, self.points, self.cursor = replace(self.view, center=None), [], None
        self.full.set_value(False)
        name = named(Path(item.source.name))
        self.say(f"Opening {name} …")
        self.stage.set_source("")
        self.is_waiting = True
        self.session.cancel()

        def read() -> None:
            if item is self.items[self.number]:  # the user may have gone on meanwhile
                self.session.open(item.source)

        await self.job(read, f"Opening {name} was canceled.")
        self.is_waiting = False
        await self.refresh()
        if self.session.findings is not None:
            note = self.session.former_note
            self.say(f"It is a result of {note} already." if note else "")
            await self.follow()

    def list_photos(self) -> None:
        """Offer the photos around the one that is open."""
        self.chooser.set_text(named(Path(self.items[self.number].source.name)))
        self.chooser.clear()
        first = max(0, self.number - NEAR)
        with self.chooser:
            for place, item in enumerate(self.items[first : self.number + NEAR + 1], first):
                line = ui.item(named(Path(item.source.name)), on_click=partial(self.open, place))
                if place == self.number:
                    line.props("active aria-current=true")

    async def uploaded(self, event: events.UploadEventArguments) -> None:
        """Open a photo that the browser sends."""
        folder = Path(self.sent.name) / secrets.token_hex(8)
        folder.mkdir()
        path = folder / (Path(event.file.name).name or "photo")
        await event.file.save(path)
        self.upload.reset()
        self.items.append(self.make_item(path))
        await self.open(len(self.items) - 1)

    async def restore(self) -> None:
        """Restore the whole photo."""
        if self.session.findings is not None:
            self.say("")
            await self.job(self.session.restore)
            await self.refresh()

    async def save(self) -> None:
        """Write the photo."""
        item, overwrite = self.items[self.number], self.overwrite.value
        if self.session.findings is None or self.is_there(item.result):
            return
        self.say(f"Saving {named(Path(item.result.name))} …")
        lost = await self.job(lambda: self.session.save(item.result, overwrite=overwrite or item.is_sent))
        if lost is not None:
            await self.refresh()
            self.deliver(item.result, item)
            if lost:
                self.say(f"{self.status.text}\nLeft out: {'; '.join(lost)}")

    async def save_mask(self) -> None:
        """Write the mask."""
        item, overwrite = self.items[self.number], self.overwrite.value
        if self.session.findings is None or self.is_there(item.mask):
            return
        self.say(f"Saving {named(Path(item.mask.name))} …")

        def write() -> bool:
            self.session.save_mask(item.mask, overwrite=overwrite or item.is_sent)
            return True

        if await self.job(write):
            self.deliver(item.mask, item)

    def is_there(self, path: Path) -> bool:
        """Whether a result exists that may not be replaced, which is said."""
        kept = os.path.lexists(path) and not self.overwrite.value and not self.items[self.number].is_sent
        if kept:
            self.say(f"{named(path)}: {KEPT}.")
        return kept

    def deliver(self, path: Path, item: Item) -> None:
        """Say where a result is, or send it to the browser that sent the photo."""
        if item.is_sent:
            ui.download.file(path, shown(Path(path.name)))
        self.say(f"Saved {named(Path(path.name) if item.is_sent else path)}")

    # Looking

    async def refresh(self) -> None:
        """Show the photo as it is now; of several changes in a row, some are skipped."""
        self.is_stale = True
        if self.is_drawing:
            return
        self.is_drawing = True
        try:
            while self.is_stale:
                self.is_stale = False
                source = await run.io_bound(self.picture, self.view)
                self.stage.set_source(source or "")
                self.fit()
        finally:
            self.is_drawing = False
        self.show_facts()
        self.draw_cursor()

    def fit(self) -> None:
        """Give the photo its size on the screen: that of its pixels, or all the room there is."""
        photo = self.session.photo
        if photo is None:
            return
        rows, columns = self.session.window(self.view)
        width, height = columns.stop - columns.start, rows.stop - rows.start
        room = (
            f"min(100%, {TALLEST * width / height:.2f}vh)"
            if self.view.center is None
            else f"{width / self.density:.3f}px"
        )
        for element in (self.stage, self.split, self.captions):
            element.style(f"width: {room}")

    async def resized(self, event: events.GenericEventArguments) -> None:
        """Take the room that the window gives to the photo."""
        width, height, self.density = event.args
        sides = height * self.density * TALLEST / 100, width * self.density
        rows, columns = (max(LEAST, int(side)) // CELL * CELL for side in sides)
        room = rows, columns
        if room != self.view.room:
            self.view = replace(self.view, room=room)
            if self.view.center is not None:
                await self.look_at(self.view.center)

    def picture(self, view: View) -> str | None:
        """What is shown, as a JPEG in a data URL; None for nothing."""
        pixels, icc = self.session.render(view), self.session.profile
        if pixels is None:
            return None
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg(pixels, icc, QUALITY)).decode()}"

    def show_facts(self) -> None:
        """Say how much is marked, and whether what is shown is restored."""
        session, known = self.session, self.session.findings is not None
        share = session.blurred_share if known else 0.0
        self.facts.set_text("" if not known else blurred(share) if share else "Nothing is marked")
        if not known or not share or session.has_after(self.view):
            self.after.set_text("After")
        else:
            self.after.set_text(
                "After: " + ("not restored yet" if self.is_following else "press “Restore all”")
            )

    async def looked(self) -> None:
        """Show what the switches say."""
        self.view = replace(
            self.view, split=self.split.value / 100, mask=self.mask.value, motion=self.motion.value
        )
        await self.refresh()

    async def moved(self) -> None:
        """Show the mask of another epsilon, and the change in another strength."""
        self.session.epsilon = round(float(self.epsilon.value), 2)
        self.session.strength = self.strength.value / 100
        self.label_settings()
        await self.refresh()

    async def zoomed(self) -> None:
        """Switch between the whole photo and its own pixels."""
        photo = self.session.photo
        if photo is None or self.full.value == (self.view.center is not None):
            return
        center = self.cursor or (photo.width / 2, photo.height / 2)
        whole = replace(self.view, center=None)
        self.view = self.session.centered(center, whole) if self.full.value else whole
        await self.refresh()
        await self.follow()

    async def follow(self) -> None:
        """Restore what is in view at 100%, again and again until it fits what is set."""
        self.is_outdated = True
        if self.is_following:
            self.session.cancel()
            return
        self.is_following = True
        self.show_facts()
        try:
            while self.needs_part():
                view, self.is_outdated = self.view, False
                try:
                    async with self.turn:
                        await run.io_bound(self.session.restore_part, view)
                except CanceledError:
                    if not self.is_outdated:  # the user wants no more
                        self.say("Canceled.")
                        return
                await self.refresh()
        finally:
            self.is_following = False
            self.show_facts()

    def needs_part(self) -> bool:
        """Whether the view shows pixels that are not restored as the mask is now."""
        session = self.session
        return (
            session.findings is not None and self.view.center is not None and not session.has_after(self.view)
        )

    # Painting

    def place(self, x: float, y: float) -> Point:
        """The place in the photo of a place in the picture."""
        scale, (left, top) = self.session.scale(self.view), self.session.corner(self.view)
        return left + x / scale, top + y / scale

    async def pointed(self, event: events.MouseEventArguments) -> None:
        """Paint, or move the view."""
        if self.session.findings is None:
            return
        here, down = self.place(event.image_x, event.image_y), event.type == "pointerdown"
        paints = self.tool.value in PAINTS
        if down and event.button == 0:
            self.points, self.is_keyed = [here], False
        elif self.points and event.type == "pointermove" and event.buttons:
            if paints:
                self.points.append(here)
            else:
                await self.drag(here)
        elif self.points and not down:
            points, self.points = self.points, []
            if paints:
                await self.paint(points)
            elif event.type == "pointerup":
                await self.released(here)
        if event.type != "pointerleave":
            self.cursor = here
        self.draw_cursor()

    async def drag(self, here: Point) -> None:
        """Move the view with the pointer."""
        if self.view.center is not None:
            (x, y), (left, top) = self.points[0], self.view.center
            self.view = self.session.centered((left + x - here[0], top + y - here[1]), self.view)
            await self.refresh()

    async def released(self, here: Point) -> None:
        """Show at 100% what was clicked in the whole photo, and restore what a drag moved into view."""
        if self.view.center is None:
            self.cursor = here
            self.full.set_value(True)
        else:
            await self.follow()

    async def paint(self, points: list[Point]) -> None:
        """Add a stroke to the mask, or take it away."""
        self.session.paint(points, float(self.size.value), add=self.tool.value == BRUSH)
        await self.refresh()
        await self.follow()

    async def undo(self) -> None:
        """Take back the last stroke."""
        if self.session.undo():
            await self.refresh()
            await self.follow()

    async def typed(self, event: events.KeyEventArguments) -> None:
        """End a stroke that is drawn with keys, and undo, wherever the focus is."""
        if event.action.keyup and event.key.shift and self.is_keyed:
            points, self.points, self.is_keyed = self.points, [], False
            await self.paint(points)
        held, is_z = event.modifiers, event.key.name.lower() == "z"
        if event.action.keydown and is_z and (held.ctrl or held.meta) and not held.shift:
            await self.undo()

    async def pressed(self, event: events.GenericEventArguments) -> None:
        """Do with keys what the pointer does."""
        photo, key = self.session.photo, event.args["key"]
        if photo is None or self.session.findings is None:
            return
        if key == "z":
            self.full.set_value(not self.full.value)
        elif self.tool.value in PAINTS:
            middle = self.view.center or (photo.width / 2, photo.height / 2)
            x, y = begin = self.cursor if self.cursor and self.is_in_view(self.cursor) else middle
            if key in ARROWS:
                right, below = ARROWS[key]
                x, y = x + right * self.size.value, y + below * self.size.value
                self.cursor = max(0.0, min(x, photo.width)), max(0.0, min(y, photo.height))
                if event.args["shift"]:
                    self.points, self.is_keyed = [*(self.points or [begin]), self.cursor], True
                self.draw_cursor()
                if not self.is_in_view(self.cursor):
                    await self.look_at(self.cursor)
            else:
                await self.paint([(x, y)])
        elif key in ARROWS and self.view.center is not None:
            right, below = ARROWS[key]
            x, y = self.view.center
            rows, columns = self.view.room
            await self.look_at((x + right * STEP * columns, y + below * STEP * rows))

    def is_in_view(self, place: Point) -> bool:
        """Whether a place in the photo is shown."""
        rows, columns = self.session.window(self.view)
        x, y = place
        return bool(columns.start <= x <= columns.stop and rows.start <= y <= rows.stop)

    async def look_at(self, center: Point) -> None:
        """Move the view at 100%, and restore what is in it."""
        self.view = self.session.centered(center, self.view)
        await self.refresh()
        await self.follow()

    def draw_cursor(self) -> None:
        """Draw the brush, and the stroke under way. A finger that can do neither scrolls the page."""
        color = PAINTS.get(self.tool.value)
        scrolls = color is None and self.view.center is None
        self.stage.style(f"touch-action: {'pan-y pinch-zoom' if scrolls else 'none'}")
        if color is None or self.session.photo is None or self.cursor is None:
            self.stage.set_content("")
            return
        scale, (left, top) = self.session.scale(self.view), self.session.corner(self.view)
        (x, y), *_ = way = [((x - left) * scale, (y - top) * scale) for x, y in (self.cursor, *self.points)]
        radius = self.size.value * scale
        drawn = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="none" '
            f'stroke="{color}" stroke-width="2"/>'
        )
        if self.points:
            places = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*way[1:], way[0]])
            drawn += (
                f'<polyline points="{places}" fill="none" stroke="{color}" stroke-opacity="0.5" '
                f'stroke-width="{2 * radius:.1f}" stroke-linecap="round" stroke-linejoin="round"/>'
            )
        self.stage.set_content(drawn)


def named(path: Path) -> str:
    """A path or a name as the page shows it: on one line, whatever is in it."""
    return printable(shown(path))
