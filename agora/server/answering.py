"""Who answers in conversations: posts are searched and quoted, or a model writes from them. Goes in: what was asked. Comes out: events.

The last question is answered; where a model is served it writes, and each of its sentences is kept only if the posts it names support it.
"""

from __future__ import annotations

from collections.abc import Iterator

from agora.server.api.search import Answered, SearchArea
from agora.server.asking import Answerer, Asked, Event
from agora.server.services import Services


def posts_answerer(area: SearchArea, services: Services) -> Answerer:
    """Answers from the posts of the workspace."""

    def answer(asked: Asked) -> Iterator[Event]:
        yield Event("step", {"text": "Searching posts"})
        found = area.ask(asked.messages[-1]["content"], now=asked.now, model=services.writer)
        yield Event("step", {"text": f"Read {len(found.posts)} posts for: {found.query}"})
        yield from as_events(found)

    return answer


def as_events(found: Answered) -> Iterator[Event]:
    """An answer, sentence by sentence, with what it cites."""
    numbers = {post.id: number for number, post in enumerate(found.posts, start=1)}
    for post in found.posts:
        yield Event("citation", {"number": numbers[post.id], "post_id": post.id, **post.model_dump(exclude={"id"})})
    for warning in found.warnings:
        yield Event("warning", {"text": warning})
    if found.abstained:
        yield Event("text", {"delta": found.abstained})
    for place, sentence in enumerate(found.sentences):
        cites = "".join(f"[{numbers[post_id]}]" for post_id in sentence.post_ids if post_id in numbers)
        yield Event("text", {"delta": f"{' ' if place else ''}{sentence.text} {cites}".rstrip()})
    yield Event("done", {"abstained": found.abstained is not None, "query": found.query, "writer": found.writer})
