"""All pages on one application. Goes in: the application and what it shows. Comes out: the same, with pages at /.

NiceGUI has one set of pages in a process, so one application of a process can have them. Everything that a page loads comes from this
server. Scripts run only from its files or with the page's own nonce; `unsafe-eval` is there because NiceGUI's elements are compiled in
the browser, and inline styles because Quasar sets them. Not covered: a browser extension that changes pages.
"""

from __future__ import annotations

import re
import secrets
import warnings
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agora.server.areas import Areas, People
from agora.server.errors import ApiError
from agora.server.web import admin, ads, ask, cluster, integrity, search, sign_in, training
from agora.server.web.site import Site, theme_of

STYLES: Final = Path(__file__).with_name("agora.css")
_ICON: Final = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='8' fill='%230f5c5c'/%3E%3Cpath d='M9 23 16 8l7 15M11.5 18h9' stroke='%23fff' stroke-width='2.6' fill='none' stroke-linecap='round'/%3E%3C/svg%3E"  # noqa: E501
_UNKNOWN: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Not found - Agora</title><link rel="stylesheet" href="/assets/agora.css"></head>
<body><main class="page narrow"><div class="empty"><h1>There is no page under this address</h1>
<p class="soft">It may have been removed, or is written otherwise.</p><a href="/ask">To the first page</a></div></main></body></html>"""
_SCRIPT: Final = re.compile(rb"<script(?=[\s>])")


def policy(nonce: str) -> str:
    """What a page may load and do."""
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    )


def mount_pages(app: FastAPI, areas: Areas, people: People) -> None:
    """Add the pages. Call last: they answer every address that nothing else does."""
    # At its start NiceGUI looks at every object of the process, some of which complain about that.
    warnings.filterwarnings("ignore", category=FutureWarning, module="nicegui")
    site = Site(areas, people)

    @app.api_route("/api/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    @app.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def unknown(rest: str, request: Request) -> Response:
        raise ApiError(404, f"Unknown request: {request.method} {request.url.path}", code="unknown_url")

    @app.get("/", include_in_schema=False)
    async def start() -> Response:
        return RedirectResponse("/ask", status_code=303)

    @app.get("/assets/agora.css", include_in_schema=False)
    async def styles() -> Response:
        return FileResponse(STYLES, media_type="text/css", headers={"cache-control": "no-cache"})

    app.include_router(sign_in.routes(people))
    for area in (ask, search, integrity, ads, training, cluster, admin):
        area.add_pages(site)
    ui.run_with(
        app, title="Agora", favicon=_ICON, dark=None, language="en-US", tailwind=False, gzip_middleware_factory=None,
        show_welcome_message=False, reconnect_timeout=10.0,
    )  # fmt: skip
    # A page of ours for addresses that there are not: NiceGUI's own shows the exception.
    nicegui_app.add_exception_handler(404, _unknown_page)
    app.add_middleware(Guarded)
    app.add_middleware(GZipMiddleware, minimum_size=1_000)


async def _unknown_page(request: Request, error: Exception) -> Response:
    return HTMLResponse(_UNKNOWN, status_code=404)


class Guarded:
    """Gives pages their content-security-policy, and their scripts the nonce that it asks for. Plain ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(("/api/", "/v1/", "/_nicegui")):
            await self.app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(18)
        start: Message | None = None
        body = b""

        async def sent(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "same-origin"  # with none, a form has no Origin, which the gate asks for
                if "content-security-policy" not in headers:
                    headers["content-security-policy"] = policy(nonce)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["cache-control"] = "no-store"
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                # In texts of others `<` is escaped, so every `<script` here is the page's own.
                body = _SCRIPT.sub(b'<script nonce="' + nonce.encode() + b'"', body)
                if theme := theme_of(Request(scope).cookies):  # here, so that not even the first frame has the other one
                    body = body.replace(b"<html", f'<html data-theme="{theme}"'.encode(), 1)
                MutableHeaders(scope=start)["content-length"] = str(len(body))
                await send(start)
                start = None
                await send({"type": "http.response.body", "body": body})
                return
            await send(message)

        await self.app(scope, receive, sent)
