"""What a signal sees of posts. Goes in: a batch of posts. Comes out: its columns, and normal forms worked out once for all signals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.posts.schema import POST, QUOTE, REPLY, REPOST
from agora.text.embeddings import Embeddings
from agora.text.minhash import hash_strings
from agora.text.normalise import comparison_key

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

POST_COLUMNS: Final = ("id", "author", "created_at", "text", "kind", "ref_id", "ref_author", "urls", "hashtags", "media")
"""Columns of POST_SCHEMA that signals may read."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Artefacts of a batch: post `rows[i]` has the artefact `keys[i]`. Each pair of row and key stands once."""

    rows: Rows
    keys: Hashes


class PostBatch:
    """A batch of posts, as signals read it."""

    def __init__(self, posts: pa.RecordBatch, embeddings: Embeddings | None = None) -> None:
        self._posts, self.embeddings = posts, embeddings
        self.num_rows = posts.num_rows

    def column(self, name: str) -> pa.Array:
        """One column of POST_COLUMNS."""
        return self._posts.column(name)

    @cached_property
    def kind(self) -> dict[str, Mask]:
        """For each kind of post the rows that are of it."""
        return {name: np.asarray(pc.equal(self.column("kind"), name)) for name in (POST, REPLY, REPOST, QUOTE)}

    @cached_property
    def own(self) -> Rows:
        """Rows whose text the account wrote or pasted itself: all but reposts."""
        return np.flatnonzero(~self.kind[REPOST])

    @cached_property
    def own_keys(self) -> pa.LargeStringArray:
        """Comparison keys of the texts of `own`: lower case words without links, handles and punctuation."""
        texts = self.column("text").take(pa.array(self.own)).cast(pa.large_string())
        return comparison_key(texts)

    @cached_property
    def own_words(self) -> npt.NDArray[np.int64]:
        """Number of words of each of `own_keys`."""
        lengths = np.asarray(pc.binary_length(self.own_keys))
        return np.asarray(pc.count_substring(self.own_keys, " ")).astype(np.int64) + (lengths > 0)

    def refs(self, kind: str) -> Keys:
        """The post that each repost, reply or quote refers to."""
        valid = np.asarray(pc.is_valid(self.column("ref_id")))
        rows = np.flatnonzero(self.kind[kind] & valid)
        return Keys(rows, hash_strings(self.column("ref_id").take(pa.array(rows))))


def distinct(rows: Rows, keys: Hashes) -> Keys:
    """Pairs of row and key, each once, by row: a post that names one link twice has it once."""
    order = np.lexsort((keys, rows))
    rows, keys = rows[order], keys[order]
    again = (np.diff(rows, prepend=-1) == 0) & (np.append(np.uint64(0), keys[:-1]) == keys)
    return Keys(rows[~again], keys[~again])
