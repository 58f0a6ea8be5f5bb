"""What the assistant can look up beside searching: posts by id, who refers to them, who speaks as one, trends, campaigns. Goes in: a
workspace folder. Comes out: rows and records, as the workspace is now.

    square = WorkspaceSquare(place)          once; any number of threads ask it at the same time
    assistant = open_assistant(place)        all parts together: search that is held open, this, and personas of the workspace
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from agora.errors import DataError, UsageError
from agora.integrity.folder import IntegrityFolder
from agora.integrity.labels import LABELS_FILE, read_labels
from agora.integrity.records import Campaign
from agora.integrity.voice import Voices, voices
from agora.posts.store import PostStore
from agora.search.answers.records import Evidence, Finder, FoundMany
from agora.search.answers.workspace import Undeleted
from agora.search.held import HeldSearcher
from agora.search.query.parse import parse
from agora.search.trends import TrendConfig, TrendReport, find_trends
from agora.settings import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from agora.chat.assistant import Assistant, AssistantConfig
    from agora.engine import LanguageModel

PERSONAS_FOLDER: Final = "personas"
_LABELS_S: Final = 10.0

Row = Mapping[str, Any]


class Square(Protocol):
    """What explanations and tools read."""

    def posts(self, ids: Sequence[str]) -> list[Row]:
        """The live posts with these ids."""

    def referring(self, post_id: str) -> list[Row]:
        """The live posts that reply to, repost or quote this one."""

    def voices(self) -> Voices:
        """Who speaks as one."""

    def reason(self, post_id: str, author: str) -> tuple[str, str] | None:
        """Why a post or its author is labelled, and where the evidence is shown; None where neither is."""

    def trends(self, query: str, window_s: float, history_s: float, limit: int, now: datetime) -> TrendReport:
        """What rises. Raises QuerySyntaxError."""

    def campaign(self, campaign: str) -> Campaign:
        """The campaign with this id, or the only one that begins so. Raises UsageError."""


class WorkspaceSquare:
    """All of it from a workspace folder. Nothing is opened before it is needed."""

    def __init__(self, place: Workspace) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._store: PostStore | None = None
        self._gone: tuple[int, pa.Table] | None = None
        self._known: tuple[tuple[object, ...], Voices, Mapping[tuple[str, str], tuple[str, str]]] | None = None

    def close(self) -> None:
        """Let go of the store. It can be used again."""
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = self._gone = self._known = None

    def store(self) -> PostStore:
        """The store, open. Raises StoreError where there is none."""
        with self._lock:
            if self._store is None:
                self._store = PostStore.open(self._place.folder("posts"))
            return self._store

    def deletions(self) -> pa.Table:
        """The store's tombstones; read anew when the store changed."""
        store = self.store()
        version, known = store.version, self._gone
        if known is None or known[0] != version:
            known = self._gone = (version, store.deletions())
        return known[1]

    def posts(self, ids: Sequence[str]) -> list[Row]:
        """The live posts with these ids, in this order."""
        found = {row["id"]: row for row in self.store().rows("id", ids)}
        return [found[one] for one in dict.fromkeys(ids) if one in found]

    def referring(self, post_id: str) -> list[Row]:
        """The live posts that refer to this one, oldest first."""
        return sorted(self.store().rows("ref_id", [post_id]), key=lambda row: (row["created_at"], row["id"]))

    def voices(self) -> Voices:
        """By the labels as they are now."""
        return self._labelled()[0]

    def reason(self, post_id: str, author: str) -> tuple[str, str] | None:
        """The label of the post, else of its author."""
        found = self._labelled()[1]
        return found.get(("post", post_id)) or found.get(("account", author))

    def trends(self, query: str, window_s: float, history_s: float, limit: int, now: datetime) -> TrendReport:
        """As `agora search trends`; up to the newest post where the square was silent since."""
        config = TrendConfig(window_s=window_s, history_s=history_s, limit=limit)
        where = parse(query, now=now).root if query.strip() else None
        return find_trends(self.store(), config, voices=self.voices(), where=where, now=now, or_newest=True)

    def campaign(self, campaign: str) -> Campaign:
        """From the last scan."""
        try:
            result = IntegrityFolder(self._place.folder("integrity")).load()
        except DataError as error:
            raise UsageError(f"no campaigns are known: {error}") from error
        found = [one for one in result.campaigns if one.id == campaign] or [one for one in result.campaigns if one.id.startswith(campaign)]
        if len(found) != 1 or not campaign:
            several = f"; these begin so: {', '.join(one.id for one in found[:5])}" if len(found) > 1 else ""
            raise UsageError(f"there is no campaign {campaign[:40]!r}{several}")
        return found[0]

    def _labelled(self) -> tuple[Voices, Mapping[tuple[str, str], tuple[str, str]]]:
        """Voices, and reasons by kind and id. Read anew when the file or the store changed, and at times, as labels end by themselves."""
        file = self._place.folder("integrity") / LABELS_FILE
        seen = (file.stat().st_mtime_ns if file.exists() else None, self.store().version, int(time.monotonic() / _LABELS_S))
        known = self._known
        if known is None or known[0] != seen:
            table = read_labels(self._place.root, deletions=self.deletions())
            reasons = {(row["kind"], row["id"]): (row["reason"], row["evidence"]) for row in table.to_pylist()}
            known = self._known = (seen, voices(table), reasons)
        return known[1], known[2]


class LiveFinder:
    """A searcher from which deletions are gone at once, whether its index has caught up or not."""

    def __init__(self, finder: Finder, square: WorkspaceSquare) -> None:
        self._finder, self._square = finder, square
        self._standing: tuple[pa.Table, Undeleted] | None = None

    def find(self, text: str, *, limit: int = 10, now: datetime | None = None, match: Literal["all", "any", "auto"] = "auto") -> FoundMany:
        """The hits that still stand."""
        gone, known = self._square.deletions(), self._standing
        if known is None or known[0] is not gone:
            known = self._standing = (gone, Undeleted(self._finder, gone))
        return known[1].find(text, limit=limit, now=now, match=match)


def evidence_of(row: Row, square: Square) -> Evidence:
    """A row as evidence, with its voice and label."""
    label = square.reason(row["id"], row["author"])
    return Evidence(
        number=0, id=row["id"], author=row["author"], created_at=row["created_at"], text=row["text"], kind=row["kind"],
        ref_id=row.get("ref_id"), ref_author=row.get("ref_author"), voice=":".join(square.voices().of(row["author"])),
        label=label[0] if label else None, alike=0, score=0.0,
    )  # fmt: skip


def open_assistant(
    place: Workspace, model: LanguageModel | None = None, *, searcher: Finder | None = None, config: AssistantConfig | None = None
) -> Assistant:
    """The assistant of a workspace: its index, store, labels, and personas in workspace/personas. `searcher`: one that is held open
    already. Raises ConfigError for a broken persona; a workspace without posts or index says so at the first question."""
    from agora.chat.assistant import DEFAULTS, Assistant
    from agora.chat.personas import Personas

    square = WorkspaceSquare(place)
    finder = LiveFinder(searcher or HeldSearcher(place), square)
    folder = place.root / PERSONAS_FOLDER
    personas = Personas(folder if folder.is_dir() else None)
    return Assistant(finder, model, square=square, personas=personas, config=config or DEFAULTS)


__all__ = ["LiveFinder", "Row", "Square", "WorkspaceSquare", "evidence_of", "open_assistant"]
