"""The index on Milvus, for a cluster: many machines search, one catches up. Goes in: a post store. Comes out: what PostIndex promises.

    MilvusIndex.open("http://milvus:19530", token="user:password")      or a file name, which Milvus Lite opens (tests)

Words are elements of an array (filters) and a sparse vector (BM25, its document part worked out here with a fixed mean length); names and
words stand as keyed hashes, so that no text of a member is ever part of an expression. Every change is an upsert by post id: one that was
killed is done again from the position kept beside the posts. Needs Milvus 2.6 (partial upserts). Not covered: two writers at a time, which
nothing prevents; of a text only the first `_TEXT_BYTES` are searched for phrases.
"""

from __future__ import annotations

import json
import math
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from hashlib import blake2b
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import MissingExtraError, PostIndexError
from agora.integrity.labels import ACCOUNT, POST
from agora.integrity.voice import voices
from agora.log import Progress, silent
from agora.posts.schema import POST_SCHEMA, REPLY, REPOST
from agora.posts.store import PostStore
from agora.search.index.interface import FOUND_SCHEMA, HISTOGRAM_SCHEMA, CatchUp, Hits, Match
from agora.search.index.text import ReadPost, microseconds, node_keys, post_keys, post_rows
from agora.search.query import syntax
from agora.search.query.syntax import Node
from agora.text.embeddings import Embeddings
from agora.text.words import link_words, marks, plain_words

EXTRA: Final = "milvus"
K1: Final = 1.2  # as Lucene and tantivy have it
B: Final = 0.75
MEAN_WORDS: Final = 16  # of a post: mean of the 1.0M posts of the development data, 2026-11-22
_TEXT_BYTES: Final = 60_000  # a Milvus string holds 65,535
_TOKENS: Final = 4096  # elements of a Milvus array
_BATCH_ROWS: Final = 1000
_FETCH_ROWS: Final = 16_384  # most that Milvus returns at once
_KEYS_PER_CALL: Final = 5000
_FIRST_WINDOW_US: Final = 3_600_000_000
_SCALARS: Final = (
    "key",
    "author",
    "ref",
    "ref_author",
    "kind",
    "at",
    "words",
    "links",
    "tokens",
    "replies",
    "reposts",
    "likes",
    "embedded",
    "post",
)
_NO_VECTOR, _HAS_VECTOR, _NO_WORDS = 0, 1, 2
_GONE: Final = "gone"
"""Kind of a row that holds the place of a deleted reply in its thread, and nothing else of it."""
_IS_LIVING: Final = f'kind != "{_GONE}"'
_IS_GONE: Final = f'kind == "{_GONE}"'


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """Which collection holds, and how far the store was seen."""

    generation: int = 0
    position: int = 0
    version: int = 0
    num_tombstones: int = 0
    key: str = ""
    vectors: str = ""
    dim: int = 0
    first_us: int = 0
    last_us: int = 0


class MilvusIndex:
    """The index in one Milvus database, in collections named `name`_..."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name
        self._accounts: list[str] = []
        self._posts: list[str] = []
        self._campaigns: dict[str, str] = {}
        self._labels: pa.Table | None = None
        if not client.has_collection(f"{name}_state"):
            _create_state(client, f"{name}_state")
        self._state = self._read_state() or self._fresh(_State(key=secrets.token_hex(16)))

    @classmethod
    def open(cls, uri: str, *, name: str = "posts", token: str = "") -> MilvusIndex:
        """Open the index on a server, or in a file. Raises MissingExtraError without pymilvus, PostIndexError when nobody answers."""
        try:
            import pymilvus
        except ImportError as error:
            raise MissingExtraError("pymilvus", EXTRA, "an index on Milvus") from error
        try:
            return cls(pymilvus.MilvusClient(uri, token=token), name)
        except pymilvus.exceptions.MilvusException as error:
            raise PostIndexError(f"no index can be opened at {uri}: {error}; is Milvus running there?") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @property
    def num_posts(self) -> int:
        """Posts that can be found."""
        return self._count("")

    def find_text(self, words: Sequence[str], where: Node | None, limit: int, *, match: Match = "any", now: datetime | None = None) -> Hits:
        """Posts with any or all of these words, by BM25."""
        if limit < 1 or not words:
            return Hits()
        total, frequency = self.num_posts, self.document_frequency(words)
        weights: dict[int, float] = {}
        for word, count in Counter(words).items():
            idf = math.log(1 + (total - frequency[word] + 0.5) / (frequency[word] + 0.5))
            weights[self._dimension(word)] = weights.get(self._dimension(word), 0.0) + count * idf
        holding = f"array_contains_{match}(tokens, {_listed([self._hash(word) for word in words])})"
        return self._search("bm25", weights, _both(holding, self._filter(where, now)), limit)

    def find_near(self, vector: npt.NDArray[np.float32], where: Node | None, limit: int, *, now: datetime | None = None) -> Hits:
        """Posts whose vectors have the largest inner product with `vector`."""
        if not self._state.dim or limit < 1 or not np.any(vector):
            return Hits()
        return self._search("dense", vector.tolist(), _both(f"embedded == {_HAS_VECTOR}", self._filter(where, now)), limit)

    def latest(self, where: Node | None, limit: int, before: datetime | None = None, *, now: datetime | None = None) -> Hits:
        """Matching posts strictly by time: looks at windows that double until they hold enough."""
        chosen = self._filter(where, now)
        end = self._state.last_us + 1 if before is None else min(microseconds(before), self._state.last_us + 1)
        window = _FIRST_WINDOW_US
        while end - window > self._state.first_us and self._count(_both(chosen, _between(end - window, end))) < limit:
            window *= 2
        start = end - window if end - window > self._state.first_us else None
        rows = list(self._rows(_both(chosen, _between(start, end)), ["post_id", "at"]))
        rows.sort(key=lambda row: (row["at"], row["post_id"]), reverse=True)
        return Hits([row["post_id"] for row in rows[:limit]], np.array([row["at"] / 1e6 for row in rows[:limit]], np.float32))

    def count(self, where: Node | None, *, now: datetime | None = None) -> int:
        """How many posts match."""
        return self._count(self._filter(where, now))

    def histogram(self, where: Node | None, bucket_s: int, *, now: datetime | None = None) -> pa.Table:
        """How many posts match per `bucket_s` seconds."""
        times = np.array([row["at"] for row in self._rows(self._filter(where, now), ["at"])], np.int64)
        starts, counts = np.unique(times - times % (bucket_s * 1_000_000), return_counts=True)
        return pa.table([pa.array(starts).cast(HISTOGRAM_SCHEMA.field("start").type), counts], schema=HISTOGRAM_SCHEMA)

    def get(self, ids: Sequence[str]) -> pa.Table:
        """These posts with their counts, in the order of `ids`."""
        posts, keys = {}, [self._hash(key) for key in ids]
        more = {kind: self._accounts_above_voices(kind, keys) for kind in (REPLY, REPOST)}
        for row in self._among("key", keys, ["key", "post", "replies", "reposts", "likes"]):
            post = {name: row["post"].get(name) for name in POST_SCHEMA.names}
            num_replies, num_reposts = (row[name] - more[kind][row["key"]] for name, kind in (("replies", REPLY), ("reposts", REPOST)))
            posts[post["id"]] = {**post, "num_replies": num_replies, "num_reposts": num_reposts, "num_likes": row["likes"]}
        return pa.Table.from_pylist([posts[key] for key in ids if key in posts], schema=FOUND_SCHEMA)

    def document_frequency(self, words: Sequence[str]) -> Mapping[str, int]:
        """How many posts hold each word."""
        return {word: self._count(self._holds(word)) for word in dict.fromkeys(words)}

    def set_labels(self, labels: pa.Table) -> None:
        """The labels that `label:coordinated` goes by from now on, and that say who counts as one voice."""
        self._campaigns = {self._hash(account): campaign for account, campaign in voices(labels).accounts.items()}
        self._labels = labels
        self._accounts, self._posts = (
            [self._hash(name) for name in labels.filter(pc.equal(labels["kind"], kind))["id"].unique().to_pylist()]
            for kind in (ACCOUNT, POST)
        )

    def refresh(self) -> bool:
        """Go over to what another process has written: to another collection where it has made everything anew."""
        state = self._read_state(self._state)
        is_changed = state is not None and state != self._state
        self._state = state or self._state
        return is_changed

    def catch_up(
        self, store: PostStore, *, embeddings: Embeddings | None = None, labels: pa.Table | None = None, progress: Progress = silent
    ) -> CatchUp:
        """Take in what the store has appended and deleted since. Vectors of another name make the whole collection anew."""
        if labels is not None:
            self.set_labels(labels)
        version, appended = store.version, store.appended  # before the scan: what comes in meanwhile is seen again
        if (embeddings is not None and embeddings.name != self._state.vectors) or appended < self._state.position:
            self._start_anew(embeddings)
        added = deleted = 0
        if (version, appended) != (self._state.version, self._state.position):
            deleted, num_tombstones = self._delete(store)
            added = self._add(store, appended, progress)
            self._write_state(replace(self._state, position=appended, version=version, num_tombstones=num_tombstones))
        if embeddings is not None:
            self._embed(embeddings)
        return CatchUp(added, deleted, appended)

    def compact(self, *, progress: Progress = silent) -> None:
        """Copy what is alive to a new collection and drop the old one."""
        old = self._collection
        state = replace(self._state, generation=self._state.generation + 1)
        self._make(state)
        fields = ["post_id", *_SCALARS, "bm25", *(["dense"] if state.dim else [])]
        places = [self._place(key, ref) for key, ref in self._needed_places().items()]
        with progress.step("compact index", total=self.num_posts, unit="posts") as step:
            part: list[dict[str, Any]] = []
            for row in chain(self._rows("", fields), places):
                part.append({name: row[name] for name in fields})
                if len(part) == _BATCH_ROWS:
                    self._client.upsert(self._collection_of(state), part)
                    step.advance(len(part))
                    part = []
            if part:
                self._client.upsert(self._collection_of(state), part)
        self._write_state(state)
        self._client.drop_collection(old)

    # Filters

    def _filter(self, where: Node | None, now: datetime | None) -> str:
        return "" if where is None else self._expression(where, now or datetime.now(timezone.utc))

    def _expression(self, node: Node, now: datetime) -> str:
        match node:
            case syntax.And(nodes):
                return "(" + " and ".join(self._expression(below, now) for below in nodes) + ")"
            case syntax.Or(nodes):
                return "(" + " or ".join(self._expression(below, now) for below in nodes) + ")"
            case syntax.Not(below):
                return f"(not {self._expression(below, now)})"
            case syntax.Word(text) | syntax.Phrase(text):
                row = plain_words(text)
                parts = [self._holds(row[0])] if len(row) == 1 else [_in_row("words", row)] if row else []
                return "(" + " and ".join([*parts, *(self._holds(mark) for mark in marks(text))]) + ")"
            case syntax.Url(text):
                return _in_row("links", link_words(text))
            case syntax.Since(at):
                return f"(at >= {microseconds(at)})"
            case syntax.Until(at):
                return f"(at < {microseconds(at)})"
            case syntax.WithinTime(seconds):
                return f"(at >= {microseconds(now) - seconds * 1_000_000})"
            case syntax.AtLeast(what, count):
                return self._at_least(what, count)
            case syntax.Conversation(root):
                return f"(key in {_listed(self._conversation(self._hash(root)))})"
            case syntax.Labelled():
                return f"(author in {_listed(self._accounts)} or key in {_listed(self._posts)})"
        return "(" + " or ".join(self._holds(value) for _, value in node_keys(node)) + ")"

    def _at_least(self, what: syntax.Counted, count: int) -> str:
        """Posts with so many voices: kept are accounts, from which those are taken that labels join to one voice."""
        if what == "faves":
            return f"(likes >= {count})"
        more = self._accounts_above_voices(REPLY if what == "replies" else REPOST)
        others = f"({what} >= {count})"
        if not more:
            return others
        parts = [f"({others} and key not in {_listed(sorted(more))})"]
        for number in sorted(set(more.values())):
            parts.append(f"({what} >= {count + number} and key in {_listed(sorted(key for key in more if more[key] == number))})")
        return "(" + " or ".join(parts) + ")"

    def _accounts_above_voices(self, kind: str, targets: Sequence[str] | None = None) -> Counter[str]:
        """By how many the accounts that reply to or repost a post are more than their voices, where they are."""
        pairs: set[tuple[str, str]] = set()
        if self._campaigns:
            fields = ["ref", "kind", "author"]
            found = self._among("author", sorted(self._campaigns), fields) if targets is None else self._among("ref", targets, fields)
            pairs = {
                (row["ref"], row["author"]) for row in found if row["ref"] and row["kind"] == kind and row["author"] in self._campaigns
            }
        accounts = Counter(ref for ref, _ in pairs)
        accounts.subtract(Counter(ref for ref, _ in {(ref, self._campaigns[author]) for ref, author in pairs}))
        return +accounts

    def _conversation(self, root: str) -> list[str]:
        """The post and all replies below it. What was deleted breaks no thread: its place is kept."""
        found, level = {root}, [root]
        while level:
            rows = self._among("ref", level, ["key", "kind"], gone_too=True)
            below = {row["key"] for row in rows if row["kind"] in (REPLY, _GONE)} - found
            found |= below
            level = sorted(below)
        return sorted(found)

    def _holds(self, token: str) -> str:
        return f'array_contains(tokens, "{self._hash(token)}")'

    def _hash(self, text: str) -> str:
        return blake2b(text.encode(), digest_size=16, key=bytes.fromhex(self._state.key)).hexdigest()

    def _dimension(self, word: str) -> int:
        """Of the sparse vector: 31 bits, never 0. Two words that share one only share a weight; the filter tells them apart."""
        return int(self._hash(word)[:8], 16) >> 1 | 1

    # Reading

    @property
    def _collection(self) -> str:
        return self._collection_of(self._state)

    def _collection_of(self, state: _State) -> str:
        return f"{self._name}_{state.generation}"

    def _search(self, field: str, query: Any, chosen: str, limit: int) -> Hits:
        found = self._client.search(
            self._collection, [query], anns_field=field, limit=min(limit, _FETCH_ROWS), filter=_both(chosen, _IS_LIVING),
            search_params={"metric_type": "IP"}, output_fields=["post_id"],
        )[0]  # fmt: skip
        return Hits([hit["entity"]["post_id"] for hit in found], np.array([hit["distance"] for hit in found], np.float32))

    def _count(self, chosen: str, *, gone_too: bool = False) -> int:
        within = chosen if gone_too else _both(chosen, _IS_LIVING)
        return int(self._client.query(self._collection, filter=within, output_fields=["count(*)"])[0]["count(*)"])

    def _rows(self, chosen: str, fields: Sequence[str], prefix: str = "", *, gone_too: bool = False) -> Iterator[dict[str, Any]]:
        """All rows that match: as many at once as Milvus returns, then by the first digits of the key, which is a hash."""
        within = _both(chosen, f'key like "{prefix}%"' if prefix else "")
        if self._count(within, gone_too=gone_too) <= _FETCH_ROWS:
            within = within if gone_too else _both(within, _IS_LIVING)
            yield from self._client.query(self._collection, filter=within, output_fields=list(fields), limit=_FETCH_ROWS)
        else:
            for digit in "0123456789abcdef":
                yield from self._rows(chosen, fields, prefix + digit, gone_too=gone_too)

    def _among(self, field: str, keys: Sequence[str], fields: Sequence[str], *, gone_too: bool = False) -> Iterator[dict[str, Any]]:
        for start in range(0, len(keys), _KEYS_PER_CALL):
            yield from self._rows(f"{field} in {_listed(keys[start : start + _KEYS_PER_CALL])}", fields, gone_too=gone_too)

    # Writing

    def _delete(self, store: PostStore) -> tuple[int, int]:
        tombstones = store.deletions()
        fresh = tombstones.slice(self._state.num_tombstones)
        before = self.num_posts if fresh.num_rows else 0
        for kind, own, referred in (("post", "key", "ref"), ("author", "author", "ref_author")):
            keys = [self._hash(key) for key in fresh.filter(pc.equal(fresh["kind"], kind))["key"].to_pylist()]
            for start in range(0, len(keys), _KEYS_PER_CALL):
                some = _listed(keys[start : start + _KEYS_PER_CALL])
                gone = f'{own} in {some} or (kind == "{REPOST}" and {referred} in {some})'
                rows = list(self._rows(gone, ["key", "ref", "kind"]))
                self._upsert([self._place(row["key"], row["ref"]) for row in rows if row["kind"] == REPLY and row["ref"]])
                self._client.delete(self._collection, filter=_both(gone, _IS_LIVING))
                self._count_again(sorted({row["ref"] for row in rows} - {""}))
        return (before - self.num_posts if fresh.num_rows else 0), tombstones.num_rows

    def _upsert(self, rows: Sequence[dict[str, Any]]) -> None:
        for start in range(0, len(rows), _BATCH_ROWS):
            self._client.upsert(self._collection, list(rows[start : start + _BATCH_ROWS]))

    def _place(self, key: str, ref: str) -> dict[str, Any]:
        """The row that holds the place of a deleted reply: both are hashes."""
        row = {
            "key": key, "post_id": "", "author": "", "ref": ref, "ref_author": "", "kind": _GONE, "at": 0, "words": "", "links": "",
            "tokens": [], "replies": 0, "reposts": 0, "likes": 0, "embedded": _NO_WORDS, "post": {}, "bm25": {0: 1.0},
        }  # fmt: skip
        return {**row, "dense": [0.0] * self._state.dim} if self._state.dim else row

    def _needed_places(self) -> dict[str, str]:
        """Places of deleted replies that something is still below: key -> what it replied to."""
        gone = {row["key"]: row["ref"] for row in self._rows(_IS_GONE, ["key", "ref"], gone_too=True)}
        needed: dict[str, str] = {}
        level = {row["ref"] for row in self._among("ref", sorted(gone), ["ref", "kind"]) if row["kind"] == REPLY}
        while level:
            needed |= {key: gone[key] for key in level}
            level = {gone[key] for key in level} & gone.keys() - needed.keys()
        return needed

    def _add(self, store: PostStore, appended: int, progress: Progress) -> int:
        before, after, seen = self.num_posts, self._state.position, 0
        with progress.step("index posts", total=appended - after, unit="posts") as step:
            for batch in store.scan(after=after, batch_rows=_BATCH_ROWS):
                reads = [ReadPost.of(post) for post in post_rows(batch)]
                rows = [self._row(read) for read in reads]
                times = [read.at for read in reads] + ([self._state.first_us, self._state.last_us] if self._state.last_us else [])
                self._client.upsert(self._collection, rows)
                self._count_again(sorted({row["ref"] for row in rows} | {row["key"] for row in rows}))
                seen += batch.num_rows
                position = min(after + seen, appended)  # whoever goes on there sees every post that is not here yet
                self._write_state(replace(self._state, position=position, first_us=min(times), last_us=max(times)))
                step.advance(batch.num_rows)
        return self.num_posts - before

    def _row(self, read: ReadPost) -> dict[str, Any]:
        post, words, marked = read.post, read.in_row.split(), read.tokens
        counts = Counter([*words, *marked])
        scale = K1 * (1 - B + B * len(words) / MEAN_WORDS)
        tokens = list(dict.fromkeys(self._hash(token) for token in [*words, *marked, *post_keys(read)]))[:_TOKENS]
        sparse: dict[int, float] = {0: 1.0}  # a vector must not be empty; nobody asks for 0
        for word, count in counts.items():
            sparse[self._dimension(word)] = count * (K1 + 1) / (count + scale)
        row = {
            "key": self._hash(post["id"]), "post_id": post["id"], "author": self._hash(post["author"]),
            "ref": self._hash(post["ref_id"]) if post["ref_id"] else "",
            "ref_author": self._hash(post["ref_author"]) if post["ref_author"] else "",
            "kind": post["kind"], "at": read.at, "words": _clipped(f" {read.in_row} "), "links": _clipped(f" {' | '.join(read.links)} "),
            "tokens": tokens, "replies": 0, "reposts": 0, "likes": post.get("num_likes") or 0, "embedded": _NO_VECTOR,
            "post": dict(post), "bm25": sparse,
        }  # fmt: skip
        return {**row, "dense": [0.0] * self._state.dim} if self._state.dim else row

    def _count_again(self, targets: Sequence[str]) -> None:
        """Replies and reposts of these posts, each account once."""
        pairs = {(row["ref"], row["kind"], row["author"]) for row in self._among("ref", targets, ["ref", "kind", "author"])}
        counts = Counter((ref, kind) for ref, kind, _ in pairs)
        known = [
            {"key": row["key"], "replies": counts[row["key"], REPLY], "reposts": counts[row["key"], REPOST]}
            for row in self._among("key", targets, ["key", "replies", "reposts"])
            if (row["replies"], row["reposts"]) != (counts[row["key"], REPLY], counts[row["key"], REPOST])
        ]
        if known:
            self._client.upsert(self._collection, known, partial_update=True)

    def _embed(self, embeddings: Embeddings) -> None:
        while rows := self._client.query(
            self._collection, filter=f"embedded == {_NO_VECTOR}", output_fields=["key", "post"], limit=_BATCH_ROWS
        ):
            vectors = embeddings.vectors(pa.array([row["post"]["text"] for row in rows], pa.large_string()))
            states = np.where(vectors.any(axis=1), _HAS_VECTOR, _NO_WORDS).tolist()
            changed = [
                {"key": row["key"], "dense": vector.tolist(), "embedded": state}
                for row, vector, state in zip(rows, vectors, states, strict=True)
            ]
            self._client.upsert(self._collection, changed, partial_update=True)

    # State

    def _start_anew(self, embeddings: Embeddings | None) -> None:
        old, before, places = self._collection, self._state, self._needed_places()
        vectors, dim = (embeddings.name, embeddings.dim) if embeddings is not None else (before.vectors, before.dim)
        self._state = self._fresh(_State(generation=before.generation + 1, key=before.key, vectors=vectors, dim=dim))
        self._upsert([self._place(key, ref) for key, ref in places.items()])
        self._client.drop_collection(old)

    def _fresh(self, state: _State) -> _State:
        self._make(state)
        self._write_state(state)
        return state

    def _make(self, state: _State) -> None:
        name = self._collection_of(state)
        if self._client.has_collection(name):  # of somebody who was killed
            self._client.drop_collection(name)
        _create_posts(self._client, name, state.dim)

    def _read_state(self, known: _State | None = None) -> _State | None:
        rows = self._client.query(f"{self._name}_state", filter='key == "state"', output_fields=["value"])
        if not rows:
            return None
        state = _State(**json.loads(rows[0]["value"]))
        if known is None or state.generation != known.generation:
            self._client.load_collection(self._collection_of(state))
        return state

    def _write_state(self, state: _State) -> None:
        self._client.upsert(f"{self._name}_state", [{"key": "state", "value": json.dumps(asdict(state)), "nothing": [0.0, 0.0]}])
        self._state = state


def _create_posts(client: Any, name: str, dim: int) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, max_length=32, is_primary=True)
    schema.add_field("post_id", DataType.VARCHAR, max_length=65_535)
    for field in ("author", "ref", "ref_author", "kind"):
        schema.add_field(field, DataType.VARCHAR, max_length=32)
    for field in ("words", "links"):
        schema.add_field(field, DataType.VARCHAR, max_length=65_535)
    schema.add_field("tokens", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=_TOKENS, max_length=32)
    for field in ("at", "replies", "reposts", "likes", "embedded"):
        schema.add_field(field, DataType.INT64)
    schema.add_field("post", DataType.JSON)
    schema.add_field("bm25", DataType.SPARSE_FLOAT_VECTOR)
    indexes = client.prepare_index_params()
    indexes.add_index("bm25", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    if dim:
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dim)
        indexes.add_index("dense", index_type="AUTOINDEX", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")


def _create_state(client: Any, name: str) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, max_length=32, is_primary=True)
    schema.add_field("value", DataType.VARCHAR, max_length=65_535)
    schema.add_field("nothing", DataType.FLOAT_VECTOR, dim=2)  # a collection must have a vector
    indexes = client.prepare_index_params()
    indexes.add_index("nothing", index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")


def _listed(hashes: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in hashes) + "]"


def _both(one: str, other: str) -> str:
    return f"({one}) and ({other})" if one and other else one or other


def _between(low: int | None, high: int) -> str:
    return f"at < {high}" if low is None else f"at >= {low} and at < {high}"


def _in_row(field: str, row: Sequence[str]) -> str:
    """Words in a row. They hold letters and digits only: nothing that means something in an expression."""
    return f'({field} like "% {" ".join(row)} %")'


def _clipped(text: str) -> str:
    return text.encode()[:_TEXT_BYTES].decode(errors="ignore")
