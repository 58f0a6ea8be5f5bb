"""`agora integrity watch`: lines from stdin or the posts of the workspace; it goes on after kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import DataError, UsageError
from agora.integrity.stream import Alert, Stream, StreamConfig
from agora.integrity.watch import watch_store
from agora.posts.schema import posts_table
from agora.posts.store import PostStore

START = datetime(2026, 3, 2, tzinfo=timezone.utc)


def rows(num_waves: int = 12, *, hours: float = 3.0) -> list[dict[str, Any]]:
    """Ten accounts that post one link per wave within 30 seconds, among accounts that post links at random times."""
    rng = np.random.default_rng(5)
    events = [(w * hours * 3600 + rng.uniform(0, 30), f"c{a}", f"https://x.example/{w}") for w in range(num_waves) for a in range(10)]
    events += [
        (rng.uniform(0, num_waves * hours * 3600), f"o{rng.integers(200)}", f"https://y.example/{rng.integers(150)}") for _ in range(1000)
    ]
    events.sort()
    more = {"text": "look", "kind": "post", "source": "t"}
    return [
        {"id": f"p{n}", "author": author, "created_at": START + timedelta(seconds=at), "urls": [url], **more}
        for n, (at, author, url) in enumerate(events)
    ]


def lines(posts: list[dict[str, Any]]) -> list[str]:
    return [json.dumps({**post, "created_at": post["created_at"].isoformat()}) for post in posts]


def run(workspace: Path, *words: str, given: str = "") -> tuple[list[dict[str, Any]], str]:
    words = ("integrity", "watch", *words, "--workspace", str(workspace), "--json")
    result = CliRunner().invoke(app, words, input=given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def test_lines_become_alerts_and_broken_ones_are_named(tmp_path: Path) -> None:
    good = lines(rows())
    alerts, said = run(tmp_path, given="\n".join([*good[:3], "{broken", '{"id": "x"}', *good[3:]]))
    assert alerts and all(name.startswith("c") for alert in alerts for name in alert["accounts"])
    assert "skipped line 4: no JSON" in said and "skipped line 5" in said and "broken 2" in said
    assert run(tmp_path, given="\n".join(good[-20:]))[0] == []
    assert run(tmp_path, "--anew", given="\n".join(good))[0] == alerts


def test_store_is_followed_from_where_it_was_left(tmp_path: Path) -> None:
    posts = rows()
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(posts[:700]))
        first, _ = run(tmp_path, "--store", "--once")
        store.append(posts_table(posts[700:]))
        store.delete_posts(["p5", "p699", "p900"])
        second, said = run(tmp_path, "--store", "--once")
    assert first + second and all(name.startswith("c") for alert in first + second for name in alert["accounts"])
    assert "repeated 0," in said and f"posts {len(posts) - 1:,}" in said  # p900 was deleted before it was read
    assert run(tmp_path, "--store", "--once")[0] == []


def test_a_signal_ends_it_with_the_batch_that_is_worked_on(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "agora", "integrity", "watch", "--save", "0", "--workspace", str(tmp_path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    print(*lines(rows()), sep="\n", file=process.stdin, flush=True)  # and it stays open
    state = tmp_path / "integrity" / "watch.npz"
    end = time.monotonic() + 60
    while not state.exists():
        assert process.poll() is None and time.monotonic() < end, "the watcher wrote no state"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    saved = Stream.load(state).counts["posts"]
    assert process.returncode == 0 and saved > 0 and f"watched: posts {saved:,}," in said, said


def test_a_store_is_left_with_the_batch_that_is_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, stream = threading.Event(), Stream(StreamConfig())
    feed = stream.feed

    def feed_and_stop(batch: pa.RecordBatch) -> list[Alert]:
        stop.set()
        return feed(batch)

    monkeypatch.setattr(stream, "feed", feed_and_stop)
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(rows()))
        list(watch_store(store, stream, state=tmp_path / "state.npz", batch_posts=100, stop=stop))
    saved = Stream.load(tmp_path / "state.npz")
    assert saved.source_at == saved.counts["posts"] == 100


def test_once_without_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--store"):
        run(tmp_path, "--once")


def test_a_file_of_follows_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "follows.parquet").write_text("no table")
    with pytest.raises(DataError, match="cannot be read as a Parquet table of follows"):
        run(tmp_path, "--follows", str(tmp_path / "follows.parquet"))


def test_killed_watcher_goes_on_from_its_state(tmp_path: Path) -> None:
    posts = rows()
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(posts[:300]))
        words = [sys.executable, "-m", "agora", "integrity", "watch", "--store", "--poll", "0.1", "--workspace", str(tmp_path)]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
        state = tmp_path / "integrity" / "watch_store.npz"
        end = time.monotonic() + 60
        while not state.exists():
            assert process.poll() is None and time.monotonic() < end, "the watcher wrote no state"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert Stream.load(state).source_at == 300
        store.append(posts_table(posts[300:]))
    alerts, said = run(tmp_path, "--store", "--once")
    whole = Stream.load(state)
    assert alerts and f"posts {len(posts):,}" in said and "repeated 0" in said and whole.source_at == len(posts)
