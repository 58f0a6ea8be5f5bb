"""The tests of ads are the same with and without the extra `minilm`: likeness in meaning is off but in slow tests, which are about it.
They are the same on every day: counts have the noise of one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from agora.ads import counts
from agora.ads.policy import likeness


@pytest.fixture(autouse=True)
def _rules_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(likeness, "is_available", lambda language: False)


@pytest.fixture(scope="session", autouse=True)
def _noise_of_one_day() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "_OF_PROCESS", b"tests")
        patch.setattr(counts, "_today", lambda: date(2026, 1, 1))
        yield
