"""Pairs of accounts that shared something close in time on several occasions. Goes in: Episodes. Comes out: pairs with weights.

Each event is paired with its NEIGHBOURS next ones within the window. A record of a pair is one 64-bit number, so that all there is to do is
to sort numbers:

    left account | right account >> part_bits | hour since the first | others within the window

Records are cut into 2^part_bits parts by the lowest bits of left + right, so that a part fits into memory. Many of them lie on disk until
their part's turn; neither changes the result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.episodes import Episodes, close_pairs
from agora.integrity.runs_of_equals import run_starts
from agora.integrity.shared import Ints, Longs

MIN_OCCASIONS: Final = 2
NEIGHBOURS: Final = 24
"""Later events that each event is paired with at most: a crowd within a minute says nothing about its pairs."""
OCCASION_S: Final = 3600
PART_RECORDS: Final = 1 << 22
MAX_RECORDS_IN_MEMORY: Final = 1 << 24
"""Above, records lie on disk: 8 bytes each."""
_BLOCK_EVENTS: Final = 1 << 18
_CROWD_BITS: Final = 12
"""Crowds above 4,095 weigh as if they were that large."""
_MAX_CROWD: Final = (1 << _CROWD_BITS) - 1
_WEIGHTS: Final = 1.0 / np.log2(1.0 + np.maximum(np.arange(_MAX_CROWD + 1), 1))

Floats = npt.NDArray[np.float64]


def edges(halves: Sequence[Episodes], window_s: float, num_accounts: int, *, spill: Path | None = None) -> tuple[Ints, Ints, Floats]:
    """Pairs of accounts with at least MIN_OCCASIONS occasions: left < right, in order, and their weights. An occasion counts once, with its
    best artefact; the fewer others acted at the same time, the more it counts. `spill` is the folder for what does not fit into memory."""
    halves = [half for half in halves if len(half)]
    num_records = sum(int(np.minimum(close_pairs(half.episode, half.time_s, window_s)[1], NEIGHBOURS).sum()) for half in halves)
    if not num_records:
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0)
    packing = _Packing(halves, num_accounts, num_records)
    with _Records(num_records, 1 << packing.part_bits, spill) as records:
        for half in halves:
            packing.write(half, window_s, records)
        found = [packing.reduced(part, records.read(part)) for part in range(records.num_parts)]
    pair, weight = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(pair)
    left, right = np.divmod(pair[order], num_accounts)
    return left.astype(np.int32), right.astype(np.int32), weight[order]


class _Packing:
    """How pairs are numbers."""

    def __init__(self, halves: Sequence[Episodes], num_accounts: int, num_records: int) -> None:
        self.num_accounts = num_accounts
        self.first_hour = min(int(half.time_s.min()) // OCCASION_S for half in halves)
        hours = max(int(half.time_s.max()) // OCCASION_S for half in halves) - self.first_hour
        self.pair_shift = hours.bit_length() + _CROWD_BITS
        self.part_bits = (-(-num_records // PART_RECORDS) - 1).bit_length()
        while (num_accounts * self.width).bit_length() + self.pair_shift > np.iinfo(np.uint64).bits:
            self.part_bits += 1

    @property
    def width(self) -> int:
        """How many values the right account of a record can have."""
        return ((self.num_accounts - 1) >> self.part_bits) + 1

    def write(self, half: Episodes, window_s: float, records: _Records) -> None:
        """All records of the events, a block of them at a time."""
        earlier, later = close_pairs(half.episode, half.time_s, window_s)
        crowd = np.minimum(earlier + later, _MAX_CROWD).astype(np.uint16)
        later = np.minimum(later, NEIGHBOURS).astype(np.uint8)
        del earlier
        width, pair_shift, part_bits = np.uint64(self.width), np.uint64(self.pair_shift), np.uint64(self.part_bits)
        mask = np.uint64((1 << self.part_bits) - 1)
        for start in range(0, len(half), _BLOCK_EVENTS):
            mine = slice(start, start + _BLOCK_EVENTS)
            account = half.account[start : start + _BLOCK_EVENTS + NEIGHBOURS].astype(np.uint64)
            hour = (half.time_s[mine] // OCCASION_S - self.first_hour).astype(np.uint64)
            tail = hour << np.uint64(_CROWD_BITS) | crowd[mine]
            follow = later[mine]
            here = np.flatnonzero(follow)
            for step in range(1, NEIGHBOURS + 1):
                here = here[follow[here] >= step]
                if not len(here):
                    break
                one, two = account[here], account[here + step]
                low, high = np.minimum(one, two), np.maximum(one, two)
                record = (low * width + (high >> part_bits)) << pair_shift | tail[here]
                records.write(record, (low + high) & mask if self.part_bits else None)

    def reduced(self, part: int, records: Hashes) -> tuple[Longs, Floats]:
        """Pairs (left * num_accounts + right) of a part, and their weights."""
        records.sort()
        records = records[run_starts(records >> np.uint64(_CROWD_BITS))]  # of an occasion the smallest crowd comes first
        starts = np.flatnonzero(run_starts(records >> np.uint64(self.pair_shift)))
        count = np.diff(np.append(starts, len(records)))
        total = np.add.reduceat(_WEIGHTS[records & np.uint64(_MAX_CROWD)], starts) if len(starts) else np.empty(0)
        enough = count >= MIN_OCCASIONS
        left, high = np.divmod((records[starts[enough]] >> np.uint64(self.pair_shift)).astype(np.int64), self.width)
        right = high << self.part_bits | (part - left) & ((1 << self.part_bits) - 1)
        return left * self.num_accounts + right, total[enough]


class _Records:
    """Numbers cut into parts, in memory or in a file without a name, which goes with the process."""

    def __init__(self, num_records: int, num_parts: int, spill: Path | None) -> None:
        self.num_parts = num_parts
        self._bounds: list[npt.NDArray[np.int64]] = []  # of each block, where its parts begin and end
        self._filled = 0
        self._in_memory = num_records <= MAX_RECORDS_IN_MEMORY
        self._memory = np.empty(num_records if self._in_memory else 0, np.uint64)
        self._spill, self._open = spill, ExitStack()

    def __enter__(self) -> _Records:
        if not self._in_memory:
            self._file = self._open.enter_context(tempfile.TemporaryFile(dir=self._spill))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def write(self, records: Hashes, parts: Hashes | None) -> None:
        """Keep some more, with the part of each (None: there is but one)."""
        bounds = np.array([0, len(records)])
        if parts is not None:
            parts = parts.astype(np.min_scalar_type(self.num_parts - 1))  # numpy sorts small numbers by radix
            order = np.argsort(parts, kind="stable")
            bounds = np.searchsorted(parts[order], np.arange(self.num_parts + 1))
            records = records[order]
        self._bounds.append(self._filled + bounds)
        if self._in_memory:
            self._memory[self._filled : self._filled + len(records)] = records
        else:
            self._file.write(records.data.cast("B"))
        self._filled += len(records)

    def read(self, part: int) -> Hashes:
        """All records of a part, to be changed at will."""
        extents = [(int(bounds[part]), int(bounds[part + 1])) for bounds in self._bounds]
        result, done = np.empty(sum(end - start for start, end in extents), np.uint64), 0
        for start, end in extents:
            here = result[done : done + end - start]
            if self._in_memory:
                here[:] = self._memory[start:end]
            else:
                self._file.seek(start * result.itemsize)
                self._file.readinto(here.data.cast("B"))
            done += end - start
        return result
