"""The index of a workspace kept up while posts come in. Goes in: a workspace folder. Comes out: what arrived is found, what went is not.

    keep_up(place, stop=stop)           looks at the store every POLL_S until `stop`: `agora search index --follow`, `agora posts follow`
    forget_deleted(place, store)        at once, after a deletion: `agora posts delete`
    compact_search(place, store)        off the disk as well: `agora posts compact`

Stored answers that rest on deleted or edited posts go along. Words come first; vectors follow in small parts, so a slow model delays no
post. The index is locked only while it is written. Not covered: labels and authority, which `agora search index` reads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from agora.errors import AgoraError, IndexBusyError
from agora.integrity.labels import read_labels
from agora.log import Progress, silent
from agora.posts.store import PostStore
from agora.search.answers.workspace import stored_answers
from agora.search.index.embedded import EmbeddedIndex
from agora.search.workspace import (
    ALERTS_FILE,
    AUTHORITY_FILE,
    chosen_embeddings,
    count_authority,
    is_indexed,
    load_choice,
    opened_index,
    when_free,
)
from agora.settings import Workspace
from agora.text.embeddings import Embeddings

POLL_S: Final = 0.5
"""Seconds between looks at the store; a look at a store that did not change reads one small file."""
_VECTORS_PER_ROUND: Final = 128  # about a second of MiniLM on a laptop: so long may words wait
_AGAIN_S: Final = 5.0  # after a failure

log = logging.getLogger(__name__)


@dataclass(slots=True)
class KeptUp:
    """Posts that came in and went while the index was kept up."""

    added: int = 0
    deleted: int = 0


def keep_up(
    place: Workspace, *, stop: threading.Event, for_s: float | None = None, poll_s: float = POLL_S, progress: Progress = silent
) -> KeptUp:
    """Keep the index of a workspace up to its store until `stop` is set or `for_s` seconds are over; what is stored by then is in it.

    Waits for a workspace that has no index to get one, and for other writers. What goes wrong is logged and tried again.
    """
    until = time.monotonic() + for_s if for_s is not None else None
    keeper = _Keeper(place, poll_s)
    with progress.step("keep the index up", unit="posts") as step:
        while True:
            left_s = float("inf") if until is None else until - time.monotonic()
            is_last = stop.is_set() or left_s <= 0  # seen before the look, which then sees all that was stored by now
            before = keeper.done.added
            wait_s = keeper.look()
            step.advance(keeper.done.added - before)
            if is_last:
                return keeper.done
            stop.wait(max(0.0, min(wait_s, left_s)))


@contextmanager
def kept_up(place: Workspace) -> Iterator[None]:
    """While the block runs, a thread keeps the index up; what the block stored is in it at the end."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="index") as pool:
        running = pool.submit(keep_up, place, stop=stop)
        try:
            yield
        finally:
            stop.set()
        running.result()


def forget_deleted(place: Workspace, store: PostStore) -> bool:
    """Take what the store has deleted out of stored answers, alerts and the index, if there is one. False when the index is being written
    by another process for long: it will see the deletion with its next look."""
    _forget_beside(place, store)
    if not is_indexed(place):
        return True
    try:
        with opened_index(place) as index:
            when_free(lambda: index.forget_deleted(store))
    except IndexBusyError:
        return False
    return True


def compact_search(place: Workspace, store: PostStore, *, progress: Progress = silent) -> int | None:
    """Take what the store has deleted off the disk wherever search keeps it: index (words, vectors, ids), stored answers, alerts, who is
    referred to. Returns the posts that the index holds, None where there is none. A process that holds a searcher open lets go of the old
    files with its next look. Raises IndexBusyError when another process writes the index for long."""
    _forget_beside(place, store)
    search = place.folder("search")
    if (search / AUTHORITY_FILE).exists():
        count_authority(place, store, read_labels(place.root, deletions=store.deletions()))
    if not is_indexed(place):
        return None
    with opened_index(place) as index:  # keeps the lock from the first change to the last
        when_free(lambda: index.forget_deleted(store))
        index.compact(progress=progress)
        return index.num_posts


def _forget_beside(place: Workspace, store: PostStore) -> None:
    stored_answers(place).catch_up(store)
    if (place.folder("search") / ALERTS_FILE).exists():
        from agora.search.alerts import open_saved  # needs SQLAlchemy, which who has no alerts may not have

        with open_saved(place.root) as saved:
            saved.forget_deleted(store)


class _Keeper:
    """The index of one workspace, as soon as there is one, caught up again and again."""

    def __init__(self, place: Workspace, poll_s: float) -> None:
        self.done = KeptUp()
        self._place, self._poll_s = place, poll_s
        self._opened: tuple[EmbeddedIndex, PostStore, Embeddings | None] | None = None
        self._seen: int | None = None
        self._is_behind = False

    def look(self) -> float:
        """Catch up if anything has changed. Returns the seconds until it is worth to look again."""
        try:
            if self._opened is None:
                if not is_indexed(self._place):
                    return self._poll_s
                index, store = EmbeddedIndex.open(self._place.folder("index")), PostStore.open(self._place.folder("posts"))
                self._opened = (index, store, _embeddings(self._place))
            self._catch_up(*self._opened)
        except IndexBusyError:
            return self._poll_s
        except (AgoraError, OSError) as error:  # a full disk, a database that others write: all may pass
            log.warning("the index is not kept up: %s", error)
            self._opened, self._seen = None, None
            return _AGAIN_S
        return 0.0 if self._is_behind else self._poll_s

    def _catch_up(self, index: EmbeddedIndex, store: PostStore, embeddings: Embeddings | None) -> None:
        version = store.version
        if version == self._seen and not self._is_behind:
            return
        try:
            found = index.catch_up(store, embeddings=embeddings, most_vectors=_VECTORS_PER_ROUND)
        finally:
            index.close()
        _forget_beside(self._place, store)
        self._seen = version
        self._is_behind = embeddings is not None and index.num_without_vectors(embeddings) > 0
        self.done.added += found.added
        self.done.deleted += found.deleted


def _embeddings(place: Workspace) -> Embeddings | None:
    try:
        return load_choice(chosen_embeddings(place, None))
    except AgoraError as error:
        log.warning("new posts get no vectors: %s", error)
        return None


__all__ = ["KeptUp", "compact_search", "forget_deleted", "keep_up", "kept_up"]
