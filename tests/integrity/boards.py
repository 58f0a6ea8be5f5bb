"""Hand-written squares for tests of integrity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from agora.integrity.records import Campaign
from agora.integrity.scan import ScanResult, scan
from agora.integrity.shared import Shares
from agora.integrity.signals import signals
from agora.posts.schema import posts_table

START = datetime(2026, 3, 2, tzinfo=timezone.utc)


class Board:
    """Collects posts: `board.post("ann", 60, "text", kind=..., ref_id=...)` at seconds after START; ids are counted."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def post(self, author: str, at_s: float, text: str | None = "", **more: Any) -> str:
        post_id = more.pop("id", f"b{len(self.rows)}")
        row = {"id": post_id, "author": author, "created_at": START + timedelta(seconds=int(at_s)), "text": text, "kind": "post"}
        self.rows.append(row | {"source": "test"} | more)
        return str(post_id)

    def repost(self, author: str, at_s: float, ref: str, ref_author: str | None = None, **more: Any) -> str:
        return self.post(author, at_s, more.pop("text", ""), kind=more.pop("kind", "repost"), ref_id=ref, ref_author=ref_author, **more)

    def batches(self, size: int | None = None) -> list[pa.RecordBatch]:
        table = posts_table(self.rows).combine_chunks()
        return list(table.to_batches(max_chunksize=size or max(len(self.rows), 1)))


def run_scan(posts: Board | Sequence[pa.RecordBatch], work: Path, **options: Any) -> ScanResult:
    """`scan` of a Board, in batches of `size` posts, or of batches."""
    size = options.pop("size", None)
    return scan(posts.batches(size) if isinstance(posts, Board) else posts, work, **options)


def labelled(result: ScanResult) -> set[str]:
    return {member.account for campaign in result.campaigns for member in campaign.labelled}


def campaign_of(result: ScanResult, accounts: set[str]) -> Campaign | None:
    """The campaign most of whose members are among `accounts`, groups of mere interest aside."""
    for one in result.campaigns:
        if one.state != "shared_interest" and sum(m.account in accounts for m in one.members) > len(one.members) / 2:
            return one
    return None


WORDS = [
    "bread",
    "river",
    "lamp",
    "stone",
    "window",
    "garden",
    "engine",
    "paper",
    "winter",
    "bridge",
    "coffee",
    "cloud",
    "silver",
    "market",
    "island",
    "letter",
    "music",
    "harbour",
]


def sentence(rng: np.random.Generator, length: int = 9) -> str:
    return " ".join(f"{rng.choice(WORDS)}{rng.integers(1000)}" for _ in range(length))


def ordinary(
    board: Board, rng: np.random.Generator, *, accounts: int = 120, days: int = 14, per_account: int = 25, stories: int = 60
) -> None:
    """Accounts that write their own words, and pass on stories that spread for hours."""
    names = [f"o{number}" for number in range(accounts)]
    for name in names:
        for at in rng.uniform(0, days * 86400, per_account):
            board.post(name, at, sentence(rng))
    for _ in range(stories):
        start = rng.uniform(0, (days - 1) * 86400)
        ref = board.post(str(rng.choice(names)), start, sentence(rng))
        for name in rng.choice(names, min(int(rng.integers(5, 40)), accounts), replace=False):
            board.repost(str(name), start + 60 + rng.exponential(7200), ref)


def shares_of(signal: str, rows: Sequence[tuple[int, int, int]], half: int = 0) -> Shares:
    """Shares made of (artefact, account, time)."""
    table = np.array(sorted(rows, key=lambda row: (row[0], row[2], row[1])), np.int64).reshape(-1, 3)
    found = next(one for one in signals() if one.id == signal)
    artefact = table[:, 0].astype(np.int32)
    return Shares(
        signal=found, artefact=artefact, account=table[:, 1].astype(np.int32), time_s=table[:, 2], post=np.arange(len(table)),
        half=np.full(len(table), half, np.uint8), key=np.arange(int(artefact.max(initial=-1)) + 1).astype(np.uint64),
    )  # fmt: skip


def copy_paste(
    board: Board, rng: np.random.Generator, members: Sequence[str], *, waves: int, jitter_s: float, share: float = 0.8, days: int = 14
) -> list[tuple[float, str]]:
    """In each wave most members post one new text within `jitter_s`; each also writes words of its own. Returns (time, text)."""
    for name in members:
        for at in rng.uniform(0, days * 86400, 15):
            board.post(name, at, sentence(rng))
    result = []
    for _ in range(waves):
        start, text = rng.uniform(0, (days - 1) * 86400), sentence(rng, 14)
        result.append((start, text))
        for name in members:
            if rng.random() < share:
                board.post(name, start + rng.uniform(0, jitter_s), text)
    return result
