"""Text columns to token ids. Goes in: an Arrow string column. Comes out: `TokenTable`, one flat array and row offsets.

Byte pair encoding treats every pretoken alone, and posts repeat their words, so each distinct pretoken is encoded once
and all others are looked up: the merges run in `tokenizers`, everything per post is numpy.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tokenizers

from agora.tokenizer.pretokens import find_pretokens

CACHE_PRETOKENS = 2_000_000
"""Distinct pretokens kept; bounds memory. The cache starts anew when it is full."""


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Row i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]

    def rows(self) -> list[list[int]]:
        """As Python lists."""
        return [self.ids[a:b].tolist() for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]


class BatchEncoder:
    """Encodes columns with a `tokenizers` object that merges one pretoken at a time and knows no special token."""

    def __init__(self, merger: tokenizers.Tokenizer) -> None:
        self._merger = merger
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._known: dict[str, int] = {}
        self._ids = np.empty(1 << 16, dtype=np.uint32)
        self._starts = np.zeros((1 << 14) + 1, dtype=np.int64)

    def encode(self, texts: pa.LargeStringArray) -> TokenTable:
        """Encode every row. Safe to call from several threads."""
        pretokens, row_starts = find_pretokens(texts)
        if not len(pretokens):
            return TokenTable(np.empty(0, dtype=np.uint32), np.zeros(len(texts) + 1, dtype=np.int64))
        coded = pretokens.dictionary_encode()
        with self._lock:
            entries = self._entries(coded.dictionary.to_pylist())
            ids, starts = self._ids, self._starts
        entry = entries[np.asarray(coded.indices)]
        first = starts[entry]
        counts = starts[entry + 1] - first
        ends = np.zeros(len(entry) + 1, dtype=np.int64)
        np.cumsum(counts, out=ends[1:])
        return TokenTable(ids[np.repeat(first - ends[:-1], counts) + np.arange(ends[-1])], ends[row_starts])

    def _entries(self, pretokens: list[str]) -> npt.NDArray[np.int64]:
        """Cache entry of each pretoken; unknown ones are encoded and added."""
        if len(self._known) > CACHE_PRETOKENS:
            self._reset()
        known = self._known
        missing = [pretoken for pretoken in pretokens if pretoken not in known]
        if missing:
            encoded = [encoding.ids for encoding in self._merger.encode_batch_fast(missing, add_special_tokens=False)]
            self._add(missing, encoded)
        return np.fromiter(map(known.__getitem__, pretokens), dtype=np.int64, count=len(pretokens))

    def _add(self, pretokens: list[str], encoded: list[list[int]]) -> None:
        begin = len(self._known)
        counts = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        used = int(self._starts[begin])
        # A grown array is a new object: other threads keep reading the one they hold.
        if begin + len(pretokens) + 1 > len(self._starts):
            self._starts = np.concatenate([self._starts, np.zeros(len(self._starts) + len(pretokens), dtype=np.int64)])
        if used + int(counts.sum()) > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty(len(self._ids) + int(counts.sum()), dtype=np.uint32)])
        self._starts[begin + 1 : begin + 1 + len(pretokens)] = used + np.cumsum(counts)
        self._ids[used : used + int(counts.sum())] = [token for row in encoded for token in row]
        for position, pretoken in enumerate(pretokens):
            self._known[pretoken] = begin + position
