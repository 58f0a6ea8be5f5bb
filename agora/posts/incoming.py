"""What comes into a post store, before it is stored: checked, without what a tombstone names, each id once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import StoreError
from agora.posts.schema import POST_SCHEMA, REPOST


def as_posts(posts: pa.Table) -> pa.Table:
    """The table with POST_SCHEMA in contiguous columns. Raises StoreError when a column is missing, has another type, nulls,
    or strings that are not UTF-8."""
    missing = [name for name in POST_SCHEMA.names if name not in posts.column_names]
    if missing:
        raise StoreError(f"posts to append lack the columns {', '.join(missing)}; see agora.posts.schema")
    try:
        posts = posts.select(POST_SCHEMA.names).cast(POST_SCHEMA).combine_chunks()
        posts.validate(full=True)  # one string that is not UTF-8 would make the whole table unreadable
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise StoreError(f"posts to append do not fit the Post schema: {error}") from error
    for field in POST_SCHEMA:
        if not field.nullable and posts[field.name].null_count:
            raise StoreError(f"posts to append have {posts[field.name].null_count} nulls in {field.name!r}, which must be filled")
    return posts


def without_deleted(posts: pa.Table, deletions: pa.Table) -> pa.Table:
    """Drop posts that a tombstone names, and reposts of such posts."""
    for kind, own, referred in (("post", "id", "ref_id"), ("author", "author", "ref_author")):
        keys = named_in(deletions, kind, pa.chunked_array([*posts[own].chunks, *posts[referred].chunks], pa.string()))
        if len(keys):
            is_repost = pc.and_(pc.equal(posts["kind"], REPOST), pc.is_in(posts[referred], value_set=keys))
            posts = posts.filter(pc.invert(pc.or_(pc.is_in(posts[own], value_set=keys), is_repost)))
    return posts


def named_in(deletions: pa.Table, kind: str, names: pa.ChunkedArray) -> pa.ChunkedArray:
    """The keys of tombstones of one kind that are among `names`. There may be millions of tombstones, so the names are what is hashed."""
    keys = deletions.filter(pc.equal(deletions["kind"], kind))["key"]
    return keys.filter(pc.is_in(keys, value_set=names))


def first_of_each_id(posts: pa.Table) -> pa.Table:
    """Of posts with one id the first, in their order."""
    encoded = posts["id"].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks() if encoded.num_chunks != 1 else encoded.chunk(0)
    if len(encoded.dictionary) == posts.num_rows:
        return posts
    _, first = np.unique(encoded.indices.to_numpy(), return_index=True)
    return posts.take(pa.array(np.sort(first)))
