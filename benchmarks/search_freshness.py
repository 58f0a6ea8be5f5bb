"""Posts under constant arrival: seconds until a post is found, seconds until a deleted one is gone, and nothing lost at kill -9.

python -m benchmarks search_freshness [--posts N] [--seconds S] [--data FOLDER]

500 posts a second arrive for a store of N and are indexed with vectors in the same process. What has arrived while the store was busy is
the next batch; its oldest post is a probe, asked for until it is found by its word, and its clock starts with its arrival. Deleted probes
are asked for until they are gone (words, vectors, `get`). Then another process indexes while posts arrive, and is killed three times.
The same through the commands (`everywhere`, search_freshness_everywhere.py): `agora posts follow FILE` keeps a workspace up while another
process searches, asks and looks at alerts; there, gone means gone from alerts and stored answers too.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks.registry import REPOSITORY, SHARED_DATA, Benchmark, Result, whole_number
from benchmarks.search_freshness_everywhere import followed
from benchmarks.search_speed import some_posts

if TYPE_CHECKING:
    from agora.posts.store import PostStore
    from agora.search.index import PostIndex

_FOUND_S, _GONE_S = 2.0, 5.0
_RATE = 500
_BATCH_S = 0.1  # at least between two batches
_DELETE_EVERY = 5  # batches
_KILLS = 3
_PAUSE_S = 0.02
_FOLLOWED_S = 20

_WRITER = """
import sys
from pathlib import Path
from agora.posts.store import PostStore
from agora.search.index.embedded import EmbeddedIndex
from agora.text.embeddings import load_embeddings

store, index = PostStore.open(Path(sys.argv[1]) / "posts"), EmbeddedIndex.open(Path(sys.argv[1]) / "index")
print("ready", flush=True)
while True:
    index.catch_up(store, embeddings=load_embeddings())
"""


@dataclass(slots=True)
class _Probes:
    """Probes on their way: when they were sent, what was found, when they were deleted, what is gone."""

    sent: dict[str, float] = field(default_factory=dict)
    deleted: dict[str, float] = field(default_factory=dict)
    found_s: list[float] = field(default_factory=list)
    gone_s: list[float] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


class _Feed:
    """Texts of `posts`, again and again under new ids, as they arrive: 500 a second since `start`."""

    def __init__(self, store: PostStore, posts: pa.Table) -> None:
        self._store, self._posts = store, posts
        self.number = self.num_sent = 0
        self.start()

    def start(self) -> None:
        """From now on posts arrive."""
        self._started, self._since = time.perf_counter(), self.num_sent

    def send(self, probes: _Probes | None = None) -> None:
        """Append what has arrived; the first and oldest post holds a word that no other has."""
        arrived = self._started + (self.num_sent - self._since) / _RATE
        count = int((time.perf_counter() - arrived) * _RATE)
        if count < 1:
            return
        batch = self._posts.slice(self.num_sent % max(1, self._posts.num_rows - count), count)
        ids = [f"live-{self.number}-{place}" for place in range(batch.num_rows)]
        now = pa.array([datetime.now(timezone.utc)] * batch.num_rows, batch.schema.field("created_at").type)
        texts = [f"probe{self.number}", *batch["text"].to_pylist()[1:]]
        for name, values in (("id", pa.array(ids)), ("created_at", now), ("text", pa.array(texts))):
            batch = batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), values)
        if probes is not None:
            probes.sent[f"probe{self.number}"] = arrived
        self._store.append(batch)
        self.number, self.num_sent = self.number + 1, self.num_sent + batch.num_rows
        if probes is not None and len(probes.shown) > 5 and self.number % _DELETE_EVERY == 0:
            word = probes.shown.pop(0)
            probes.deleted[word] = time.perf_counter()
            self._store.delete_posts([f"live-{word.removeprefix('probe')}-0"])


def _look(index: PostIndex, probes: _Probes, embed: Any) -> None:
    for word, sent in list(probes.sent.items()):
        if index.find_text([word], None, 1).ids:
            probes.found_s.append(time.perf_counter() - sent)
            probes.shown.append(word)
            del probes.sent[word]
    for word, deleted in list(probes.deleted.items()):
        key = f"live-{word.removeprefix('probe')}-0"
        near = index.find_near(embed(word), None, 5).ids
        if key not in near and not index.find_text([word], None, 1).ids and not index.get([key]).num_rows:
            probes.gone_s.append(time.perf_counter() - deleted)
            del probes.deleted[word]


def _live(store: PostStore, index: PostIndex, feed: _Feed, seconds: int) -> tuple[_Probes, float]:
    """Feed, index and look in three threads; returns the probes and the rate that was kept."""
    from agora.text.embeddings import load_embeddings

    embeddings, probes, stop = load_embeddings(), _Probes(), threading.Event()
    errors: list[BaseException] = []

    def embed(word: str) -> Any:
        return embeddings.vectors(pa.array([word], pa.large_string()))[0]

    def repeat(work: Any) -> None:
        try:
            while not stop.is_set():
                work()
                time.sleep(_PAUSE_S)
        except Exception as error:  # noqa: BLE001 (reported below)
            errors.append(error)

    works = (lambda: index.catch_up(store, embeddings=embeddings), lambda: _look(index, probes, embed))
    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    first, started = feed.num_sent, time.perf_counter()
    feed.start()
    while time.perf_counter() - started < seconds and not errors:
        feed.send(probes)
        time.sleep(_BATCH_S)
    rate = (feed.num_sent - first) / (time.perf_counter() - started)
    deadline = time.perf_counter() + 10 * _GONE_S
    while (probes.sent or probes.deleted) and time.perf_counter() < deadline and not errors:
        time.sleep(_PAUSE_S)
    stop.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return probes, rate


def _killed(folder: Path, feed: _Feed, rng: random.Random) -> None:
    """Another process indexes what arrives and is killed in the middle of it."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE, cwd=REPOSITORY) as child:
        assert child.stdout is not None
        child.stdout.readline()
        end = time.perf_counter() + rng.uniform(0.5, 2.0)
        feed.start()
        while time.perf_counter() < end:
            feed.send()
            time.sleep(_BATCH_S)
        child.kill()


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.posts.store import PostStore
    from agora.search.index.embedded import EmbeddedIndex
    from agora.text.embeddings import load_embeddings

    num_posts = whole_number(options, "posts", 5_000 if quick else 200_000, at_least=1000)
    seconds = whole_number(options, "seconds", 8 if quick else 60, at_least=2)
    posts = some_posts(num_posts, Path(options.get("data", SHARED_DATA)))
    with tempfile.TemporaryDirectory() as name, PostStore.open(Path(name) / "posts", create=True) as store:
        folder = Path(name)
        store.append(posts)
        feed = _Feed(store, posts)
        with EmbeddedIndex.open(folder / "index") as index:
            index.catch_up(store, embeddings=load_embeddings())
            probes, rate = _live(store, index, feed, seconds)
        rng = random.Random(0)
        for _ in range(_KILLS):
            _killed(folder, feed, rng)
        with EmbeddedIndex.open(folder / "index") as index:
            started = time.perf_counter()
            index.catch_up(store)
            recovered_s = time.perf_counter() - started
            living = {key for batch in store.scan(columns=["id"]) for key in batch.column(0).to_pylist()}
            found = index.latest(None, len(living) + 1000).ids
            words = {f"probe{number}" for number in range(feed.number) if f"live-{number}-0" in living}
            unfound = sum(not index.find_text([word], None, 1).ids for word in words)
    with tempfile.TemporaryDirectory() as name:
        everywhere = followed(Path(name), posts, min(seconds, _FOLLOWED_S))
    lost, extra = len(living - set(found)), len(found) - len(living)
    details: dict[str, Any] = {
        "posts": num_posts, "rate_kept_per_s": rate, "found_p50_s": _p(probes.found_s, 0.5), "found_p95_s": _p(probes.found_s, 0.95),
        "found_max_s": max(probes.found_s), "gone_p50_s": _p(probes.gone_s, 0.5), "gone_p95_s": _p(probes.gone_s, 0.95),
        "gone_max_s": max(probes.gone_s), "probes_found": len(probes.found_s), "probes_gone": len(probes.gone_s),
        "never_found": len(probes.sent), "never_gone": len(probes.deleted), "kills": _KILLS, "recovered_s": recovered_s,
        "lost_after_kills": lost + unfound, "extra_after_kills": extra, "everywhere": everywhere, "load": os.getloadavg()[0],
    }  # fmt: skip
    holds = (
        details["found_p95_s"] <= _FOUND_S and details["gone_p95_s"] <= _GONE_S
        and not (lost or unfound or extra or probes.sent or probes.deleted) and rate >= 0.9 * _RATE
        and everywhere["found_p95_s"] <= _FOUND_S and everywhere["gone_everywhere_p95_s"] <= _GONE_S
        and not (everywhere["never_found"] or everywhere["never_gone"]) and everywhere["alerted"] and everywhere["answered"]
    )  # fmt: skip
    return Result(value=details["found_p95_s"], holds=bool(holds), details=details)


def _p(seconds: list[float], share: float) -> float:
    return float(np.quantile(seconds, share))


BENCHMARK = Benchmark(
    measures="seconds until a post is found while 500 a second arrive, 95th percentile",
    unit="s",
    bound=f"<= {_FOUND_S}, gone <= {_GONE_S} s after its deletion, nothing lost at {_KILLS} kills",
    run=_run,
    options=("posts", "seconds", "data"),
)
