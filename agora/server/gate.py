"""What stands before every request: the key and the size limit. Plain ASGI, so that streams pass through untouched."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agora.server.errors import ApiError


class Gate:
    """Asks for the key on every path below /v1/ and refuses bodies above `max_body_bytes`.

    Not covered: rate limits per key, TLS. Put a proxy in front where others than you can reach the port.
    """

    def __init__(self, app: ASGIApp, *, api_key: str | None, max_body_bytes: int) -> None:
        self.app = app
        self.api_key = api_key.encode() if api_key else None
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        read_bytes = 0

        async def counted() -> Message:
            nonlocal read_bytes
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > self.max_body_bytes:
                raise self._too_large()
            return message

        await self.app(scope, counted, send)

    def _refusal(self, path: str, headers: Headers) -> ApiError | None:
        if self.api_key is not None and path.startswith("/v1"):
            scheme, _, key = headers.get("authorization", "").partition(" ")
            if not key:
                return ApiError(401, "No API key given; send the header Authorization: Bearer KEY", code="invalid_api_key")
            if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self.api_key):
                return ApiError(401, "Wrong API key", code="invalid_api_key")
        length = headers.get("content-length", "0")
        return self._too_large() if not length.isdigit() or int(length) > self.max_body_bytes else None

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The request is larger than {self.max_body_bytes} bytes", code="request_too_large")
