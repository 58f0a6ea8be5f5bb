"""Signing in and out: plain forms, no script. Only a form of this origin is taken: the gate sees to it."""

from __future__ import annotations

from html import escape
from typing import Final
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from agora.server.api.people import is_https, set_session
from agora.server.areas import People
from agora.server.errors import ApiError
from agora.server.gate import SESSION_COOKIE, SIGN_INS_PER_MINUTE, session_secret
from agora.server.limits import RateLimits

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in - Agora</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/assets/agora.css"></head>
<body><main class="sign"><form method="post" action="/sign-in">
<h1>Agora</h1><p class="soft">Sign in to ask, search and watch the square.</p>{problem}
<label>Name<input name="name" autocomplete="username" required autofocus value="{name}"></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required></label>
<input type="hidden" name="next" value="{next}">
<button type="submit">Sign in</button>
<p class="tiny soft">No account yet? An admin makes one: <code>agora accounts add NAME --password</code></p>
</form></main></body></html>
"""
_MAX_FORM: Final = 10_000


def routes(people: People) -> APIRouter:
    """GET and POST /sign-in, POST /sign-out."""
    router, limits = APIRouter(), RateLimits()

    @router.get("/sign-in", include_in_schema=False)
    async def show(next: str = "/ask") -> Response:
        return _page(next)

    @router.post("/sign-in", include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        client = request.client.host if request.client else ""
        form = await _form(request)
        if limits.ask(client, SIGN_INS_PER_MINUTE).wait_s > 0 or people.accounts.may_try(form["name"]).wait_s > 0:
            return _page(form["next"], "Too many tries; wait a minute.", form["name"], 429)
        secret = await run_in_threadpool(people.accounts.sign_in, form["name"], form["password"])
        if secret is None:
            return _page(form["next"], "The name or the password is wrong.", form["name"], 401)
        response = RedirectResponse(local(form["next"]), status_code=303)
        set_session(response, secret, is_https=is_https(request))
        return response

    @router.post("/sign-out", include_in_schema=False)
    async def sign_out(request: Request) -> Response:
        await run_in_threadpool(people.accounts.sign_out, session_secret(request.headers) or "")
        response = RedirectResponse("/sign-in", status_code=303)
        response.delete_cookie(SESSION_COOKIE)
        return response

    return router


def local(address: str) -> str:
    """An address of this server, whatever was asked for."""
    is_local = address.startswith("/") and not address.startswith("//") and "\\" not in address and address.isprintable()
    return address if is_local and not urlsplit(address).netloc else "/ask"


def _page(next_page: str, problem: str = "", name: str = "", status: int = 200) -> HTMLResponse:
    shown = f'<p class="note bad" role="alert">{escape(problem)}</p>' if problem else ""
    return HTMLResponse(_PAGE.format(problem=shown, name=escape(name), next=escape(local(next_page))), status)


async def _form(request: Request) -> dict[str, str]:
    body = await request.body()
    if len(body) > _MAX_FORM:
        raise ApiError(413, "The form is too large", code="request_too_large")
    given = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10)
    return {name: given.get(name, [""])[0] for name in ("name", "password", "next")}
