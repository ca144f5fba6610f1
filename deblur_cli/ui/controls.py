"""What the page needs of the browser itself: its looks, its keys, its sliders, and the room that it has."""

from collections.abc import Awaitable, Callable

from nicegui import events, ui

MARGIN = 5  # pixels around the photo, where the ring is that tells its focus
# Keys that the photo takes for itself; all others go on to the browser.
KEYS = """(event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const own = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Enter", " ", "z"];
    if (own.includes(key) && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        emit({key: key, shift: event.shiftKey});
    }
}"""
ROOM = f"(size) => emit(size.width - {2 * MARGIN}, window.innerHeight, window.devicePixelRatio)"
SHOW_ACTIVE = "() => setTimeout(() => document.querySelector('.q-item--active')?.scrollIntoView())"
VALUE = "(event) => emit(Number(event.target.value))"
STYLE = f"""
.nicegui-content {{ padding: 0 }}
.stage:focus-visible, .stage:focus {{ outline: 3px solid var(--q-primary); outline-offset: 2px }}
.chooser .q-btn__content {{ flex-wrap: nowrap }}
.chooser .block {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap }}
.stage {{ line-height: 0 }}
.frame {{ position: relative; overflow: hidden; padding: {MARGIN}px }}
.body--dark .q-btn.text-primary, .body--dark input[type=range] {{ --q-primary: #f09a55 }}
.below {{ margin: 0 {MARGIN}px; max-width: calc(100% - {2 * MARGIN}px) }}
input[type=range] {{ width: 100%; height: 1.75rem; accent-color: var(--q-primary) }}
"""


class Slider(ui.element):
    """The browser's own slider, which has its name and its value where it has the focus.

    value: where it is; on_move: called while it is moved, on_release: and when it has been
    """

    def __init__(
        self,
        name: str,
        limits: tuple[float, float],
        value: float,
        on_move: Callable[[], Awaitable[None] | None],
        *,
        step: float = 1,
        on_release: Callable[[], Awaitable[None] | None] | None = None,
    ) -> None:
        super().__init__("input")
        self.value, self._on_move, self._on_release = value, on_move, on_release
        least, most = limits
        # "^": where it begins. As a property, it would be set back to that while it is moved.
        self.props.update({"type": "range", "min": least, "max": most, "step": step, "^value": value})
        self.props["aria-label"] = name
        self.on("input", self._moved, js_handler=VALUE, throttle=0.05)
        self.on("change", self._released, js_handler=VALUE)

    async def _moved(self, event: events.GenericEventArguments) -> None:
        if event.args != self.value:
            self.value = event.args
            await called(self._on_move)

    async def _released(self, event: events.GenericEventArguments) -> None:
        await self._moved(event)
        if self._on_release is not None:
            await called(self._on_release)


async def called(handler: Callable[[], Awaitable[None] | None]) -> None:
    """Call a handler that may or may not be a coroutine."""
    result = handler()
    if result is not None:
        await result
