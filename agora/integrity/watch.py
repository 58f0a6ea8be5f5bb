"""Watch a live source of posts. Goes in: JSON lines, one post each, as `agora posts import` reads them from tables, or a post store.
Comes out: Alerts for the analyst's queue, never labels.

    some-feed | agora integrity watch
    agora integrity watch --store

The state is saved every `save_s` seconds and at the end, in one file. Killed and started again, the watcher goes on: at the post
where it had saved, when it follows a store; on whatever lines come, else. Posts that it has already seen are left out as repeated.
Broken lines are skipped, counted and told to `on_broken`.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from agora.errors import RecordError
from agora.integrity.batch import POST_COLUMNS
from agora.integrity.stream import Alert, Stream, StreamConfig
from agora.posts.schema import posts_table
from agora.posts.sources.record import Broken, attempt
from agora.posts.sources.table_rows import JsonRows
from agora.posts.store import PostStore

MAX_WAITING: Final = 16_384
_LOOK_S: Final = 0.5
"""A quiet source is asked so often whether to stop."""


def open_stream(state: Path, config: StreamConfig, *, follows: pa.Table | None = None, declared: Mapping[str, str] | None = None) -> Stream:
    """The watcher saved at `state`, with the settings that it began with, or a new one with `config`."""
    if state.exists():
        return Stream.load(state, follows=follows, declared=declared)
    return Stream(config, follows=follows, declared=declared)


def watch(
    source: Iterable[str],
    stream: Stream,
    *,
    state: Path | None = None,
    batch_posts: int = 4_096,
    wait_s: float = 2.0,
    save_s: float = 60.0,
    on_broken: Callable[[Broken], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Iterator[Alert]:
    """Alerts as they come up. A batch is worked on when it is full, or `wait_s` seconds after its first post. `stop` ends it with the
    batch that is being worked on."""
    convert = JsonRows({})
    saver = _Saver(stream, state, save_s)
    stream.counts.setdefault("broken", 0)
    before = 0
    for lines in _batches(source, batch_posts, wait_s, stop or threading.Event()):
        rows: list[Any] = []
        for number, line in enumerate(lines, start=before + 1):
            item = attempt(lambda text: convert(_parsed(text)), line, f"line {number}")
            if isinstance(item, Broken):
                stream.counts["broken"] += 1
                on_broken(item)
            elif isinstance(item, dict):
                rows.append(item)
        before += len(lines)
        if rows:
            table = posts_table(rows).select(list(POST_COLUMNS)).combine_chunks()
            for batch in table.to_batches():
                yield from stream.feed(batch)
        saver.save_if_due()
    yield from stream.tick()
    saver.save()


def watch_store(
    store: PostStore,
    stream: Stream,
    *,
    state: Path | None = None,
    poll_s: float = 2.0,
    save_s: float = 60.0,
    batch_posts: int = 8_192,
    once: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Alert]:
    """Alerts on the posts of a store, first those that it holds, then, unless `once`, those that come in. `stop` ends it with the batch
    that is being worked on.

    The store's version is looked at every `poll_s` seconds; only what came in since is read. A store that has had fewer posts than the
    watcher read is another one: it is read from its beginning.
    """
    saver = _Saver(stream, state, save_s)
    stop = stop or threading.Event()
    version = -1
    while not stop.is_set():
        if (found := store.version) != version:
            version, appended = found, store.appended
            if appended < stream.source_at:
                stream.source_at = 0
            for batch in store.scan(columns=POST_COLUMNS, batch_rows=batch_posts, after=stream.source_at):
                yield from stream.feed(batch)
                stream.source_at = min(appended, stream.source_at + batch.num_rows)
                if stop.is_set():
                    break
                saver.save_if_due()
            else:
                stream.source_at = appended
                yield from stream.tick()
            saver.save()
        if once:
            return
        stop.wait(poll_s)


class _Saver:
    """Keeps the state of a stream on disk, every `save_s` seconds."""

    def __init__(self, stream: Stream, path: Path | None, save_s: float) -> None:
        self._stream, self._path, self._save_s = stream, path, save_s
        self._saved = time.monotonic()

    def save_if_due(self) -> None:
        if time.monotonic() - self._saved >= self._save_s:
            self.save()

    def save(self) -> None:
        if self._path is not None:
            self._stream.save(self._path)
        self._saved = time.monotonic()


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise RecordError(f"no JSON: {error}") from error


def _batches(source: Iterable[str], batch_posts: int, wait_s: float, stop: threading.Event) -> Iterator[list[str]]:
    """Lines in batches. A thread reads, so that a quiet source does not hold back what it has sent; when we are slow, it waits."""
    waiting: queue.Queue[str | BaseException | None] = queue.Queue(MAX_WAITING)
    threading.Thread(target=_read, args=(source, waiting), daemon=True).start()
    batch: list[str] = []
    due = 0.0
    line: str | BaseException | None = None
    while not stop.is_set():
        try:
            line = waiting.get(timeout=max(0.0, min(_LOOK_S, due - time.monotonic())) if batch else _LOOK_S)
        except queue.Empty:
            if batch and time.monotonic() >= due:
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
