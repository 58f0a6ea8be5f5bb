"""The tests of ads are the same with and without the extra `minilm`: likeness in meaning is off but in slow tests, which are about it."""

from __future__ import annotations

import pytest

from agora.ads.policy import likeness


@pytest.fixture(autouse=True)
def _rules_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(likeness, "is_available", lambda language: False)
