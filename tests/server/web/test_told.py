"""What pages tell of actions and answers, without a browser."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("nicegui")

from agora.errors import DataError
from agora.server.web import admin
from agora.server.web.ask import forgotten
from agora.server.web.site import Site


def test_an_audit_log_that_fails_is_told_and_is_written_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    threads: list[int] = []

    def add(*words: Any, **details: Any) -> None:
        threads.append(threading.get_ident())
        raise DataError("the disk is full")

    async def still_in(viewer: Any) -> bool:
        return True

    monkeypatch.setattr(admin, "quick", lambda problem: told.append(str(problem)))
    monkeypatch.setattr("agora.server.web.site.still_in", still_in)
    accounts = SimpleNamespace(
        change=lambda name, is_disabled: None, revoke=lambda key: None, new_key=lambda *a, **k: SimpleNamespace(id=1)
    )
    people = SimpleNamespace(accounts=accounts, audit=SimpleNamespace(add=add))
    page = admin._Admin(Site(None, people), SimpleNamespace(caller=SimpleNamespace(name="root")))  # type: ignore[arg-type]

    async def act() -> None:
        await page.change("ada", True)
        await page.revoke(3)
        await page.add_key("ada")

    asyncio.run(act())
    assert len(told) == 3 and all("The server failed" in one for one in told)
    assert threading.get_ident() not in threads


def test_forgotten_messages_are_told() -> None:
    assert "its first message was not read" in forgotten(1) and "its first 12 messages were not read" in forgotten(12)
