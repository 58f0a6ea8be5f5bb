"""What every index of posts can do. Goes in: posts of the store, words, vectors, filters. Comes out: ids of posts, best first.

An index is derived from the post store and never the truth: it may be deleted at any time, and `catch_up` makes it anew. What a filter
(`where`, a node of agora/search/query) means is said by agora/search/query/matching.py; filters hold BEFORE ranking: a search for ten
posts finds ten when ten match. `now` is the moment that `within_time:` counts back from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.log import Progress, silent
from agora.posts.schema import POST_SCHEMA
from agora.posts.store import PostStore
from agora.search.query.syntax import Node
from agora.text.embeddings import Embeddings

Scores = npt.NDArray[np.float32]
Match = Literal["any", "all"]

COUNTS_SCHEMA: Final = pa.schema(
    [
        pa.field("num_replies", pa.int64(), nullable=False, metadata={"doc": "voices that replied, among the posts of the index"}),
        pa.field("num_reposts", pa.int64(), nullable=False, metadata={"doc": "voices that reposted, among the posts of the index"}),
        pa.field("num_likes", pa.int64(), nullable=False, metadata={"doc": "likes as the source counted them; 0 when it does not say"}),
    ]
)
FOUND_SCHEMA: Final = pa.schema([*(f for f in POST_SCHEMA if f.name not in COUNTS_SCHEMA.names), *COUNTS_SCHEMA])
"""What `get` returns: the post as it stands in the store, and what was counted."""

HISTOGRAM_SCHEMA: Final = pa.schema(
    [
        pa.field("start", pa.timestamp("us", tz="UTC"), nullable=False, metadata={"doc": "beginning of the bucket"}),
        pa.field("num_posts", pa.int64(), nullable=False, metadata={"doc": "matching posts of the bucket; empty buckets are left out"}),
    ]
)


@dataclass(frozen=True, slots=True)
class Hits:
    """Ids of posts and their scores, best first."""

    ids: list[str] = field(default_factory=list)
    scores: Scores = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Posts that came in (edits do not count), posts that went, and the position in the store (`PostStore.appended`) that was seen."""

    added: int
    deleted: int
    position: int


class PostIndex(Protocol):
    """An index over the posts of one store. Many threads may read while one catches up."""

    @property
    def num_posts(self) -> int:
        """Posts that can be found."""

    def catch_up(
        self, store: PostStore, *, embeddings: Embeddings | None = None, labels: pa.Table | None = None, progress: Progress = silent
    ) -> CatchUp:
        """Take in what the store has appended, edited and deleted since; killed at any moment, the next call goes on.

        With `embeddings`, posts without vectors get them; with `labels` (LABEL_SCHEMA), these hold from now on.
        """

    def set_labels(self, labels: pa.Table) -> None:
        """The labels (LABEL_SCHEMA) that `label:coordinated` goes by, and by which a campaign that replies or reposts counts as one voice.
        They are not kept: give them again after opening."""

    def refresh(self) -> bool:
        """Show what other processes have written since this one opened the index or last called this; cheap where nothing was. Returns
        whether there was anything. Any thread may call it at any time; searches under way end on what they began with."""

    def find_text(self, words: Sequence[str], where: Node | None, limit: int, *, match: Match = "any", now: datetime | None = None) -> Hits:
        """Posts with any or all of these words (agora/text/words.py), by BM25 (Robertson and Zaragoza, "The Probabilistic Relevance
        Framework", 2009)."""

    def find_near(self, vector: npt.NDArray[np.float32], where: Node | None, limit: int, *, now: datetime | None = None) -> Hits:
        """Posts whose vectors have the largest inner product with `vector`. Empty when nothing has vectors."""

    def latest(self, where: Node | None, limit: int, before: datetime | None = None, *, now: datetime | None = None) -> Hits:
        """Matching posts strictly by time, newest first; scores are seconds since 1970."""

    def count(self, where: Node | None, *, now: datetime | None = None) -> int:
        """How many posts match."""

    def histogram(self, where: Node | None, bucket_s: int, *, now: datetime | None = None) -> pa.Table:
        """How many posts match per `bucket_s` seconds since 1970 (HISTOGRAM_SCHEMA)."""

    def get(self, ids: Sequence[str]) -> pa.Table:
        """These posts (FOUND_SCHEMA), in the order of `ids`; those that the index does not hold are left out."""

    def document_frequency(self, words: Sequence[str]) -> Mapping[str, int]:
        """How many posts hold each word. May count posts that were deleted a moment ago."""

    def compact(self, *, progress: Progress = silent) -> None:
        """Write everything anew: the bytes of deleted posts, and of versions before an edit, are gone from the disk afterwards."""

    def close(self) -> None:
        """Let another writer in. Reading goes on."""
