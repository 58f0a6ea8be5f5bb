"""Stopping a run kindly: SIGINT and SIGTERM ask for a stop after the running step; a further SIGINT (Ctrl-C) stops at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """`signal_name` is None until someone asks; `asked_s` is when, on the clock of time.monotonic."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self.asked_s = 0.0

    def __bool__(self) -> bool:
        return self.signal_name is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catch both signals inside the block. Outside the main thread, where Python cannot, nothing is caught."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if request:
            if number == signal.SIGTERM:
                return  # Slurm signals every process, and torchrun passes its own on: one request comes twice, and must still save
            raise KeyboardInterrupt
        request.signal_name, request.asked_s = signal.Signals(number).name, time.monotonic()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
