"""Errors in the form that OpenAI's clients know: {"error": {"message", "type", "param", "code"}} with the right status."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from agora.errors import (
    AgoraError,
    BusyError,
    ContextLengthError,
    DatabaseBusyError,
    DatabaseError,
    GenerationError,
    IndexBusyError,
    MissingExtraError,
    PostIndexError,
    StoreBusyError,
    StoreError,
    UsageError,
)

log = logging.getLogger(__name__)

FAILED: Final = "The server failed; its log has the details"
INVALID = "invalid_request_error"


class ErrorDetails(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorDetails


DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": ErrorBody, "description": "The request is wrong; the message says where"},
    401: {"model": ErrorBody, "description": "No key or session, or a wrong one"},
    403: {"model": ErrorBody, "description": "The scope is missing"},
    404: {"model": ErrorBody, "description": "There is no such thing"},
    405: {"model": ErrorBody, "description": "Another method is needed"},
    408: {"model": ErrorBody, "description": "The body came too slowly"},
    409: {"model": ErrorBody, "description": "Something has to be made first; the message names the command"},
    413: {"model": ErrorBody, "description": "The body is too large"},
    422: {"model": ErrorBody, "description": "Not sent: what is wrong in a request is 400, as with OpenAI"},
    429: {"model": ErrorBody, "description": "Too many requests; see the header retry-after"},
    503: {"model": ErrorBody, "description": "Busy or stopping, or the database cannot be used"},
}
"""For the OpenAPI page: what every route may answer besides its result."""


class ApiError(HTTPException):
    """An answer that is an error. `param` names the request's field at fault.

    An HTTPException, because FastAPI turns everything else that is raised while a body is read into a plain 400.
    """

    def __init__(
        self, status: int, message: str, *, type: str = INVALID, param: str | None = None, code: str | None = None,
        retry_after_s: float = 1, told: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`told`: headers of the answer."""
        # Half surrogate pairs of a request cannot be sent back as they are.
        message, param = _sendable(message), param and _sendable(param)
        super().__init__(status, message)
        self._retry_after_s, self._told = retry_after_s, dict(told or {})
        self.body: dict[str, Any] = {"error": {"message": message, "type": type, "param": param, "code": code}}

    def response(self) -> JSONResponse:
        later = {"retry-after": str(math.ceil(self._retry_after_s))}
        headers = {401: {"www-authenticate": "Bearer"}, 429: later, 503: later}
        return JSONResponse(self.body, self.status_code, {**headers.get(self.status_code, {}), **self._told})


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def from_agora_error(error: AgoraError) -> ApiError:
    """The API's form of an error of the engine."""
    if isinstance(error, ContextLengthError):
        return ApiError(400, str(error), param=error.param, code="context_length_exceeded")
    if isinstance(error, BusyError):
        return ApiError(429, str(error), type="rate_limit_error", code="server_busy")
    if isinstance(error, GenerationError):
        return ApiError(400, str(error), param=error.param)
    if isinstance(error, DatabaseBusyError):  # its message has the file's path
        return ApiError(503, "The server's database is busy; nothing was changed, try again", type="server_error", code="busy")
    if isinstance(error, DatabaseError):
        log.error("the database failed: %s", error)
        return ApiError(503, "The server's database cannot be used; its log has the details", type="server_error", code="database_failed")
    if isinstance(error, (StoreBusyError, IndexBusyError)):
        return ApiError(503, str(error), type="server_error", code="busy")
    if isinstance(error, (StoreError, PostIndexError, MissingExtraError)):
        return ApiError(409, str(error), code="not_ready")
    if isinstance(error, UsageError):
        return ApiError(400, str(error))
    log.error("a request failed: %s", error)
    return ApiError(500, FAILED, type="server_error")


def unknown_model(name: str, known: Iterable[str]) -> ApiError:
    """404 that lists what is served."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ApiError(404, f"The model {name!r} does not exist; {hint}served: {', '.join(names)}", param="model", code="model_not_found")


def install_handlers(app: FastAPI) -> None:
    """Every error of `app` leaves it in OpenAI's form."""

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(AgoraError)
    async def _agora_error(request: Request, error: AgoraError) -> JSONResponse:
        if isinstance(error, GenerationError) and error.param == "prompt" and request.url.path.endswith("/chat/completions"):
            error.param = "messages"
        return from_agora_error(error).response()

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        return _from_validation(error).response()

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = f"Unknown request: {request.method} {request.url.path}" if error.status_code in (404, 405) else str(error.detail)
        return ApiError(error.status_code, message, code="unknown_url" if error.status_code == 404 else None).response()

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        return ApiError(500, FAILED, type="server_error").response()


def _from_validation(error: RequestValidationError) -> ApiError:
    # Where a field may have several types there is one error for each; the deepest is of the type that was meant.
    first = max(error.errors(), key=lambda one: len(_place(one["loc"])))
    param = ".".join(_place(first["loc"])) or None
    if first["type"] == "json_invalid":
        return ApiError(400, "The body is not valid JSON", code="invalid_json")
    message = f"{param}: {first['msg']}" if param else f"The body must be a JSON object (content-type: application/json): {first['msg']}"
    return ApiError(400, message, param=param, code="missing_required_parameter" if first["type"] == "missing" else "invalid_value")


def _place(parts: Sequence[str | int]) -> list[str]:
    # Pydantic adds the type it tried to the place: "list[int]", "str".
    branches = (
        "body",
        "str",
        "bool",
        "TextPart",
        "InputText",
        "NamedChoice",
        "FlatNamedChoice",
        "message",
        "function_call",
        "function_call_output",
    )
    return [str(part) for part in parts if isinstance(part, int) or (part not in branches and "[" not in part)]
