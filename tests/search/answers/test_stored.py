"""Stored answers live exactly as long as nothing they rest on changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def delete(store: PostStore) -> None:
    store.delete_authors(["dora"])


def edit(store: PostStore) -> None:
    store.replace(posts_table([{**next(row for row in TRAINS if row["id"] == "t3"), "text": "edited"}]))


@pytest.mark.parametrize("change", [delete, edit])
def test_what_was_answered_before_a_change_of_the_store_is_overwritten(tmp_path: Path, change: Callable[[PostStore], None]) -> None:
    kept = StoredAnswers(tmp_path / "answers")
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(TRAINS))
        kept.put(KEY, store.version, ask(QUESTION, trains(), now=NOW))
        assert kept.catch_up(store) == 0 and b"stationmaster" in folder_bytes(tmp_path / "answers")
        change(store)
        assert kept.catch_up(store) == 1 and b"stationmaster" not in folder_bytes(tmp_path / "answers") and len(kept) == 0


def test_answers_of_a_store_that_was_replaced_by_an_older_one_go(stored: StoredAnswers, tmp_path: Path) -> None:
    with PostStore.open(tmp_path / "posts", create=True) as store:
        assert store.version < 7 and stored.catch_up(store) == 1 and len(stored) == 0


def test_two_who_store_at_once_do_not_stumble_over_what_the_other_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, answer = StoredAnswers(tmp_path / "answers"), ask(QUESTION, trains(), now=NOW)
    kept.put(KEY, 7, answer)
    listed = Path.iterdir

    def with_one_that_is_gone(folder: Path) -> Iterator[Path]:
        yield folder / "7-gone.json"
        yield from listed(folder)

    monkeypatch.setattr(Path, "iterdir", with_one_that_is_gone)
    kept.put(KEY, 7, answer)
    assert kept.get(KEY, 7) is not None


def test_answers_of_earlier_positions_go(stored: StoredAnswers) -> None:
    stored.put(KEY, 8, ask(QUESTION, trains(), now=NOW))
    assert stored.get(KEY, 7) is None and len(stored) == 1


def test_a_damaged_file_is_no_answer(stored: StoredAnswers, tmp_path: Path) -> None:
    (file,) = (tmp_path / "answers").glob("*.json")
    file.write_text("{ dora")
    assert stored.get(KEY, 7) is None


def test_what_was_not_cited_is_not_kept(stored: StoredAnswers, tmp_path: Path) -> None:
    assert b"minister" not in folder_bytes(tmp_path)
