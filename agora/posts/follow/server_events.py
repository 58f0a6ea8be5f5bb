"""Server-sent events and single answers over HTTP. Goes in: an origin and a path. Comes out: (event, data) pairs, or parsed JSON.

Redirects are not followed: nothing is fetched but what was named. Format: the HTML standard, section 9.2.6.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from agora.errors import RecordError
from agora.posts.follow.live import ConnectionLost, refusal
from agora.posts.follow.websocket import USER_AGENT
from agora.posts.sources.json_stream import MAX_DOCUMENT_BYTES, MAX_RECORD_BYTES, parse

SILENCE_S: Final = 60.0
"""A server says something (`:thump`) every 15 s; after this long the connection is dead."""
_CONNECT_S: Final = 10.0


class ServerEvents:
    """One connection."""

    def __init__(self, origin: str, path: str, headers: Mapping[str, str]) -> None:
        self._origin, self._path, self._headers = origin, path, headers
        self._socket: socket.socket | None = None

    def events(self, closing: threading.Event) -> Iterator[tuple[str, str] | None]:
        """None once when the connection stands, then events until it is closed. Raises ConnectionLost, SourceError for a refusal."""
        connection = _connection(self._origin)
        try:
            connection.connect()
            self._socket = connection.sock
            with _request(connection, self._origin, self._path, {**self._headers, "Accept": "text/event-stream"}) as answer:
                if self._socket is not None:
                    self._socket.settimeout(SILENCE_S)
                yield None
                yield from _parsed(answer, closing)
        except (OSError, HTTPException) as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error
        except (ValueError, AttributeError):
            if not closing.is_set():  # else the response was closed under the reader's hands
                raise
        finally:
            connection.close()

    def close(self) -> None:
        """End it soon, from any thread."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed already
                self._socket.shutdown(socket.SHUT_RDWR)


def get_json(origin: str, path: str, headers: Mapping[str, str]) -> Any:
    """One answer, parsed. Raises ConnectionLost or, for a refusal, SourceError."""
    connection = _connection(origin)
    try:
        answer = _request(connection, origin, path, headers)
        return parse(answer.read(MAX_DOCUMENT_BYTES))
    except (OSError, HTTPException, RecordError) as error:
        raise ConnectionLost(f"{origin}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def _connection(origin: str) -> HTTPConnection:
    parts = urlsplit(origin)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=_CONNECT_S)


def _request(connection: HTTPConnection, origin: str, path: str, headers: Mapping[str, str]) -> HTTPResponse:
    connection.request("GET", path, headers={**headers, "User-Agent": USER_AGENT})
    answer = connection.getresponse()
    if answer.status != 200:
        answer.close()
        raise refusal(f"{origin}{path.partition('?')[0]}", answer.status, answer.getheader("Location"), answer.getheader("Retry-After"))
    return answer


def _parsed(answer: HTTPResponse, closing: threading.Event) -> Iterator[tuple[str, str]]:
    name, data, size = "message", list[str](), 0
    while not closing.is_set():
        line = answer.readline(MAX_RECORD_BYTES + 1)
        size += len(line)
        if not line:
            raise ConnectionLost("the server ended the stream")
        if size > MAX_RECORD_BYTES:
            raise ConnectionLost(f"an event of more than {MAX_RECORD_BYTES} bytes")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            if data:
                yield name, "\n".join(data)
            name, data, size = "message", [], 0
        elif not text.startswith(":"):
            key, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if key == "event":
                name = value
            elif key == "data":
                data.append(value)
