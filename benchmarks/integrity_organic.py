"""Squares without any campaign: who is labelled all the same, and how often organic groups burst.

python -m benchmarks integrity_organic [--quick] [--squares 3]

The second part is what `Signal.organic_bursts` rests on: per signal and window the highest share of occasions that were bursts, in groups
that the search finds in one half of the posts, counted in the other. Groups with members of the fan club or the syndicate are listed
apart: they do burst, and checks explain them (agora/integrity/explain.py). The bar fails where a group bursts significantly more often
than declared, or where a label falls on more people than the bars allow.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.registry import Benchmark, Result, whole_number

if TYPE_CHECKING:
    from agora.integrity.collect import Collected
    from agora.integrity.shared import Shares

MAX_ORDINARY, MAX_GROUP = 0.001, 0.01
MIN_OCCASIONS: Final = 3
SIGNIFICANT: Final = 0.01
"""Chance of one or more groups above a declared rate, over all groups looked at (Bonferroni)."""
EXPLAINED: Final = ("alert_club", "syndicate")
_MIN_EXPLAINED = 4
_SIZES, _QUICK_SIZES = (200_000, 60_000, 20_000), (60_000, 20_000)


@dataclass(frozen=True, slots=True)
class _Rate:
    """Bursts of one group on its occasions, in one half."""

    bursts: int
    occasions: int
    size: int
    kind: str
    is_explained: bool


def _run(quick: bool, options: dict[str, str]) -> Result:
    from benchmarks.integrity_squares import FIRST_SEED

    squares = whole_number(options, "squares", 1 if quick else 3, at_least=1)
    sizes = _QUICK_SIZES if quick else _SIZES
    labelled, people = Counter[str](), Counter[str]()
    rates: dict[tuple[str, int], list[_Rate]] = defaultdict(list)
    seeds = []
    for place, num_posts in enumerate(sizes):
        for number in range(squares):
            seeds.append(FIRST_SEED + 100 + 10 * number + place)
            _one_square(num_posts, seeds[-1], labelled, people, rates)
    shares = {name: labelled[name] / count for name, count in sorted(people.items())}
    table = {f"{signal} {window_s} s": _row(signal, window_s, rates[signal, window_s]) for signal, window_s in sorted(rates)}
    least_p = min((row["p_all"] for row in table.values() if row["p_all"] is not None), default=1.0)
    worst_group = max((share for name, share in shares.items() if name != "ordinary"), default=0.0)
    details: dict[str, Any] = {
        "labelled": shares, "accounts": dict(sorted(people.items())), "burst_rates": table, "least_p_of_declared_rates": least_p,
        "squares": len(seeds), "posts": sizes, "seeds": seeds,
    }  # fmt: skip
    holds = shares["ordinary"] <= MAX_ORDINARY and worst_group <= MAX_GROUP and least_p > SIGNIFICANT
    return Result(value=worst_group, holds=holds, details=details)


def _one_square(num_posts: int, seed: int, labelled: Counter[str], people: Counter[str], rates: dict[tuple[str, int], list[_Rate]]) -> None:
    from agora.posts.simulate import SquareConfig
    from benchmarks.integrity_squares import read_square

    config = SquareConfig(num_posts=num_posts, num_accounts=num_posts // 20, seed=seed, campaigns=())
    with read_square(config) as square:
        chosen = square.scan().labelled
        for name, members in square.groups().items():
            labelled[name] += len(members & chosen)
            people[name] += len(members)
        for signal, window_s, rate in _rates(square.posts, square.found, square.group):
            rates[signal, window_s].append(rate)


def _rates(posts: Collected, found: Mapping[str, Shares], group: Mapping[str, str]) -> Iterator[tuple[str, int, _Rate]]:
    """Burst rates of all candidate groups, by signal and window."""
    import numpy as np

    from agora.integrity.bursts import EPISODE_GAP_S, burst_counts, gap_s
    from agora.integrity.candidates import groups_of
    from agora.integrity.config import IntegrityConfig
    from agora.integrity.episodes import episodes
    from agora.integrity.pairs import edges
    from agora.integrity.timing import episode_pairs, group_episodes

    names = posts.names.to_pylist()
    for window_s in IntegrityConfig().windows_s:
        for direction in (0, 1):
            half = [episodes(one, one.half == direction, EPISODE_GAP_S) for one in found.values()]
            groups = groups_of(edges(half, window_s, posts.num_accounts), seed=0)
            sizes = np.array([len(accounts) for accounts in groups])
            group_of = np.full(posts.num_accounts, -1, np.int32)
            for number, accounts in enumerate(groups):
                group_of[accounts] = number
            kinds = [Counter(group[names[account]] for account in accounts.tolist()) for accounts in groups]
            for name, one in found.items():
                events = episodes(one, one.half != direction, gap_s(window_s, one.signal))
                if not len(events):
                    continue
                rate = one.signal.organic_bursts.get(window_s, 1.0)
                counts = burst_counts(group_episodes(events, episode_pairs(events, window_s), group_of, window_s), sizes, rate)
                for number in np.flatnonzero(counts.occasions >= MIN_OCCASIONS).tolist():
                    explained = sum(kinds[number][club] for club in EXPLAINED) >= _MIN_EXPLAINED
                    top = kinds[number].most_common(1)[0][0]
                    bursts, occasions = int(counts.bursts[number]), int(counts.occasions[number])
                    yield name, window_s, _Rate(bursts, occasions, len(groups[number]), top, explained)


def _row(signal: str, window_s: int, rates: list[_Rate]) -> dict[str, Any]:
    from scipy.stats import binom

    from agora.integrity.signals import signals

    declared = next(one.organic_bursts.get(window_s) for one in signals() if one.id == signal)
    organic = [rate for rate in rates if not rate.is_explained]
    explained = [rate for rate in rates if rate.is_explained]
    p_all = None
    if declared is not None:
        least = min((float(binom.sf(rate.bursts - 1, rate.occasions, declared)) for rate in organic), default=1.0)
        p_all = min(1.0, least * max(len(organic), 1))
    pooled = sum(rate.bursts for rate in organic) / max(sum(rate.occasions for rate in organic), 1)
    return {
        "declared": declared, "highest": _highest(organic), "pooled": pooled, "groups": len(organic), "p_all": p_all,
        "highest_explained": _highest(explained),
    }  # fmt: skip


def _highest(rates: list[_Rate]) -> str:
    """The two highest rates, in words."""
    ordered = sorted(rates, key=lambda rate: (-rate.bursts / rate.occasions, -rate.occasions))[:2]
    return "; ".join(f"{rate.bursts}/{rate.occasions} ({rate.kind}, {rate.size} accounts)" for rate in ordered if rate.bursts) or "0"


BENCHMARK = Benchmark(
    measures="organic crowds labelled in squares without campaigns, the worst of them; burst rates of organic groups in the details",
    unit="share", bound="<= 0.01, ordinary <= 0.001, no group above its signal's declared rate", run=_run, options=("squares",),
)  # fmt: skip
