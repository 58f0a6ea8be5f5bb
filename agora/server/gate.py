"""What stands before every request. Goes in: connections. Comes out: the same with `scope["state"]["caller"]`, and `"caller_now"`,
which asks again who that is by then, or a refusal.

Size of the body and the time that it takes; who asks (a key, a session's cookie, or, on a server that only this machine reaches and nobody
made an account for, the local admin); how often; whether a browser was made to ask by another site. Plain ASGI, so that streams pass
through untouched.

A request that a page of another origin made a browser send has no real key, so sessions, the local admin (whatever word stands for a key
there) and what needs no caller (signing in) need a defence: `Origin` must be this server's, for everything that changes something and for
WebSockets. The local admin's server answers only to the names of this machine in `Host`: one that an attacker points here (DNS rebinding)
is none of them.
Not covered: TLS. Put a proxy in front where others than you can reach the port.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import SplitResult, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agora.errors import AgoraError
from agora.server.accounts import LOCAL, SCOPES, Accounts, Caller
from agora.server.errors import ApiError, from_agora_error
from agora.server.limits import Allowance, RateLimits

SESSION_COOKIE: Final = "agora_session"
GUARDED: Final = ("/v1", "/api", "/metrics")
"""Paths (with what is below them) that need a caller. Pages ask for a sign-in themselves."""
PUBLIC: Final = ("/api/v1/sign-in", "/api/v1/shared")
REQUESTS_PER_MINUTE: Final = 600
SIGN_INS_PER_MINUTE: Final = 10
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class GateConfig:
    """`api_key`: one key with every scope. `is_open`: without any account, whoever reaches the port is the local admin. `clock`: seconds,
    by which limits are counted."""

    api_key: str | None = None
    is_open: bool = False
    max_body_bytes: int = 8 * 1024 * 1024
    max_body_s: float = 60.0
    requests_per_minute: int = REQUESTS_PER_MINUTE
    clock: Callable[[], float] = time.monotonic


class Gate:
    """See the top of the file."""

    def __init__(self, app: ASGIApp, *, config: GateConfig, accounts: Accounts | None) -> None:
        self.app = app
        self._config = config
        self._accounts = accounts
        self._limits = RateLimits(config.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            caller = await self._caller(scope, headers)
            allowance = self._pass(scope, headers, caller)
        except (ApiError, AgoraError) as refusal:  # an AgoraError: the database is busy
            await _refuse(from_agora_error(refusal) if isinstance(refusal, AgoraError) else refusal, scope, receive, send)
            return
        asked = {"type": "http", "method": "GET"}  # the whole scope would hold on to itself
        scope.setdefault("state", {}).update(caller=caller, caller_now=partial(self._caller, asked, headers))
        heard = self._counted(receive) if scope["type"] == "http" else receive
        await self.app(scope, heard, _with_allowance(send, allowance))

    async def _caller(self, scope: Scope, headers: Headers) -> Caller | None:
        """Raises ApiError for a key that is none: a wrong key is never taken for no key."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            return await self._caller_of_key(key.strip(), scope, headers)
        if scheme:
            raise ApiError(401, "Wrong API key: send the header Authorization: Bearer KEY", code="invalid_api_key")
        if self._accounts is not None and (secret := session_secret(headers)):
            caller = await run_in_threadpool(self._accounts.caller_of_session, secret)
            if caller is not None:
                _refuse_other_origin(scope, headers)
                return caller
        return await self._caller_here(scope, headers)

    async def _caller_here(self, scope: Scope, headers: Headers) -> Caller | None:
        """The local admin, where nobody made an account. Raises ApiError for another name of this server and for another origin."""
        if not self._config.is_open or self._config.api_key is not None or await self._num_people():
            return None
        _refuse_other_name(headers)
        _refuse_other_origin(scope, headers)
        return await self._local_admin()

    async def _local_admin(self) -> Caller:
        if self._accounts is None:
            return Caller(0, LOCAL, frozenset(SCOPES))
        return await run_in_threadpool(self._accounts.ensure, LOCAL, scopes=SCOPES)

    async def _caller_of_key(self, key: str, scope: Scope, headers: Headers) -> Caller:
        if self._config.api_key is not None and hmac.compare_digest(key.encode(), self._config.api_key.encode()):
            return await self._local_admin()
        caller = await run_in_threadpool(self._accounts.caller_of_key, key) if self._accounts is not None else None
        if caller is not None:
            return caller
        if (local := await self._caller_here(scope, headers)) is not None:  # OpenAI's clients always send a key, whatever it is
            return local
        raise ApiError(401, "Wrong API key: it is unknown, revoked or expired", code="invalid_api_key")

    async def _num_people(self) -> int:
        return 0 if self._accounts is None else await run_in_threadpool(self._accounts.num_people)

    def _pass(self, scope: Scope, headers: Headers, caller: Caller | None) -> Allowance | None:
        """Raises ApiError."""
        path = scope["path"]
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._config.max_body_bytes:
            raise self._too_large()
        if not _is_below(path, GUARDED) or _is_below(path, PUBLIC):
            _refuse_other_origin(scope, headers)  # signing in as somebody else, for one
        if path == PUBLIC[0]:
            client = scope.get("client") or ("", 0)
            return allowed(self._limits.ask(("sign-in", client[0]), SIGN_INS_PER_MINUTE))
        if not _is_below(path, GUARDED) or _is_below(path, PUBLIC):
            return None
        if caller is None:
            raise ApiError(401, "No API key given; send the header Authorization: Bearer KEY", code="invalid_api_key")
        who = ("key", caller.key) if caller.key is not None else ("account", caller.account)
        return allowed(self._limits.ask(who, caller.requests_per_minute or self._config.requests_per_minute))

    def _counted(self, receive: Receive) -> Receive:
        read_bytes, is_whole = 0, False
        loop = asyncio.get_running_loop()
        until = loop.time() + self._config.max_body_s

        async def counted() -> Message:
            nonlocal read_bytes, is_whole
            if is_whole:  # whoever asks now waits for the client to leave
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - loop.time()))
            except TimeoutError as error:
                text = f"The request's body took longer than {self._config.max_body_s:g} s"
                raise ApiError(408, text, code="request_timeout") from error
            if message["type"] == "http.request":
                is_whole = not message.get("more_body", False)
                read_bytes += len(message.get("body", b""))
                if read_bytes > self._config.max_body_bytes:
                    raise self._too_large()
            return message

        return counted

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The request is larger than {self._config.max_body_bytes} bytes", code="request_too_large")


def allowed(allowance: Allowance) -> Allowance:
    """`allowance` itself. Raises ApiError 429 where it says to wait."""
    if allowance.wait_s > 0:
        message = f"More than {allowance.limit} requests a minute; ask again in {allowance.wait_s:.1f} s"
        told, wait_s = _headers(allowance), allowance.wait_s
        raise ApiError(429, message, type="rate_limit_error", code="rate_limit_exceeded", retry_after_s=wait_s, told=told)
    return allowance


def _headers(allowance: Allowance) -> dict[str, str]:
    return {"x-ratelimit-limit-requests": str(allowance.limit), "x-ratelimit-remaining-requests": str(allowance.left)}


def _with_allowance(send: Send, allowance: Allowance | None) -> Send:
    if allowance is None:
        return send

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_headers(allowance))
        await send(message)

    return sent


async def _refuse(refusal: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": str(refusal.detail)[:100]})
    else:
        await refusal.response()(scope, receive, send)


def _refuse_other_origin(scope: Scope, headers: Headers) -> None:
    """Raises ApiError 403 for what a page of another origin made a browser send."""
    if scope["type"] == "http" and scope["method"] in _SAFE:
        return
    origin = headers.get("origin")
    if origin is not None and _split(origin).netloc != headers.get("host"):
        raise ApiError(403, f"A page of {origin} may not act here", code="other_origin")
    if origin is None and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ApiError(403, "A page of another site may not act here", code="other_origin")


def _refuse_other_name(headers: Headers) -> None:
    host = headers.get("host", "")
    if _split(f"//{host}").hostname not in LOOPBACK:
        raise ApiError(403, f"This server has no accounts and answers only to {', '.join(LOOPBACK)}, not {host!r}", code="other_host")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # a bracket that is never closed, for one
        return urlsplit("")


def session_secret(headers: Headers) -> str | None:
    """The session's secret. Other cookies of this host, whoever set them, may be of any form."""
    for header in headers.getlist("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name.strip() == SESSION_COOKIE:
                return value.strip().strip('"')
    return None


def _is_below(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)
