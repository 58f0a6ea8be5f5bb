"""Arrays of layouts and of hardware, so that one closed form prices hundreds of thousands at once (no object per layout).

Goes in: Layouts or a grid. Comes out: LayoutColumns; choices are small integers in the order of `layout.py`'s tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agora.cluster.layout import DISPATCHES, KERNELS, PRECISIONS, RECOMPUTES, SCHEDULES, SHARDINGS, Layout

Values = Any
"""A float or an array of floats, one per row."""
_CODES: dict[str, tuple[str, ...]] = {
    "sharding": SHARDINGS, "schedule": SCHEDULES, "recompute": RECOMPUTES, "precision": PRECISIONS, "attention": KERNELS,
    "kernels": KERNELS, "dispatch": DISPATCHES,
}  # fmt: skip
NONE, SELECTIVE, FULL = range(3)
GPIPE, ONE_F_ONE_B, INTERLEAVED, ZERO_BUBBLE = range(4)
WHOLE, OPTIMIZER, GRADIENTS, PARAMETERS = range(4)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutColumns:
    """Many layouts: one array (or one number for all rows) per field of Layout."""

    replicate: Values = 1
    shard: Values = 1
    sharding: Values = PARAMETERS
    tensor: Values = 1
    sequence_parallel: Values = True
    pipeline: Values = 1
    virtual: Values = 1
    schedule: Values = ONE_F_ONE_B
    context: Values = 1
    expert: Values = 1
    recompute: Values = NONE
    micro_batch: Values = 1
    precision: Values = 0
    attention: Values = 0
    kernels: Values = 1
    overlap: Values = True
    dispatch: Values = 0
    expert_overlap: Values = False

    @property
    def data(self) -> Values:
        """Ranks that read different sequences."""
        return self.replicate * self.shard

    @property
    def num_accelerators(self) -> Values:
        """Ranks of the whole run."""
        return self.data * self.tensor * self.pipeline * self.context

    def take(self, rows: NDArray[Any]) -> LayoutColumns:
        """The rows that an index array or a mask selects; a column that is one number stays one."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return LayoutColumns(**{name: value[rows] if np.ndim(value) else value for name, value in values.items()})

    def layout(self, row: int) -> Layout:
        """One row as a Layout."""
        values: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            value = column[row] if np.ndim(column) else column
            values[field.name] = _CODES[field.name][int(value)] if field.name in _CODES else _plain(field.name, value)
        return Layout(**values)


def _plain(name: str, value: Any) -> Any:
    return bool(value) if name in ("sequence_parallel", "overlap", "expert_overlap") else int(value)


def stack_layouts(layouts: Sequence[Layout]) -> LayoutColumns:
    """Layouts as columns."""
    columns: dict[str, Any] = {}
    for field in fields(Layout):
        values = [getattr(layout, field.name) for layout in layouts]
        codes = _CODES.get(field.name)
        columns[field.name] = np.array([codes.index(value) for value in values] if codes else values)
    return LayoutColumns(**columns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """What one accelerator and its links can do, in base units; numbers, or arrays with one value per row.

    rates: peak dense FLOP/s by precision class (16, 8, 4 bits); links: bytes/s of one direction per accelerator. `up_domain`: ranks of the
    job that lie in one scale-up domain. `mesh_links`: links to single neighbours of a domain (0 = switched), `torus_dims`: dimensions of a
    torus (0 = none); on both a small group cannot use all links. The network beyond has leaves of `leaf_domain` ranks and pods of
    `pod_domain`, with an oversubscription above each; every level that a message climbs adds `hop_latency_s`. `streams_weights`: 1 for a
    wafer, which takes its weights through `out_bytes_per_s` layer by layer and loses `scaling_loss` of its time with each doubling.
    """

    rate_16: Values
    rate_8: Values
    rate_4: Values
    matmul_ceiling: Values
    attention_ceiling: Values
    compute_units: Values
    memory_bytes: Values
    memory_bytes_per_s: Values
    up_bytes_per_s: Values
    up_latency_s: Values
    up_domain: Values
    mesh_links: Values
    torus_dims: Values
    out_bytes_per_s: Values
    out_latency_s: Values
    hop_latency_s: Values
    leaf_domain: Values
    leaf_oversubscription: Values
    pod_domain: Values
    pod_oversubscription: Values
    streams_weights: Values = 0.0
    scaling_loss: Values = 0.0

    def rate(self, precision: Values) -> Values:
        """Peak FLOP/s of matrix products in a precision (a code of PRECISIONS)."""
        return np.where(precision < 2, self.rate_16, np.where(precision < 4, self.rate_8, self.rate_4))


def stack_hardware(rows: Sequence[Hardware]) -> Hardware:
    """Hardware of many rows as arrays."""
    return Hardware(**{field.name: np.array([getattr(row, field.name) for row in rows], dtype=float) for field in fields(Hardware)})
