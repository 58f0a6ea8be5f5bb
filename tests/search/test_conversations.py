"""Alerts of whole conversations: replies to replies, in any order, over deleted ones and after a restart."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.alerts import SavedSearches

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def reply(name: str, to: str | None, *, kind: str = "reply") -> dict[str, Any]:
    kind = kind if to else "post"
    return {
        "id": name,
        "author": "ada",
        "created_at": NOW,
        "text": "so",
        "kind": kind,
        "ref_id": to,
        "ref_author": "x" if to else None,
        "source": "test",
    }


def add(store: PostStore, *rows: dict[str, Any]) -> None:
    store.append(posts_table(rows))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PostStore]:
    with PostStore.open(tmp_path / "posts", create=True) as opened:
        yield opened


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[SavedSearches]:
    with SavedSearches.open(tmp_path / "search" / "alerts.db") as opened:
        yield opened


def found(saved: SavedSearches, store: PostStore) -> list[str]:
    alerts = list(saved.catch_up(store, now=NOW))
    saved.delivered([alert.number for alert in alerts])
    return [alert.post["id"] for alert in alerts]


def test_a_reply_to_a_reply_alerts_and_others_do_not(store: PostStore, saved: SavedSearches) -> None:
    add(store, reply("root", None), reply("a", "root"), reply("b", "a"), reply("elsewhere", None))
    saved.save("thread", "conversation_id:root", position=store.appended)
    add(store, reply("c", "b"), reply("d", "c"), reply("e", "elsewhere"), reply("q", "c", kind="quote"), reply("r", "q"))
    assert found(saved, store) == ["c", "d"]
    add(store, reply("f", "d"), reply("g", "e"))
    assert found(saved, store) == ["f"]


def test_replies_of_one_batch_alert_in_whichever_order_they_come(store: PostStore, saved: SavedSearches) -> None:
    saved.save("thread", "conversation_id:root", position=0)
    add(store, reply("c", "b"), reply("b", "a"), reply("a", "root"), reply("root", None))
    assert found(saved, store) == ["c", "b", "a", "root"]


def test_a_deleted_reply_does_not_cut_the_conversation(store: PostStore, saved: SavedSearches) -> None:
    add(store, reply("root", None), reply("a", "root"))
    saved.save("thread", "conversation_id:root", position=store.appended)
    add(store, reply("b", "a"))
    assert found(saved, store) == ["b"]
    store.delete_posts(["a", "b"])
    with SavedSearches.open(saved.path) as again:  # another process
        add(store, reply("c", "b"))
        assert found(again, store) == ["c"]
        store.delete_posts(["c"])
        add(store, reply("d", "c"))
        assert found(again, store) == ["d"]


def test_names_of_deleted_replies_are_not_kept(store: PostStore, saved: SavedSearches) -> None:
    saved.save("thread", "conversation_id:root", position=0)
    add(store, reply("root", None), reply("unforgettable_reply", "root"))
    found(saved, store)
    store.delete_posts(["unforgettable_reply"])
    found(saved, store)
    saved.close()
    assert all(b"unforgettable" not in file.read_bytes() for file in saved.path.parent.iterdir())


def test_a_search_that_excludes_a_conversation_excludes_its_nested_replies(store: PostStore, saved: SavedSearches) -> None:
    saved.save("others", "so -conversation_id:root", position=0)
    add(store, reply("root", None), reply("a", "root"), reply("b", "a"), reply("x", None), reply("y", "x"))
    assert found(saved, store) == ["x", "y"]


def test_conversations_nobody_asks_for_any_more_are_forgotten(store: PostStore, saved: SavedSearches) -> None:
    saved.save("one", "conversation_id:root", position=0)
    saved.save("two", "conversation_id:a", position=0)
    add(store, reply("root", None), reply("a", "root"), reply("b", "a"))
    assert sorted(found(saved, store)) == ["a", "a", "b", "b", "root"]
    saved.remove("one")
    add(store, reply("c", "b"), reply("d", "root"))
    assert found(saved, store) == ["c"]
    saved.save("one", "conversation_id:root", position=store.appended)
    add(store, reply("e", "d"))
    assert found(saved, store) == ["e"]


def test_random_threads_alert_as_the_whole_thread_says(store: PostStore, saved: SavedSearches) -> None:
    rng = random.Random(7)
    rows: list[dict[str, Any]] = []
    saved.save("thread", "conversation_id:p0", position=0)
    alerted: list[str] = []
    for _ in range(8):
        batch = [reply(f"p{len(rows) + place}", f"p{rng.randrange(len(rows) + place + 2)}") for place in range(40)]
        rows += batch
        add(store, *batch)
        alerted += found(saved, store)
    parent = {row["id"]: row["ref_id"] for row in rows}
    arrived = {row["id"]: place // 40 for place, row in enumerate(rows)}

    def is_below(name: str) -> bool:
        """Whether all of the way up had come in with the post's own batch."""
        seen, batch = {name}, arrived[name]
        while name != "p0":
            name = parent.get(name, "")
            if name != "p0" and (name in seen or arrived.get(name, 99) > batch):
                return False
            seen.add(name)
        return True

    assert sorted(alerted) == sorted(name for name in parent if is_below(name)) and len(alerted) > 40
