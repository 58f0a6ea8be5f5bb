"""How the wording of posts meets a query."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.search.wording import K1, B, Text, Weights, best_possible, compare, telling_words, word_scores

TEXTS = ("Protesters closed the bridge at noon", "The bridge is open", "Bread, 12 loaves, for Ada Byron", "")


def frequencies(words: Sequence[str]) -> Mapping[str, int]:
    return {word: sum(word in Text.of(text).words for text in TEXTS) for word in words}


def scored(query: str) -> tuple[list[float], list[float], Weights]:
    texts = [Text.of(text) for text in TEXTS]
    weights = Weights.of(Text.of(query), texts, frequencies, len(TEXTS))
    return (*word_scores(Text.of(query), texts, weights), weights)


def test_scores_of_words_are_bm25_by_the_book() -> None:
    words, _, weights = scored("bridge bridge")
    idf = math.log1p((4 - 2 + 0.5) / (2 + 0.5))
    length = len(Text.of(TEXTS[1]).words)
    assert words[1] == pytest.approx(idf * (K1 + 1) / (1 + K1 * (1 - B + B * length / weights.num_words)))
    assert words[2] == words[3] == 0


def test_forms_of_a_word_meet_by_their_beginning_and_function_words_do_not_count() -> None:
    words, beginnings, _ = scored("the protests")
    assert words == [0, 0, 0, 0]
    assert beginnings[0] > 0 == beginnings[1]
    assert telling_words(["the", "bridge"]) == ["bridge"]
    assert telling_words(["the", "is"]) == ["the", "is"]


def test_a_text_meets_itself_fully() -> None:
    text = Text.of(TEXTS[2])
    weights = Weights.of(text, [text], frequencies, len(TEXTS))
    close = compare(text, text, weights)
    shares = (close.query_share, close.text_share, close.numbers, close.names, close.pairs, close.text_grams, close.query_grams)
    assert shares == pytest.approx((1,) * len(shares))
    assert close.other_numbers == 0
    assert word_scores(text, [text], weights)[1][0] <= best_possible(weights)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_two_texts_compare_with_finite_numbers_and_shares_of_at_most_one(left: str, right: str) -> None:
    query, text = Text.of(left), Text.of(right)
    weights = Weights.of(query, [text], lambda words: dict.fromkeys(words, 1), 10)
    close = dataclasses.asdict(compare(query, text, weights))
    assert all(math.isfinite(value) and value >= 0 for value in close.values())
    assert all(close[name] <= 1 for name in close if name not in ("rarest", "length"))
