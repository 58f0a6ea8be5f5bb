"""Campaigns in simulated squares: how many labels are right, and how many members are found at each jitter.

python -m benchmarks integrity_simulated [--quick] [--squares 3]

For each jitter, squares hold campaigns of every channel with every text mode that detection claims to see (verbatim, templated), default
waves and participation. Recall counts every member but the leads of repost campaigns with one lead: what such a lead writes is
reposted by others, it reposts nothing. One of the two repost campaigns has one lead, the other five, who repost each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.registry import Benchmark, Result, whole_number

if TYPE_CHECKING:
    from benchmarks.integrity_squares import Judged

JITTERS_S: Final = {60.0: 0.95, 600.0: 0.8, 7200.0: 0.5}
"""Least recall at each jitter."""
MIN_PRECISION, MAX_ORDINARY = 0.95, 0.001
PEER_WEIGHTS = (2, 5)


def _square(seed: int, jitter_s: float, num_posts: int) -> Judged:
    from agora.posts.simulate import Campaign, SquareConfig
    from benchmarks.integrity_squares import judge

    campaigns = []
    for channel in ("repost", "link", "hashtag", "text"):
        for text in ("verbatim", "templated"):
            leads = 5 if channel == "repost" and text == "templated" else 1
            campaigns.append(Campaign(name=f"{channel}_{text}", channel=channel, text=text, jitter_s=jitter_s, num_leads=leads))  # type: ignore[arg-type]
    config = SquareConfig(num_posts=num_posts, num_accounts=num_posts // 20, seed=seed, campaigns=tuple(campaigns))
    return judge(config, weights=PEER_WEIGHTS)


def _precision(chosen: frozenset[str], judged: Judged) -> tuple[int, int]:
    """Right ones, all."""
    names = {campaign.name for campaign in judged.config.campaigns}
    return sum(judged.group[account] in names for account in chosen), len(chosen)


def _run(quick: bool, options: dict[str, str]) -> Result:
    from benchmarks.integrity_squares import FIRST_SEED

    squares = whole_number(options, "squares", 1 if quick else 3, at_least=1)
    judged = {
        jitter_s: [_square(FIRST_SEED + 10 * number + place, jitter_s, 60_000 if quick else 200_000) for number in range(squares)]
        for place, jitter_s in enumerate(JITTERS_S)
    }
    every = [one for some in judged.values() for one in some]
    right, labelled = (sum(counts) for counts in zip(*(_precision(one.labelled, one) for one in every), strict=True))
    ordinary = [(len(one.labelled & one.members("ordinary")), len(one.members("ordinary"))) for one in every]
    share = sum(hit for hit, _ in ordinary) / sum(size for _, size in ordinary)
    recall = {jitter_s: _recall(some) for jitter_s, some in judged.items()}
    precision = right / labelled if labelled else 0.0
    details: dict[str, Any] = {
        "precision": precision, "labelled": labelled, "ordinary_labelled": share, "ordinary_accounts": sum(size for _, size in ordinary),
        "recall": {f"{jitter_s:.0f} s": found for jitter_s, found in recall.items()},
        "recall_by_campaign": {f"{jitter_s:.0f} s": _by_campaign(some) for jitter_s, some in judged.items()},
        "labelled_by_mistake": _mistakes(every), "peers_same_item_within_60_s": _peers(every),
        "squares": len(every), "posts_each": every[0].config.num_posts, "seeds": [one.config.seed for one in every],
    }  # fmt: skip
    holds = precision >= MIN_PRECISION and share <= MAX_ORDINARY and all(recall[jitter] >= bar for jitter, bar in JITTERS_S.items())
    return Result(value=precision, holds=holds, details=details)


def _recall(some: list[Judged]) -> float:
    return sum(len(one.labelled & one.scored) for one in some) / sum(len(one.scored) for one in some)


def _by_campaign(some: list[Judged]) -> dict[str, float]:
    found = {}
    for campaign in some[0].config.campaigns:
        mine = [one.scored & one.members(campaign.name) for one in some]
        found[campaign.name] = sum(len(accounts & one.labelled) for accounts, one in zip(mine, some, strict=True)) / sum(map(len, mine))
    return found


def _mistakes(every: list[Judged]) -> dict[str, int]:
    wrong: dict[str, int] = {}
    for one in every:
        names = {campaign.name for campaign in one.config.campaigns}
        for account in one.labelled:
            if one.group[account] not in names:
                wrong[one.group[account]] = wrong.get(one.group[account], 0) + 1
    return wrong


def _peers(every: list[Judged]) -> dict[str, dict[str, float]]:
    table = {}
    for weight in PEER_WEIGHTS:
        right, chosen = (sum(counts) for counts in zip(*(_precision(one.peers[weight], one) for one in every), strict=True))
        ordinary = sum(len(one.peers[weight] & one.members("ordinary")) for one in every)
        all_ordinary = sum(len(one.members("ordinary")) for one in every)
        table[f"weight >= {weight}"] = {
            "precision": right / max(chosen, 1), "recall": right / sum(len(one.scored) for one in every),
            "ordinary_labelled": ordinary / all_ordinary,
        }  # fmt: skip
    return table


BENCHMARK = Benchmark(
    measures="labels on simulated campaigns: precision; recall by jitter, ordinary accounts and other tools' rule in the details",
    unit="share", bound=">= 0.95, recall >= 0.95/0.8/0.5 at 60 s/10 min/2 h, ordinary <= 0.001", run=_run, options=("squares",),
)  # fmt: skip
