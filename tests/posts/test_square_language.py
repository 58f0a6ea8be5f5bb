"""What the square's people write reads like language: no slips of the word lists in any of many thousand posts."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from agora.posts.simulate import SquareConfig, simulate

SOUNDS_LIKE_A_VOWEL = "(?:hour|honest|heir)"  # English words whose h is silent
PREPOSITIONS = "in|on|at|for|of|to|with|from|by|about|until|since"
SLIPS = {
    "a before a vowel": ("en", r"\ba (?=[aeiou])(?!(?:uni|use|one|euro))\w+"),
    "an before a consonant": ("en", rf"\ban (?![aeiou]|{SOUNDS_LIKE_A_VOWEL})\w+"),
    "two prepositions": ("en", rf"\b(?:{PREPOSITIONS}) (?:{PREPOSITIONS})\b"),
    "a preposition before today": ("en", rf"\b(?:{PREPOSITIONS}) (?:today|tomorrow|yesterday|soon)\b"),
    "zwei Präpositionen": ("de", r"\b(?:für|bis|mit|von|nach) (?:am|im|an|in|auf|mit|von)\b"),
    "sin contracción": ("es", r"\b(?:de|a) el\b"),
    "dos preposiciones": ("es", r"\b(?:para|por|de|con) (?:en|para|por|de|con)\b"),
    "sans élision ou contraction": ("fr", r"\bque (?:ils?|elles?|on)\b|\bsi ils?\b|\b(?:de|à) les?\b"),
    "duas preposições": ("pt", r"\b(?:para|por|de) (?:na|no|em|para|por|de)\b"),
    "a doubled word": (None, r"\b([^\W\d_]+) \1\b"),
    "stray blanks": (None, r"  |^ | $|\( | \)"),
    "stray punctuation": (None, r" [.,;](?:\s|$)|(?<!\.)\.\.(?!\.)|[,;:][.,;:!?]|[!?][.,;:]|\.[,;:!?]"),
}
NUM_POSTS = 7_000


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda seed: f"seed {seed}")
def posts(request: pytest.FixtureRequest) -> list[tuple[str, str | None]]:
    found = []
    for table in simulate(SquareConfig(num_posts=NUM_POSTS, num_accounts=700, seed=request.param)):
        found += list(zip(table["text"].to_pylist(), table["lang"].to_pylist(), strict=True))
    return found


@pytest.mark.parametrize("name", SLIPS)
def test_no_post_has_a_slip(posts: list[tuple[str, str | None]], name: str) -> None:
    lang, pattern = SLIPS[name]
    compiled = re.compile(pattern, re.IGNORECASE)
    texts = [text for text, found in posts if lang is None or found == lang]
    assert texts
    slips = Counter(match[0].lower() for text in texts for match in compiled.finditer(text))
    assert not slips


def test_other_subject_is_another_one() -> None:
    pattern = re.compile(r"^(.+) (?:or|is better than|is nothing like|is more fun than|reminds me of) \1\b", re.IGNORECASE)
    for table in simulate(SquareConfig(num_posts=NUM_POSTS, num_accounts=700, seed=4)):
        assert [text for text in table["text"].to_pylist() if pattern.search(text)] == []
