"""Who answers in conversations: the assistant (agora/chat) over the workspace. Goes in: what was asked. Comes out: events.

Where a model is served it writes, and each of its sentences is kept only if the posts it names support it; without one posts are quoted.
What is deleted from the store is no evidence, whether the index has caught up or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agora.chat import Assistant, ChatEvent, event_as_json
from agora.chat.square import open_assistant
from agora.engine import LanguageModel
from agora.server.asking import Answerer, Asked, Event
from agora.server.services import Services


def assistant_of(services: Services) -> Assistant:
    """The assistant of the workspace, on its held searcher."""
    return open_assistant(services.place, services.writer, searcher=services.searcher)


def posts_answerer(services: Services) -> Answerer:
    """Answers from the posts of the workspace, written by the model that is served when they begin."""
    held: tuple[LanguageModel | None, Assistant] | None = None

    def of_now() -> Assistant:
        nonlocal held
        writer, before = services.writer, held
        if before is None or before[0] is not writer:
            before = held = (writer, assistant_of(services))
        return before[1]

    def answer(asked: Asked) -> Iterator[Event]:
        assistant = of_now()
        services.search()  # says what is missing before anything is looked for
        with services.store():
            pass
        how: dict[str, Any] = {"persona": asked.persona, "now": asked.now, "cancelled": asked.cancelled}
        events = assistant.research(asked.messages[-1]["content"], **how) if asked.is_deep else assistant.answer(asked.messages, **how)
        for event in events:
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
