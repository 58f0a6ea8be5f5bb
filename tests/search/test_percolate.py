"""Filing queries under keys finds what asking every query finds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.search.percolate import Percolator, required_keys
from agora.search.query.matching import matches
from agora.search.query.parse import parse
from benchmarks import search_operator_cases as written
from benchmarks.search_operators import context

QUERIES = {case.query: root for case in written.CASES if (root := parse(case.query, now=written.NOW).root) is not None}
CONTEXT = context()


def asked_one_by_one(post: dict[str, Any], names: list[str]) -> list[str]:
    return sorted(name for name in names if matches(QUERIES[name], post, CONTEXT))


@pytest.mark.parametrize("post", written.POSTS, ids=lambda post: post["id"])
def test_a_post_finds_the_queries_that_match_it(post: dict[str, Any]) -> None:
    assert Percolator(QUERIES).queries_of(post, CONTEXT) == asked_one_by_one(post, list(QUERIES))


def test_most_queries_are_not_asked_every_time() -> None:
    always = [name for name, node in QUERIES.items() if required_keys(node) is None]
    assert len(always) < len(QUERIES) / 3
    assert all(parse(name, now=written.NOW).root is not None for name in always)


@given(st.lists(st.sampled_from(sorted(QUERIES)), unique=True, max_size=30), st.sampled_from(written.POSTS), st.randoms())
def test_queries_may_come_and_go(names: list[str], post: dict[str, Any], chance: random.Random) -> None:
    percolator = Percolator()
    for name in names:
        percolator.put(name, QUERIES[chance.choice(names)])
        percolator.put(name, QUERIES[name])
    gone = set(chance.sample(names, len(names) // 2))
    for name in [*gone, "never there"]:
        percolator.remove(name)
    left = [name for name in names if name not in gone]
    assert len(percolator) == len(left)
    assert percolator.queries_of(post, CONTEXT) == asked_one_by_one(post, left)


def test_a_percolator_without_queries_keeps_nothing() -> None:
    percolator = Percolator(QUERIES)
    for name in QUERIES:
        percolator.remove(name)
    assert not percolator._by_key and not percolator._always and not percolator._filed


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("the flood", {"flood"}),
        ("from:Ada flood", {"from:ada"}),
        ("storm OR #Aare", {"storm", "#aare"}),
        ("storm OR lang:en", None),
        ("-storm", None),
        ("--storm", {"storm"}),
        ("(a OR b) (storm OR flooding)", {"storm", "flooding"}),
        ("url:example.org/news", {"link:example"}),
        ("lang:en to:bob", {"to:bob"}),
        ("@Ada", {"mention:ada"}),
        ("conversation_id:p1 flood", {"thread:p1"}),
        ("東京都", {"東京"}),
    ],
)
def test_a_query_is_filed_under_its_rarest_words(query: str, keys: set[str] | None) -> None:
    root = parse(query).root
    assert root is not None
    assert required_keys(root) == (None if keys is None else frozenset(keys))
