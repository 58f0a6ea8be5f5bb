"""A small tokenizer, trained once per run on sentences of our own in several scripts."""

from __future__ import annotations

import pytest

from agora.tokenizer import Tokenizer

SENTENCES = [
    "The bakery on the corner opens at 7:30 and the bread is gone by 9.",
    "Nobody told me the #3 tram doesn't stop here anymore!!! 20-minute walk, thanks.",
    "@mira did you see the match? 4:3 after extra time, unbelievable...",
    "Heute regnet es schon wieder, die Straßenbahn fährt nicht, also laufen wir.",
    "Вчера на площади было много людей, а сегодня никого.",
    "今日は天気がいいから散歩しましょう。",
    "नमस्ते, आज मौसम बहुत अच्छा है।",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "users and assistants and systems take turns; user, assistant, system",
]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SENTENCES * 20, vocab_size=700)
