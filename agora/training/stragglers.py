"""Slow processes. Goes in: how long each process worked for a step, waiting left out. Comes out: which are slow and what share of every
step that costs all others, who wait for them.

A process is slow when its own time is above the median by more than five robust standard deviations and by a tenth at least: with
thousands of processes some are always a little slower. The lower median is taken, so that of two processes the slower one is seen.

Not covered: on a GPU, kernels run beside the main thread whose time is measured: a slow host or a slow reader of data is found there, a
slow GPU is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

_DEVIATIONS: Final = 5.0
_TO_DEVIATION: Final = 1.4826  # of a normal distribution: standard deviation / median absolute deviation
_LEAST: Final = 0.02  # of the median: less scatter than this is taken for this much


@dataclass(frozen=True, kw_only=True, slots=True)
class Straggler:
    """A slow process. `times_median` is its own time over the median's; `lost_share` the part of a step in which others wait for it."""

    rank: int
    times_median: float
    lost_share: float

    def __str__(self) -> str:
        return f"rank {self.rank} takes {self.times_median:.2f} times as long as the others: {self.lost_share:.0%} of every step is lost"


def stragglers(own_s: Sequence[float], step_s: float) -> list[Straggler]:
    """The slow ones, slowest first. `own_s` is each rank's own time of a step, `step_s` the time of a whole one."""
    usual = median_low(own_s)
    scatter = max(_TO_DEVIATION * median_low([abs(one - usual) for one in own_s]), _LEAST * usual)
    found = [
        Straggler(rank=rank, times_median=own / usual, lost_share=min(1.0, (own - usual) / step_s))
        for rank, own in enumerate(own_s) if usual > 0 and step_s > 0 and own - usual > _DEVIATIONS * scatter
    ]  # fmt: skip
    return sorted(found, key=lambda one: -one.times_median)
