"""Squares for the integrity benchmarks: scanned with their follow graph, scored against their ground truth, beside the rule of other tools.

Goes in: a SquareConfig. Comes out: Judged. Seeds from FIRST_SEED on: those below served to set the detector's constants.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.integrity.collect import Collected, collect
from agora.integrity.config import IntegrityConfig
from agora.integrity.episodes import close_pairs
from agora.integrity.scan import ScanResult, examine
from agora.integrity.shared import Shares, shared
from agora.posts.simulate import SquareConfig, follow_graph, ground_truth, simulate

FIRST_SEED = 100
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judged:
    """A scan of a square, the labels it gave, and who is who.

    group       name of each account's group
    scored      members of campaigns who act in waves: all but leads of repost campaigns that have one lead, who repost nothing
    labelled    accounts labelled automatically; `peers` by weight, accounts that "the same item within 60 s" labels
    """

    config: SquareConfig
    result: ScanResult
    group: dict[str, str]
    scored: frozenset[str]
    labelled: frozenset[str]
    peers: dict[int, frozenset[str]]
    posted: frozenset[str]

    def members(self, group: str) -> frozenset[str]:
        """Accounts of a group that posted."""
        return frozenset(account for account in self.posted if self.group[account] == group)


def batches(config: SquareConfig) -> Iterator[pa.RecordBatch]:
    """The square's posts."""
    for table in simulate(config):
        yield from table.to_batches()


def labels(result: ScanResult) -> frozenset[str]:
    """Accounts that a scan labels without a person's doing."""
    return frozenset(member.account for campaign in result.campaigns for member in campaign.labelled)


def judge(config: SquareConfig, *, weights: tuple[int, ...] = (), integrity: IntegrityConfig | None = None) -> Judged:
    """Simulate, scan with the follow graph, label; `weights` asks for the other tools' rule at these weights."""
    truth = ground_truth(config).to_pylist()
    group = {row["author"]: row["group"] for row in truth}
    single = {campaign.name for campaign in config.campaigns if campaign.channel == "repost" and campaign.num_leads == 1}
    coordinated = (row for row in truth if row["is_coordinated"])
    scored = frozenset(row["author"] for row in coordinated if not (row["is_lead"] and row["group"] in single))
    integrity = integrity or IntegrityConfig()
    with tempfile.TemporaryDirectory() as folder:
        posts = collect(batches(config), Path(folder))
        found = shared(posts, seed=integrity.seed)
        result = examine(posts, found, config=integrity, follows=follow_graph(config))
    peers = {weight: same_item_twice(posts, found, weight) for weight in weights}
    return Judged(config, result, group, scored, labels(result), peers, frozenset(posts.names.to_pylist()))


PEER_WINDOW_S = 60
PEER_SIGNALS = ("repost", "link", "text", "hashtags", "image")


def same_item_twice(posts: Collected, found: Mapping[str, Shares], weight: int, *, only_reposts: bool = False) -> frozenset[str]:
    """Other tools' rule: accounts of a pair that shared the same items within a minute at least `weight` times, one network per kind
    of item. `only_reposts` is the co-repost network alone, without quotes."""
    chosen: set[int] = set()
    for name in PEER_SIGNALS[: 1 if only_reposts else None]:
        one = found[name]
        rows = np.flatnonzero(~posts.is_own[one.post]) if only_reposts else np.arange(len(one.post))
        pairs, counts = _pairs_within(one, rows, posts.num_accounts)
        strong = pairs[counts >= weight]
        chosen.update((strong // posts.num_accounts).tolist(), (strong % posts.num_accounts).tolist())
    return frozenset(posts.names.take(pa.array(sorted(chosen), pa.int64())).to_pylist())


def _pairs_within(one: Shares, rows: Longs, num_accounts: int) -> tuple[Longs, Longs]:
    """Pairs of accounts (smaller * num_accounts + larger) that shared an artefact within the window, and how often."""
    account = one.account[rows].astype(np.int64)
    _, later = close_pairs(one.artefact[rows], one.time_s[rows], PEER_WINDOW_S + 1)
    found = [np.empty(0, np.int64)]
    for step in range(1, int(later.max(initial=0)) + 1):
        first = np.flatnonzero(later >= step)
        left, right = account[first], account[first + step]
        pair = np.minimum(left, right) * num_accounts + np.maximum(left, right)
        found.append(pair[left != right])
    pairs, counts = np.unique(np.concatenate(found), return_counts=True)
    return pairs, counts
