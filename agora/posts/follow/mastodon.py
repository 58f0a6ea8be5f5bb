"""Mastodon live: the streaming API over server-sent events (https://HOST) or WebSocket (wss://HOST), one server's public timeline.

New statuses become posts, edits replace them, deletions delete them. The streaming API repeats nothing: what came while nobody listened is
fetched from the same server's timeline, from REWIND_MS before the last number that was stored, as statuses of other servers arrive late
under earlier numbers. Not covered: edits and deletions in such a gap (no API tells them); deletions of accounts come as deletions of
their statuses. A deletion names the server's own number only, so the numbers of stored statuses are kept beside the cursor (numbers.py).

Command: `agora posts follow mastodon --url https://HOST`
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from agora.errors import RecordError, SourceError, UsageError
from agora.posts.follow.live import STANDING, Cursor, Event, LocalDeletion, checked_url, is_safe_for_secrets, larger
from agora.posts.follow.numbers import StatusNumbers
from agora.posts.follow.server_events import ServerEvents, get_json
from agora.posts.follow.websocket import messages
from agora.posts.sources.json_stream import parse
from agora.posts.sources.mastodon import status_to_item
from agora.posts.sources.record import Edit, Item, Skipped, attempt, broken, parse_time
from agora.posts.store import PostStore

NAME: Final = "mastodon"
EXAMPLE_URL: Final = "https://mastodon.example"
STREAMS: Final = ("public", "public:local", "public:remote", "hashtag:TAG")
REWIND_MS: Final = 300_000
"""How late a status of another server may arrive and still be found after an interruption."""
_PAGE: Final = 40  # the API's own maximum
_MAX_PAGES: Final = 250  # 10,000 statuses; more would meet the usual limit of 300 requests per 5 minutes
_NUMBER_BITS: Final = 16  # a status number is milliseconds since 1970, shifted by these bits (lib/mastodon/snowflake.rb)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MastodonStream:
    """`url` is the server (its streaming host where that is another one), `stream` one of STREAMS. Raises UsageError for either, and for
    a token that would travel unencrypted."""

    url: str
    stream: str = "public"
    token: str | None = field(default=None, repr=False)
    name: str = NAME
    _closing: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    _open: list[ServerEvents] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = checked_url(self.url, ("https", "wss", "http", "ws"), EXAMPLE_URL)
        if parts.path not in ("", "/") or parts.query:
            raise UsageError(f"--url {self.url!r} must name the server only; example: {EXAMPLE_URL}")
        base, _, tag = self.stream.partition(":")
        if self.stream not in STREAMS[:3] and not (base == "hashtag" and tag and tag != "TAG"):
            raise UsageError(f"--stream {self.stream!r} is not one of {', '.join(STREAMS)}")
        if self.token and not is_safe_for_secrets(parts):
            raise UsageError(f"--url {self.url!r} is not encrypted: a token would travel in the open; use https or wss")

    @property
    def place(self) -> str:
        return f"{self.url} ({self.stream})"

    @property
    def identity(self) -> Mapping[str, str]:
        parts = checked_url(self.url, ("https", "wss", "http", "ws"), EXAMPLE_URL)
        return {"source": NAME, "host": parts.netloc, "stream": self.stream}

    def close(self) -> None:
        self._closing.set()
        for connection in list(self._open):
            connection.close()

    def later(self, one: Cursor, other: Cursor) -> Cursor:
        return larger(one, other)

    def connect(self, cursor: Cursor) -> Iterator[Event]:
        stream = self._websocket() if self.url.startswith("ws") else self._server_events()
        for message in stream:
            if message is None:  # the stream stands: nothing can fall between it and the timeline
                yield STANDING
                if cursor is not None:
                    yield from self._missed(cursor)
                continue
            yield _event(*message)

    def prepare(self, events: Sequence[Event], store: PostStore, state: Path) -> list[Event]:
        with StatusNumbers(state.with_suffix(".numbers.db")) as numbers:
            return numbers.resolve(events, store, self._origin())

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _origin(self) -> str:
        return "http" + self.url.removeprefix("ws").removeprefix("http").rstrip("/")

    def _websocket(self) -> Iterator[tuple[str, Any] | None]:
        base, _, tag = self.stream.partition(":")
        query = {"stream": "hashtag", "tag": tag} if base == "hashtag" else {"stream": self.stream}
        address = f"{self.url.rstrip('/')}/api/v1/streaming?{urlencode(query)}"
        for message in messages(address, self._closing, self._headers()):
            if message is None:
                yield None
                continue
            try:
                value = parse(message)
                yield str(value["event"]), value.get("payload")
            except (RecordError, KeyError, TypeError, AttributeError):
                yield "not understood", message

    def _server_events(self) -> Iterator[tuple[str, Any] | None]:
        base, _, tag = self.stream.partition(":")
        path = f"hashtag?{urlencode({'tag': tag})}" if base == "hashtag" else "/".join(filter(None, (base, tag)))
        connection = ServerEvents(self._origin(), f"/api/v1/streaming/{path}", self._headers())
        self._open.append(connection)
        try:
            yield from connection.events(self._closing)
        finally:
            self._open.remove(connection)

    def _missed(self, cursor: int) -> Iterator[Event]:
        """Statuses since `cursor`, oldest first."""
        after = max(0, cursor - (REWIND_MS << _NUMBER_BITS))
        for _ in range(_MAX_PAGES):
            try:
                page = get_json(self._origin(), self._timeline(after), self._headers())
            except SourceError as error:
                log.warning("%s: what was posted while nobody listened cannot be fetched: %s", self.place, error)
                return
            statuses = [status for status in page if isinstance(status, Mapping)] if isinstance(page, list) else []
            for status in sorted(statuses, key=_number):
                if self._closing.is_set():
                    return
                yield _event("update", status)
            newest = max(map(_number, statuses), default=0)
            if newest <= after:
                return
            after = newest
        log.warning("%s: more than %d statuses were posted while nobody listened; the rest is left out", self.place, _MAX_PAGES * _PAGE)

    def _timeline(self, after: int) -> str:
        base, _, tag = self.stream.partition(":")
        which = {"local": "true"} if tag == "local" else {"remote": "true"} if tag == "remote" else {}
        query = urlencode({"limit": _PAGE, "min_id": after, **(which if base == "public" else {})})
        return f"/api/v1/timelines/{f'tag/{quote(tag)}' if base == 'hashtag' else 'public'}?{query}"


def _number(status: Mapping[str, Any]) -> int:
    number = str(status.get("id") or "")
    return int(number) if number.isdigit() else 0


def _event(name: str, payload: Any) -> Event:
    """One event of the stream; the payload of a status is JSON, also inside a string."""
    if name == "delete":
        return Event(LocalDeletion(str(payload).strip().strip('"')))
    if name not in ("update", "status.update"):
        if name == "not understood":
            raw = payload if isinstance(payload, bytes) else str(payload).encode("utf-8", "replace")
            return Event(broken("not an event: no name and payload", "live", raw))
        return Event(Skipped(f"{name} event"))
    try:
        status = parse(payload) if isinstance(payload, (str, bytes)) else payload
    except RecordError as error:
        return Event(broken(str(error), "live", str(payload).encode("utf-8", "replace")))
    item = attempt(_edit if name == "status.update" else status_to_item, status, "live")
    number = _number(status) if isinstance(status, Mapping) else 0
    row = item.row if isinstance(item, Edit) else item
    if not number or not isinstance(row, dict):
        return Event(item)
    return Event(
        item, cursor=number if name == "update" else None, number=str(number), at_us=row["created_at"] if name == "update" else None
    )


def _edit(status: Any) -> Item:
    row = status_to_item(status)
    return Edit(row, f"{parse_time(status['edited_at']):020d}" if status.get("edited_at") else "") if isinstance(row, dict) else row
