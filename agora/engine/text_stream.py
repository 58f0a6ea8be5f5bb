"""Tokens to text, piece by piece. Goes in: the bytes of one token after the other. Comes out: text that is final.

Never half a UTF-8 character, never a part of a stop string: what may still become either is held back. However the bytes
are cut into tokens, the joined text is the same.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer. Bytes that are no UTF-8 become U+FFFD."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._bytes = b""
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False
        """True once a stop string is complete; no text comes after it."""

    def push(self, data: bytes) -> str:
        """The text that became final with these bytes."""
        return self._advance(self._decode(data, False))

    def finish(self) -> str:
        """What was held back, when no more bytes come."""
        text = self._advance(self._decode(b"", True))
        rest, self._held = ("" if self.stopped else self._held), ""
        return text + rest

    def _decode(self, data: bytes, is_end: bool) -> str:
        data = self._bytes + data
        text, used = codecs.utf_8_decode(data, "replace", is_end)
        self._bytes = data[used:]
        return text

    def _advance(self, text: str) -> str:
        if self.stopped:
            return ""
        if not self._stop:
            return text
        old = len(self._held)
        self._held += text
        match = _first_stop(self._held, self._stop, old)
        if match is not None:
            self.stopped = True
            final, self._held = self._held[:match], ""
            return final
        keep = _possible_start(self._held, self._stop)
        final, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return final


def _first_stop(text: str, stops: Sequence[str], searched: int) -> int | None:
    """Where the stop string begins that is complete first (the longest of several); `text[:searched]` holds none."""
    found = [(start + len(stop), start) for stop in stops if (start := text.find(stop, max(0, searched - len(stop) + 1))) >= 0]
    return min(found)[1] if found else None


def _possible_start(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` with which a stop string begins."""
    longest = min(len(text), max(len(stop) for stop in stops) - 1)
    return next((n for n in range(longest, 0, -1) if any(len(stop) > n and text.endswith(stop[:n]) for stop in stops)), 0)
