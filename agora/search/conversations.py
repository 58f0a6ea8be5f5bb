"""Which conversations a post belongs to, for searches that are held against new posts. Goes in: the conversations asked for, and posts as
they come in. Comes out: for each post those that it is below.

A conversation is a post and all replies below it. Who belongs to it is remembered as keyed hashes of ids, beside the saved searches: a
reply finds its place by what it replies to, and a reply that was deleted since still holds the thread together. The first look at a
conversation reads the store once.

A reply that comes in before the one that it replies to is in the conversation from then on, and does not alert itself unless both are
looked at together.

Not covered: replies that were deleted before the conversation was first looked at cut off what is below them; so does one that comes in
after more than `_LOOSE` other replies below nothing known, or after a restart.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from agora.database import Database
from agora.log import Progress, silent
from agora.posts.schema import REPLY
from agora.posts.store import PostStore
from agora.search.index.columns import name_hash

METADATA: Final = sa.MetaData()
_ASKED: Final = sa.Table("conversations", METADATA, sa.Column("root", sa.Text, primary_key=True))
_MEMBERS: Final = sa.Table(
    "members", METADATA, sa.Column("root", sa.Text, primary_key=True), sa.Column("member", sa.LargeBinary, primary_key=True),
)  # fmt: skip
_KEY: Final = sa.Table("conversation_key", METADATA, sa.Column("key", sa.LargeBinary, nullable=False))
_COLUMNS: Final = ("id", "ref_id", "kind")
_LOOSE: Final = 100_000
"""Replies kept in memory whose place is not known yet."""
_NOTHING: Final[frozenset[str]] = frozenset()

Joined = list[tuple[str, int]]
"""New members: the conversation, and the hash of the post."""


class Conversations:
    """The conversations that are asked for, and who is in them."""

    def __init__(self) -> None:
        self._roots: frozenset[str] = frozenset()
        self._of: dict[int, frozenset[str]] = {}
        self._loose: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._key = b""

    def ask(self, database: Database, roots: Collection[str], store: PostStore, *, progress: Progress = silent) -> None:
        """From now on, say who is in these conversations. Those that are new are read from the store."""
        wanted = frozenset(roots)
        if wanted == self._roots:
            return
        with database.begin() as connection:
            known = frozenset(connection.execute(sa.select(_ASKED.c.root)).scalars())
            self._key = _key(connection)
            for root in known - wanted:
                for table in (_ASKED, _MEMBERS):
                    connection.execute(table.delete().where(table.c.root == root))
        fresh = wanted - known
        joined = [(root, self._hash(name)) for root, name in below(fresh, store, progress)] if fresh else []
        with database.begin() as connection:
            connection.execute(_ASKED.insert(), [{"root": root} for root in fresh]) if fresh else None
            write(connection, joined)
            rows = connection.execute(sa.select(_MEMBERS)).all()
        self._of = {}
        for root, member in [*rows, *((root, _bytes(self._hash(root))) for root in wanted)]:
            number = int.from_bytes(member, "little")
            self._of[number] = self._of.get(number, _NOTHING) | {root}
        self._roots = wanted

    def take(self, posts: Iterable[Mapping[str, Any]]) -> Joined:
        """Let the replies among these posts join, in whichever order they come. Returns who is new, for `write`."""
        if not self._roots:
            return []
        fresh = [(self._hash(post["ref_id"]), self._hash(post["id"])) for post in posts if post["kind"] == REPLY and post["ref_id"]]
        if not fresh:
            return []
        below: dict[int, list[int]] = {}
        for above, one in chain(self._loose, fresh):
            below.setdefault(above, []).append(one)
        joined: Joined = []
        waiting = deque(above for above, _ in fresh if above in self._of)
        while waiting:
            above = waiting.popleft()
            for one in below.get(above, ()):
                if more := self._of[above] - self._of.get(one, _NOTHING):
                    self._of[one] = self._of.get(one, _NOTHING) | more
                    joined += [(root, one) for root in more]
                    waiting.append(one)
        self._loose.update(dict.fromkeys(pair for pair in fresh if pair[0] not in self._of))
        for pair in [pair for pair in self._loose if pair[0] in self._of] if joined else ():
            del self._loose[pair]
        while len(self._loose) > _LOOSE:
            self._loose.popitem(last=False)
        return joined

    def above(self, post_id: str) -> frozenset[str]:
        """The conversations that a post is in."""
        return self._of.get(self._hash(post_id), _NOTHING) if self._roots else _NOTHING

    def _hash(self, name: str) -> int:
        return name_hash(name, self._key)


def write(connection: sa.Connection, joined: Joined) -> None:
    """Remember who joined."""
    if joined:
        rows = [{"root": root, "member": _bytes(member)} for root, member in joined]
        connection.execute(_MEMBERS.insert().prefix_with("OR IGNORE"), rows)


def forget_all(connection: sa.Connection) -> None:
    """Nobody is in any conversation: the store is another one."""
    for table in (_ASKED, _MEMBERS):
        connection.execute(table.delete())


def _key(connection: sa.Connection) -> bytes:
    known = connection.execute(sa.select(_KEY.c.key)).scalar()
    if known is None:
        known = secrets.token_bytes(16)
        connection.execute(_KEY.insert().values(key=known))
    return bytes(known)


def _bytes(number: int) -> bytes:
    return number.to_bytes(8, "little")


def below(roots: Collection[str], store: PostStore, progress: Progress) -> Iterator[tuple[str, str]]:
    """All replies below each of these posts, by the store."""
    parts = []
    with progress.step("replies of conversations", total=store.num_posts, unit="posts") as step:
        for batch in store.scan(columns=list(_COLUMNS)):
            is_reply = pc.and_(pc.equal(batch["kind"], REPLY), pc.is_valid(batch["ref_id"]))
            parts.append(pa.table([batch[name].cast(pa.large_string()) for name in _COLUMNS[:2]], names=_COLUMNS[:2]).filter(is_reply))
            step.advance(batch.num_rows)
    if not parts or not (replies := pa.concat_tables(parts)).num_rows:
        return
    names = pa.chunked_array([*replies["id"].chunks, *replies["ref_id"].chunks]).combine_chunks().dictionary_encode()
    codes = names.indices.to_numpy()
    own, above = codes[: replies.num_rows], codes[replies.num_rows :]
    order = np.argsort(above, kind="stable")
    sorted_above = above[order]
    for root in roots:
        start = pc.index(names.dictionary, pa.scalar(root, pa.large_string())).as_py()
        level = seen = np.array([start] if start >= 0 else [], codes.dtype)
        while len(level):
            starts, stops = np.searchsorted(sorted_above, level, "left"), np.searchsorted(sorted_above, level, "right")
            rows = np.concatenate([order[low:high] for low, high in zip(starts.tolist(), stops.tolist(), strict=True)])
            level = np.setdiff1d(own[rows], seen)
            seen = np.union1d(seen, level)
            yield from ((root, name) for name in names.dictionary.take(pa.array(level)).to_pylist())


__all__ = ["METADATA", "Conversations", "Joined", "below", "forget_all", "write"]
