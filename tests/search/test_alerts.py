"""Each new post alerts once for each saved search that it matches: not twice, not never, whatever is killed in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from agora.errors import DataError, QuerySyntaxError, UsageError
from agora.integrity.voice import Voices
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.alerts import SavedSearches, watch_alerts

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def add(store: PostStore, *texts: str, author: str = "ada", first: int = 0, at: datetime = NOW) -> None:
    """Posts with the ids p<first>, p<first + 1>, ..."""
    rows: list[dict[str, Any]] = [
        {"id": f"p{first + place}", "author": author, "created_at": at, "text": text, "kind": "post", "source": "test"}
        for place, text in enumerate(texts)
    ]
    store.append(posts_table(rows))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PostStore]:
    with PostStore.open(tmp_path / "posts", create=True) as opened:
        yield opened


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[SavedSearches]:
    with SavedSearches.open(tmp_path / "search" / "alerts.db") as opened:
        yield opened


def found(saved: SavedSearches, store: PostStore, **more: Any) -> list[tuple[str, str]]:
    """(search, post) of all pending alerts, which count as delivered."""
    alerts = list(saved.catch_up(store, now=NOW, **more))
    saved.delivered([alert.number for alert in alerts])
    return [(alert.search, alert.post["id"]) for alert in alerts]


def test_new_posts_alert_once_and_earlier_ones_never(store: PostStore, saved: SavedSearches) -> None:
    add(store, "old flood")
    saved.save("river", "flood -hoax", position=store.appended)
    assert found(saved, store) == []
    add(store, "a flood", "a hoax flood", "no storm", "Flood!", first=1)
    assert found(saved, store) == [("river", "p1"), ("river", "p4")]
    assert found(saved, store) == []
    add(store, "flood again", first=5)
    assert found(saved, store) == [("river", "p5")]
    assert [(one.name, one.num_alerts) for one in saved.searches()] == [("river", 3)]


def test_a_search_saved_later_begins_later(store: PostStore, saved: SavedSearches) -> None:
    saved.save("one", "flood", position=store.appended)
    add(store, "flood", "flood")
    saved.save("two", "flood", position=store.appended)
    add(store, "flood", first=2)
    assert found(saved, store) == [("one", "p0"), ("one", "p1"), ("one", "p2"), ("two", "p2")]


def test_alerts_that_were_not_delivered_come_again_under_their_number(store: PostStore, saved: SavedSearches, tmp_path: Path) -> None:
    saved.save("river", "flood", position=0)
    add(store, "flood one", "flood two")
    first = list(saved.catch_up(store))
    saved.delivered([first[0].number])
    with SavedSearches.open(saved.path) as again:
        assert [(alert.number, alert.post["text"]) for alert in again.catch_up(store)] == [(first[1].number, "flood two")]
        again.delivered([first[1].number])
        assert list(again.catch_up(store)) == []


def test_deleted_posts_and_authors_do_not_alert_and_no_earlier_post_takes_their_place(store: PostStore, saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    add(store, *["flood"] * 6)
    assert len(found(saved, store)) == 6
    saved.save("late", "flood", position=store.appended)
    add(store, "flood", "flood", first=6)
    add(store, "flood", author="eve", first=8)
    list(saved.catch_up(store))  # written, not delivered
    add(store, "flood", first=9)
    store.delete_posts(["p6"])
    store.delete_authors(["eve"])
    assert found(saved, store) == [("late", "p7"), ("river", "p7"), ("late", "p9"), ("river", "p9")]
    assert {one.num_alerts for one in saved.searches() if one.name == "river"} == {8}


def edit(store: PostStore, name: str, text: str) -> None:
    """Another text for a post that is there."""
    store.replace(
        posts_table([{"id": name, "author": "ada", "created_at": NOW, "text": text, "kind": "post", "source": "test"}]),
    )


def test_an_edit_of_a_known_post_hides_no_alert_and_alerts_when_it_matches(store: PostStore, saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    add(store, "flood", "storm")
    assert found(saved, store) == [("river", "p0")]
    add(store, "flood in the town", first=2)
    edit(store, "p0", "flood, corrected")
    edit(store, "p1", "a flood, no storm")
    assert found(saved, store) == [("river", "p2"), ("river", "p1")]


def test_deletions_in_between_shift_no_position(store: PostStore, saved: SavedSearches) -> None:
    add(store, "calm", "calm", "calm")
    saved.save("one", "storm", position=store.appended)
    add(store, *["calm"] * 5, first=3)
    store.delete_posts(["p4", "p5", "p6"])
    saved.save("two", "flood", position=store.appended)
    add(store, "flood in the town", first=8)
    add(store, "another flood", first=9)
    assert found(saved, store) == [("two", "p8"), ("two", "p9")]


def test_a_repost_that_went_with_its_original_leaves_the_file(store: PostStore, saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    add(store, "flood")
    repost = {"id": "unforgettable_repost", "author": "bob", "created_at": NOW, "text": "flood", "kind": "repost", "source": "test"}
    store.append(posts_table([{**repost, "ref_id": "p0", "ref_author": "ada"}]))
    assert len(found(saved, store)) == 2
    store.delete_posts(["p0"])
    found(saved, store)
    assert [one.num_alerts for one in saved.searches()] == [0]
    saved.close()
    assert all(b"unforgettable_repost" not in file.read_bytes() for file in saved.path.parent.iterdir())


def test_names_of_the_deleted_leave_the_file(store: PostStore, saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    add(store, "flood", author="unforgettable_author")
    found(saved, store)
    store.delete_authors(["unforgettable_author"])
    found(saved, store)
    saved.close()
    assert all(b"unforgettable_author" not in file.read_bytes() for file in saved.path.parent.iterdir())


def test_another_store_begins_with_what_comes_in(tmp_path: Path, store: PostStore, saved: SavedSearches) -> None:
    add(store, *["storm"] * 5)
    saved.save("river", "flood", position=store.appended)
    with PostStore.open(tmp_path / "other", create=True) as other:
        add(other, "flood")
        assert found(saved, other) == []
        add(other, "flood", first=1)
        assert found(saved, other) == [("river", "p1")]


def test_words_of_time_count_from_when_a_post_is_looked_at(store: PostStore, saved: SavedSearches) -> None:
    saved.save("fresh", "flood since:yesterday", position=0, now=NOW - timedelta(days=30))
    saved.save("recent", "flood within_time:2h", position=0)
    add(store, "flood", at=NOW - timedelta(hours=1))
    add(store, "flood", first=1, at=NOW - timedelta(days=1))
    add(store, "flood", first=2, at=NOW - timedelta(days=3))
    assert found(saved, store) == [("fresh", "p0"), ("recent", "p0"), ("fresh", "p1")]


def test_an_alert_names_the_voice(store: PostStore, saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    saved.save("honest", "flood -label:coordinated", position=0)
    add(store, "flood", author="bot1")
    add(store, "flood", author="bob", first=1)
    alerts = list(saved.catch_up(store, voices=Voices({"bot1": "c1"})))
    assert [(one.search, one.post["author"], one.voice, one.is_labelled) for one in alerts] == [
        ("river", "bot1", "campaign:c1", True), ("honest", "bob", "account:bob", False), ("river", "bob", "account:bob", False),
    ]  # fmt: skip


def test_what_cannot_be_saved_is_refused(saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    for name, query, says in (
        ("river", "x", "saved already"),
        ("", "x", "name"),
        ("a\nb", "x", "name"),
        ("all", "!!!", "asks for nothing"),
    ):
        with pytest.raises(UsageError, match=says):
            saved.save(name, query, position=0)
    with pytest.raises(QuerySyntaxError):
        saved.save("broken", "(flood", position=0)
    with pytest.raises(UsageError, match="there are: 'river'"):
        saved.remove("rivre")
    assert [one.name for one in saved.searches()] == ["river"]


def test_a_search_for_later_counts_warns(saved: SavedSearches) -> None:
    warnings = saved.save("liked", "flood min_faves:10 form:x", position=0)
    assert [warning.message.split(":")[0] for warning in warnings] == ["form", "min_faves"]


def test_a_removed_search_is_gone_with_its_alerts_and_its_name_is_free(store: PostStore, saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    add(store, "flood")
    list(saved.catch_up(store))
    saved.remove("river")
    assert found(saved, store) == [] and saved.searches() == []
    saved.save("river", "storm", position=store.appended)
    add(store, "flood", "storm", first=1)
    assert found(saved, store) == [("river", "p2")]


def test_two_processes_do_not_both_look(store: PostStore, saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    add(store, "flood")
    with SavedSearches.open(saved.path) as other:
        slow = saved.catch_up(store)
        quick = other.catch_up(store)
        assert next(slow).post["id"] == "p0"
        assert [alert.number for alert in quick] == [1]  # pending still
        assert list(slow) == []


def test_files_that_are_no_saved_searches_are_refused(tmp_path: Path) -> None:
    (tmp_path / "alerts.db").write_bytes(b"no database at all, but long enough to be read as one" * 10)
    with pytest.raises(DataError, match=r"saved searches .* move it away"):
        SavedSearches.open(tmp_path / "alerts.db")
    with SavedSearches.open(tmp_path / "new.db"):
        pass
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DataError, match="newer Agora"):
        SavedSearches.open(tmp_path / "new.db")


def test_watching_delivers_each_alert_once(store: PostStore, saved: SavedSearches) -> None:
    saved.save("river", "flood", position=0)
    add(store, "flood", "storm", "flood")
    seen = []
    rounds = iter([False, True])

    def stop() -> bool:
        if not (ends := next(rounds)):
            add(store, "flood", first=3)
        return ends

    for alert in watch_alerts(store, saved, poll_s=0, stop=stop):
        seen.append(alert.post["id"])
    assert seen == ["p0", "p2", "p3"]
    assert list(saved.catch_up(store)) == []


WATCHER = """
    import sys
    from pathlib import Path
    from agora.posts.store import PostStore
    from agora.search import alerts
    alerts._BATCH_POSTS = 50
    root = Path(sys.argv[1])
    store = PostStore.open(root / "posts")
    with alerts.SavedSearches.open(root / "search" / "alerts.db") as saved:
        for alert in alerts.watch_alerts(store, saved, poll_s=0.01, stop=lambda: sys.argv[2] == "end"):
            print(alert.number, alert.post["id"], flush=True)
"""


@pytest.mark.slow
def test_a_killed_watcher_passes_over_nothing_and_repeats_at_most_the_alert_it_was_showing(tmp_path: Path) -> None:
    with PostStore.open(tmp_path / "posts", create=True) as store:
        with SavedSearches.open(tmp_path / "search" / "alerts.db") as saved:
            saved.save("river", "flood", position=0)
        for first in range(0, 600, 120):
            add(store, *(f"flood {place}" if place % 3 else "storm" for place in range(first, first + 120)), first=first)
    expected = {f"p{place}" for place in range(600) if place % 3}
    script = textwrap.dedent(WATCHER)
    lines: list[str] = []
    for part in range(3):
        command = [sys.executable, "-c", script, str(tmp_path), "end" if part == 2 else "go on"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if part < 2 and len(lines) >= 130 * (part + 1):
                    process.send_signal(signal.SIGKILL)
                    lines += process.stdout.readlines()  # what it had shown by then
                    break
    numbers = [int(line.split()[0]) for line in lines]
    assert {line.split()[1] for line in lines} == expected
    assert len(lines) - len(set(numbers)) <= 2 and len(set(numbers)) == len(expected)
