"""The queue: first come, first served; never more inside than slots; nobody lost."""

from __future__ import annotations

import threading
import time

import pytest

from agora.engine.queue import FairGate
from agora.errors import BusyError


def wait_until_in_line(gate: FairGate, count: int) -> None:
    deadline = time.monotonic() + 5
    while len(gate._line) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_enter_in_the_order_in_which_they_came() -> None:
    gate = FairGate()
    order: list[int] = []

    def enter(number: int) -> None:
        with gate:
            order.append(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(8)]
    with gate:
        for number, thread in enumerate(threads):
            thread.start()
            wait_until_in_line(gate, number + 1)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_slots_are_conserved() -> None:
    gate = FairGate(3)
    inside, most, lock = 0, 0, threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        for _ in range(20):
            with gate:
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 3 and gate._free == 3 and not gate._line


def test_cancelled_waiter_leaves_the_line() -> None:
    gate = FairGate()
    cancelled = threading.Event()
    results: list[bool] = []
    with gate:
        waiter = threading.Thread(target=lambda: results.append(gate.acquire(cancelled)))
        waiter.start()
        wait_until_in_line(gate, 1)
        cancelled.set()
        waiter.join()
    assert results == [False] and gate._free == 1 and not gate._line


def test_full_line_turns_away() -> None:
    gate = FairGate(1, max_waiting=0)
    with gate, pytest.raises(BusyError, match="try again"):
        gate.acquire()
