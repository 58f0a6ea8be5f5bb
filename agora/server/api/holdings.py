"""What the workspace holds, and deleting from it.

GET /api/v1/sources        GET, POST /api/v1/deletions

A deletion reaches the store, the last scan, the ledger, the labels, the index and stored answers at once. Documents, shards and models
that were made before still hold the words: build, pack and train them again.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from agora.errors import UsageError
from agora.integrity.folder import IntegrityFolder
from agora.posts.overview import PostStatistics, post_statistics
from agora.posts.store import refuse_blank_keys
from agora.search.live import forget_deleted
from agora.server.access import Asking, needs
from agora.server.accounts import Caller
from agora.server.api.forms import Body
from agora.server.records import AuditLog
from agora.server.services import Services

Key = Annotated[str, Field(min_length=1, max_length=1_000)]


class Sources(BaseModel):
    """What came in from where; `quarantined`: files with records that could not be read."""

    posts: int
    accounts: int
    first: str | None
    last: str | None
    deletions: int
    kinds: dict[str, int]
    langs: dict[str, int]
    sources: dict[str, int]
    quarantined: list[str]


class NewDeletion(Body):
    posts: list[Key] = Field(default_factory=list, max_length=10_000)
    authors: list[Key] = Field(default_factory=list, max_length=10_000)


class Deleted(BaseModel):
    """`is_index_done`: false while another process writes the index, which then takes the posts out itself."""

    removed: int
    posts: int
    is_index_done: bool


class DeletionRow(BaseModel):
    kind: str
    key: str
    at: str


class HoldingsArea:
    """What the routes and the pages call."""

    def __init__(self, services: Services, audit: AuditLog | None) -> None:
        self._services = services
        self._audit = audit
        self._counted: tuple[int, PostStatistics] | None = None

    def sources(self) -> Sources:
        """Counts by source. The store is read once for each of its versions."""
        with self._services.store() as store:
            version = store.version
            if self._counted is None or self._counted[0] != version:
                self._counted = version, post_statistics(store)
        found = self._counted[1]
        quarantine = self._services.place.folder("quarantine")
        return Sources(
            posts=found.posts, accounts=found.accounts, first=found.first.isoformat() if found.first else None,
            last=found.last.isoformat() if found.last else None, deletions=found.deletions, kinds=found.kinds, langs=found.langs,
            sources=found.sources, quarantined=sorted(file.name for file in quarantine.glob("*")) if quarantine.is_dir() else [],
        )  # fmt: skip

    def delete(self, caller: Caller, body: NewDeletion) -> Deleted:
        """Delete posts and everything of authors, for good. Raises UsageError when nothing is named."""
        if not body.posts and not body.authors:
            raise UsageError("nothing to delete: name posts or authors")
        refuse_blank_keys("post", body.posts)
        refuse_blank_keys("author", body.authors)
        with self._services.deleting, self._services.store() as store:
            removed = store.delete_posts(body.posts) + store.delete_authors(body.authors)
            folder = IntegrityFolder.of(self._services.place)
            if folder.root.is_dir():
                folder.forget_deleted(store)
            is_done = forget_deleted(self._services.place, store)
            left = store.num_posts
        if self._audit is not None:
            # Who was deleted is not written down: the log is kept for ever.
            self._audit.add(
                caller.name, "deletions.add", "posts", num_posts=len(body.posts), num_authors=len(body.authors), removed=removed
            )
        return Deleted(removed=removed, posts=left, is_index_done=is_done)

    def deletions(self, limit: int = 100) -> list[DeletionRow]:
        """The newest deletions."""
        with self._services.store() as store:
            rows = store.deletions().to_pylist()
        rows.sort(key=lambda row: row["at"], reverse=True)
        return [DeletionRow(kind=row["kind"], key=row["key"], at=row["at"].isoformat()) for row in rows[:limit]]


def holdings_routes(area: HoldingsArea) -> APIRouter:
    """The routes above."""
    router = APIRouter(prefix="/api/v1", tags=["workspace"], dependencies=[needs("admin")])

    @router.get("/sources")
    def show_sources() -> Sources:
        """Posts by source, language and kind."""
        return area.sources()

    @router.get("/deletions")
    def list_deletions(limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> list[DeletionRow]:
        """What was deleted, the newest first."""
        return area.deletions(limit)

    @router.post("/deletions", status_code=201)
    def delete(body: NewDeletion, caller: Asking) -> Deleted:
        """Delete posts or everything of an author, for good."""
        return area.delete(caller, body)

    return router
