"""Distinct strings of a whole store. Goes in: arrays, batch by batch. Comes out: each string once. Memory grows with these alone."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


class Distinct:
    """Strings seen so far. They are compared whenever as many came in as there were, so each is looked at a few times only."""

    def __init__(self) -> None:
        self._parts: list[pa.Array] = [pa.array([], pa.string())]
        self._num_new = 0

    def add(self, values: pa.Array) -> None:
        """Take in one batch."""
        self._parts.append(pc.unique(values))
        self._num_new += len(self._parts[-1])
        if self._num_new > len(self._parts[0]):
            self._parts, self._num_new = [self.values()], 0

    def values(self) -> pa.Array:
        """All of them, each once, in order of appearance."""
        return pc.unique(pa.chunked_array(self._parts))
