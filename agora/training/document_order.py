"""The order in which documents are learned. Goes in: where documents begin, and a seed. Comes out: what lies at any position of the endless
stream of epochs.

An epoch is every document once. Up to WINDOW documents have one order, drawn from (seed, epoch). Of more, runs of RUN neighbours get an
order, and then the documents of every WINDOW / RUN runs one among themselves: so a process holds 24 bytes for each document of a window and
for each run, and of the rest nothing, however large the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from agora.errors import DataError

WINDOW: Final = 1 << 24
RUN: Final = 1 << 16  # an index is read a page at a time, so runs are what costs: one page each

Numbers = npt.NDArray[np.int64]
_NONE: Final[Numbers] = np.empty(0, dtype=np.int64)


class DocumentStarts(Protocol):
    """Where documents begin, in order; an array, or something on disk that gives slices of one."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` tokens of a document from its token `first` on. The document is the `size` tokens of the shards from `begins` on."""

    document: int
    begins: int
    size: int
    first: int
    length: int


class DocumentOrder:
    """Every position of a seeded stream of `num_tokens` an epoch. Raises DataError for an index that is none."""

    def __init__(self, starts: DocumentStarts, num_tokens: int, *, seed: int) -> None:
        self._starts, self._num_tokens, self._seed = starts, num_tokens, seed
        if len(starts) == 0 or int(starts[0:1][0]) != 0:
            raise DataError("the first document of the shards must start at token 0; build the shards again")
        self.is_windowed = len(starts) > WINDOW
        each = RUN if self.is_windowed else len(starts)
        self._bounds = np.append([int(starts[place : place + 1][0]) for place in range(0, len(starts), each)], num_tokens)
        self._each, self._epoch, self._window = each, -1, -1
        self._runs = self._window_starts = self._order = self._begins = self._order_starts = _NONE
        if not self.is_windowed:
            self._documents_of(0)

    def pieces(self, start: int, count: int) -> Iterator[Piece]:
        """What makes up `count` tokens from position `start` on."""
        while count > 0:
            epoch, offset = divmod(start, self._num_tokens)
            self._open_epoch(epoch)
            window = int(np.searchsorted(self._window_starts, offset, side="right")) - 1
            self._open_window(window)
            offset -= int(self._window_starts[window])
            place = int(np.searchsorted(self._order_starts, offset, side="right")) - 1
            while count > 0 and place < len(self._order):
                here, next_one = (int(number) for number in self._order_starts[place : place + 2])
                length = min(next_one - offset, count)
                yield Piece(int(self._order[place]), int(self._begins[place]), next_one - here, offset - here, length)
                start, offset, count, place = start + length, offset + length, count - length, place + 1

    def _open_epoch(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._epoch, self._window = epoch, -1
        lengths, self._runs = np.diff(self._bounds), np.arange(len(self._bounds) - 1)
        if self.is_windowed:
            self._runs = np.random.default_rng([self._seed, epoch]).permutation(self._runs)
        firsts = np.arange(0, len(self._runs), WINDOW // RUN)
        sums = np.add.reduceat(lengths[self._runs], firsts)
        self._window_starts = np.concatenate([[0], np.cumsum(sums)[:-1]])

    def _open_window(self, window: int) -> None:
        if window == self._window:
            return
        self._window = window
        runs = self._runs[window * (WINDOW // RUN) : (window + 1) * (WINDOW // RUN)]
        parts = [self._documents_of(int(run)) for run in runs]
        documents, begins, lengths = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        drawn_from = [self._seed, self._epoch, 1 + window] if self.is_windowed else [self._seed, self._epoch]
        order = np.random.default_rng(drawn_from).permutation(len(documents))
        self._order, self._begins = documents[order], begins[order]
        self._order_starts = np.concatenate([[0], np.cumsum(lengths[order])])

    def _documents_of(self, run: int) -> tuple[Numbers, Numbers, Numbers]:
        """Numbers, beginnings and lengths of the documents of a run."""
        first = run * self._each
        begins = np.asarray(self._starts[first : first + self._each], dtype=np.int64)
        lengths = np.diff(np.append(begins, self._bounds[run + 1]))
        if lengths.min() < 1:
            raise DataError(f"document {first + int(lengths.argmin())} of the shards is empty; build the shards again")
        return np.arange(first, first + len(begins)), begins, lengths
