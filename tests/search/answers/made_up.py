"""Posts written for tests, and models that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from agora.engine.interface import Delta
from agora.search.answers import Evidence
from tests.search.answers.memory_find import MemoryFinder

NOW = datetime(2026, 3, 15, 12, tzinfo=timezone.utc)


def post(
    id: str, text: str, author: str = "anna", *, days_ago: float = 1.0, kind: str = "post", ref_id: str | None = None
) -> dict[str, Any]:
    """A row with what answers read of a post."""
    return {
        "id": id, "author": author, "created_at": NOW - timedelta(days=days_ago), "text": text, "lang": None, "kind": kind,
        "ref_id": ref_id, "ref_author": None, "urls": [], "hashtags": [], "mentions": [], "media": [], "source": "test",
    }  # fmt: skip


def evidence(id: str, text: str, author: str = "anna", **values: Any) -> Evidence:
    """A post as evidence."""
    fields: dict[str, Any] = {
        "number": 1, "id": id, "author": author, "created_at": NOW, "text": text, "kind": "post", "ref_id": None, "ref_author": None,
        "voice": author, "label": None, "alike": 0, "score": 1.0,
    }  # fmt: skip
    return Evidence(**{**fields, **values})


TRAINS = [
    post("t1", "The night trains to Lindau were cancelled again. 300 passengers waited at the station.", "berta", days_ago=1),
    post("t2", "@railways why were the night trains cancelled? Nobody at the station knows.", "carl", days_ago=1.1),
    post("t3", "Night trains to Lindau run again since this morning, says the stationmaster. #trains", "dora", days_ago=0.5),
    post("t4", "The minister did not resign over the trains, whatever people say.", "emil", days_ago=0.4),
    post("t5", "Bread at the harvest festival was excellent 🍞🎉", "frida", days_ago=3),
]


def trains(extra: Sequence[Mapping[str, Any]] = (), **options: Any) -> MemoryFinder:
    """A searcher over the posts about trains and `extra` ones."""
    return MemoryFinder([*TRAINS, *extra], **options)


class ScriptedModel:
    """Says what `answer` makes of the user message."""

    name = "scripted"
    created = 0
    context_tokens = 100_000

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer
        self.asked: list[Sequence[Mapping[str, str]]] = []

    def chat(self, messages: Sequence[Mapping[str, str]], sampling: Any, *, cancelled: Any = None) -> Iterator[Delta]:
        self.asked.append(messages)
        yield Delta(text=self._answer(messages[-1]["content"]), finish_reason="stop")

    def complete(self, prompt: Any, sampling: Any, *, cancelled: Any = None) -> Iterator[Delta]:
        raise NotImplementedError
