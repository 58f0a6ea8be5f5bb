"""A live source into the store. Goes in: a LiveSource, a PostStore. Comes out: posts, each once, and a summary of every event:

    events = posts + duplicates + edits + deleted + deletions + sum(skipped) + sum(quarantined)

One thread receives into a bounded queue: when it is full, nothing more is taken from the connection, and the sender waits. This thread
stores a batch when it is full or `batch_s` after its first event: deletions first (words that are gone already are never written), then
posts, then edits, and at last the cursor, in `follow/` inside the store's folder. Killed in between, the same events come again after
the next start, and all of these steps may be done twice. The store is locked only while a batch is written.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agora.errors import ConfigError, SourceError, StoreBusyError
from agora.log import Progress, Step, silent
from agora.posts.follow.batch import Batch, StreamState, prefix
from agora.posts.follow.live import STANDING, ConnectionLost, Cursor, Event, LiveSource
from agora.posts.importing import quarantine_line
from agora.posts.schema import empty_posts, posts_table
from agora.posts.sources.record import Broken
from agora.posts.store import PostStore
from agora.units import format_seconds

_LOOK_S: Final = 0.1
_BUSY_S: Final = 0.2  # a write of another process takes about this long; it is asked again
_BUSY_AT_START_S: Final = 10.0
_MAX_QUARANTINED: Final = 10_000  # records kept by one run; more are counted only

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowConfig:
    """How a stream is followed.

    batch_posts     events that are stored at once, at most
    batch_s         seconds after its first event came that a batch waits for more
    queue_events    events that may wait to be stored; then the sender waits
    for_s           stop after so many seconds; None for never
    max_posts       stop after so many new posts; None for never
    retry_first_s   wait before the first new connection; it doubles with every failure, and the half of it is random
    retry_most_s    longest such wait
    first_attempts  give up when the first connection failed so often
    """

    batch_posts: int = 5_000
    batch_s: float = 0.3
    queue_events: int = 20_000
    for_s: float | None = None
    max_posts: int | None = None
    retry_first_s: float = 1.0
    retry_most_s: float = 60.0
    first_attempts: int = 5

    def __post_init__(self) -> None:
        for name in ("batch_posts", "queue_events", "max_posts", "for_s", "retry_first_s", "retry_most_s", "first_attempts"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"follow.{name}={value} must be above 0")
        if self.batch_s < 0:
            raise ConfigError(f"follow.batch_s={self.batch_s} must not be negative")


@dataclass(kw_only=True, slots=True)
class FollowSummary:
    """What became of every event. `duplicates` were stored already, `deleted` were refused as deleted before, `edits` replaced a post,
    `removed` are posts that deletions took out of the store."""

    source: str
    seconds: float = 0.0
    events: int = 0
    posts: int = 0
    duplicates: int = 0
    edits: int = 0
    deleted: int = 0
    deletions: int = 0
    removed: int = 0
    connections: int = 0
    lost: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    @property
    def accounted(self) -> int:
        """Events with a known fate; equals `events`."""
        explained = sum(self.skipped.values()) + sum(self.quarantined.values())
        return self.posts + self.duplicates + self.edits + self.deleted + self.deletions + explained


def follow(
    source: LiveSource,
    store: PostStore,
    *,
    config: FollowConfig | None = None,
    quarantine: Path | None = None,
    on_removed: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
    progress: Progress = silent,
) -> FollowSummary:
    """Store what `source` says until `stop` is set, the time or the number of posts is reached. `on_removed` is called after deletions
    that took posts out of the store; `quarantine` is the folder for records that cannot be read.

    Raises SourceError when the source refuses or cannot be reached at all, StoreError when the store is damaged.
    """
    config, stop = config or FollowConfig(), stop or threading.Event()
    state = StreamState.load(store.folder, source)
    receiver = _Receiver(source, state.cursor, config, stop)
    writer = _Writer(source, store, state, quarantine, on_removed)
    until = time.monotonic() + config.for_s if config.for_s else None
    with progress.step(f"follow {source.place}", total=config.max_posts, unit="posts") as step, receiver.running():
        meter = _Meter(step, writer, receiver)
        while True:
            ending = stop.is_set() or receiver.is_done
            if until is not None and time.monotonic() >= until:
                stop.set()
            events = receiver.take(config.batch_posts, config.batch_s)
            while events and not writer.is_full(config.max_posts):
                events = writer.store_batch(events, config.max_posts)
            meter.show()
            if writer.is_full(config.max_posts) or (ending and not events and receiver.is_empty):
                break
        stop.set()
    summary = writer.summary
    summary.connections, summary.lost, summary.seconds = receiver.connections, receiver.lost, meter.seconds
    receiver.raise_failure()
    return summary


class _Receiver:
    """Reads the source in a thread of its own, connecting again and again."""

    def __init__(self, source: LiveSource, cursor: Cursor, config: FollowConfig, stop: threading.Event) -> None:
        self._source, self._cursor, self._config, self._stop = source, cursor, config, stop
        self._queue: queue.Queue[tuple[float, Event]] = queue.Queue(config.queue_events)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="follow")
        self.connections, self.lost, self.waiting = 0, 0, ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the thread runs; it has ended when the block has."""
        self._future = self._pool.submit(self._run)
        closer = threading.Thread(target=self._close_on_stop, daemon=True)
        closer.start()
        try:
            yield
        finally:
            self._stop.set()
            self._source.close()
            self._pool.shutdown(wait=True)

    def _close_on_stop(self) -> None:
        self._stop.wait()
        self._source.close()

    @property
    def is_done(self) -> bool:
        """Nothing more will come into the queue."""
        return self._future.done()

    @property
    def is_empty(self) -> bool:
        """Nothing waits, and nothing will."""
        return self._future.done() and self._queue.empty()

    @property
    def num_waiting(self) -> int:
        """Events received and not yet stored."""
        return self._queue.qsize()

    def raise_failure(self) -> None:
        """Raise what ended the thread, if anything did."""
        self._future.result()

    def take(self, most: int, wait_s: float) -> list[Event]:
        """The next events: up to `most`, or what comes within `wait_s` of the first; none when nothing comes at once."""
        events: list[Event] = []
        until = time.monotonic() + _LOOK_S
        while len(events) < most:
            try:
                remaining = 0.0 if self._stop.is_set() and self._future.done() else until - time.monotonic()
                received, event = self._queue.get(timeout=remaining) if remaining > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            events.append(event)
            if len(events) == 1:
                until = received + wait_s  # what came while the batch before was stored has waited already
        return events

    def _run(self) -> None:
        failures, reached = 0, False
        while not self._stop.is_set():
            try:
                for event in self._source.connect(self._cursor):
                    if event is STANDING:
                        reached, self.connections, self.waiting = True, self.connections + 1, ""
                        continue
                    failures = 0
                    if not self._put(event):
                        return
                    self._cursor = self._source.later(self._cursor, event.cursor)
                reason: ConnectionLost = ConnectionLost("the stream ended")
            except ConnectionLost as error:
                reason = error
            if self._stop.is_set():
                return
            self.lost += 1
            failures += 1
            if not reached and failures >= self._config.first_attempts:
                raise SourceError(f"{self._source.place} cannot be reached after {failures} attempts: {reason}; is the address right?")
            self._wait(reason, failures)

    def _put(self, event: Event) -> bool:
        """False when it is time to stop; what is not put is not counted as received."""
        received = time.monotonic()
        while not self._stop.is_set():
            try:
                self._queue.put((received, event), timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False

    def _wait(self, reason: ConnectionLost, failures: int) -> None:
        longest = min(self._config.retry_most_s, self._config.retry_first_s * 2.0 ** min(failures - 1, 30))
        wait_s = max(longest * random.uniform(0.5, 1.0), reason.retry_after_s or 0.0)
        self.waiting = f"connection lost ({reason}); next attempt in {format_seconds(wait_s)}"
        log.info("%s: %s", self._source.place, self.waiting)
        self._stop.wait(wait_s)


class _Writer:
    """Batches into the store, then the cursor."""

    def __init__(
        self, source: LiveSource, store: PostStore, state: StreamState, quarantine: Path | None, on_removed: Callable[[], None]
    ) -> None:
        self._source, self._store, self._state, self._on_removed = source, store, state, on_removed
        self._quarantine = quarantine / f"follow-{state.path.stem}.jsonl" if quarantine is not None else None
        self._skipped: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()
        self.last_at_us: int | None = None
        self._summary = FollowSummary(source=source.place)
        _when_free(store, lambda: store.append(empty_posts()), _BUSY_AT_START_S)  # a store that cannot be written is found out now

    @property
    def summary(self) -> FollowSummary:
        """What became of the events so far."""
        self._summary.skipped, self._summary.quarantined = dict(self._skipped), dict(self._quarantined)
        return self._summary

    def is_full(self, max_posts: int | None) -> bool:
        """Whether as many posts were stored as were asked for."""
        return max_posts is not None and self._summary.posts >= max_posts

    def store_batch(self, events: Sequence[Event], max_posts: int | None) -> list[Event]:
        """Store events up to the allowed number of posts; returns those that are left."""
        allowed = None if max_posts is None else max_posts - self._summary.posts
        size = prefix(events, allowed)
        batch = Batch(self._source.prepare(events[:size], self._store, self._state.path), self._state.revisions)
        _when_free(self._store, lambda: self._apply(batch))
        self._count(batch)
        for event in events[:size]:
            self._state.cursor = self._source.later(self._state.cursor, event.cursor)
            self.last_at_us = event.at_us or self.last_at_us
        self._state.save()
        return list(events[size:])

    def _apply(self, batch: Batch) -> None:
        """Every step may be done twice, after a kill. A busy store is found out by the first, before anything is changed."""
        removed, summary, store = 0, self._summary, self._store
        if batch.deleted_posts:
            removed += store.delete_posts(batch.deleted_posts)
        if batch.deleted_authors:
            removed += store.delete_authors(batch.deleted_authors)
        added = store.append(posts_table(batch.rows)) if batch.rows else None
        changed = store.replace(posts_table(edit.row for edit in batch.edits.values())) if batch.edits else None
        if added is not None:
            summary.posts += added.appended
            summary.duplicates += added.duplicates
            summary.deleted += added.deleted
        if changed is not None:
            summary.posts += changed.added
            summary.edits += changed.edited
            summary.duplicates += changed.unchanged
            summary.deleted += changed.deleted
        summary.removed += removed
        if removed:
            self._on_removed()

    def _count(self, batch: Batch) -> None:
        self._summary.events += batch.events
        self._summary.deletions += batch.deletions
        self._summary.duplicates += batch.superseded
        self._skipped += batch.skipped
        if batch.broken:
            self._keep(batch.broken)

    def _keep(self, items: Sequence[Broken]) -> None:
        kept = sum(self._quarantined.values())
        self._quarantined += Counter(item.reason for item in items)
        if self._quarantine is not None and kept < _MAX_QUARANTINED:
            self._quarantine.parent.mkdir(parents=True, exist_ok=True)
            with self._quarantine.open("ab") as file:
                file.writelines(quarantine_line(self._source.place, item) for item in items[: _MAX_QUARANTINED - kept])


def _when_free(store: PostStore, action: Callable[[], object], longest_s: float = float("inf")) -> None:
    """Do `action` on the store when no other process writes it, then let others in. Raises StoreBusyError after `longest_s`."""
    until = time.monotonic() + longest_s
    while True:
        try:
            with store:
                action()
            return
        except StoreBusyError as error:
            if time.monotonic() > until:
                raise
            log.info("%s; waiting", error)
            time.sleep(_BUSY_S)


class _Meter:
    """Tells the progress what happens."""

    def __init__(self, step: Step, writer: _Writer, receiver: _Receiver) -> None:
        self._step, self._writer, self._receiver = step, writer, receiver
        self._began = time.monotonic()
        self._shown = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def show(self) -> None:
        summary = self._writer.summary
        self._step.advance(summary.posts - self._shown)
        self._shown = summary.posts
        if self._receiver.waiting:
            self._step.note(self._receiver.waiting)
            return
        parts = [f"{summary.posts / max(self.seconds, 1e-3):,.0f} posts/s"]
        parts += [f"{count:,} {name}" for name, count in (("edits", summary.edits), ("deletions", summary.deletions)) if count]
        if self._writer.last_at_us:
            behind = max(0.0, time.time() - self._writer.last_at_us / 1e6)
            parts.append(f"{format_seconds(behind)} behind")
        if self._receiver.num_waiting:
            parts.append(f"{self._receiver.num_waiting:,} waiting")
        self._step.note(", ".join(parts))
