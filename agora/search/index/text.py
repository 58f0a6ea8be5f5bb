"""The text side of the embedded index: tantivy, a full-text library. Goes in: posts and nodes. Comes out: documents and tantivy's queries.

Words are those of agora/text/words.py, split before they reach the library. Every filter that does not change after a post has arrived
(words, accounts, tags, links, language, time) is a term or range here; what changes (counts, conversations, labels) is a mask over rows
(filters.py).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.errors import MissingExtraError, PostIndexError
from agora.posts.schema import POST_SCHEMA, REPLY, REPOST
from agora.search.index.columns import HAS_LINKS, HAS_MEDIA, KIND, Rows
from agora.search.query import syntax
from agora.search.query.matching import MEDIA_LINK
from agora.search.query.syntax import Node
from agora.text.words import account_key, fold, link_words, links, marks, ordered_words, plain_words
from agora.units import format_bytes

EXTRA: Final = "search"
_ROW_NODES: Final = (syntax.AtLeast, syntax.Conversation, syntax.Labelled)
_ROWS_PER_DELETION: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


def tantivy_library() -> Any:
    """The library. Raises MissingExtraError without it."""
    try:
        import tantivy
    except ImportError as error:
        raise MissingExtraError("tantivy", EXTRA, "the index of posts") from error
    return tantivy


def microseconds(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def is_stable(node: Node) -> bool:
    """Whether a post that matches keeps matching, whatever comes after it."""
    return not any(isinstance(below, _ROW_NODES) for below in syntax.walk(node))


@dataclass(frozen=True, slots=True)
class ReadPost:
    """A post as the index keeps it."""

    post: Mapping[str, Any]
    at: int
    in_row: str
    tokens: list[str]
    links: list[str]
    flags: int

    @classmethod
    def of(cls, post: Mapping[str, Any]) -> ReadPost:
        """Read a row of POST_SCHEMA whose time is in microseconds."""
        text = post["text"]
        in_row, others = ordered_words(text)
        others += [f"#{fold(tag)}" for tag in post["hashtags"] or ()] + [f"@{account_key(name)}" for name in post["mentions"] or ()]
        addresses = dict.fromkeys([*(post["urls"] or ()), *links(text)])
        has_media = any(medium["kind"] != MEDIA_LINK for medium in post["media"] or ())
        flags = (HAS_LINKS if addresses else 0) | (HAS_MEDIA if has_media else 0)
        return cls(
            post, post["created_at"], " ".join(in_row), list(dict.fromkeys(others)), [" ".join(link_words(u)) for u in addresses], flags
        )


def language(declared: str | None) -> str:
    """A declared language as `lang:` compares it."""
    return (declared or "und").lower().replace("_", "-")


def post_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows of POST_SCHEMA with times in microseconds (dates of Python cost as much as all the rest)."""
    columns = [
        (batch.column(i).cast(pa.int64()) if name == "created_at" else batch.column(i)).to_pylist()
        for i, name in enumerate(batch.schema.names)
    ]
    names = batch.schema.names
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


class TextIndex:
    """One tantivy index: one folder, one writer at a time."""

    def __init__(self, folder: Path) -> None:
        self._tantivy = tantivy_library()
        self._schema = _schema(self._tantivy)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._index: Any = self._tantivy.Index(self._schema, path=str(folder))
        except (ValueError, OSError) as error:
            is_writable = os.access(folder, os.W_OK)
            advice = "delete the folder, it is made anew from the posts" if is_writable else "a search locks it: let this user write there"
            raise PostIndexError(f"index {folder} cannot be read: {error}; {advice}") from error
        whitespace = self._tantivy.TextAnalyzerBuilder(self._tantivy.Tokenizer.whitespace()).build()
        self._index.register_tokenizer("words", whitespace)
        self._index.config_reader("manual")
        self._writer: Any = None
        self._is_changed = False

    def searcher(self) -> Any:
        """What was committed last."""
        self._index.reload()
        return self._index.searcher()

    def begin(self, num_rows: int, heap_bytes: int) -> None:
        """Take the writer's place. Rows from `num_rows` on, left by a writer that was killed, are removed."""
        if self._writer is None:
            with self._writing():
                self._writer = self._index.writer(heap_bytes, 1)
                t = self._tantivy
                beyond = t.Query.range_query(self._schema, "row", t.FieldType.Unsigned, num_rows, None)
                if self.searcher().search(beyond, 1).count:
                    self._writer.delete_documents_by_query(beyond)
                    self._writer.commit()

    def add(self, row: int, read: ReadPost) -> None:
        """Add a post; it can be found after `commit`."""
        post = read.post
        document = self._tantivy.Document()
        document.add_unsigned("row", row)
        document.add_integer("at", read.at)
        document.add_text("words", read.in_row)
        for token in read.tokens:
            document.add_text("marks", token)
        for link in read.links:
            document.add_text("links", link)
        for key in post_keys(read):
            document.add_text("keys", key)
        document.add_bytes("post", _as_stored(post))
        with self._writing():
            self._writer.add_document(document)
        self._is_changed = True

    def delete(self, rows: Rows) -> None:
        """Delete posts; they are gone after `commit`."""
        numbers = rows.tolist()  # by query: deleting by term finds nothing in a field of unsigned numbers (tantivy 0.27)
        for start in range(0, len(numbers), _ROWS_PER_DELETION):
            some = self._tantivy.Query.term_set_query(self._schema, "row", numbers[start : start + _ROWS_PER_DELETION])
            with self._writing():
                self._writer.delete_documents_by_query(some)
            self._is_changed = True

    def commit(self) -> None:
        """Make what was added and deleted durable."""
        if self._is_changed:
            with self._writing():
                self._writer.commit()
            self._is_changed = False

    def close(self) -> None:
        """Let another writer in."""
        if self._writer is not None:
            with self._writing():
                self._writer.wait_merging_threads()
            self._writer = None
            self._is_changed = False

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A writer that fails is given up: the next one begins behind the last commit."""
        try:
            yield
        except (ValueError, OSError, RuntimeError) as error:
            self._writer, self._is_changed = None, False
            raise PostIndexError(
                f"index {self._folder} cannot be written: {error} ({format_bytes(shutil.disk_usage(self._folder).free)} are free there); "
                "once there is room, run the same command again"
            ) from error

    def any_word(self, given: Sequence[str]) -> Any:
        """Posts with any of these words."""
        t = self._tantivy
        return t.Query.boolean_query([(t.Occur.Should, self._token(word)) for word in given])

    def all_words(self, given: Sequence[str]) -> Any:
        """Posts with all of these words."""
        t = self._tantivy
        return t.Query.boolean_query([(t.Occur.Must, self._token(word)) for word in given])

    def everything(self) -> Any:
        """All posts."""
        return self._tantivy.Query.all_query()

    def also(self, query: Any, filters: Sequence[Any]) -> Any:
        """What matches `query` and all `filters`, which add nothing to the score."""
        t = self._tantivy
        if not filters:
            return query
        return t.Query.boolean_query([(t.Occur.Must, query), *((t.Occur.Must, t.Query.const_score_query(one, 0.0)) for one in filters)])

    def row(self, row: int) -> Any:
        """The post of one row."""
        return self._tantivy.Query.term_query(self._schema, "row", row)

    def row_range(self, first: int, last: int) -> Any:
        """The posts of the rows `first` to `last`, without `last`."""
        t = self._tantivy
        return t.Query.range_query(self._schema, "row", t.FieldType.Unsigned, first, last, include_upper=False)

    def frequency(self, searcher: Any, word: str) -> int:
        """How many posts hold a word."""
        if len(names := _fields(word)) > 1:  # a post may hold it in both places
            return int(searcher.search(self._token(word), 1).count)
        return int(searcher.doc_freq(names[0], word))

    def query(self, node: Node, now: datetime) -> Any:
        """A stable node as a query."""
        t = self._tantivy
        match node:
            case syntax.And(nodes):
                return t.Query.boolean_query([(t.Occur.Must, self.query(below, now)) for below in nodes])
            case syntax.Or(nodes):
                return t.Query.boolean_query([(t.Occur.Should, self.query(below, now)) for below in nodes])
            case syntax.Not(below):
                return t.Query.boolean_query([(t.Occur.Must, t.Query.all_query()), (t.Occur.MustNot, self.query(below, now))])
            case syntax.Word(text) | syntax.Phrase(text):
                return self._in_row(text)
            case syntax.Url(text):
                return self._phrase("links", link_words(text))
            case syntax.Since() | syntax.Until() | syntax.WithinTime():
                return self._times(node, now)
        keys = node_keys(node)
        terms = [self._term(name, key) for name, key in keys]
        return terms[0] if len(terms) == 1 else t.Query.boolean_query([(t.Occur.Should, term) for term in terms])

    def _in_row(self, text: str) -> Any:
        row = plain_words(text)
        parts = [self._token(row[0])] if len(row) == 1 else [self._phrase("words", row)] if row else []
        parts += [self._token(mark) for mark in marks(text)]
        t = self._tantivy
        return parts[0] if len(parts) == 1 else t.Query.boolean_query([(t.Occur.Must, part) for part in parts])

    def _times(self, node: Node, now: datetime) -> Any:
        t = self._tantivy
        low: int | None = None
        high: int | None = None
        match node:
            case syntax.Since(at):
                low = microseconds(at)
            case syntax.Until(at):
                high = microseconds(at)
            case syntax.WithinTime(seconds):
                low = microseconds(now) - seconds * 1_000_000
        return t.Query.range_query(self._schema, "at", t.FieldType.Integer, low, high, include_upper=high is None)

    def _phrase(self, name: str, row: list[str]) -> Any:
        return self._term(name, row[0]) if len(row) == 1 else self._tantivy.Query.phrase_query(self._schema, name, row)

    def _token(self, word: str) -> Any:
        t = self._tantivy
        terms = [self._term(name, word) for name in _fields(word)]
        return terms[0] if len(terms) == 1 else t.Query.disjunction_max_query(terms)

    def _term(self, name: str, value: str) -> Any:
        return self._tantivy.Query.term_query(self._schema, name, value)


def rows_of(searcher: Any, hits: Sequence[tuple[Any, Any]]) -> Rows:
    """Rows of tantivy's hits."""
    return np.asarray(searcher.fast_field_values("row", [address for _, address in hits]), np.int64)


def scores_of(hits: Sequence[tuple[Any, Any]]) -> npt.NDArray[np.float32]:
    """Scores of tantivy's hits."""
    return np.asarray([score for score, _ in hits], np.float32)


def stored_post(searcher: Any, address: Any) -> dict[str, Any]:
    """The post as it was added. Fields that the schema has gained since are null."""
    post = json.loads(searcher.doc(address).get_first("post"))
    return {name: post.get(name) for name in POST_SCHEMA.names}


def is_stored(searcher: Any, address: Any, post: Mapping[str, Any]) -> bool:
    """Whether it is this version of the post that was added."""
    return bytes(searcher.doc(address).get_first("post")) == _as_stored(post)


def _as_stored(post: Mapping[str, Any]) -> bytes:
    return json.dumps(post, ensure_ascii=False).encode()


def _schema(tantivy: Any) -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("row", indexed=True, fast=True)
    builder.add_integer_field("at", fast=True)
    builder.add_text_field("words", tokenizer_name="words", index_option="position")
    builder.add_text_field("links", tokenizer_name="words", index_option="position")
    for name in ("marks", "keys"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_bytes_field("post", stored=True)
    return builder.build()


def post_keys(read: ReadPost) -> Iterator[str]:
    """Accounts, language and kind of a post, as terms."""
    post = read.post
    yield "from:" + account_key(post["author"])
    yield "lang:" + language(post["lang"])
    yield f"kind:{KIND[post['kind']]}"
    if post["kind"] == REPLY:
        yield "to:" + account_key(post["ref_author"] or "")
    if read.flags & HAS_LINKS:
        yield "has:links"
    if read.flags & HAS_MEDIA:
        yield "has:media"
    code = language(post["lang"])
    while "-" in code:  # lang:en holds for en-GB
        code = code.rpartition("-")[0]
        yield "lang:" + code


def node_keys(node: Node) -> list[tuple[str, str]]:
    """The terms (field, value) that a post matching this leaf has one of."""
    match node:
        case syntax.Hashtag(tag):
            return [("marks", f"#{fold(tag)}")]
        case syntax.Cashtag(tag):
            return [("marks", f"${fold(tag)}")]
        case syntax.Mention(account):
            return [("marks", name) for name in dict.fromkeys((f"@{account_key(account)}", f"@{fold(account)}"))]
        case syntax.From(account):
            return [("keys", "from:" + account_key(account))]
        case syntax.To(account):
            return [("keys", "to:" + account_key(account))]
        case syntax.Lang(code):
            return [("keys", "lang:" + code)]
        case syntax.Has("replies"):
            return [("keys", f"kind:{KIND[REPLY]}")]
        case syntax.Has("reposts"):
            return [("keys", f"kind:{KIND[REPOST]}")]
        case syntax.Has(what):
            return [("keys", f"has:{what}")]
    raise AssertionError(node)


def _fields(word: str) -> tuple[str, ...]:
    """Where a word of agora/text/words.py stands: signs and links among the marks, one character in either place."""
    if word[:1] in "#@$" or "://" in word:
        return ("marks",)
    return ("words", "marks") if len(word) == 1 else ("words",)
