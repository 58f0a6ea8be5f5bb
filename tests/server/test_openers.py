"""Questions to begin with: what they are about, and that posts on it answer them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from agora.server.api.openers import QUESTIONS, Openers, things

NAMED = (
    "I waited for the night bus again.", "The night bus is never on time", "They say the night bus was late.",
    "The price of bread is a joke.",
    "The price of bread was higher.", "They raised the price of bread and nobody asked", "He is the only one", "She was the only good one",
    "It is the only bad thing", "about sourdough: it takes time", "Nobody talks about sourdough.", "I think about sourdough at night",
    "The week was long", "the week is over", "All about the week", "I have the feeling.", "You have the feeling", "I know the feeling",
)  # fmt: skip


class Square:
    """A searcher over a few posts. `times`: how often each was said before."""

    def __init__(self, posts: list[tuple[str, str, str | None]], times: int = 4) -> None:
        self.posts, self.times = posts, times

    def find(self, query: str, *, mode: str = "top", limit: int = 10) -> Any:
        hits = [SimpleNamespace(post={"text": text, "lang": "en"}, voice=voice, label=label) for text, voice, label in self.posts]
        found = [hit for hit in hits if query.strip('"') in hit.post["text"].lower()]
        return SimpleNamespace(hits=found[:limit], total=self.times * len(found) if query else 4_000)


def square(*more: tuple[str, str, str | None], times: int = 4) -> Any:
    return Square([*((text, f"account:{number}", None) for number, text in enumerate(NAMED)), *more], times)


def test_things_are_named_in_the_words_that_voices_use_and_nothing_else_is() -> None:
    assert sorted(things(square())) == ["sourdough", "the night bus", "the price of bread"]


def test_one_voice_labelled_posts_and_what_was_never_said_before_name_nothing() -> None:
    flood = "Everything about the Zelmar plan"
    assert "the Zelmar plan" not in things(square(*[(flood, "campaign:1", None)] * 9))
    assert "the Zelmar plan" not in things(square(*[(flood, f"account:z{number}", "acts together") for number in range(9)]))
    assert things(square(times=1)) == []
    assert "the Zelmar plan" in things(square(*[(flood, f"account:z{number}", None) for number in range(9)]))


def test_only_questions_that_posts_on_the_thing_answer_are_offered_and_no_two_begin_alike() -> None:
    asked: list[str] = []

    def answer(question: str) -> list[str]:
        asked.append(question)
        return ["The night bus is late.", "I like the night bus."] if "bus" in question else ["Bread is dear.", "sourdough takes time"] * 2

    found = Openers(answer).read(square(), 3)
    assert {one.split(" ")[-1] for one in found} == {"bus?", "sourdough?"} and len(asked) == 3
    assert all(one.startswith(form.partition("{")[0]) for one, form in zip(found, QUESTIONS[:2], strict=True))
