"""What a live source is: something that connects from a cursor, gives events, and may lose its connection at any time.

Goes in: a cursor, as JSON. Comes out: Events; ConnectionLost when the same may be tried again, an AgoraError when trying again is useless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import SplitResult, urlsplit

from agora.errors import SourceError, UsageError
from agora.posts.sources.record import Item
from agora.posts.store import PostStore

Cursor: TypeAlias = Any
"""A value of JSON that says how far a source was read."""

_TRY_AGAIN: Final = frozenset([408, 425, 429])
"""Answers between 400 and 499 that are about the moment, not about the request (RFC 9110, RFC 8470, RFC 6585)."""
_LOOPBACK: Final = frozenset(["localhost", "127.0.0.1", "::1"])


class ConnectionLost(Exception):
    """The connection ended or could not be made. `retry_after_s` is the server's own wish, if it named one."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class LocalDeletion:
    """The deletion of a post of which only the server's own number is said."""

    number: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `item` is None when it only moves the cursor; `number` is the server's own number of the post, where that is not its id;
    `at_us` is when the source says that it happened."""

    item: Item | LocalDeletion | None
    cursor: Cursor = None
    number: str | None = None
    at_us: int | None = None


STANDING: Final = Event(None)
"""What every connection says first."""


class LiveSource(Protocol):
    """One stream. `identity` tells it from others: a cursor belongs to it."""

    @property
    def name(self) -> str:
        """A word for its files."""

    @property
    def place(self) -> str:
        """Where it is read, for people."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What is followed; never a secret."""

    def connect(self, cursor: Cursor) -> Iterator[Event]:
        """The events of one connection, from `cursor` on (repeats are welcome, gaps are not). Raises ConnectionLost, SourceError."""

    def close(self) -> None:
        """End a running `connect` soon; called from another thread."""

    def later(self, one: Cursor, other: Cursor) -> Cursor:
        """Whichever of two cursors is further; None is before all."""

    def prepare(self, events: Sequence[Event], store: PostStore, state: Path) -> list[Event]:
        """The events with posts named as the store names them; called once per batch, before it is stored. `state` is a name for files
        of its own."""


def larger(one: Cursor, other: Cursor) -> Cursor:
    """The further of two cursors that are numbers; None is before all."""
    return max((cursor for cursor in (one, other) if cursor is not None), default=None)


def checked_url(url: str, schemes: Sequence[str], example: str) -> SplitResult:
    """The parts of `url`. Raises UsageError."""
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if not port_is_valid or parts.scheme not in schemes or not parts.hostname or parts.fragment or parts.username:
        raise UsageError(f"--url {url!r} is not an address with {' or '.join(schemes)}; example: {example}")
    return parts


def is_safe_for_secrets(parts: SplitResult) -> bool:
    """Whether a token may be sent there: encrypted, or to this machine."""
    return parts.scheme in ("https", "wss") or parts.hostname in _LOOPBACK


def refusal(place: str, status: int, location: str | None, retry_after: str | None) -> Exception:
    """What an HTTP answer other than success means for whoever wanted to connect."""
    if 300 <= status < 400:
        return SourceError(f"{place} sends to {location!r}; nothing is fetched but what you name: give that address with --url")
    if 400 <= status < 500 and status not in _TRY_AGAIN:
        hint = "; it asks for a token, see agora posts follow --help" if status in (401, 403, 422) else ""
        return SourceError(f"{place} refuses the connection (HTTP {status}){hint}")
    wait = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ConnectionLost(f"HTTP {status}", wait)
