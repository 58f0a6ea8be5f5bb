"""Posts of a workspace as its commands see them. Goes in: posts to begin with. Comes out: seconds until what was written is found, and
until what was deleted is gone everywhere: search, the index's vectors, alerts, stored answers.

`agora posts follow FILE` runs as a process of its own and keeps the index up; another process (this one) holds a searcher open, asks, and
looks at alerts, as a server does. Clocks start when a line is written to the file. Part of search_freshness.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from agora.posts.store import PostStore
from agora.search.alerts import open_saved
from agora.search.answers.workspace import ANSWERS_FOLDER, ask_workspace
from agora.search.held import HeldSearcher
from agora.search.index.embedded import EmbeddedIndex
from agora.search.workspace import ALERTS_FILE, LEXICAL, index_posts, load_choice
from agora.settings import Workspace
from benchmarks.registry import REPOSITORY

RATE = 500
_STEP_S = 0.1
_PROBE_EVERY = 10  # steps
_PAUSE_S = 0.05
_START_S = 60.0
_REST_S = 20.0
_AUTHOR = "did:plc:probe"


@dataclass(slots=True)
class Seen:
    """Probes on their way, and how long each took. `alerted`: probes that a saved search told of; `answered`: that an answer cited."""

    written: dict[str, float] = field(default_factory=dict)
    deleted: dict[str, float] = field(default_factory=dict)
    found_s: list[float] = field(default_factory=list)
    gone_s: list[float] = field(default_factory=list)
    alerted: set[str] = field(default_factory=set)
    answered: int = 0


def followed(folder: Path, posts: pa.Table, seconds: int) -> dict[str, Any]:
    """Follow a growing file for some seconds at RATE posts a second."""
    place, file = Workspace(folder).create(), folder / "events.jsonl"
    with PostStore.open(place.folder("posts"), create=True) as store:
        store.append(posts)
        index_posts(place, embeddings=LEXICAL)
        with open_saved(folder) as saved:
            saved.save("probes", "everywhereprobe", position=store.appended)
    file.touch()
    command = [sys.executable, "-m", "agora", "posts", "follow", str(file), "--workspace", str(folder)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child, file.open("a") as lines:
        try:
            seen = _run(place, lines, posts["text"].slice(0, 5_000).to_pylist(), seconds)
        finally:
            child.terminate()
    with closing(sqlite3.connect(folder / "search" / ALERTS_FILE)) as database:
        kept = {row[0] for row in database.execute("SELECT post FROM alerts")}
    left = len(seen.deleted) + len(kept & {_id(probe) for probe in seen.alerted})
    return {
        "found_p95_s": _p95(seen.found_s), "gone_everywhere_p95_s": _p95(seen.gone_s), "probes_found": len(seen.found_s),
        "probes_gone": len(seen.gone_s), "never_found": len(seen.written), "never_gone": left, "alerted": len(seen.alerted),
        "answered": seen.answered,
    }  # fmt: skip


def _run(place: Workspace, lines: IO[str], texts: list[str], seconds: int) -> Seen:
    seen, step, sent = Seen(), 0, 0
    with HeldSearcher(place) as searcher, EmbeddedIndex.open(place.folder("index")) as index:
        _write(lines, "create", "warm", "warmprobe")
        _wait(lambda: bool(searcher.find("warmprobe").total), _START_S)
        started = time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            for number in range(sent, int(passed * RATE)):
                _write(lines, "create", f"n{number}", texts[number % len(texts)], flush=False)
            sent = int(passed * RATE)
            if step % _PROBE_EVERY == 0:
                probe = f"probe{step}"
                _write(lines, "create", probe, f"{probe} everywhereprobe was seen at the bridge")
                seen.written[probe] = time.perf_counter()
            lines.flush()
            step += 1
            _look(place, searcher, index, lines, seen)
            time.sleep(_STEP_S)
        _wait(lambda: not _look(place, searcher, index, lines, seen), _REST_S)
    return seen


def _look(place: Workspace, searcher: HeldSearcher, index: EmbeddedIndex, lines: IO[str], seen: Seen) -> bool:
    """Look for everything that is on its way. What is found is asked about and told of, then deleted. Returns whether anything is left."""
    for probe, at in list(seen.written.items()):
        if searcher.find(probe).total:
            seen.found_s.append(time.perf_counter() - at)
            del seen.written[probe]
            seen.answered += bool(ask_workspace(place, f"What about {probe}?", finder=searcher).sentences)
            seen.alerted |= _alerted(place)
            _write(lines, "delete", probe)
            seen.deleted[probe] = time.perf_counter()
    for probe, at in list(seen.deleted.items()):
        if not _is_anywhere(place, searcher, index, probe):
            seen.gone_s.append(time.perf_counter() - at)
            del seen.deleted[probe]
    return bool(seen.written or seen.deleted)


def _alerted(place: Workspace) -> set[str]:
    with open_saved(place.root) as saved, PostStore.open(place.folder("posts")) as store:
        alerts = list(saved.catch_up(store))
        saved.delivered([alert.number for alert in alerts])
        return {alert.post["text"].split()[0] for alert in alerts}


def _is_anywhere(place: Workspace, searcher: HeldSearcher, index: EmbeddedIndex, probe: str) -> bool:
    index.refresh()
    embeddings = load_choice(LEXICAL)
    assert embeddings is not None
    vector = embeddings.vectors(pa.array([probe], pa.large_string()))[0]
    if searcher.find(probe).total or _id(probe) in index.find_near(vector, None, 5).ids or index.get([_id(probe)]).num_rows:
        return True
    answers = (place.folder("search") / ANSWERS_FOLDER).glob("*.json")
    if any(_holds(file, probe) for file in answers):
        return True
    with closing(sqlite3.connect(place.folder("search") / ALERTS_FILE)) as database:
        return database.execute("SELECT 1 FROM alerts WHERE post = ?", [_id(probe)]).fetchone() is not None


def _holds(file: Path, word: str) -> bool:
    try:
        return f"{word} " in file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def _id(key: str) -> str:
    return f"at://{_AUTHOR}/app.bsky.feed.post/{key}"


def _write(lines: IO[str], operation: str, key: str, text: str = "", *, flush: bool = True) -> None:
    commit: dict[str, Any] = {"rev": "1", "operation": operation, "collection": "app.bsky.feed.post", "rkey": key}
    if operation == "create":
        at = datetime.now(timezone.utc).isoformat()
        commit |= {"cid": "c", "record": {"$type": "app.bsky.feed.post", "createdAt": at, "text": text}}
    event = {"did": _AUTHOR, "time_us": time.time_ns() // 1000, "kind": "commit", "commit": commit}
    lines.write(json.dumps(event) + "\n")
    if flush:
        lines.flush()


def _wait(until: Any, most_s: float) -> None:
    end = time.perf_counter() + most_s
    while not until() and time.perf_counter() < end:
        time.sleep(_PAUSE_S)


def _p95(seconds: list[float]) -> float:
    return float(np.quantile(seconds, 0.95)) if seconds else float("inf")


__all__ = ["followed"]
