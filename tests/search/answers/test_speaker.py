"""What somebody said is told by their own posts, or by posts that say so."""

from __future__ import annotations

import pytest

from agora.search.answers import ask
from agora.search.answers.speaker import is_by
from tests.search.answers.made_up import NOW, post
from tests.search.answers.memory_find import MemoryFinder

STRANGERS = [post(f"s{n}", f"Trump and Corker again, story {n} " + "abcdefgh"[n] * 5, f"stranger{n}", days_ago=n) for n in range(8)]
QUESTION = "What did Trump say about Corker?"


def cited(rows: list[dict[str, object]]) -> list[str]:
    answer = ask(QUESTION, MemoryFinder(rows), now=NOW)
    return [post_id for sentence in answer.sentences for post_id in sentence.post_ids]


def test_strangers_who_name_both_are_no_answer() -> None:
    answer = ask(QUESTION, MemoryFinder(STRANGERS), now=NOW)
    assert answer.sentences == () and answer.abstained is not None and "by trump" in answer.abstained


def test_own_posts_come_first_though_they_do_not_hold_the_name() -> None:
    rows = [
        *STRANGERS,
        post("told", "Trump said Corker begged him", "news"),
        post("own", "Bob Corker begged me to endorse him", "realDonaldTrump"),
    ]
    assert cited(rows) == ["own", "told"]


@pytest.mark.parametrize(
    ("author", "is_so"),
    [("realDonaldTrump", True), ("trump", True), ("NeverTrump", False), ("TrumpFan99", False), ("strump_hates", False), ("anna", False)],
)
def test_accounts_named_so(author: str, is_so: bool) -> None:
    assert is_by(author, ("trump",)) is is_so
