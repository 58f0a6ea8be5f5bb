"""Boosts, near-duplicates, one voice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import ConfigError
from agora.integrity.voice import Voices
from agora.search.fusion import K
from agora.search.query.parse import parse
from agora.search.ranking import RankingConfig, boosted, freshness, near_duplicates, one_voice, query_type
from tests.search.conftest import NOW, post

LONG = "the ferry to the island does not run today because of the storm"


@given(st.floats(0, 1e9), st.floats(-2, 5), st.floats(0, 1))
def test_boosts_are_bounded_and_the_score_is_the_sum_of_its_parts(age_s: float, authority: float, base: float) -> None:
    config = RankingConfig()
    posted = {"created_at": NOW - timedelta(seconds=age_s)}
    parts = boosted({"words": base}, base, posted, authority, "general", NOW, config)
    assert base <= sum(parts.values()) <= base * (1 + config.recency + config.authority) + 1e-12


def test_by_default_boosts_are_less_than_what_parts_first_from_second_place() -> None:
    config = RankingConfig()
    assert (1 + config.recency + config.authority) / (K + 2) < 1 / (K + 1)


def test_freshness_halves_with_each_half_life_and_the_future_is_not_fresher_than_now() -> None:
    assert freshness(NOW - timedelta(hours=6), NOW, 6 * 3600) == pytest.approx(0.5)
    assert freshness(NOW + timedelta(hours=6), NOW, 6 * 3600) == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("storm within_time:2h", "live"), ("what is happening now", "live"), ("#storm", "topic"), ("from:ada storm", "account"),
        ('"does not run"', "passage"), ("storm ferry", "general"),
    ],
)  # fmt: skip
def test_what_is_asked_decides_how_fast_posts_get_old(text: str, kind: str) -> None:
    assert query_type(parse(text).root, text.split()) == kind


def test_near_duplicates_become_the_earliest_with_the_number_of_other_voices() -> None:
    rows = [
        post("late", "ada", LONG, minutes_ago=1),
        post("other", "bob", "something else entirely here"),
        post("early", "eve", LONG + "!"),
    ]
    rows += [post("again", "ada", LONG.upper(), minutes_ago=2)]
    groups = near_duplicates([row["id"] for row in rows], {row["id"]: row for row in rows}, Voices(), at_least=0.7)
    assert [(group.shown, group.alike) for group in groups] == [("early", 1), ("other", 0)]
    assert set(groups[0].others) == {"late", "again"}


def test_a_campaign_does_not_take_a_sentence_from_who_says_it_for_himself() -> None:
    rows = [post("flood", "c", LONG, minutes_ago=90), post("mine", "ada", LONG, minutes_ago=1)]
    groups = near_duplicates(["flood", "mine"], {row["id"]: row for row in rows}, Voices({"c": "c1"}), at_least=0.7)
    assert [group.shown for group in groups] == ["mine"]


def test_posts_without_words_are_like_nothing() -> None:
    rows = [post("one", "ada", "https://example.org/a"), post("two", "bob", "https://example.org/b"), post("three", "bob", "🎉")]
    assert len(near_duplicates([row["id"] for row in rows], {row["id"]: row for row in rows}, Voices(), at_least=0.7)) == 3
    assert near_duplicates([], {}, Voices(), at_least=0.7) == []


def test_a_campaign_keeps_its_best_group_only() -> None:
    texts = ("one thing about boats", "quite another matter of trains", "bread is cheap this week", "nobody sleeps in this heat")
    rows = [post(f"p{place}", author, text) for place, (author, text) in enumerate(zip(["a", "b", "c", "c"], texts, strict=True))]
    posts = {row["id"]: row for row in rows}
    voices = Voices({"a": "c1", "b": "c1"})
    kept = one_voice(near_duplicates(list(posts), posts, voices, at_least=0.7), posts, voices)
    assert [group.shown for group in kept] == ["p0", "p2", "p3"]


def test_a_boost_that_could_decide_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"search.recency=2"):
        RankingConfig(recency=2)
