"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.search.fusion import fuse

rankings = st.dictionaries(
    st.sampled_from(["words", "beginnings", "meaning"]), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 5).map(float))
)


def test_two_lists_give_the_sum_of_their_reciprocal_ranks() -> None:
    parts = fuse({"left": {"a": 9.0, "b": 2.0}, "right": {"b": 0.1}}, k=10)
    assert list(parts) == ["b", "a"]
    assert parts["b"] == {"left": pytest.approx(1 / 12), "right": pytest.approx(1 / 11)}


def test_equal_scores_share_a_rank() -> None:
    parts = fuse({"left": {"a": 2.0, "b": 2.0, "c": 1.0}}, k=10)
    assert [gains["left"] for gains in parts.values()] == pytest.approx([1 / 11, 1 / 11, 1 / 13])


@given(rankings)
def test_every_named_post_is_ranked_once_and_best_first(lists: dict[str, dict[str, float]]) -> None:
    parts = fuse(lists)
    assert set(parts) == {one for scores in lists.values() for one in scores}
    sums = [sum(gains.values()) for gains in parts.values()]
    assert sums == sorted(sums, reverse=True)


@given(rankings, st.sampled_from("abcdefgh"))
def test_standing_higher_in_a_list_never_costs(lists: dict[str, dict[str, float]], one: str) -> None:
    before = sum(fuse(lists).get(one, {}).values())
    raised = {name: {**scores, one: 9.0} for name, scores in lists.items()}
    assert sum(fuse(raised).get(one, {}).values()) >= before
