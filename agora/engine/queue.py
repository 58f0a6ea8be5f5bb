"""Who computes next: first come, first served, and never more than a fixed number at once."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from agora.errors import BusyError


class FairGate:
    """Lets `slots` threads in at a time, in the order in which they came.

    A lock of the standard library promises no order: one long answer could starve the others.
    """

    def __init__(self, slots: int = 1, *, max_waiting: int | None = None) -> None:
        assert slots >= 1
        self._free = slots
        self._max_waiting = max_waiting
        self._mutex = threading.Lock()
        self._line: deque[threading.Event] = deque()

    def acquire(self, cancelled: threading.Event | None = None) -> bool:
        """Wait for a slot; False when `cancelled` was set first. Raises BusyError when too many wait already."""
        with self._mutex:
            if self._free and not self._line:
                self._free -= 1
                return True
            if self._max_waiting is not None and len(self._line) >= self._max_waiting:
                raise BusyError(f"{len(self._line)} requests wait already, which is the limit; try again later")
            turn = threading.Event()
            self._line.append(turn)
        try:
            while not turn.wait(timeout=None if cancelled is None else 0.05):
                if cancelled is not None and cancelled.is_set():
                    self._leave(turn)
                    return False
        except BaseException:  # Ctrl-C while waiting: give the place up before going on
            self._leave(turn)
            raise
        return True

    def _leave(self, turn: threading.Event) -> None:
        with self._mutex:
            called = turn.is_set()
            if not called:
                self._line.remove(turn)
        if called:
            self.release()

    def release(self) -> None:
        """Give the slot to the first in line."""
        with self._mutex:
            if self._line:
                self._line.popleft().set()
            else:
                self._free += 1

    def __enter__(self) -> FairGate:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
