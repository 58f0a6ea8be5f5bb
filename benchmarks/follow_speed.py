"""Live ingestion: seconds from a post's arrival on a Jetstream WebSocket until a reader of the store finds it, and until its deletion
shows, at 500 posts per second with one deletion in 20; and events per second out of a file, as fast as they go.

python -m benchmarks follow_speed [--quick]
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.registry import Benchmark, Result

_RATE, _DELETED_EVERY = 500, 20
_STORED_BAR_S = 1.0  # of the 2 s in which a post must be findable; the index has the rest
_GONE_BAR_S = 2.0  # of 5 s


def _event(number: int, operation: str = "create") -> dict[str, Any]:
    commit: dict[str, Any] = {"rev": f"{number:013d}", "operation": operation, "collection": "app.bsky.feed.post", "rkey": str(number)}
    if operation == "create":
        text = f"post number {number} about the harbour, the ferry and the weather of tomorrow"
        commit["record"] = {"$type": "app.bsky.feed.post", "text": text, "createdAt": "2024-03-05T09:30:00Z", "langs": ["en"]}
    return {"did": f"did:plc:{number % 997}", "time_us": time.time_ns() // 1000, "kind": "commit", "commit": commit}


class _Sender:
    """Sends posts at a steady rate, each deletion one second after its post."""

    def __init__(self, posts: int) -> None:
        self.posts, self.sent, self.deleted = posts, dict[str, float](), dict[str, float]()

    def __call__(self, connection: Any) -> None:
        started = time.monotonic()
        for number in range(self.posts + _RATE):
            time.sleep(max(0.0, started + number / _RATE - time.monotonic()))
            if number < self.posts:
                self._send(connection, number, "create", self.sent)
            if number >= _RATE and (number - _RATE) % _DELETED_EVERY == 0:
                self._send(connection, number - _RATE, "delete", self.deleted)
        time.sleep(3)

    def _send(self, connection: Any, number: int, operation: str, times: dict[str, float]) -> None:
        times[str(number)] = time.monotonic()
        connection.send(json.dumps(_event(number, operation)))


def _watch(folder: Path, stop: threading.Event, stored: dict[str, float], gone: dict[str, float]) -> None:
    """What a reader of the store sees, and when."""
    from agora.posts.store import PostStore

    store, position, known = PostStore.open(folder), 0, 0
    while not stop.wait(0.02):
        found = store.appended
        if found > position:
            keys = [key for batch in store.scan(columns=["id"], after=position) for key in batch.column(0).to_pylist()]
            stored.update((key.rpartition("/")[2], time.monotonic()) for key in keys)
            position = found
        deletions = store.deletions()
        for key in deletions["key"].slice(known).to_pylist():
            gone[key.rpartition("/")[2]] = time.monotonic()
        known = deletions.num_rows


def _live(folder: Path, posts: int) -> tuple[float, float]:
    """95th percentiles of the seconds until stored and until gone."""
    from websockets.sync.server import serve

    from agora.posts.follow import BlueskyStream, FollowConfig, follow
    from agora.posts.store import PostStore

    sender, stop = _Sender(posts), threading.Event()
    stored: dict[str, float] = {}
    gone: dict[str, float] = {}
    with PostStore.open(folder / "live", create=True) as store, serve(sender, "127.0.0.1", 0) as server:
        threads = [threading.Thread(target=server.serve_forever), threading.Thread(target=_watch, args=(store.folder, stop, stored, gone))]
        for thread in threads:
            thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/subscribe"
        follow(BlueskyStream(url), store, config=FollowConfig(for_s=posts / _RATE + 4))
        stop.set()
        server.shutdown()
        for thread in threads:
            thread.join()
    unseen = posts - len(stored) + len(sender.deleted) - len(gone)
    assert unseen <= posts // 100, f"{unseen} posts or deletions never showed (a post deleted before it was looked for counts here)"
    return _p95(sender.sent, stored), _p95(sender.deleted, gone)


def _p95(times: dict[str, float], seen: dict[str, float]) -> float:
    import numpy as np

    return float(np.percentile([seen[key] - at for key, at in times.items() if key in seen], 95))


def _out_of_a_file(folder: Path, events: int) -> float:
    """Events per second."""
    from agora.posts.follow import FollowConfig, GrowingFile, follow
    from agora.posts.store import PostStore

    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(_event(number)) + "\n" for number in range(events)))
    with PostStore.open(folder / "file", create=True) as store:
        started = time.perf_counter()
        follow(GrowingFile(path), store, config=FollowConfig(max_posts=events))
        return events / (time.perf_counter() - started)


def _run(quick: bool, options: dict[str, str]) -> Result:
    with tempfile.TemporaryDirectory() as name:
        stored, gone = _live(Path(name), 2_500 if quick else 15_000)
        rate = _out_of_a_file(Path(name), 20_000 if quick else 200_000)
    details = {
        "stored_p95_s": stored, "deleted_p95_s": gone, "deleted_bar_s": _GONE_BAR_S, "file_events_per_s": rate, "sent_posts_per_s": _RATE,
    }  # fmt: skip
    return Result(value=stored, holds=stored <= _STORED_BAR_S and gone <= _GONE_BAR_S, details=details)


BENCHMARK = Benchmark(measures="seconds from arrival to stored (p95) at 500 posts/s", unit="s", bound="<= 1", run=_run)
