"""What a workspace offers, opened once for many requests. Goes in: the workspace's folder. Comes out: searcher, store, last scan, runs.

What is missing (no posts, no index, no scan) is no failure of the server: `NotReady` says which command makes it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agora.engine import LanguageModel
from agora.errors import UsageError
from agora.integrity.folder import IntegrityFolder
from agora.integrity.records import ScanResult
from agora.integrity.voice import Voices, read_voices
from agora.posts.store import PostStore
from agora.search.held import HeldSearcher
from agora.search.workspace import is_indexed
from agora.server.errors import ApiError
from agora.server.served import Served
from agora.server.studio.workshop import Workshop
from agora.settings import Workspace


class NotReady(ApiError):
    """409: something has to be made first; the message names the command."""

    def __init__(self, message: str) -> None:
        super().__init__(409, message, code="not_ready")


class Services:
    """The parts of one workspace. Threads may share it."""

    def __init__(self, place: Workspace, models: Sequence[LanguageModel] | Served = ()) -> None:
        self.place = place
        self.models = models if isinstance(models, Served) else Served(models)
        self.searcher = HeldSearcher(place)
        self.workshop = Workshop(self.models.get)
        self.deleting = threading.Lock()
        self._mutex = threading.Lock()
        self._scan: tuple[object, ScanResult] | None = None

    def close(self) -> None:
        """Let go of what is open, and end what is being made."""
        self.workshop.close()
        self.searcher.close()

    @property
    def writer(self) -> LanguageModel | None:
        """The model that writes answers: the one called `chat`, or the first that is served."""
        return self.models.get("chat") or next(iter(self.models.values()), None)

    @contextmanager
    def store(self) -> Iterator[PostStore]:
        """The posts, opened. Raises NotReady."""
        if not self.has_posts():
            raise NotReady("This workspace has no posts yet. Make some: agora posts import FILE, or: agora posts simulate")
        with PostStore.open(self.place.folder("posts")) as store:
            yield store

    def held_posts(self, ids: Sequence[str]) -> set[str]:
        """Those of these posts that were not deleted."""
        if not self.has_posts():
            return set()
        with self.store() as store:
            return {str(row["id"]) for row in store.rows("id", ids)}

    def has_posts(self) -> bool:
        """Whether posts were ever stored."""
        folder = self.place.folder("posts")
        return folder.is_dir() and any(folder.iterdir())

    def search(self) -> HeldSearcher:
        """The searcher. Raises NotReady where there are no posts, or nothing was indexed."""
        if not is_indexed(self.place):
            with self.store():
                pass
            raise NotReady("The posts of this workspace are not indexed yet. Make the index: agora search index")
        return self.searcher

    def voices(self, store: PostStore) -> Voices | None:
        """Who speaks as one, as the labels say."""
        return read_voices(self.place.root, deletions=store.deletions())

    def integrity(self) -> IntegrityFolder:
        """The folder of the last scan. Raises NotReady without a scan."""
        folder = IntegrityFolder.of(self.place)
        if not folder.scan_folder.is_dir():
            raise NotReady("There is no scan for coordinated accounts yet. Make one: agora integrity scan")
        return folder

    def scan(self) -> tuple[IntegrityFolder, ScanResult]:
        """The last scan, after deletions from the store have reached it. Raises NotReady."""
        folder = self.integrity()
        if self.has_posts():
            with self._mutex, PostStore.open(self.place.folder("posts")) as store:
                folder.forget_deleted(store)
        with self._mutex:
            state = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_ino) for file in sorted(folder.scan_folder.iterdir()))
            if self._scan is None or self._scan[0] != state:
                self._scan = state, folder.load()
            return folder, self._scan[1]


def found_or_404(error: UsageError) -> ApiError:
    """The 404 of something that was asked for by name and is not there."""
    return ApiError(404, str(error), code="not_found")
