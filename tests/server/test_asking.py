"""Answers as they are stored: whole states, whatever happens to whoever listens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agora.database import Database
from agora.errors import UsageError
from agora.server.accounts import Accounts
from agora.server.asking import Asked, Asker, Event, Growing
from agora.server.conversations import Conversations
from agora.server.errors import ApiError
from agora.server.running import Stopping
from agora.server.tables import open_database


@pytest.fixture
def talks(tmp_path: Path) -> Iterator[tuple[Conversations, int, str]]:
    database: Database = open_database(tmp_path / "server.db")
    account = Accounts(database).ensure("ada", scopes=["member"]).account
    made = Conversations(database)
    yield made, account, made.begin(account, "talk")
    database.close()


def run(asker: Asker, answer: int, asked: Asked, *, leave_after: int | None = None) -> list[Event]:
    async def listen() -> list[Event]:
        events = []
        stream = asker.events(answer, asked)
        async for event in stream:
            events.append(event)
            if leave_after is not None and len(events) >= leave_after:
                break
        await stream.aclose()
        return events

    return asyncio.run(listen())


def test_a_question_is_stored_before_anything_answers(talks: tuple[Conversations, int, str]) -> None:
    conversations, account, talk = talks
    seen: list[list[str]] = []

    def answer(asked: Asked) -> Iterator[Event]:
        seen.append([f"{one['role']}:{one['state']}" for one in conversations.read(account, talk)["messages"]])
        yield Event("text", {"delta": "all "})
        yield Event("citation", {"number": 1, "post_id": "p1"})
        yield Event("text", {"delta": "of it"})
        yield Event("done", {"abstained": None})

    asker = Asker(conversations, answer, Stopping())
    _, number, asked = asker.begin(account, talk, "why?")
    events = run(asker, number, asked)
    assert seen == [["user:complete", "assistant:writing"]]
    stored = conversations.read(account, talk)["messages"][1]
    assert (stored["content"], stored["state"]) == ("all of it", "complete")
    assert stored["details"]["citations"] == [{"number": 1, "post_id": "p1"}]
    assert events[-1].kind == "done" and events[-1].data["state"] == "complete"


def test_whoever_leaves_stops_the_answer_and_what_was_said_stays(talks: tuple[Conversations, int, str]) -> None:
    conversations, account, talk = talks
    left, ended = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Iterator[Event]:
        yield Event("text", {"delta": "half"})
        asked.cancelled.wait(10)
        left.set()
        yield Event("text", {"delta": " never"})

    class Watched(Conversations):
        def write(self, *args: object, **kwargs: object) -> None:
            super().write(*args, **kwargs)  # type: ignore[arg-type]
            if kwargs.get("state") != "writing":
                ended.set()

    conversations.__class__ = Watched
    asker = Asker(conversations, answer, Stopping())
    _, number, asked = asker.begin(account, talk, "why?")
    run(asker, number, asked, leave_after=1)
    assert left.wait(10) and ended.wait(10)
    stored = conversations.read(account, talk)["messages"][1]
    assert (stored["content"], stored["state"]) == ("half", "stopped")


def test_an_answer_that_fails_says_so_and_keeps_what_it_had(talks: tuple[Conversations, int, str]) -> None:
    conversations, account, talk = talks

    def answer(asked: Asked) -> Iterator[Event]:
        yield Event("text", {"delta": "half"})
        raise UsageError("no index; make it: agora search index")

    asker = Asker(conversations, answer, Stopping())
    _, number, asked = asker.begin(account, talk, "why?")
    kinds = [event.kind for event in run(asker, number, asked)]
    stored = conversations.read(account, talk)["messages"][1]
    assert kinds == ["text", "error", "done"]
    assert (stored["content"], stored["state"]) == ("half", "failed") and "agora search index" in stored["details"]["error"]


def test_asking_again_replaces_the_answer_and_an_edit_what_follows(talks: tuple[Conversations, int, str]) -> None:
    conversations, account, talk = talks

    def answer(asked: Asked) -> Iterator[Event]:
        yield Event("text", {"delta": asked.messages[-1]["content"].upper()})

    asker = Asker(conversations, answer, Stopping())
    question, number, asked = asker.begin(account, talk, "first")
    run(asker, number, asked)
    _, number, asked = asker.begin(account, talk, None)
    run(asker, number, asked)
    assert [one["content"] for one in conversations.read(account, talk)["messages"]] == ["first", "FIRST"]
    _, number, asked = asker.begin(account, talk, "second", after=question)
    run(asker, number, asked)
    assert [one["content"] for one in conversations.read(account, talk)["messages"]] == ["second", "SECOND"]
    assert [one["role"] for one in asked.messages] == ["user"]
    with pytest.raises(UsageError):
        asker.begin(account + 1, talk, "not mine")


def test_what_cannot_be_asked_changes_nothing(talks: tuple[Conversations, int, str]) -> None:
    conversations, account, talk = talks
    asker = Asker(conversations, lambda asked: iter(()), Stopping())
    question, _, _ = asker.begin(account, talk, "first")
    other = conversations.begin(account, "other")
    elsewhere, _, _ = asker.begin(account, other, "elsewhere")
    before = conversations.read(account, talk)
    for text, after in ((None, 0), ("x", 0), ("x", 10_000), ("x", elsewhere), (None, question), ("x" * 100_001, question)):
        with pytest.raises(ApiError) as refused:
            asker.begin(account, talk, text, after=after)
        assert refused.value.status_code == 400
        assert conversations.read(account, talk) == before, (text, after)


def test_why_an_answer_failed_is_part_of_it_while_it_grows() -> None:
    grown = Growing()
    grown.take(Event("error", {"text": "there is no index"}))
    assert grown.details["error"] == "there is no index"
