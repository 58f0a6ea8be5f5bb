"""The Post: the one record that every reader produces and every later stage reads.

Goes in: plain dictionaries from a reader. Comes out: Arrow tables with `POST_SCHEMA`. Times are UTC with microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

POST: Final = "post"
REPLY: Final = "reply"
REPOST: Final = "repost"
QUOTE: Final = "quote"
KINDS: Final = (POST, REPLY, REPOST, QUOTE)

_MEDIA = pa.struct(
    [
        pa.field("kind", pa.string(), metadata={"doc": "image, video, audio, link or other"}),
        pa.field("url", pa.string(), metadata={"doc": "where the platform serves it; never fetched by Agora"}),
        pa.field("alt", pa.string(), metadata={"doc": "description given by the author, or null"}),
    ]
)


def _field(name: str, kind: pa.DataType, doc: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


POST_SCHEMA: Final = pa.schema(
    [
        _field("id", pa.string(), "identity, unique in the store; as the platform writes it (URI, snowflake, row number)", nullable=False),
        _field("author", pa.string(), "stable account identity (DID, numeric id or handle, in that order of preference)", nullable=False),
        _field("created_at", pa.timestamp("us", tz="UTC"), "when it was posted, UTC", nullable=False),
        _field("text", pa.string(), "what was written, plain text: HTML and entity escapes already resolved", nullable=False),
        _field("lang", pa.string(), "ISO 639 code as the platform or author declared it, or null"),
        _field("kind", pa.string(), "post, reply, repost or quote", nullable=False),
        _field("ref_id", pa.string(), "id of the post replied to, reposted or quoted, or null"),
        _field("ref_author", pa.string(), "author of that post, or null"),
        _field("urls", pa.list_(pa.string()), "links as posted, expanded where the source expands them", nullable=False),
        _field("hashtags", pa.list_(pa.string()), "tags without '#', in order of appearance", nullable=False),
        _field("mentions", pa.list_(pa.string()), "accounts addressed, without '@'", nullable=False),
        _field("media", pa.list_(_MEDIA), "attachments", nullable=False),
        _field("source", pa.string(), "reader that produced it, e.g. bluesky_jetstream", nullable=False),
        _field("num_likes", pa.int64(), "likes (favourites, score) as the source stated them when read, or null; always null for reposts"),
    ]
)
"""Arrow schema of posts; each field's meaning is in its metadata under `doc`."""


DELETIONS_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False, metadata={"doc": "post or author"}),
        pa.field("key", pa.string(), nullable=False, metadata={"doc": "post id or author"}),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False, metadata={"doc": "when it was deleted, UTC"}),
    ]
)
"""Tombstones: what must not be kept by any later stage, nor come back with a later import."""


def posts_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows (missing nullable fields and lists may be left out) -> table with POST_SCHEMA.

    Raises pyarrow.ArrowInvalid or ArrowTypeError when a value has the wrong type: readers validate before.
    """
    empty_lists: dict[str, Any] = {"urls": [], "hashtags": [], "mentions": [], "media": []}
    return pa.Table.from_pylist([{**empty_lists, **row} for row in rows], schema=POST_SCHEMA)


def empty_posts() -> pa.Table:
    """A table without rows."""
    return POST_SCHEMA.empty_table()
