"""Watch a live source of posts. Goes in: JSON lines, one post each, as `agora posts import` reads them from tables. Comes out: Alerts for
the analyst's queue, never labels.

    some-feed | agora integrity watch

The state is saved every `save_s` seconds and at the end, in one file. Killed and started again on the same or later posts, the watcher
goes on; posts that it has already seen are left out as repeated. Broken lines are counted and skipped.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from agora.errors import RecordError
from agora.integrity.batch import POST_COLUMNS
from agora.integrity.stream import Alert, Stream, StreamConfig
from agora.posts.schema import posts_table
from agora.posts.sources.record import Broken, attempt
from agora.posts.sources.tables import JsonRows

MAX_WAITING: Final = 16_384


def open_stream(state: Path, config: StreamConfig, *, follows: pa.Table | None = None, declared: Mapping[str, str] | None = None) -> Stream:
    """The watcher saved at `state`, with the settings that it began with, or a new one with `config`."""
    if state.exists():
        return Stream.load(state, follows=follows, declared=declared)
    return Stream(config, follows=follows, declared=declared)


def watch(
    source: Iterable[str], stream: Stream, *, state: Path | None = None, batch_posts: int = 4_096, wait_s: float = 2.0, save_s: float = 60.0
) -> Iterator[Alert]:
    """Alerts as they come up. A batch is worked on when it is full, or `wait_s` seconds after its first post."""
    convert = JsonRows({})
    saved = time.monotonic()
    stream.counts.setdefault("broken", 0)
    for lines in _batches(source, batch_posts, wait_s):
        items = [attempt(lambda line: convert(_parsed(line)), line) for line in lines]
        rows: list[Any] = [item for item in items if isinstance(item, dict)]
        stream.counts["broken"] += sum(isinstance(item, Broken) for item in items)
        if rows:
            table = posts_table(rows).select(list(POST_COLUMNS)).combine_chunks()
            for batch in table.to_batches():
                yield from stream.feed(batch)
        if state is not None and time.monotonic() - saved >= save_s:
            stream.save(state)
            saved = time.monotonic()
    yield from stream.tick()
    if state is not None:
        stream.save(state)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise RecordError(f"no JSON: {error}") from error


def _batches(source: Iterable[str], batch_posts: int, wait_s: float) -> Iterator[list[str]]:
    """Lines in batches. A thread reads, so that a quiet source does not hold back what it has sent; when we are slow, it waits."""
    waiting: queue.Queue[str | BaseException | None] = queue.Queue(MAX_WAITING)
    threading.Thread(target=_read, args=(source, waiting), daemon=True).start()
    batch: list[str] = []
    due = 0.0
    while True:
        try:
            line = waiting.get(timeout=max(0.0, due - time.monotonic()) if batch else None)
        except queue.Empty:
            yield batch
            batch = []
            continue
        if line is None or isinstance(line, BaseException):
            break
        if line.strip():
            due = due if batch else time.monotonic() + wait_s
            batch.append(line)
        if len(batch) >= batch_posts:
            yield batch
            batch = []
    if batch:
        yield batch
    if isinstance(line, BaseException):
        raise line


def _read(source: Iterable[str], waiting: queue.Queue[str | BaseException | None]) -> None:
    try:
        for line in source:
            waiting.put(line)
    except Exception as error:  # noqa: BLE001  (it is raised where the lines are used)
        waiting.put(error)
    else:
        waiting.put(None)
