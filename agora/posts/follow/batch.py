"""A part of a stream, sorted by what is to be done with it, and what of a stream outlives a run. Goes in: events in the order in which they
came. Comes out: rows to add, edits, deletions, and counts of everything else; a cursor on the disk.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agora.errors import StoreError
from agora.files import write_atomically
from agora.posts.follow.live import Cursor, Event, LiveSource
from agora.posts.sources.record import Broken, Deletion, Edit, Row, Skipped

_REMEMBERED_EDITS: Final = 2_000  # revisions kept against edits that come out of order


def prefix(events: Sequence[Event], allowed: int | None) -> int:
    """How many of the events hold at most `allowed` posts."""
    if allowed is None:
        return len(events)
    seen = 0
    for index, event in enumerate(events):
        seen += isinstance(event.item, (dict, Edit))
        if seen > allowed:
            return index
    return len(events)


class Batch:
    """Events sorted by what is to be done with them."""

    def __init__(self, events: Sequence[Event], revisions: OrderedDict[str, str]) -> None:
        self.rows: list[Row] = []
        self.edits: dict[str, Edit] = {}
        self.deleted_posts: list[str] = []
        self.deleted_authors: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.broken: list[Broken] = []
        self.events, self.superseded = 0, 0
        for event in events:
            item: Any = event.item
            if item is None:
                continue
            self.events += item.count if isinstance(item, Skipped) else 1
            if isinstance(item, dict):
                self.rows.append(item)
            elif isinstance(item, Edit):
                self._edit(item, revisions)
            elif isinstance(item, Deletion):
                (self.deleted_posts if item.kind == "post" else self.deleted_authors).append(item.key)
            elif isinstance(item, Skipped):
                self.skipped[item.reason] += item.count
            else:
                assert isinstance(item, Broken), item
                self.broken.append(item)

    @property
    def deletions(self) -> int:
        """Posts and authors to delete."""
        return len(self.deleted_posts) + len(self.deleted_authors)

    def _edit(self, edit: Edit, revisions: OrderedDict[str, str]) -> None:
        """Keep the latest edit of each post. An earlier revision than one seen before came late and is left out."""
        key = str(edit.row["id"])
        if edit.revision < revisions.get(key, ""):
            self.superseded += 1
            return
        self.superseded += key in self.edits
        self.edits[key] = edit
        revisions[key] = edit.revision
        revisions.move_to_end(key)
        while len(revisions) > _REMEMBERED_EDITS:
            revisions.popitem(last=False)


@dataclass(slots=True)
class StreamState:
    """What outlives a run: the cursor, and the latest revisions of edited posts."""

    path: Path
    identity: dict[str, str]
    cursor: Cursor = None
    revisions: OrderedDict[str, str] = field(default_factory=OrderedDict)

    @classmethod
    def load(cls, store: Path, source: LiveSource) -> StreamState:
        """Raises StoreError for a file that cannot be read."""
        identity = dict(source.identity)
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        state = cls(store / "follow" / f"{source.name}-{key}.json", identity)
        state.path.parent.mkdir(parents=True, exist_ok=True)
        if state.path.exists():
            try:
                saved = json.loads(state.path.read_text(encoding="utf-8"))
                state.cursor, state.revisions = saved["cursor"], OrderedDict(saved["revisions"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StoreError(f"cursor {state.path} is damaged ({error}); remove it to follow from now on") from error
        return state

    def save(self) -> None:
        """Durable when this returns."""
        saved = {"identity": self.identity, "cursor": self.cursor, "revisions": list(self.revisions.items())}
        write_atomically(self.path, json.dumps(saved))


__all__ = ["Batch", "StreamState", "prefix"]
