"""The word lists: complete, without slots that lead nowhere."""

from __future__ import annotations

import numpy as np
import pytest

from agora.posts.square.grammar import Grammar
from agora.posts.square.window import ACTS

GRAMMAR = Grammar()
STARTS = [name for name in ACTS if name not in ("reply", "reply_self", "slogan")]
REPLIES = [f"reply_{name}" for name in ("opinion", "question", "update", "tips", "news", "joke", "smalltalk", "reply", "self")]
CHAT = ["ask_news", "tell_news", "ask_people", "tell_people", "ask_advice", "tell_advice", "tell_reason", "tell_more", "greeting_back"]


def write(name: str, topic: int, count: int = 40, seed: int = 0) -> list[str]:
    subjects = np.resize(np.array(GRAMMAR.topics[topic].subjects, np.int32), count)
    symbols = np.full(count, GRAMMAR.symbol(name), np.int32)
    return list(GRAMMAR.write(symbols, np.full(count, topic, np.int32), subjects, np.random.default_rng(seed)).to_pylist())


@pytest.mark.parametrize("topic", range(len(GRAMMAR.topics)), ids=[topic.name for topic in GRAMMAR.topics])
def test_every_topic_can_say_everything(topic: int) -> None:
    names = STARTS + REPLIES + (CHAT if GRAMMAR.topics[topic].lang == "en" else [])
    for name in names:
        assert GRAMMAR.num_alternatives(name, topic) > 0, name
        for text in write(name, topic):
            assert text.strip() and "{" not in text and "}" not in text


def test_there_are_thousands_of_slots() -> None:
    assert GRAMMAR._count.max(axis=1).sum() > 1_000
    assert len(GRAMMAR._words) > 5_000


def test_sentences_begin_with_a_capital() -> None:
    topic = GRAMMAR.topic("football")
    assert all(text[0].isupper() or not text[0].isalpha() for text in write("tips", topic))


def test_texts_are_about_their_subject() -> None:
    topic = GRAMMAR.topic("breaking")
    subject = GRAMMAR.add_subject("the flood of Test Town")
    symbols = np.full(60, GRAMMAR.symbol("question"), np.int32)
    texts = GRAMMAR.write(symbols, np.full(60, topic, np.int32), np.full(60, subject, np.int32), np.random.default_rng(1)).to_pylist()
    assert sum("the flood of test town" in text.lower() for text in texts) > 30
