"""A searcher that is held open, in a process that answers many requests. Goes in: a workspace folder. Comes out: results as the workspace
is now, whoever changed it since.

    searcher = HeldSearcher(place)          once; any number of threads ask it at the same time
    searcher.find("flood warning")          sees new posts, deletions, edits, labels, authority, settings and another index
    ask_workspace(place, question, finder=searcher)

Before each search it looks whether anything was written: at one small file of the index and at the times of a few others, which takes some
hundredths of a millisecond. Of an index that grew, only what is new is read; everything else is read anew when it changed. One thread
does so at a time, the others meanwhile search what was shown before. Labels end at their time without anybody writing.

Not covered: catching up with the store, which is for live.py or another process; several machines (Milvus, agora/search/index).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agora.errors import MissingExtraError, PostIndexError
from agora.integrity.labels import LABELS_FILE, read_labels
from agora.search.find import Mode, Results, Searcher
from agora.search.index.embedded import EmbeddedIndex
from agora.search.workspace import (
    AUTHORITY_FILE,
    CONFIDENCE_FILE,
    RERANKER_FILE,
    SETTINGS_FILE,
    chosen_embeddings,
    is_indexed,
    load_choice,
    make_searcher,
)  # fmt: skip
from agora.settings import Workspace
from agora.text.embeddings import Embeddings

if TYPE_CHECKING:
    import pyarrow as pa

    from agora.search.request import Matching

_NEVER: Final = datetime.max.replace(tzinfo=timezone.utc)

Seen = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """What is shown: `seen` are the files that it was made from, `until` when the first of its labels ends."""

    searcher: Searcher
    index: EmbeddedIndex
    choice: str
    embeddings: Embeddings | None
    seen: Seen
    until: datetime


class HeldSearcher:
    """Search over a workspace as it is at each request. Nothing is opened before the first. Threads may share one."""

    def __init__(self, place: Workspace) -> None:
        self._place = place
        search = place.folder("search")
        names = (SETTINGS_FILE, AUTHORITY_FILE, RERANKER_FILE, CONFIDENCE_FILE)
        self._files = (*(search / name for name in names), place.folder("integrity") / LABELS_FILE, place.settings_file)
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def __enter__(self) -> HeldSearcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything that is open. It can be used again."""
        with self._lock:
            self._held = None

    def find(
        self,
        text: str,
        *,
        mode: Mode = "top",
        limit: int = 10,
        now: datetime | None = None,
        explain: bool = False,
        match: Matching = "auto",
        passage: bool = False,
    ) -> Results:
        """As `Searcher.find`, on the present state. Raises PostIndexError where nothing was indexed."""
        return self.current().find(text, mode=mode, limit=limit, now=now, explain=explain, match=match, passage=passage)

    def current(self) -> Searcher:
        """The searcher as of now; for several searches on one state, ask it all of them at once."""
        if self._lock.acquire(blocking=self._held is None):
            try:
                self._held = held = self._looked()
            finally:
                self._lock.release()
            return held.searcher
        held_by_others = self._held
        return held_by_others.searcher if held_by_others is not None else self.current()

    def _looked(self) -> _Held:
        """What to show: what is shown already, as far as nothing else was written."""
        seen, held = tuple(_look(file) for file in self._files), self._held
        if held is not None and seen == held.seen and datetime.now(timezone.utc) < held.until:
            held.index.refresh()
            return held
        if not is_indexed(self._place):
            raise PostIndexError(f"{self._place.root} has no index of posts; make it: agora search index")
        choice, labels = chosen_embeddings(self._place, None), read_labels(self._place.root)
        embeddings = held.embeddings if held is not None and held.choice == choice else load_choice(choice)
        index = held.index if held is not None else _opened(self._place.folder("index"))
        index.refresh()
        searcher = make_searcher(self._place, index, labels, embeddings)
        return _Held(searcher, index, choice, embeddings, seen, _first_end(labels))


def _look(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _opened(folder: Path) -> EmbeddedIndex:
    try:
        return EmbeddedIndex.open(folder)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "tantivy", "search", "the index of posts") from error


def _first_end(labels: pa.Table) -> datetime:
    ends: list[Any] = labels["expires_at"].unique().to_pylist()
    return min((datetime.fromisoformat(end) for end in ends), default=_NEVER)


__all__ = ["HeldSearcher"]
