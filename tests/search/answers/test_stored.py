"""Stored answers live exactly as long as nothing they rest on changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.answers import StoredAnswers, answer_key, ask
from tests.search.answers.made_up import NOW, TRAINS, trains

QUESTION = "What about night trains to Lindau?"
KEY = answer_key(QUESTION, "extractive", now=NOW)


@pytest.fixture
def stored(tmp_path: Path) -> StoredAnswers:
    kept = StoredAnswers(tmp_path / "answers")
    kept.put(KEY, 7, ask(QUESTION, trains(), now=NOW))
    return kept


def test_same_answer_comes_back_at_the_same_position_only(stored: StoredAnswers) -> None:
    before = ask(QUESTION, trains(), now=NOW)
    after = stored.get(KEY, 7)
    assert after is not None and (after.sentences, after.cited, after.warnings) == (before.sentences, before.cited, before.warnings)
    assert stored.get(KEY, 8) is None
    assert stored.get(answer_key(QUESTION + "!", "model x", now=NOW), 7) is None


def folder_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("gone", [{"posts": ["t3"]}, {"authors": ["dora"]}, {"posts": ["t1", "nothing"]}])
def test_deletion_of_what_is_cited_removes_the_bytes(stored: StoredAnswers, tmp_path: Path, gone: dict[str, list[str]]) -> None:
    assert b"stationmaster" in folder_bytes(tmp_path)
    assert stored.forget(**gone) == 1
    assert stored.get(KEY, 7) is None and b"stationmaster" not in folder_bytes(tmp_path)


def test_deletion_of_something_else_keeps_it(stored: StoredAnswers) -> None:
    assert stored.forget(posts=["t5"], authors=["frida"]) == 0 and stored.get(KEY, 7) is not None


def test_deletions_of_the_store_are_caught_up_with(stored: StoredAnswers, tmp_path: Path) -> None:
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(TRAINS))
        assert stored.catch_up(store) == 0
        store.delete_authors(["dora"])
        assert stored.catch_up(store) == 1 and len(stored) == 0


def test_answers_from_before_an_edit_are_caught_up_with(tmp_path: Path) -> None:
    kept = StoredAnswers(tmp_path / "answers")
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(TRAINS))
        kept.put(KEY, store.version, ask(QUESTION, trains(), now=NOW))
        assert kept.catch_up(store) == 0
        store.replace(posts_table([{**next(row for row in TRAINS if row["id"] == "t3"), "text": "edited"}]))
        assert kept.catch_up(store) == 1 and b"stationmaster" not in folder_bytes(tmp_path / "answers")


def test_answers_of_earlier_positions_go(stored: StoredAnswers) -> None:
    stored.put(KEY, 8, ask(QUESTION, trains(), now=NOW))
    assert stored.get(KEY, 7) is None and len(stored) == 1


def test_a_damaged_file_is_no_answer_and_goes_with_the_next_deletion(stored: StoredAnswers, tmp_path: Path) -> None:
    (file,) = (tmp_path / "answers").glob("*.json")
    file.write_text("{ dora")
    assert stored.get(KEY, 7) is None
    assert stored.forget(posts=["any"]) == 1 and len(stored) == 0


def test_what_was_not_cited_is_not_kept(stored: StoredAnswers, tmp_path: Path) -> None:
    assert b"minister" not in folder_bytes(tmp_path)
