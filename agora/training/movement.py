"""Whether work on files goes on. Goes in: what is done with them. Comes out: a number that grows with every piece, which another thread may
watch (watchdog.py): a long upload is no hanging one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_AT_ONCE_BYTES: Final = 16 << 20  # read in one go: a longer one would look like standing still
_WAITING_BYTES: Final = 64 << 20  # written before they are waited for: pyarrow sends in the background and would keep all in memory


class Movement:
    """What a store does, for another thread that watches: `doing` in words (empty: nothing) and how often something of it was done."""

    def __init__(self) -> None:
        self.doing = ""
        self.count = 0

    @contextmanager
    def of(self, words: str) -> Iterator[None]:
        """While something is done."""
        before, self.doing = self.doing, words
        self.count += 1
        try:
            yield
        finally:
            self.count += 1
            self.doing = before


class Counted:
    """A file of which every piece that is read or written counts as movement."""

    def __init__(self, stream: Any, movement: Movement) -> None:
        self._stream, self._movement, self._waiting_bytes = stream, movement, 0

    def write(self, data: bytes | memoryview) -> None:
        """As of a file; what was written long ago is waited for."""
        self._stream.write(data)
        self._movement.count += 1
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _WAITING_BYTES:
            self._stream.flush()
            self._movement.count += 1
            self._waiting_bytes = 0

    def read(self, *size: int) -> Any:
        """As of a file."""
        self._movement.count += 1
        return self._stream.read(*size)

    def readinto(self, view: memoryview) -> int:
        """As of a file: often less than asked for."""
        self._movement.count += 1
        return int(self._stream.readinto(memoryview(view)[:_AT_ONCE_BYTES]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
