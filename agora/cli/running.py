"""Commands that run until they are stopped: by a signal, or after a time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agora.errors import UsageError
from agora.units import parse_seconds


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; the second ends the program at once."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def seconds_of(for_: str | None) -> float | None:
    """The value of `--for`. Raises UsageError."""
    try:
        return parse_seconds(for_) if for_ else None
    except ValueError as error:
        raise UsageError(f"--for {error}") from error


__all__ = ["seconds_of", "stopped_by_signals"]
