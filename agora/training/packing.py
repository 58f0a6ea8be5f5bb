"""Whole pieces (conversations, pairs of answers) in rows of a fixed width. Goes in: the size of each piece. Comes out: rows, as numbers of
pieces, epoch after epoch, from any place that was noted.

An epoch is every piece once, in an order drawn from (seed, epoch), each put into the first open row with room for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

_OPEN_ROWS: Final = 64


class PackedRows:
    """`epoch` and `row` say where the next row stands; set them to go on from there."""

    def __init__(self, sizes: Sequence[int], *, width: int, seed: int) -> None:
        self._sizes, self._width, self._seed = sizes, width, seed
        self.epoch, self.row = 0, 0
        self._opened = -1
        self._rows: list[list[int]] = []

    def take(self, count: int) -> list[list[int]]:
        """The next rows."""
        rows: list[list[int]] = []
        while len(rows) < count:
            epoch_rows = self.rows_of(self.epoch)
            taken = epoch_rows[self.row : self.row + count - len(rows)]
            rows += taken
            self.row += len(taken)
            if self.row == len(epoch_rows):
                self.epoch, self.row = self.epoch + 1, 0
        return rows

    def peek(self, epoch: int, row: int, count: int) -> list[list[int]]:
        """The rows from a place on; where the next row stands does not change."""
        here = self.epoch, self.row
        self.epoch, self.row = epoch, row
        rows = self.take(count)
        self.epoch, self.row = here
        return rows

    def rows_of(self, epoch: int) -> list[list[int]]:
        """All rows of an epoch."""
        if epoch != self._opened:
            closed: list[list[int]] = []
            open_rows: list[tuple[int, list[int]]] = []
            for member in np.random.default_rng([self._seed, epoch]).permutation(len(self._sizes)).tolist():
                size = self._sizes[member]
                place = next((i for i, (used, _) in enumerate(open_rows) if used + size <= self._width), None)
                if place is None:
                    if len(open_rows) == _OPEN_ROWS:
                        fullest = max(range(_OPEN_ROWS), key=lambda i: open_rows[i][0])
                        closed.append(open_rows.pop(fullest)[1])
                    open_rows.append((size, [member]))
                else:
                    used, members = open_rows[place]
                    open_rows[place] = (used + size, [*members, member])
            self._rows, self._opened = closed + [members for _, members in open_rows], epoch
        return self._rows
