"""The embedded index: one folder, one process that writes, no server. Goes in: a post store. Comes out: what PostIndex promises.

    with EmbeddedIndex.open(workspace / "index") as index:
        index.catch_up(store)
        index.find_text(["vote", "brexit"], Lang("en"), 10)

Texts lie in tantivy, what changes in columns (columns.py), vectors in near.py; why these: docs/decisions/0005-search-index.md. A seal
(files.py) says what holds: kill it at any moment and the next `catch_up` goes on behind the last seal. Not covered: several machines (see
milvus.py), and file systems without flock.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import PostIndexError
from agora.integrity.labels import ACCOUNT, POST
from agora.integrity.voice import voices
from agora.log import Progress, silent
from agora.posts.schema import REPLY, REPOST
from agora.posts.store import PostStore
from agora.search.index import files
from agora.search.index.columns import Mask, Rows, Speakers
from agora.search.index.files import WriterLock
from agora.search.index.filters import LabelledRows, Snapshot
from agora.search.index.generation import Generation, by_kind
from agora.search.index.interface import FOUND_SCHEMA, HISTOGRAM_SCHEMA, CatchUp, Hits, Match
from agora.search.index.text import post_rows, rows_of, scores_of, stored_post
from agora.search.query.syntax import And, Node, Until
from agora.text.embeddings import Embeddings

_BATCH_ROWS: Final = 16_384
_SEAL_S: Final = 10.0  # seconds between seals while much is taken in; what is lost at a kill is done again
_LOOK_FURTHER: Final = 4  # how many times more hits are asked for when too few of them pass


class EmbeddedIndex:
    """The index in one folder. Any number of readers; one writer, from its first `catch_up` until `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mutex = threading.RLock()
        self._lock: WriterLock | None = None
        self._labels: pa.Table | None = None
        self._generation = _opened(folder)

    @classmethod
    def open(cls, folder: Path) -> EmbeddedIndex:
        """Open the index in `folder`; where there is none, an empty one. Raises PostIndexError when it is damaged."""
        return cls(Path(folder))

    def close(self) -> None:
        """Let another writer in. The index can be used again; it takes the lock with its next change."""
        with self._mutex:
            if self._lock is not None:
                try:
                    self._generation.close()
                finally:
                    self._lock.release()
                    self._lock = None

    def __enter__(self) -> EmbeddedIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def num_posts(self) -> int:
        """Posts that can be found."""
        return int(np.count_nonzero(self._generation.snapshot.view.alive))

    @property
    def vectors(self) -> str:
        """The name of the embeddings that made its vectors; empty where it has none."""
        return self._generation.state.vectors

    def find_text(self, words: Sequence[str], where: Node | None, limit: int, *, match: Match = "any", now: datetime | None = None) -> Hits:
        """Posts with any or all of these words, by BM25."""
        if limit < 1 or not words:
            return Hits()
        at = self._generation
        snapshot = at.snapshot
        query = at.text.any_word(words) if match == "any" else at.text.all_words(words)
        chosen = at.filters.for_ranking(where, snapshot, _or_now(now))
        rows, scores = _passing(snapshot, at.text.also(query, chosen.queries), chosen.mask, limit, order=None)
        return Hits(at.id_strings(rows), scores)

    def find_near(self, vector: npt.NDArray[np.float32], where: Node | None, limit: int, *, now: datetime | None = None) -> Hits:
        """Posts whose vectors have the largest inner product with `vector`."""
        at = self._generation
        near = at.near
        if near is None or len(vector) != near.dim or limit < 1 or not np.any(vector):  # another model's vector is near to nothing
            return Hits()
        rows, scores = near.search(vector, at.filters.living(where, at.snapshot, _or_now(now)), limit)
        return Hits(at.id_strings(rows), scores)

    def latest(self, where: Node | None, limit: int, before: datetime | None = None, *, now: datetime | None = None) -> Hits:
        """Matching posts strictly by time, newest first; of the same moment, the one that came in last."""
        if limit < 1:
            return Hits()
        at = self._generation
        snapshot, times = at.snapshot, at.snapshot.view.numbers("at")
        chosen = at.filters.for_ranking(_until(where, before), snapshot, _or_now(now))
        if chosen.queries:
            rows, _ = _passing(snapshot, at.text.also(at.text.everything(), chosen.queries), chosen.mask, limit, order="at")
        else:
            rows = np.flatnonzero(chosen.mask)
            if len(rows) > limit:
                rows = rows[times[rows] >= np.partition(times[rows], len(rows) - limit)[len(rows) - limit]]
        rows = rows[np.lexsort((rows, times[rows]))][::-1][:limit]
        return Hits(at.id_strings(rows), (times[rows] / 1e6).astype(np.float32))

    def count(self, where: Node | None, *, now: datetime | None = None) -> int:
        """How many posts match."""
        at = self._generation
        query = at.filters.as_query(where, _or_now(now))
        if query is not None and not at.num_hidden:
            return int(at.snapshot.searcher.search(query, 1).count)
        return int(np.count_nonzero(at.filters.living(where, at.snapshot, _or_now(now))))

    def histogram(self, where: Node | None, bucket_s: int, *, now: datetime | None = None) -> pa.Table:
        """How many posts match per `bucket_s` seconds."""
        at = self._generation
        times = at.snapshot.view.numbers("at")[at.filters.living(where, at.snapshot, _or_now(now))]
        starts, counts = np.unique(times - times % (bucket_s * 1_000_000), return_counts=True)
        return pa.table([pa.array(starts).cast(HISTOGRAM_SCHEMA.field("start").type), counts], schema=HISTOGRAM_SCHEMA)

    def get(self, ids: Sequence[str]) -> pa.Table:
        """These posts with their counts, in the order of `ids`."""
        at = self._generation
        snapshot, view = at.snapshot, at.snapshot.view
        rows = at.ids.rows(at.hashes(ids), view)
        rows = rows[view.alive[rows]]
        counts = at.engagement.of(rows, view)
        posts = {}
        for place, row in enumerate(rows.tolist()):
            for _, address in snapshot.searcher.search(at.text.row(row), 1, count=False).hits:
                post = stored_post(snapshot.searcher, address)
                posts[post["id"]] = {
                    **post,
                    "num_replies": int(counts[REPLY][place]),
                    "num_reposts": int(counts[REPOST][place]),
                    "num_likes": int(view.numbers("likes")[row]),
                }
        return pa.Table.from_pylist([posts[key] for key in ids if key in posts], schema=FOUND_SCHEMA)

    def document_frequency(self, words: Sequence[str]) -> Mapping[str, int]:
        """How many posts hold each word."""
        at = self._generation
        return {word: at.text.frequency(at.snapshot.searcher, word) for word in words}

    def set_labels(self, labels: pa.Table) -> None:
        """The labels that `label:coordinated` goes by from now on, and that say who counts as one voice."""
        with self._mutex:
            self._labels = labels
            _label(self._generation, labels)

    def refresh(self) -> bool:
        """Show what another process has written since. Where nothing was, this reads one small file; what this object changes itself shows
        without it. Returns whether there was anything. Raises PostIndexError when the index is damaged."""
        if not self._mutex.acquire(blocking=False):  # this object is being changed, or looks already
            return False
        try:
            if self._lock is not None:
                return False
            return self._follow(files.read_state(self.folder))
        finally:
            self._mutex.release()

    def catch_up(
        self,
        store: PostStore,
        *,
        embeddings: Embeddings | None = None,
        labels: pa.Table | None = None,
        most_vectors: int | None = None,
        progress: Progress = silent,
    ) -> CatchUp:
        """Take in what the store has appended, edited and deleted since; with `most_vectors`, only so many posts get theirs, the others
        with later calls. Raises PostIndexError while another process writes."""
        with self._mutex:
            if labels is not None:
                self.set_labels(labels)
            version, appended = store.version, store.appended  # before the scan: what comes in meanwhile is seen again
            self._begin()
            try:
                done = self._caught_up(store, version, appended, progress)
                if embeddings is not None:
                    self._embed(embeddings, most_vectors, progress)
                return done
            except BaseException:  # half a batch may be staged
                self._roll_back()
                raise

    def forget_deleted(self, store: PostStore) -> int:
        """Take out what the store has deleted, and take nothing in. Returns how many went. Raises PostIndexError as `catch_up`."""
        with self._mutex:
            self._begin()
            try:
                state = self._generation.state
                if store.appended < state.position:  # another store, made anew: all of it is for `catch_up`
                    return 0
                deleted, num_tombstones = self._delete(store)
                self._generation.seal(replace(state, num_tombstones=num_tombstones))
                return deleted
            except BaseException:
                self._roll_back()
                raise

    def hide_deleted(self, store: PostStore) -> None:
        """Find nothing that the store has deleted since the index caught up, in this object: nothing is written."""
        with self._mutex:
            at = self._generation
            if self._lock is None and store.version != at.state.version and store.appended >= at.state.position:
                at.hide(store.deletions())

    def num_behind(self, store: PostStore) -> int:
        """Posts that came into the store, or were edited there, since the index caught up."""
        position = self._generation.state.position
        appended = store.appended
        return store.num_since(position) if position < appended else store.num_posts if position > appended else 0

    def _caught_up(self, store: PostStore, version: int, appended: int, progress: Progress) -> CatchUp:
        if appended < self._generation.state.position:  # another store, made anew
            self._replace(Generation(self.folder, files.new_state(self._generation.state.generation + 1)))
        at = self._generation
        added = deleted = 0
        if (version, appended) != (at.state.version, at.state.position):
            deleted, num_tombstones = self._delete(store)
            added = self._add(store, appended, progress)
            at.seal(replace(at.state, position=appended, version=version, num_tombstones=num_tombstones))
        return CatchUp(added, deleted, appended)

    def compact(self, *, progress: Progress = silent) -> None:
        """Write everything anew from the posts that are alive, then remove the old files. Needs room for a second copy."""
        with self._mutex:
            self._begin()
            old = self._generation
            fresh = Generation(self.folder, replace(files.new_state(old.state.generation + 1), key=old.state.key))
            fresh.begin()
            rows: list[int] = []
            with progress.step("compact index", total=self.num_posts, unit="posts") as step:
                for first in range(0, old.state.num_rows, _BATCH_ROWS):
                    part = list(old.stored(first, min(first + _BATCH_ROWS, old.state.num_rows)))
                    rows += [row for row, _ in part]
                    step.advance(fresh.add([post for _, post in part]))
            fresh.keep_places(old)
            fresh.copy_vectors(old, np.array(rows, np.int64))
            carried = ("position", "version", "num_tombstones", "vectors", "dim")
            fresh.seal(replace(fresh.state, **{name: getattr(old.state, name) for name in carried}))
            if fresh.near is not None:
                fresh.near.code()
            self._replace(fresh)

    def _begin(self) -> None:
        """Take the writer's place, in the state that was sealed last, whoever sealed it."""
        if self._lock is None:
            lock = WriterLock(self.folder)
            try:
                if self._generation.num_hidden:  # what is hidden in memory alone is to be deleted
                    self._show(_opened(self.folder))
                self._follow(files.read_state(self.folder))
            except BaseException:
                lock.release()
                raise
            self._lock = lock
            files.remove_other_generations(self.folder, self._generation.state)
        self._generation.begin()

    def _roll_back(self) -> None:
        """Back to what was sealed last."""
        self.close()
        self._show(_opened(self.folder))

    def _replace(self, fresh: Generation) -> None:
        """Go over to another generation. Searches under way end on the old one."""
        old = self._generation
        if files.read_state(self.folder) != fresh.state:
            files.write_state(self.folder, fresh.state)
        fresh.begin()
        self._show(fresh)
        old.close()
        shutil.rmtree(old.folder, ignore_errors=True)

    def _follow(self, state: files.State | None) -> bool:
        at = self._generation
        if state is None and not at.state.num_rows:  # nothing was ever sealed here
            return False
        if state == at.state:
            if at.near is not None:
                at.near.follow(at.state.num_vectors)  # its short form is written after the seal
            return False
        try:
            is_followed = state is not None and at.follow(state)
        except (PostIndexError, OSError, ValueError):  # its files have just been replaced by others
            is_followed = False
        if not is_followed:
            self._show(_opened(self.folder))
        return True

    def _show(self, generation: Generation) -> None:
        if self._labels is not None:  # first, so that nobody searches without them
            _label(generation, self._labels)
        self._generation = generation

    def _delete(self, store: PostStore) -> tuple[int, int]:
        tombstones = store.deletions()
        fresh = tombstones.slice(self._generation.state.num_tombstones)
        deleted = sum(self._generation.delete(kind, keys) for kind, keys in by_kind(fresh).items() if keys)
        return deleted, tombstones.num_rows

    def _add(self, store: PostStore, appended: int, progress: Progress) -> int:
        at = self._generation
        after = at.state.position
        added = seen = 0
        sealed_s = time.monotonic()
        with progress.step("index posts", total=appended - after, unit="posts") as step:
            for batch in store.scan(after=after, batch_rows=_BATCH_ROWS):
                added += at.add(list(post_rows(batch)))
                seen += batch.num_rows
                step.advance(batch.num_rows)
                if time.monotonic() - sealed_s >= _SEAL_S:  # after + seen: whoever goes on there sees every post that is not here yet
                    at.seal(replace(at.state, position=min(after + seen, appended)))
                    sealed_s = time.monotonic()
        return added

    def num_without_vectors(self, embeddings: Embeddings) -> int:
        """Posts that still have to get vectors of these embeddings."""
        state = self._generation.state
        return state.num_rows - (state.num_vectors if embeddings.name == state.vectors else 0)

    def _embed(self, embeddings: Embeddings, most: int | None, progress: Progress) -> None:
        at = self._generation
        missing = min(self.num_without_vectors(embeddings), most if most is not None else self._generation.state.num_rows)
        if not missing:
            return
        with progress.step("vectors of posts", total=missing, unit="posts") as step:
            sealed_s = time.monotonic()
            for count in at.embed(embeddings, missing):
                step.advance(count)
                if time.monotonic() - sealed_s >= _SEAL_S:
                    at.seal(at.state)
                    sealed_s = time.monotonic()
        at.seal(at.state)
        if at.near is not None:
            at.near.code()


def _opened(folder: Path) -> Generation:
    """What was sealed last. Another process may compact meanwhile and remove what was about to be read: then its result is."""
    state = files.read_state(folder)
    while True:
        try:
            return Generation(folder, state or files.new_state(0))
        except (PostIndexError, OSError):
            before, state = state, files.read_state(folder)
            if state == before:
                raise


def _label(generation: Generation, labels: pa.Table) -> None:
    accounts, posts = (labels.filter(pc.equal(labels["kind"], kind))["id"].to_pylist() for kind in (ACCOUNT, POST))
    generation.filters.labelled = LabelledRows(np.unique(generation.hashes(accounts)), np.unique(generation.hashes(posts)))
    generation.engagement.speakers = Speakers.of(voices(labels), generation.key)


def _or_now(now: datetime | None) -> datetime:
    return now if now is not None else datetime.now(timezone.utc)


def _until(where: Node | None, before: datetime | None) -> Node | None:
    if before is None:
        return where
    return Until(before) if where is None else And((where, Until(before)))


def _passing(snapshot: Snapshot, query: Any, mask: Mask, limit: int, *, order: str | None) -> tuple[Rows, npt.NDArray[np.float32]]:
    """The first `limit` hits of a query that pass the mask: looks further until there are enough."""
    num_passing, most = int(np.count_nonzero(mask)), max(1, snapshot.searcher.num_docs)
    if not num_passing:
        return np.empty(0, np.int64), np.zeros(0, np.float32)
    wanted = limit if num_passing == len(mask) else int(limit * len(mask) / num_passing * 1.2) + limit
    while True:
        wanted = min(wanted, most)
        hits = snapshot.searcher.search(query, wanted, count=False, order_by_field=order).hits
        rows = rows_of(snapshot.searcher, hits)
        passes = np.flatnonzero((rows < len(mask)) & mask[np.minimum(rows, len(mask) - 1)])[:limit]
        if len(passes) == limit or len(hits) < wanted or wanted == most:
            return rows[passes], scores_of([hits[place] for place in passes.tolist()])
        wanted *= _LOOK_FURTHER
