"""Bluesky live, through a Jetstream server: WebSocket, one JSON event per message, optionally as zstd frames.

The cursor is the time of an event at the server, in microseconds. A new connection begins REWIND_US before it, as the order of events
around a cursor is not certain; what comes twice is stored once. Frames of zstd need the server's dictionary as a file (`dictionary`):
it is not fetched. Which events become what: sources/bluesky_jetstream.py.

Command: `agora posts follow bluesky`
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlunsplit

from agora.errors import MissingExtraError, RecordError, SourceError, UsageError
from agora.posts.follow.live import STANDING, Cursor, Event, checked_url, larger
from agora.posts.follow.websocket import messages
from agora.posts.sources.bluesky import POST, REPOST
from agora.posts.sources.bluesky_jetstream import event_to_item
from agora.posts.sources.json_stream import MAX_RECORD_BYTES, parse
from agora.posts.sources.record import attempt, broken
from agora.posts.store import PostStore

NAME: Final = "bluesky"
PUBLIC_URL: Final = "wss://jetstream2.us-east.bsky.network/subscribe"
"""One of the four public servers of Bluesky (README of bluesky-social/jetstream)."""
COLLECTIONS: Final = (POST, REPOST)
REWIND_US: Final = 5_000_000
"""The server's authors advise "a few seconds" for playback without gaps."""
_AHEAD_US: Final = 60_000_000  # a cursor beyond the server's clock would mean "from now on": an event dated later moves none
_GAP_US: Final = 60_000_000  # a first event this long after the cursor is worth a warning

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlueskyStream:
    """`collections` are the record types asked for; account events come in any case. Raises UsageError for a wrong address."""

    url: str = PUBLIC_URL
    collections: tuple[str, ...] = COLLECTIONS
    dictionary: Path | None = None
    name: str = NAME
    _closing: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_url(self.url, ("wss", "ws"), PUBLIC_URL)

    @property
    def place(self) -> str:
        return self.url

    @property
    def identity(self) -> Mapping[str, str]:
        return {"source": NAME, "url": self.url, "collections": " ".join(sorted(self.collections))}

    def close(self) -> None:
        self._closing.set()

    def later(self, one: Cursor, other: Cursor) -> Cursor:
        return larger(one, other)

    def prepare(self, events: Sequence[Event], store: PostStore, state: Path) -> list[Event]:
        return list(events)

    def connect(self, cursor: Cursor) -> Iterator[Event]:
        frames = _Frames(self.dictionary)
        expected = cursor
        for message in messages(self.subscription(cursor), self._closing):
            if message is None:
                yield STANDING
                continue
            event = _event(frames.plain(message) if isinstance(message, bytes) else message)
            if expected and event.at_us and event.at_us - expected > _GAP_US:
                log.warning("%s: nothing between %s and %s; the server may no longer hold it", self.url, _iso(expected), _iso(event.at_us))
            expected = None
            yield event

    def subscription(self, cursor: Cursor) -> str:
        """The address to connect to."""
        parts = checked_url(self.url, ("wss", "ws"), PUBLIC_URL)
        query = [*parse_qsl(parts.query), *(("wantedCollections", name) for name in self.collections)]
        if self.dictionary is not None:
            query.append(("compress", "true"))
        if cursor is not None:
            query.append(("cursor", str(max(0, cursor - REWIND_US))))
        return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def _event(message: str | bytes) -> Event:
    try:
        value = parse(message)
    except RecordError as error:
        return Event(broken(str(error), "live", message.encode("utf-8", "replace") if isinstance(message, str) else message))
    at_us = value.get("time_us") if isinstance(value, Mapping) else None
    if not isinstance(at_us, int) or isinstance(at_us, bool) or at_us > time.time() * 1e6 + _AHEAD_US:
        at_us = None
    return Event(attempt(event_to_item, value, "live"), cursor=at_us, at_us=at_us)


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, timezone.utc).isoformat(timespec="seconds")


class _Frames:
    """Frames of zstd, with the dictionary that the server compressed them with."""

    def __init__(self, dictionary: Path | None) -> None:
        """Raises UsageError when the file cannot be read or is no dictionary, MissingExtraError without the package."""
        self._decompressor: Any = None
        self._number: int | None = None
        if dictionary is None:
            return
        zstandard = _zstandard()
        try:
            parsed = zstandard.ZstdCompressionDict(dictionary.read_bytes(), dict_type=zstandard.DICT_TYPE_FULLDICT)
            self._decompressor, self._number = zstandard.ZstdDecompressor(dict_data=parsed), parsed.dict_id()
            self._decompressor.decompress(zstandard.ZstdCompressor(dict_data=parsed).compress(b"{}"))
        except OSError as error:
            raise UsageError(f"--dictionary {dictionary} cannot be read: {error.strerror}") from error
        except zstandard.ZstdError as error:
            raise UsageError(f"--dictionary {dictionary} is no zstd dictionary: {error}") from error

    def plain(self, frame: bytes) -> bytes:
        """The message inside; a broken frame comes back as it is, for the quarantine. Raises SourceError for another dictionary's."""
        if self._decompressor is None:
            raise SourceError("the server sends zstd frames; give their dictionary with --dictionary FILE (docs/follow.md)")
        zstandard = _zstandard()
        try:
            parameters = zstandard.get_frame_parameters(frame)
            if parameters.dict_id not in (0, self._number):
                raise SourceError(
                    f"the server compresses with dictionary {parameters.dict_id}, but --dictionary holds {self._number}; get the new one"
                )
            is_stated = parameters.content_size not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)
            if is_stated and parameters.content_size > MAX_RECORD_BYTES:
                return frame
            plain: bytes = self._decompressor.decompress(frame, max_output_size=MAX_RECORD_BYTES)
        except zstandard.ZstdError:
            return frame
        return plain


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("zstandard", "follow", "reading zstd frames") from None
    return zstandard
