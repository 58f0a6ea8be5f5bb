"""Questions to a workspace. Goes in: a workspace folder and a question. Comes out: an answer from its index, or the stored one.

    answer = ask_workspace(place, "What about the night trains?")

Deletions hold at once, whether the index has caught up or not: what the store's tombstones name is no evidence. A stored answer is used
while the store, the index and the labels are as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from agora.integrity.labels import LABELS_FILE
from agora.posts.store import PostStore
from agora.search.answers.ask import DEFAULTS, AskConfig, Writer, answer_key, ask
from agora.search.answers.extractive import ExtractiveWriter
from agora.search.answers.records import Answer, Finder, Found, FoundMany
from agora.search.answers.stored import StoredAnswers
from agora.settings import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

ANSWERS_FOLDER: Final = "answers"
_SPARE: Final = 20
"""So many hits more are asked for, in case some were deleted since the index caught up."""


@dataclass(frozen=True, slots=True)
class _Hits:
    hits: Sequence[Found]
    confidence: float | None
    total: int


class Undeleted:
    """A finder without the posts that tombstones (PostStore.deletions()) name."""

    def __init__(self, finder: Finder, deletions: pa.Table) -> None:
        rows = deletions.to_pylist()
        self._finder = finder
        self._posts = frozenset(row["key"] for row in rows if row["kind"] == "post")
        self._authors = frozenset(row["key"] for row in rows if row["kind"] == "author")

    def find(self, text: str, *, limit: int = 10, now: datetime | None = None, match: Literal["all", "any", "auto"] = "auto") -> FoundMany:
        """The hits that still stand."""
        if not (self._posts or self._authors):
            return self._finder.find(text, limit=limit, now=now, match=match)
        found = self._finder.find(text, limit=limit + _SPARE, now=now, match=match)
        kept = [hit for hit in found.hits if not self._is_gone(hit)][:limit]
        is_best_kept = bool(kept) and kept[0] is found.hits[0]  # confidence is about the first hit
        return _Hits(kept, getattr(found, "confidence", None) if is_best_kept else None, getattr(found, "total", 0))

    def _is_gone(self, hit: Found) -> bool:
        post = hit.post
        is_gone_post = post["id"] in self._posts or (post["kind"] == "repost" and post.get("ref_id") in self._posts)
        return is_gone_post or post["author"] in self._authors or (post["kind"] == "repost" and post.get("ref_author") in self._authors)


def stored_answers(place: Workspace) -> StoredAnswers:
    """The answers that a workspace keeps."""
    return StoredAnswers(place.folder("search") / ANSWERS_FOLDER)


def ask_workspace(
    place: Workspace, question: str, *, writer: Writer | None = None, now: datetime | None = None, config: AskConfig = DEFAULTS,
    fresh: bool = False, finder: Finder | None = None,
) -> Answer:  # fmt: skip
    """Answer from the workspace's index. `fresh`: not from the stored answers. `finder`: a searcher over it that is held open
    (agora/search/held.py). Raises PostIndexError where nothing was indexed, StoreError without a store."""
    at, chosen, kept = now or datetime.now(timezone.utc), writer or ExtractiveWriter(), stored_answers(place)
    with PostStore.open(place.folder("posts")) as store:
        kept.catch_up(store)
        position = store.version
        key = answer_key(question, chosen.name, now=at, config=config) + _state(place)
        if not fresh and (known := kept.get(key, position)):
            return known
        answer = _answered(place, question, store, chosen, at, config, finder)
        kept.put(key, position, answer)
        if store.version != position:  # a deletion came meanwhile: it must not leave what was just written
            kept.catch_up(store)
    return answer


def _answered(
    place: Workspace, question: str, store: PostStore, writer: Writer, now: datetime, config: AskConfig, finder: Finder | None
) -> Answer:
    from agora.search.workspace import open_searcher

    with nullcontext(finder) if finder is not None else open_searcher(place) as searcher:
        return ask(question, Undeleted(searcher, store.deletions()), writer=writer, now=now, config=config)


def _state(place: Workspace) -> str:
    """What the index has seen and which labels hold."""
    files = (place.folder("index") / "state.json", place.folder("integrity") / LABELS_FILE)
    return " ".join(_sha256(file) for file in files)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "none"
