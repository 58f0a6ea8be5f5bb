"""What holds for every source: killed anywhere nothing is lost or stored twice, the sender is held back, others may write in between."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agora.errors import ConfigError, SourceError, StoreBusyError, StoreError
from agora.posts.follow import BlueskyStream, FollowConfig, follow
from agora.posts.follow.live import STANDING, ConnectionLost, Cursor, Event
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from tests.posts.follow.conftest import QUICK, follow_until
from tests.posts.follow.servers import Jetstream, post_event, uri

ROW = {"author": "ann", "created_at": 1_700_000_000_000_000, "text": "t", "kind": "post", "source": "test"}


class Numbers:
    """A source of `count` posts that notes how far it was asked; `failures` come first."""

    name, place = "numbers", "numbers"

    def __init__(self, count: int, failures: Sequence[Exception] = ()) -> None:
        self.count, self.failures, self.given = count, list(failures), 0
        self.identity: Mapping[str, str] = {"source": "numbers"}
        self.closing = threading.Event()

    def connect(self, cursor: Cursor) -> Iterator[Event]:
        if self.failures:
            raise self.failures.pop(0)
        yield STANDING
        for number in range(cursor or 0, self.count):
            self.given = number + 1
            yield Event({**ROW, "id": str(number), "urls": [], "hashtags": [], "mentions": [], "media": []}, cursor=number + 1)
        self.closing.wait(20)

    def close(self) -> None:
        self.closing.set()

    def later(self, one: Cursor, other: Cursor) -> Cursor:
        return max(one or 0, other or 0)

    def prepare(self, events: Sequence[Event], store: PostStore, state: Path) -> list[Event]:
        return list(events)


def test_a_slow_store_holds_the_sender_back(store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Numbers(5_000)
    seen = []
    append = PostStore.append

    def slow(self: PostStore, posts: object) -> object:
        time.sleep(0.05)
        seen.append(source.given - self.num_posts)
        return append(self, posts)

    monkeypatch.setattr(PostStore, "append", slow)
    config = replace(QUICK, batch_posts=50, queue_events=100, for_s=1.0)
    follow(source, store, config=config)
    assert max(seen) <= 100 + 50 + 50 + 1, "the queue, the batch that is stored, the one that is filled, and one in hand"
    assert store.num_posts < 5_000


def test_what_was_received_is_stored_when_following_is_stopped(store: PostStore) -> None:
    source = Numbers(300)
    follow_until(source, store, lambda: source.given == 300, config=replace(QUICK, batch_posts=10))
    assert store.num_posts == 300


def test_a_lost_connection_is_made_again_after_a_growing_wait(store: PostStore) -> None:
    source = Numbers(1, [ConnectionLost("no route")] * 4)
    summary = follow_until(source, store, lambda: store.num_posts == 1)
    assert (summary.lost, summary.connections) == (4, 1)


def test_a_server_that_was_never_reached_is_given_up(store: PostStore) -> None:
    with pytest.raises(SourceError, match=r"after 5 attempts: no route"):
        follow(Numbers(1, [ConnectionLost("no route")] * 9), store, config=QUICK)
    with pytest.raises(SourceError, match=r"cannot be reached"):
        follow(BlueskyStream("ws://127.0.0.1:1/subscribe"), store, config=QUICK)


def test_the_wait_that_a_server_asks_for_is_kept(store: PostStore) -> None:
    summary = follow_until(Numbers(1, [ConnectionLost("HTTP 429", retry_after_s=0.6)]), store, lambda: store.num_posts == 1)
    assert summary.seconds > 0.6


def test_others_may_write_between_batches_and_are_waited_for(store: PostStore) -> None:
    other = PostStore.open(store.folder)
    source = Numbers(40)
    written = threading.Event()

    def write() -> None:
        while not written.is_set():
            try:
                with other:
                    other.append(posts_table([{**ROW, "id": "other"}]))
                    time.sleep(0.3)
                written.set()
            except StoreBusyError:
                time.sleep(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    follow_until(source, store, lambda: store.num_posts == 41, config=replace(QUICK, batch_posts=5))
    thread.join()
    assert written.is_set()


def test_a_damaged_cursor_is_named(store: PostStore) -> None:
    follow_until(Numbers(3), store, lambda: store.num_posts == 3)
    (path,) = (store.folder / "follow").glob("*.json")
    path.write_text("{")
    with pytest.raises(StoreError, match="cursor"):
        follow(Numbers(3), store, config=QUICK)


@pytest.mark.parametrize("wrong", [{"batch_posts": 0}, {"for_s": -1.0}, {"batch_s": -0.1}, {"max_posts": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="follow"):
        FollowConfig(**wrong)  # type: ignore[arg-type]


@contextmanager
def following(url: str, workspace: Path) -> Iterator[subprocess.Popen[str]]:
    """`agora posts follow bluesky` in a process of its own, which is killed at the end of the block if it still runs."""
    command = [sys.executable, "-m", "agora", "posts", "follow", "bluesky", "--url", url, "--workspace", str(workspace), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_in_the_middle_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    chance = random.Random(3)
    events = [post_event(number) for number in range(1500)]
    at_us = events[800]["time_us"]
    events[800:800] = [{**post_event(number, operation="delete"), "time_us": at_us} for number in range(0, 700, 50)]
    server = Jetstream(events, drop_after=(700, 500, None), shuffle=3, repeat=0.1, wait=lambda sent: time.sleep(0.001))
    with server.running() as url:
        for _ in range(3):
            goal = server.sent + 200
            with following(url, tmp_path / "w"):
                wait_for(lambda goal=goal: server.sent > goal)  # type: ignore[misc]
                time.sleep(chance.uniform(0.0, 0.4))
        expected = {uri(number) for number in range(1500)} - {uri(number) for number in range(0, 700, 50)}
        with following(url, tmp_path / "w") as process:
            wait_for(lambda: PostStore.open(tmp_path / "w" / "posts").num_posts == len(expected), 60)
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    summary = json.loads(out)
    assert summary["posts_in_store"] == len(expected)
    with PostStore.open(tmp_path / "w" / "posts") as store:
        ids = Counter(key for batch in store.scan(columns=["id"]) for key in batch.column(0).to_pylist())
        arrived = [key for batch in store.scan(columns=["id"], after=0) for key in batch.column(0).to_pylist()]
        store.verify()
    assert set(ids) == expected and set(ids.values()) == {1}
    assert set(arrived) == expected and len(arrived) == len(expected)


@pytest.mark.slow
def test_a_signal_ends_it_cleanly_and_prints_the_summary(tmp_path: Path) -> None:
    with Jetstream([post_event(number) for number in range(50)]).running() as url, following(url, tmp_path / "w") as process:
        wait_for(lambda: (tmp_path / "w/posts/head.json").exists() and PostStore.open(tmp_path / "w/posts").num_posts == 50)
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=30)
    assert process.returncode == 0 and json.loads(out)["posts"] == 50
    assert "next: agora posts stats" in error
