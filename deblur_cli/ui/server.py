"""Serves the page to the browsers of this machine alone, until Ctrl-C."""

import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from nicegui import app as pages
from nicegui import ui

from deblur_cli.errors import UsageError
from deblur_cli.ui.page import Page
from deblur_cli.ui.session import Item, Workbench

HOST = "127.0.0.1"
# The page may ask this server alone, and no other page may show it in a frame.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; base-uri 'self'"
)
RECONNECT = 30.0  # seconds after which a window that does not answer counts as closed
MESSAGES = 50  # that such a window gets when it is back; each may hold a picture

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def listen(port: int | None) -> socket.socket:
    """A socket on a port of this machine that no other one can reach, None for any that is free.

    Raises UsageError where the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port or 0))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"port {port} cannot be used: {error.strerror}; leave out --port to take a free one"
        ) from error
    return listener


def serve(
    bench: Workbench,
    items: Sequence[Item],
    make_item: Callable[..., Item],
    describe: Callable[[BaseException], str],
    listener: socket.socket,
    announce: Callable[[str], None],
) -> None:
    """Show each window that opens a page of its own, until Ctrl-C.

    make_item: names the results of a photo that is uploaded
    describe: one line for an error; announce: receives the address, once it can be opened
    """
    port, path = listener.getsockname()[1], f"/{secrets.token_urlsafe(16)}"
    open_pages: set[Page] = set()

    def show() -> None:
        page = Page(bench, items, make_item, describe)
        open_pages.add(page)
        page.build()
        ui.context.client.on_disconnect(page.session.cancel)
        ui.context.client.on_delete(lambda: leave(page))

    def leave(page: Page) -> None:
        open_pages.discard(page)
        page.close()

    def leave_all() -> None:
        for page in list(open_pages):
            leave(page)

    ui.page(path)(show)
    pages.add_exception_handler(AttributeError, refuse_text)
    pages.on_startup(lambda: announce(f"http://{HOST}:{port}{path}"))
    pages.on_shutdown(leave_all)
    site = FastAPI(openapi_url=None)
    ui.run_with(
        site,
        title="deblur",
        favicon=ICON,
        dark=None,
        reconnect_timeout=RECONNECT,
        message_history_length=MESSAGES,
        show_welcome_message=False,
    )
    guarded = Guard(site, port)
    config = uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


class Guard:
    """Lets only this server's own pages ask it something: no other web site, also not by another name.

    A site that makes its name point to this machine is told by the Host header, any other by Origin or
    Sec-Fetch-Site. What a user types or clicks has neither.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif not self._is_own(scope):
            await refuse(scope, receive, send)
        else:
            await self._app(scope, receive, with_policy(send))

    def _is_own(self, scope: Scope) -> bool:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        return (
            headers.get("host") in self._hosts
            and (origin is None or origin.removeprefix("http://") in self._hosts)
            and (site in ("none", "same-origin") or headers.get("sec-fetch-mode") == "navigate")
        )


async def refuse_text(request: Request, error: Exception) -> PlainTextResponse:
    """Answer a form that holds text instead of a file, which NiceGUI's upload takes for one."""
    if request.method == "POST" and "/upload/" in request.url.path:
        return PlainTextResponse("deblur takes files alone here\n", 400)
    raise error


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what another site asks."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"deblur answers its own page alone\n"})


def with_policy(send: Send) -> Send:
    """Add what browsers have to refuse, whatever the page contains."""

    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await send(message)

    return sending


ICON = """
<svg viewBox="0 0 32 32" xmlns="http://www.w3.org/2000/svg">
<circle cx="16" cy="16" r="14" fill="#ff7800"/>
<path d="M6 16h20" stroke="#fff" stroke-width="4" stroke-linecap="round"/>
</svg>
"""
