"""Who answers in conversations: the assistant (agora/chat) over the workspace. Goes in: what was asked. Comes out: events.

Where a model is served it writes, and each of its sentences is kept only if the posts it names support it; without one posts are quoted.
What is deleted from the store is no evidence, whether the index has caught up or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agora.chat import Assistant, ChatEvent, Personas, event_as_json
from agora.search.answers.workspace import Undeleted
from agora.server.asking import Answerer, Asked, Event
from agora.server.services import Services


def posts_answerer(services: Services, personas: Personas) -> Answerer:
    """Answers from the posts of the workspace."""

    def answer(asked: Asked) -> Iterator[Event]:
        searcher = services.search()
        with services.store() as store:
            deletions = store.deletions()
        assistant = Assistant(Undeleted(searcher, deletions), services.writer, personas=personas)
        for event in assistant.answer(asked.messages, persona=asked.persona, now=asked.now, cancelled=asked.cancelled):
            yield _event(event)

    return answer


def _event(event: ChatEvent) -> Event:
    data: dict[str, Any] = event_as_json(event)
    kind = data.pop("type")
    if kind == "done":
        reply = data["answer"]
        names = ("kind", "question", "queries", "writer", "abstained", "confidence", "is_grounded", "num_forgotten", "num_removed")
        data = {name: reply[name] for name in names}
    return Event(kind, data)
