"""Who is to blame when nothing moves. Goes in: what every process wrote of itself, read twice a few beats apart (watchdog.py). Comes out:
the ranks that do not answer, are stuck or behind, in words; or that nothing hangs, because files still move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """What a process last wrote of itself. `moves` counts what its loop has begun, which is the same work in the same order on all.
    `files` is what it reads or writes while its loop waits for that, and `files_still_s` how long nothing of it has moved."""

    rank: int
    beat: int
    step: int
    phase: str
    moves: int
    operation: str
    waits: bool
    host: str
    process: int
    files: str = ""
    files_still_s: float = 0.0


def movers(before: Sequence[Beat], after: Sequence[Beat], timeout_s: float) -> str:
    """What still moves of files that a loop waits for, in words, when every rank answers and no file stands still; else nothing."""
    all_answer = all(old.beat != new.beat for old, new in zip(before, after, strict=True))
    busy = [beat for beat in after if beat.files]
    if not all_answer or any(beat.files_still_s >= timeout_s for beat in busy):
        return ""
    more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
    return ", ".join(f"rank {beat.rank} is {beat.files}" for beat in busy[:3]) + more


def judge(before: Sequence[Beat], after: Sequence[Beat], timeout_s: float = math.inf) -> str:
    """Who is to blame, from two readings of the table a few beats apart. Ranks that wrote nothing in between do not answer; of the others,
    those are stuck of whose files nothing has moved for `timeout_s`, and those behind whose loop has begun less than the furthest one;
    where all stand alike, those that do not wait."""
    silent = [new for old, new in zip(before, after, strict=True) if old.beat == new.beat]
    stuck = [beat for beat in after if beat not in silent and beat.files and beat.files_still_s >= timeout_s]
    awake = [beat for beat in after if beat not in silent and beat not in stuck]
    furthest = max((beat.moves for beat in awake), default=0)
    behind = [beat for beat in awake if beat.moves < furthest]
    if not silent and not stuck and not behind:
        behind = [beat for beat in awake if not beat.waits]
    parts = [f"{_ranks([beat])} does not answer (last seen in {_where(beat)}; process {beat.process} on {beat.host})" for beat in silent]
    parts += [
        f"{_ranks([beat])} is stuck {beat.files}: nothing of it has moved for {beat.files_still_s:.0f} s "
        f"(process {beat.process} on {beat.host})"
        for beat in stuck
    ]
    parts += [f"{_ranks([beat])} is behind, in {_where(beat)} (process {beat.process} on {beat.host})" for beat in behind]
    places: dict[str, list[Beat]] = {}
    for beat in awake:
        if beat not in behind:
            places.setdefault(_where(beat), []).append(beat)
    parts += [f"{_ranks(beats)} {'waits' if len(beats) == 1 else 'wait'} in {where}" for where, beats in sorted(places.items())]
    if not silent and not stuck and not behind:
        parts.append("no rank is behind another: they wait for each other in different operations" if len(places) > 1 else
                     "all wait in the same operation: the network between them does not answer")  # fmt: skip
    return "; ".join(parts)


def _where(beat: Beat) -> str:
    return f"step {beat.step}, {beat.phase}, {beat.operation}"


def _ranks(beats: Sequence[Beat]) -> str:
    numbers = [beat.rank for beat in beats]
    shown = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"rank {shown}" if len(numbers) == 1 else f"ranks {shown}"
