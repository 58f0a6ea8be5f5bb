"""Fixtures of the whole suite. Tests need no network; those marked `shared` need the development data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors, and pytest-xdist already fills the cores

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data; the test is skipped, saying so, where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the development data at {SHARED_DATA} (not part of the repository)")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _no_workspace_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGORA_WORKSPACE", raising=False)
    monkeypatch.delenv("AGORA_LOG", raising=False)
