"""What signals ask of a run."""

from __future__ import annotations

import os
import signal

import pytest

from agora.training.signals import stop_on_signals


def test_a_request_that_comes_twice_is_one() -> None:
    with stop_on_signals() as stop:
        assert not stop
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_name == "SIGTERM"


def test_a_second_interrupt_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")
