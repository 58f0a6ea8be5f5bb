"""The numbers under which a Mastodon server knows its statuses. Goes in: events. Comes out: the same with deletions named by post id.

One SQLite file beside the cursor, about 100 bytes per status; it is written before the posts are, so no stored post is without its number.
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
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("CREATE TABLE IF NOT EXISTS statuses (number TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID")

    def __enter__(self) -> StatusNumbers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._database.close()

    def resolve(self, events: Sequence[Event], store: PostStore, origin: str) -> list[Event]:
        """Remember the numbers of posts; name deletions by the id of the post. A number never seen here may be of a post of this server
        (`origin`) that was imported: the store's ids are searched for it."""
        self._remember(events)
        wanted = {event.item.number for event in events if isinstance(event.item, LocalDeletion)}
        if not wanted:
            return list(events)
        known = {number: id_ for number in wanted if (id_ := self._id_of(number))}
        known |= _imported(store, wanted - known.keys(), origin)
        return [replace(event, item=_resolved(event.item, known)) if isinstance(event.item, LocalDeletion) else event for event in events]

    def _remember(self, events: Sequence[Event]) -> None:
        rows = []
        for event in events:
            row = event.item.row if isinstance(event.item, Edit) else event.item
            if event.number and isinstance(row, dict):
                rows.append((event.number, row["id"]))
        if rows:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO statuses VALUES (?, ?)", rows)
            self._database.execute("COMMIT")

    def _id_of(self, number: str) -> str | None:
        found = self._database.execute("SELECT id FROM statuses WHERE number = ?", (number,)).fetchone()
        return found[0] if found else None


def _resolved(deletion: LocalDeletion, known: dict[str, str]) -> Deletion | Skipped:
    return Deletion("post", known[deletion.number]) if deletion.number in known else _UNKNOWN


def _imported(store: PostStore, numbers: set[str], origin: str) -> dict[str, str]:
    """Posts of the server itself end in their number: https://HOST/users/NAME/statuses/NUMBER."""
    found: dict[str, str] = {}
    digits = {number for number in numbers if number.isdigit()}
    if not digits:
        return found
    ending = pa.array([f"/statuses/{number}" for number in digits])
    for batch in store.scan(columns=["id"]):
        own = batch.column("id").filter(pc.starts_with(batch.column("id"), f"{origin}/"))
        tails = pc.replace_substring_regex(own, r"^.*(/statuses/\d+)$", r"\1")
        for id_ in own.filter(pc.is_in(tails, value_set=ending)).to_pylist():
            found[id_.rpartition("/")[2]] = id_
    return found
