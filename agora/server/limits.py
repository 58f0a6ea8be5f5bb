"""How often somebody may ask: one token bucket for each. Goes in: who, and a limit a minute. Comes out: whether, or when again.

A bucket holds a minute's worth, so a short burst passes. Kept in this process: several workers each allow as much. Not covered: a limit
over several servers; a proxy in front has one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

MAX_BUCKETS = 100_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """`wait_s`: 0 when allowed, else when to ask again. `left`: whole requests that would pass now."""

    limit: int
    left: int
    wait_s: float


class RateLimits:
    """Buckets by whatever identifies who asks; the ones not used for longest go first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()
        self._mutex = threading.Lock()

    def ask(self, who: Hashable, per_minute: int) -> Allowance:
        """Take one request out of the bucket of `who`, if there is one."""
        now = self._clock()
        with self._mutex:
            bucket = self._buckets.pop(who, None) or _Bucket(float(per_minute), now)
            bucket.left = min(float(per_minute), bucket.left + (now - bucket.at) * per_minute / 60)
            bucket.at = now
            is_allowed = bucket.left >= 1
            if is_allowed:
                bucket.left -= 1
            self._buckets[who] = bucket
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
            return Allowance(per_minute, int(bucket.left), 0.0 if is_allowed else (1 - bucket.left) * 60 / per_minute)
