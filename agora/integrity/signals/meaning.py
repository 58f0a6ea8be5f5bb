"""Saying the same in other words: many start to write about one rare thing at the same time."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agora.integrity.batch import Hashes, Keys, PostBatch, distinct
from agora.integrity.signals.declaration import Signal
from agora.posts.schema import POST
from agora.text.columns import change_where, replace_matches
from agora.text.embeddings import codes
from agora.text.language import function_words
from agora.text.minhash import hash_strings, mix
from agora.text.normalise import comparison_key
from agora.text.ranges import ranges

MAX_WORDS: Final = 40
"""Words of a text that count: what a long text says, its beginning says."""
NUM_CODES, CODE_BITS = 16, 10
"""Two texts whose vectors have a cosine of .8 share a code with probability .82, of .3 with .09."""
_HASHTAG: Final = r"#[\pL\pN_]+"


@functools.cache
def _function_hashes() -> Hashes:
    return np.sort(hash_strings(pa.array(sorted(function_words()), pa.large_string())))


def _keys(posts: PostBatch) -> Keys:
    rows = np.flatnonzero(posts.kind[POST])
    texts = posts.column("text").take(pa.array(rows)).cast(pa.large_string())
    texts = change_where(texts, pc.match_substring(texts, "#"), lambda some: replace_matches(some, _HASHTAG, " "))
    split = pc.split_pattern(comparison_key(texts), " ")
    count = np.diff(np.asarray(split.offsets))
    row = np.repeat(np.arange(len(rows)), count)
    place = ranges(0, count)
    words = split.flatten()
    hashes = hash_strings(words)
    stop = _function_hashes()
    known = stop[np.minimum(np.searchsorted(stop, hashes), len(stop) - 1)] == hashes
    tells = ~known & (place < MAX_WORDS) & (np.asarray(pc.binary_length(words)) > 2)
    row, hashes = row[tells], hashes[tells]
    neighbours = np.flatnonzero(row[1:] == row[:-1])
    pairs = mix(mix(hashes[neighbours]) ^ hashes[neighbours + 1])
    parts = [(rows[row], hashes), (rows[row[neighbours]], pairs)]
    if posts.embeddings is not None:
        near = codes(posts.embeddings.vectors(texts), NUM_CODES, CODE_BITS)
        parts.append((np.repeat(rows, NUM_CODES), near.ravel()))
    return distinct(np.concatenate([one for one, _ in parts]), np.concatenate([keys for _, keys in parts]))


SIGNAL = Signal(
    id="meaning", version=1, role="written", keys=_keys, surges=True, optional=True,
    organic_bursts={60: 0.05, 600: 0.1, 3600: 0.15, 7200: 0.15},
    nouns=("subject", "subjects"),
    why="They began to write about the same rare thing at the same time, each in other words.",
    inputs=("kind", "text"), outputs="a rare word, pair of words or kind of sentence, while far more accounts use it than usual",
    false_alarms=("breaking news", "a broadcast that many watch", "a release that a fandom waits for", "a conference or a question hour"),
)  # fmt: skip
