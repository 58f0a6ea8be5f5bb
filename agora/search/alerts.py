"""Saved searches and their alerts. Goes in: queries by name, and posts as they come into the store. Comes out: an alert for each new post
that a saved search matches, once.

    with SavedSearches.open(workspace / "search" / "alerts.db") as saved:
        saved.save("river", "flood (aare OR rhine) -filter:reposts", position=store.appended)
        for alert in saved.catch_up(store): ...

Alerts and the position in the store up to which it was read are written in one step, so a killed process goes on there: no post is
passed over, and none alerts twice for one search. An alert is pending until `delivered` says otherwise; who is killed between showing it
and saying so sees it again, under the same number. A search alerts for posts that come in after it was saved, whatever their date, and
for posts that are edited after it was saved and match now. Words of time (`since:yesterday`) count from when a post is looked at. What is
deleted from the store is gone here with the next look.

Not covered: favourites, reposts and replies that a post gets later (`min_faves:` sees a new post, which has none).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa

from agora.database import Database
from agora.errors import DatabaseBusyError, DatabaseError, DataError, UsageError
from agora.integrity.results import utc
from agora.integrity.voice import Voices
from agora.log import Progress, silent
from agora.posts.store import PostStore
from agora.search import conversations
from agora.search.percolate import Percolator
from agora.search.query import syntax
from agora.search.query.matching import MatchContext
from agora.search.query.parse import parse
from agora.search.query.syntax import QueryWarning
from agora.search.workspace import ALERTS_FILE

MAX_NAME: Final = 100
_BATCH_POSTS: Final = 4_096
_KEYS: Final = 500
_LATER_COUNTS: Final = "counts what a post has when it comes in, which is nothing: this search will hardly ever alert"

_METADATA: Final = sa.MetaData()
_SEARCHES: Final = sa.Table(
    "searches", _METADATA, sa.Column("name", sa.Text, primary_key=True), sa.Column("query", sa.Text, nullable=False),
    sa.Column("saved_at", sa.Text, nullable=False), sa.Column("position", sa.Integer, nullable=False),
)  # fmt: skip
_ALERTS: Final = sa.Table(
    "alerts", _METADATA, sa.Column("number", sa.Integer, primary_key=True), sa.Column("search", sa.Text, nullable=False),
    sa.Column("post", sa.Text, nullable=False), sa.Column("author", sa.Text, nullable=False), sa.Column("at", sa.Text, nullable=False),
    sa.Column("is_delivered", sa.Boolean, nullable=False), sa.UniqueConstraint("search", "post"), sqlite_autoincrement=True,
)  # fmt: skip
_STATE: Final = sa.Table(
    "state", _METADATA, sa.Column("number", sa.Integer, primary_key=True), sa.Column("position", sa.Integer, nullable=False),
    sa.Column("deletions", sa.Integer, nullable=False), sa.Column("recent", sa.Text, nullable=False),
)  # fmt: skip
"""`recent` is of earlier versions, which counted posts instead of reading their positions."""


def _make_tables(connection: sa.Connection) -> None:
    _METADATA.create_all(connection)


def _make_conversations(connection: sa.Connection) -> None:
    conversations.METADATA.create_all(connection)


def _hash_recent(connection: sa.Connection) -> None:
    for number, recent in connection.execute(sa.select(_STATE.c.number, _STATE.c.recent)).all():
        hashed = json.dumps([_short(one) for one in json.loads(recent)])
        connection.execute(_STATE.update().where(_STATE.c.number == number).values(recent=hashed))


def _short(name: str) -> str:
    """What is kept of the id of a post that may be deleted."""
    return blake2b(name.encode(), digest_size=8).hexdigest()


def _forget_again(connection: sa.Connection) -> None:
    """Earlier versions kept reposts that went with their original."""
    connection.execute(_STATE.update().values(deletions=0, recent="[]"))


MIGRATIONS: Final[tuple[Callable[[sa.Connection], None], ...]] = (_make_tables, _make_conversations, _hash_recent, _forget_again)
"""Each brings the database one version further; a change is a new function, those that stand here are never edited."""


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """`position`: where the store stood when it was saved (`PostStore.appended`, no count of posts); alerts are about what comes later."""

    name: str
    query: str
    saved_at: str
    position: int
    num_alerts: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """`post`: the row of the store. `voice`: who speaks (agora/integrity/voice.py); `is_labelled`: the post or its author is labelled as
    coordinated."""

    number: int
    search: str
    post: Mapping[str, Any] = field(repr=False)
    voice: str
    is_labelled: bool
    at: str

    @property
    def is_campaign(self) -> bool:
        """Whether the voice is that of a campaign, which may have many accounts."""
        return self.voice.startswith("campaign:")


_NOT_DAMAGED: Final = ("SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_BUSY")
"""Errors of SQLite that say nothing against the file."""


def _sqlite_name(error: BaseException) -> str:
    """SQLite's name of what went wrong, empty where it says none."""
    return str(getattr(getattr(error.__cause__, "orig", None), "sqlite_errorname", ""))


class SavedSearches:
    """The saved searches of a workspace, in one SQLite file."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database, self.path = database, path
        self._percolator = Percolator()
        self._conversations = conversations.Conversations()
        self._known: dict[str, SavedSearch] = {}

    @classmethod
    def open(cls, path: Path) -> SavedSearches:
        """The searches kept in the file, which is made if absent. Raises DataError for another file, or one of a newer Agora."""
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(f"sqlite:///{path}")
        sa.event.listen(engine, "connect", _prepare)
        database = Database(engine, "saved searches", str(path))
        try:
            with database.begin() as connection:
                _migrate(connection, path)
        except BaseException as error:
            database.close()
            is_damaged = isinstance(error, DatabaseError) and not isinstance(error, DatabaseBusyError)
            if is_damaged and not _sqlite_name(error).startswith(_NOT_DAMAGED):
                raise DataError(f"{error}; move it away and save them anew") from error
            raise
        return cls(database, path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def __enter__(self) -> SavedSearches:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def save(self, name: str, query: str, *, position: int, now: datetime | None = None) -> tuple[QueryWarning, ...]:
        """Keep a query under a new name; `position` is `PostStore.appended`. Returns what the query warns of.

        Raises QuerySyntaxError, and UsageError for a name that is taken or a query that asks for nothing.
        """
        if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise UsageError(f"name {name[:MAX_NAME]!r} of a search must be one line of 1 to {MAX_NAME} characters; example: river")
        read = parse(query, now=now)
        if read.root is None:
            raise UsageError(f"query {query!r} asks for nothing, so every post would alert; example: 'flood (aare OR rhine)'")
        later = [f"min_{node.what}: {_LATER_COUNTS}" for node in syntax.walk(read.root) if isinstance(node, syntax.AtLeast) and node.count]
        row = {"name": name, "query": query, "saved_at": utc(now), "position": position}
        with self._database.begin() as connection:
            if connection.execute(sa.select(_SEARCHES.c.name).where(_SEARCHES.c.name == name)).first():
                raise UsageError(f"a search named {name!r} is saved already; remove it first: agora search saved --remove {name!r}")
            if _state(connection) is None:
                connection.execute(_STATE.insert().values(number=1, position=position, deletions=0, recent="[]"))
            connection.execute(_SEARCHES.insert().values(row))
        return (*read.warnings, *(QueryWarning(0, message) for message in later))

    def remove(self, name: str) -> None:
        """Forget a search and its alerts. Raises UsageError when there is none of this name."""
        with self._database.begin() as connection:
            if not connection.execute(_SEARCHES.delete().where(_SEARCHES.c.name == name)).rowcount:
                names = ", ".join(repr(one) for one in connection.execute(sa.select(_SEARCHES.c.name)).scalars()) or "none"
                raise UsageError(f"no search named {name!r} is saved; there are: {names}")
            connection.execute(_ALERTS.delete().where(_ALERTS.c.search == name))

    def searches(self) -> list[SavedSearch]:
        """All saved searches, by name."""
        count = sa.select(_ALERTS.c.search, sa.func.count().label("num_alerts")).group_by(_ALERTS.c.search).subquery()
        query = sa.select(_SEARCHES, sa.func.coalesce(count.c.num_alerts, 0).label("num_alerts")).outerjoin(
            count, count.c.search == _SEARCHES.c.name
        )
        with self._database.begin() as connection:
            return [SavedSearch(**row) for row in connection.execute(query.order_by(_SEARCHES.c.name)).mappings()]

    def catch_up(
        self, store: PostStore, *, voices: Voices | None = None, now: datetime | None = None, progress: Progress = silent
    ) -> Iterator[Alert]:
        """Look at the posts that came in since, and yield the alerts that are pending, the oldest first.

        Each batch of posts is written down with its alerts before these are yielded.
        """
        context = replace(MatchContext.of(voices, now=now), above=lambda one: self._conversations.above(one))
        self.forget_deleted(store)
        yield from self._pending(store, voices or Voices())
        self._refresh(context.now)
        with self._database.begin() as connection:
            state = _state(connection)
        if state is None or not self._known:
            return
        appended, position = store.appended, state.position
        if appended < position:
            self._begin_anew(appended)
        self._conversations.ask(self._database, self._roots(), store, progress=progress)
        if appended <= position:
            return
        with progress.step("posts against saved searches", total=appended - position, unit="posts") as step:
            for batch, positions in store.arrivals(position, batch_rows=_BATCH_POSTS):
                joined = self._conversations.take(batch.select(["id", "kind", "ref_id"]).to_pylist())
                found = list(self._matching(batch, positions, context))
                reached = positions[-1] + 1
                numbers = self._write(found, position, reached, context.now, joined)
                step.advance(reached - position)
                position = reached
                yield from (_alert(number, name, post, voices or Voices(), utc(context.now)) for number, (name, post) in numbers)
        self._write([], position, max(position, appended), context.now)

    def delivered(self, alerts: Collection[int]) -> None:
        """These alerts (by number) have reached whom they are for: they are not pending any more."""
        numbers = list(alerts)
        with self._database.begin() as connection:
            for start in range(0, len(numbers), _KEYS):
                some = _ALERTS.c.number.in_(numbers[start : start + _KEYS])
                connection.execute(_ALERTS.update().where(some).values(is_delivered=True))

    def _refresh(self, now: datetime) -> None:
        """Take over what was saved and removed meanwhile; words of time count from `now`."""
        saved = {search.name: search for search in self.searches()}
        for name in [name for name in self._known if name not in saved]:
            self._percolator.remove(name)
            del self._known[name]
        for name, search in saved.items():
            known = self._known.get(name)
            if known is not None and known.query == search.query and not _names_a_time(search.query):
                self._known[name] = search
                continue
            root = parse(search.query, now=now).root
            assert root is not None
            self._percolator.put(name, root)
            self._known[name] = search

    def _roots(self) -> set[str]:
        """The conversations that saved searches ask for."""
        asked = (parse(search.query).root for search in self._known.values() if "conversation_id:" in search.query.lower())
        return {node.id for root in asked if root is not None for node in syntax.walk(root) if isinstance(node, syntax.Conversation)}

    def _matching(self, batch: pa.RecordBatch, positions: Sequence[int], context: MatchContext) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for position, post in zip(positions, batch.to_pylist(), strict=True):
            for name in self._percolator.queries_of(post, context):
                if position >= self._known[name].position:
                    yield name, post

    def _write(
        self,
        found: Sequence[tuple[str, Mapping[str, Any]]],
        before: int,
        reached: int,
        now: datetime,
        joined: conversations.Joined | None = None,
    ) -> list[tuple[int, tuple[str, Mapping[str, Any]]]]:
        """Alerts and position in one step. Returns the new alerts with their numbers."""
        numbered = []
        with self._database.begin() as connection:
            held = _STATE.c.position == before
            moved = connection.execute(_STATE.update().where(held).values(position=reached))
            if not moved.rowcount:
                raise UsageError(f"{self.path}: another process looks at the same posts; let one of them do it")
            conversations.write(connection, joined or [])
            for name, post in found:
                row = {"search": name, "post": post["id"], "author": post["author"], "at": utc(now), "is_delivered": False}
                known = sa.select(_ALERTS.c.number).where(_ALERTS.c.search == name, _ALERTS.c.post == post["id"])
                if connection.execute(known).first() is None:
                    number = connection.execute(_ALERTS.insert().values(row)).inserted_primary_key
                    numbered.append((int(number[0]) if number else 0, (name, post)))
        return numbered

    def _pending(self, store: PostStore, voices: Voices) -> Iterator[Alert]:
        """Alerts that were written down and not delivered; their posts are looked up in the store."""
        with self._database.begin() as connection:
            rows = list(connection.execute(sa.select(_ALERTS).where(~_ALERTS.c.is_delivered).order_by(_ALERTS.c.number)).mappings())
        if not rows:
            return
        posts = {post["id"]: post for post in store.rows("id", [row["post"] for row in rows])}
        for row in rows:
            if row["post"] in posts:
                yield _alert(row["number"], row["search"], posts[row["post"]], voices, row["at"])

    def _begin_anew(self, appended: int) -> None:
        """The store is another one than before: alerts are about what comes in from now on."""
        with self._database.begin() as connection:
            connection.execute(_STATE.update().values(position=appended))
            connection.execute(_SEARCHES.update().where(_SEARCHES.c.position > appended).values(position=appended))
            conversations.forget_all(connection)
        self._conversations = conversations.Conversations()

    def forget_deleted(self, store: PostStore) -> None:
        """Take out alerts about posts that left the store since the last look: deleted themselves, with their author, or as a repost with
        its original."""
        deletions = store.deletions().num_rows  # before the look: what is deleted meanwhile is looked at again
        with self._database.begin() as connection:
            state = _state(connection)
            if state is None or deletions == state.deletions:
                return
            posts = list(connection.execute(sa.select(_ALERTS.c.post).distinct()).scalars())
        kept = store.present(posts)
        gone = [post for post in posts if post not in kept]
        with self._database.begin() as connection:
            for start in range(0, len(gone), _KEYS):
                connection.execute(_ALERTS.delete().where(_ALERTS.c.post.in_(gone[start : start + _KEYS])))
            connection.execute(_STATE.update().values(deletions=deletions))
        with self._database.begin() as connection:
            connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))  # deleted names are not kept in the journal either


def open_saved(workspace: Path) -> SavedSearches:
    """The saved searches of a workspace folder."""
    return SavedSearches.open(workspace / "search" / ALERTS_FILE)


@dataclass(frozen=True, slots=True)
class _State:
    position: int
    deletions: int


def watch_alerts(
    store: PostStore,
    saved: SavedSearches,
    *,
    voices: Callable[[], Voices | None] = lambda: None,
    poll_s: float = 1.0,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> Iterator[Alert]:
    """Alerts as posts come in; the store's version is looked at every `poll_s` seconds. Each alert counts as delivered once the next is
    asked for. `stop` is asked when all has been read."""
    before: object = None
    while True:
        seen = (store.version, [search.name for search in saved.searches()])
        if seen != before:
            before = seen
            for alert in saved.catch_up(store, voices=voices(), progress=progress):
                yield alert
                saved.delivered([alert.number])
        if stop():
            return
        time.sleep(poll_s)


def _alert(number: int, search: str, post: Mapping[str, Any], voices: Voices, at: str) -> Alert:
    is_labelled = post["author"] in voices.labelled or post["id"] in voices.posts
    return Alert(number, search, post, ":".join(voices.of(post["author"])), is_labelled, at)


def _prepare(connection: Any, _: Any) -> None:
    """Deleted rows are overwritten; a committed step survives kill -9, and after a power cut the file is as it was at an earlier step."""
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON", "busy_timeout = 10000"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(connection: sa.Connection, path: Path) -> None:
    version = int(connection.execute(sa.text("PRAGMA user_version")).scalar_one())
    if version > len(MIGRATIONS):
        raise DataError(f"{path} was made by a newer Agora (version {version}, known up to {len(MIGRATIONS)}); update Agora")
    for migration in MIGRATIONS[version:]:
        migration(connection)
    if version < len(MIGRATIONS):
        connection.execute(sa.text(f"PRAGMA user_version = {len(MIGRATIONS)}"))


def _state(connection: sa.Connection) -> _State | None:
    row = connection.execute(sa.select(_STATE.c.position, _STATE.c.deletions)).first()
    return None if row is None else _State(*row)


def _names_a_time(query: str) -> bool:
    return "since:" in query.lower() or "until:" in query.lower()


__all__ = ["Alert", "SavedSearch", "SavedSearches", "open_saved", "watch_alerts"]
