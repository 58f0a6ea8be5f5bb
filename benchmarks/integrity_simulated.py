"""Campaigns in simulated squares: how many labels are right, and how many members are found at each jitter.

python -m benchmarks integrity_simulated [--quick] [--squares 3]

For each jitter, squares hold campaigns of every channel with every text mode that detection claims to see (verbatim, templated), default
waves and participation. Recall counts every member but the leads of repost campaigns with one lead: what such a lead writes is
reposted by others, it reposts nothing. At two hours the meaning layer runs too; the figure without it is given beside. One of the two
repost campaigns has one lead, the other five, who repost each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, get_args

from benchmarks.registry import Benchmark, Result, whole_number

JITTERS_S: Final = {60.0: 0.95, 600.0: 0.8, 7200.0: 0.5}
"""Least recall at each jitter."""
MEANING_FROM_S: Final = 7200.0
"""Campaigns this slow are looked for with the meaning layer as well: at two hours timing alone sees hardly anything."""
MIN_PRECISION, MAX_ORDINARY = 0.95, 0.001
PEER_WEIGHTS = (2, 5)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Who was labelled in one square, and whom other tools' rule labels, by weight."""

    seed: int
    campaigns: tuple[str, ...]
    groups: dict[str, frozenset[str]]
    scored: frozenset[str]
    labelled: frozenset[str]
    peers: dict[int, frozenset[str]]

    def right(self, chosen: frozenset[str]) -> int:
        """How many of `chosen` are in a campaign."""
        return sum(len(chosen & self.groups[name]) for name in self.campaigns)


def _judge(seed: int, jitter_s: float, num_posts: int, *, meaning: bool) -> _Judged:
    from agora.integrity.config import IntegrityConfig
    from agora.posts.simulate import Campaign, SquareConfig
    from agora.posts.square.config import Channel, TextMode
    from benchmarks.integrity_squares import read_square, same_item_twice

    campaigns = []
    for channel in get_args(Channel):
        for text in (mode for mode in get_args(TextMode) if mode != "paraphrased"):
            leads = 5 if channel == "repost" and text == "templated" else 1
            campaigns.append(Campaign(name=f"{channel}_{text}", channel=channel, text=text, jitter_s=jitter_s, num_leads=leads))
    config = SquareConfig(num_posts=num_posts, num_accounts=num_posts // 20, seed=seed, campaigns=tuple(campaigns))
    with read_square(config, meaning=meaning) as square:
        peers = {weight: same_item_twice(square.posts, square.found, weight) for weight in PEER_WEIGHTS}
        names = tuple(campaign.name for campaign in campaigns)
        return _Judged(seed, names, square.groups(), square.scored, square.scan(IntegrityConfig(meaning=meaning)).labelled, peers)


def _run(quick: bool, options: dict[str, str]) -> Result:
    from benchmarks.integrity_squares import FIRST_SEED

    squares = whole_number(options, "squares", 1 if quick else 3, at_least=1)
    num_posts = 60_000 if quick else 200_000
    judged = {
        jitter_s: [
            _judge(FIRST_SEED + 10 * number + place, jitter_s, num_posts, meaning=jitter_s >= MEANING_FROM_S) for number in range(squares)
        ]
        for place, jitter_s in enumerate(JITTERS_S)
    }
    slow = [_judge(one.seed, MEANING_FROM_S, num_posts, meaning=False) for one in judged[MEANING_FROM_S]]
    every = [one for some in (*judged.values(), slow) for one in some]
    right, labelled = (sum(counts) for counts in zip(*((one.right(one.labelled), len(one.labelled)) for one in every), strict=True))
    ordinary = [(len(one.labelled & one.groups["ordinary"]), len(one.groups["ordinary"])) for one in every]
    share = sum(hit for hit, _ in ordinary) / sum(size for _, size in ordinary)
    recall = {jitter_s: _recall(some) for jitter_s, some in judged.items()}
    precision = right / labelled if labelled else 0.0
    details: dict[str, Any] = {
        "precision": precision, "labelled": labelled, "ordinary_labelled": share, "ordinary_accounts": sum(size for _, size in ordinary),
        "recall": {f"{jitter_s:.0f} s": found for jitter_s, found in recall.items()},
        f"recall at {MEANING_FROM_S:.0f} s without the meaning layer": _recall(slow),
        "recall_by_campaign": {f"{jitter_s:.0f} s": _by_campaign(some) for jitter_s, some in judged.items()},
        "labelled_by_mistake": _mistakes(every), "peers_same_item_within_60_s": _peers(every),
        "squares": len(every), "posts_each": num_posts, "seeds": [one.seed for one in every],
    }  # fmt: skip
    holds = precision >= MIN_PRECISION and share <= MAX_ORDINARY and all(recall[jitter] >= bar for jitter, bar in JITTERS_S.items())
    return Result(value=precision, holds=holds, details=details)


def _recall(some: list[_Judged]) -> float:
    return sum(len(one.labelled & one.scored) for one in some) / sum(len(one.scored) for one in some)


def _by_campaign(some: list[_Judged]) -> dict[str, float]:
    found = {}
    for name in some[0].campaigns:
        mine = [one.scored & one.groups[name] for one in some]
        found[name] = sum(len(accounts & one.labelled) for accounts, one in zip(mine, some, strict=True)) / sum(map(len, mine))
    return found


def _mistakes(every: list[_Judged]) -> dict[str, int]:
    wrong: dict[str, int] = {}
    for one in every:
        rest = one.labelled.difference(*(one.groups[name] for name in one.campaigns))
        for name, accounts in one.groups.items():
            if hit := len(accounts & rest):
                wrong[name] = wrong.get(name, 0) + hit
    return wrong


def _peers(every: list[_Judged]) -> dict[str, dict[str, float]]:
    table = {}
    for weight in PEER_WEIGHTS:
        right, chosen = (
            sum(counts) for counts in zip(*((one.right(one.peers[weight]), len(one.peers[weight])) for one in every), strict=True)
        )
        ordinary = sum(len(one.peers[weight] & one.groups["ordinary"]) for one in every)
        table[f"weight >= {weight}"] = {
            "precision": right / max(chosen, 1), "recall": right / sum(len(one.scored) for one in every),
            "ordinary_labelled": ordinary / sum(len(one.groups["ordinary"]) for one in every),
        }  # fmt: skip
    return table


BENCHMARK = Benchmark(
    measures="labels on simulated campaigns: precision; recall by jitter, ordinary accounts and other tools' rule in the details",
    unit="share", bound=">= 0.95, recall >= 0.95/0.8/0.5 at 60 s/10 min/2 h, ordinary <= 0.001", run=_run, options=("squares",),
)  # fmt: skip
