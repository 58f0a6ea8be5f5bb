"""One WebSocket connection as an iterator of messages. Goes in: an address. Comes out: text or bytes; every end is a ConnectionLost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agora import __version__
from agora.errors import MissingExtraError
from agora.posts.follow.live import ConnectionLost, refusal
from agora.posts.sources.json_stream import MAX_RECORD_BYTES

USER_AGENT: Final = f"agora/{__version__}"
_LOOK_S: Final = 0.5  # how often a waiting connection looks whether it should end
_CLOSE_S: Final = 2.0
_WAITING_MESSAGES: Final = 64  # then the sender is held back (TCP)


def messages(url: str, closing: threading.Event, headers: Mapping[str, str] | None = None) -> Iterator[str | bytes | None]:
    """None once when the connection stands, then its messages until `closing` is set. A dead peer is found by pings (20 s + 20 s).

    Raises ConnectionLost, SourceError for a refusal, MissingExtraError without the package.
    """
    try:
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
        from websockets.sync.client import ClientConnection, connect
    except ImportError:
        raise MissingExtraError("websockets", "follow", "following a live stream") from None

    place = url.partition("?")[0]

    class OneAddress(ClientConnection):
        """Newer versions of the package follow redirects unless the refusal is taken from them (websockets 17)."""

        def handshake(self, *args: Any, **options: Any) -> None:
            try:
                super().handshake(*args, **options)
            except InvalidStatus as error:
                headers = error.response.headers
                raise refusal(place, error.response.status_code, headers.get("Location"), headers.get("Retry-After")) from error

    try:
        with connect(
            url, additional_headers=headers, user_agent_header=USER_AGENT, max_size=MAX_RECORD_BYTES, max_queue=_WAITING_MESSAGES,
            close_timeout=_CLOSE_S, create_connection=OneAddress,
        ) as connection:  # fmt: skip
            yield None
            while not closing.is_set():
                try:
                    yield connection.recv(timeout=_LOOK_S)
                except TimeoutError:
                    continue
    except ConnectionClosed as error:
        raise ConnectionLost(f"closed: {error}") from error
    except (OSError, InvalidHandshake, EOFError) as error:
        raise ConnectionLost(str(error) or type(error).__name__) from error
