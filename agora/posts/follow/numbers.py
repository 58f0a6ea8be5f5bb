"""The numbers under which a Mastodon server knows its statuses. Goes in: events. Comes out: the same with deletions named by post id.

One SQLite file beside the cursor, about 100 bytes per status; it is written before the posts are, so no stored post is without its number.
Statuses of the server itself that were imported end in their number (https://HOST/users/NAME/statuses/NUMBER): the store is read for them
when the first deletion comes, and later only what came in since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc

from agora.posts.follow.live import Event, LocalDeletion
from agora.posts.sources.record import Deletion, Edit, Skipped
from agora.posts.store import PostStore

_UNKNOWN = Skipped("deletion of a post that the store does not hold")


class StatusNumbers:
    """Numbers and post ids, for the length of a `with` block."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path)
        self._database.execute("CREATE TABLE IF NOT EXISTS statuses (number TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID")
        self._database.execute("CREATE TABLE IF NOT EXISTS stores (read_to INTEGER NOT NULL)")

    def __enter__(self) -> StatusNumbers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._database.close()

    def resolve(self, events: Sequence[Event], store: PostStore, origin: str) -> list[Event]:
        """Remember the numbers of posts; name deletions by the id of the post, those of the server (`origin`) that were imported too."""
        self._remember(_numbered(events))
        if not any(isinstance(event.item, LocalDeletion) for event in events):
            return list(events)
        self._read(store, origin)
        return [replace(event, item=self._resolved(event.item)) if isinstance(event.item, LocalDeletion) else event for event in events]

    def _read(self, store: PostStore, origin: str) -> None:
        """Remember the server's own statuses among the posts that the store has taken in since the last time."""
        appended = store.appended
        found = self._database.execute("SELECT read_to FROM stores").fetchone()
        read_to = found[0] if found else None
        if read_to == appended:
            return
        is_another = read_to is None or read_to > appended
        for batch in store.scan(columns=["id"], after=None if is_another else read_to):
            self._remember(_own(batch.column("id"), origin))
        with self._database:
            self._database.execute("DELETE FROM stores")
            self._database.execute("INSERT INTO stores VALUES (?)", (appended,))

    def _remember(self, rows: Sequence[tuple[str, str]]) -> None:
        if rows:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO statuses VALUES (?, ?)", rows)

    def _resolved(self, deletion: LocalDeletion) -> Deletion | Skipped:
        known = self._id_of(deletion.number)
        return Deletion("post", known) if known else _UNKNOWN

    def _id_of(self, number: str) -> str | None:
        found = self._database.execute("SELECT id FROM statuses WHERE number = ?", (number,)).fetchone()
        return found[0] if found else None


def _numbered(events: Sequence[Event]) -> list[tuple[str, str]]:
    """Number and id of each post among the events."""
    items = ((event.number, event.item.row if isinstance(event.item, Edit) else event.item) for event in events)
    return [(number, row["id"]) for number, row in items if number and isinstance(row, dict)]


def _own(ids: pa.Array, origin: str) -> list[tuple[str, str]]:
    """Number and id of each of the server's own statuses."""
    own = ids.filter(pc.and_(pc.starts_with(ids, f"{origin}/"), pc.match_substring_regex(ids, r"/statuses/\d+$")))
    return [(id_.rpartition("/")[2], id_) for id_ in own.to_pylist()]
