"""A store to follow into, and a way to follow until a condition holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agora.posts.follow import FollowConfig, FollowSummary, follow
from agora.posts.follow.live import LiveSource
from agora.posts.store import PostStore

QUICK = FollowConfig(batch_s=0.05, retry_first_s=0.02, retry_most_s=0.1, for_s=20)


@pytest.fixture
def store(tmp_path: Path) -> PostStore:
    return PostStore.open(tmp_path / "posts", create=True)


def texts(store: PostStore) -> dict[str, str]:
    return {row["id"]: row["text"] for batch in store.scan(columns=["id", "text"]) for row in batch.to_pylist()}


def follow_until(
    source: LiveSource, store: PostStore, condition: Callable[[], bool], config: FollowConfig = QUICK, **options: Any
) -> FollowSummary:
    """Follow until `condition` holds (20 s at most); the summary must account for every event."""
    stop = threading.Event()

    def watch() -> None:
        until = time.monotonic() + 20
        while not condition() and time.monotonic() < until and not stop.is_set():
            time.sleep(0.02)
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        summary = follow(source, store, config=config, stop=stop, **options)
    finally:
        stop.set()
        watcher.join()
    assert condition(), f"not reached: {summary}"
    assert summary.accounted == summary.events, summary
    return summary
