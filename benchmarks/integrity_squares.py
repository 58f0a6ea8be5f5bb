"""Squares for the integrity benchmarks: read once, scanned with their follow graph, beside the rule of other tools.

Goes in: a SquareConfig. Comes out: a ReadSquare. Seeds from FIRST_SEED on: those below served to set the detector's constants.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.integrity.collect import Collected, collect
from agora.integrity.config import IntegrityConfig
from agora.integrity.episodes import close_pairs
from agora.integrity.records import ScanResult
from agora.integrity.scan import examine
from agora.integrity.shared import Shares, shared
from agora.posts.simulate import SquareConfig, follow_graph, ground_truth, simulate
from agora.posts.square.grammar import Grammar
from agora.posts.square.population import build_population
from agora.posts.square.schedule import build_schedule

FIRST_SEED = 900
PEER_WINDOW_S = 60
PEER_SIGNALS = ("repost", "link", "text", "hashtags", "image")
CROWDS = {"breaking": "breaking news crowd", "final": "sports final crowd"}

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan and the accounts that it labels automatically."""

    result: ScanResult
    labelled: frozenset[str]


@dataclass(frozen=True, slots=True)
class ReadSquare:
    """A square, read.

    group    name of each account's group
    crowds   accounts that wrote or passed on a tag of an event while it lasted, by crowd
    scored   members of campaigns who act in waves: all but the lead of a repost campaign with one, who reposts nothing
    """

    config: SquareConfig
    posts: Collected
    found: Mapping[str, Shares]
    group: Mapping[str, str]
    crowds: Mapping[str, frozenset[str]]
    scored: frozenset[str]

    def scan(self, config: IntegrityConfig | None = None) -> Scanned:
        """All tests, with the follow graph."""
        result = examine(self.posts, self.found, config=config or IntegrityConfig(), follows=follow_graph(self.config))
        return Scanned(result, labels(result))

    def groups(self) -> dict[str, frozenset[str]]:
        """Accounts that posted, by group and crowd; the same account can belong to a group and to crowds."""
        members: dict[str, set[str]] = {}
        for account in self.posts.names.to_pylist():
            members.setdefault(self.group[account], set()).add(account)
        return {name: frozenset(accounts) for name, accounts in members.items()} | dict(self.crowds)


@contextmanager
def read_square(config: SquareConfig, *, seed: int = 0, meaning: bool = False) -> Iterator[ReadSquare]:
    """Simulate and read a square; its keys lie in a folder that goes afterwards. `seed` decides the halves, `meaning` adds its layer."""
    truth = ground_truth(config).to_pylist()
    single = {campaign.name for campaign in config.campaigns if campaign.channel == "repost" and campaign.num_leads == 1}
    coordinated = [row for row in truth if row["is_coordinated"]]
    crowds: dict[str, set[str]] = {name: set() for name in CROWDS.values()}
    with tempfile.TemporaryDirectory() as folder:
        posts = collect(_watched(config, crowds), Path(folder), meaning=meaning)
        yield ReadSquare(
            config=config, posts=posts, found=shared(posts, seed=seed, meaning=meaning),
            group={row["author"]: row["group"] for row in truth},
            crowds={name: frozenset(accounts) for name, accounts in crowds.items()},
            scored=frozenset(row["author"] for row in coordinated if not (row["is_lead"] and row["group"] in single)),
        )  # fmt: skip


def _watched(config: SquareConfig, crowds: dict[str, set[str]]) -> Iterator[pa.RecordBatch]:
    """The square's posts; notes who takes part in its events."""
    grammar = Grammar()
    schedule = build_schedule(config, build_population(config, grammar), grammar)
    names = {grammar.topic(topic): crowd for topic, crowd in CROWDS.items()}
    events = [(names[burst.topic], grammar.tags[burst.tag], burst.curve_t) for burst in schedule.bursts if burst.topic in names]
    for table in simulate(config):
        time_s = np.asarray(table["created_at"].cast(pa.int64())) / 1e6 - config.start_us() / 1e6
        tags = table["hashtags"].combine_chunks()
        row = np.asarray(pc.list_parent_indices(tags))
        for crowd, tag, curve_t in events:
            tagged = row[np.asarray(pc.equal(pc.list_flatten(tags), tag))]
            during = tagged[(time_s[tagged] >= curve_t[0]) & (time_s[tagged] <= curve_t[-1])]
            crowds[crowd].update(table["author"].take(pa.array(during)).to_pylist())
        yield from table.to_batches()


def labels(result: ScanResult) -> frozenset[str]:
    """Accounts that a scan labels without a person's doing."""
    return frozenset(member.account for campaign in result.campaigns for member in campaign.labelled)


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
