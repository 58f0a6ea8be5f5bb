"""Conversations between a member and an assistant about the square, for chat tuning. Same grammar, same happenings as the posts.

Goes in: a SquareConfig and how many. Comes out: lists of {"role", "content"}, user first, roles alternating.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from agora.posts.square.config import SquareConfig
from agora.posts.square.grammar import Grammar
from agora.posts.square.population import build_population
from agora.posts.square.schedule import build_schedule

_CHUNK = 256
_HAPPENING = 0.25  # share of conversations about something that happens in this square
_LOWERCASE = 0.25  # share of users who write without capitals
_GREETING, _FOLLOW_UP, _SECOND_FOLLOW_UP, _THANKS = 0.2, 0.55, 0.3, 0.25
_REQUESTS: Final = (
    ("ask_news", "tell_news", 0.27),
    ("ask_people", "tell_people", 0.25),
    ("ask_advice", "tell_advice", 0.2),
    ("ask_write", "opinion", 0.05),
    ("ask_write", "question", 0.03),
    ("small_feel", "small_feel_back", 0.05),
    ("small_joke", "small_joke_back", 0.03),
    ("small_who", "small_who_back", 0.04),
    ("unknown", "unknown_back", 0.08),
)
_FOLLOW_UPS: Final = (("ask_reason", "tell_reason"), ("ask_more", "tell_more"))


def dialogues(config: SquareConfig, count: int) -> Iterator[list[dict[str, str]]]:
    """`count` conversations; the first n are the same whatever `count` is."""
    grammar = Grammar()
    schedule = build_schedule(config, build_population(config, grammar), grammar)
    topics = np.asarray(grammar.everyday("en"))
    for chunk in range(-(-count // _CHUNK)):
        rng = np.random.default_rng([config.seed, 6, chunk])
        size = min(_CHUNK, count - chunk * _CHUNK)
        plans = [_plan(rng) for _ in range(_CHUNK)]
        chosen = rng.choice(topics, _CHUNK).astype(np.int32)
        subjects = np.array([rng.choice(grammar.topics[topic].subjects) for topic in chosen], np.int32)
        if schedule.bursts:
            about = np.flatnonzero(rng.random(_CHUNK) < _HAPPENING)
            bursts = [schedule.bursts[number] for number in rng.integers(len(schedule.bursts), size=len(about))]
            chosen[about], subjects[about] = [burst.topic for burst in bursts], [burst.subject for burst in bursts]
        lengths = [len(plan) for plan in plans]
        symbols = np.array([grammar.symbol(name) for plan in plans for name in plan], np.int32)
        texts = grammar.write(symbols, np.repeat(chosen, lengths), np.repeat(subjects, lengths), rng).to_pylist()
        lower = rng.random(_CHUNK) < _LOWERCASE
        start = 0
        for number in range(size):
            yield _messages(texts[start : start + lengths[number]], bool(lower[number]))
            start += lengths[number]


def _plan(rng: np.random.Generator) -> list[str]:
    """Symbols of a conversation: perhaps a greeting, a request, perhaps follow-ups, perhaps thanks."""
    draw = rng.random(4)
    ask, tell, _ = _REQUESTS[int(rng.choice(len(_REQUESTS), p=[share for *_, share in _REQUESTS]))]
    plan = ["greeting", "greeting_back"] if draw[0] < _GREETING else []
    plan += [ask, tell]
    if tell.startswith("tell") and draw[1] < _FOLLOW_UP:
        order = rng.permutation(len(_FOLLOW_UPS))
        plan += _FOLLOW_UPS[order[0]]
        if draw[2] < _SECOND_FOLLOW_UP:
            plan += _FOLLOW_UPS[order[1]]
    return plan + (["say_thanks", "thanks_back"] if draw[3] < _THANKS else [])


def _messages(texts: list[str], lower: bool) -> list[dict[str, str]]:
    messages = []
    for number, text in enumerate(texts):
        is_user = number % 2 == 0
        messages.append({"role": "user" if is_user else "assistant", "content": text.lower() if is_user and lower else text})
    return messages
