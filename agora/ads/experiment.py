"""Which variant to show. Goes in: views and clicks per arm. Comes out: each arm's share of the next views, and when to stop.

    test = Experiment(["a", "b", "c"], seed=7)
    shares = test.shares()                       # show them so; at least `min_share` each
    test.add({"a": Count(views=1000, clicks=12), ...})
    test.decision()

Arms share views by Thompson sampling: an arm gets the probability that it is the best one, under independent beta posteriors with a uniform
prior (Thompson 1933, doi:10.2307/2332286; Chapelle and Li 2011, "An Empirical Evaluation of Thompson Sampling"), never less than
`min_share`. A part of it, `challenge`, goes to the best of the others instead, so that the two best are told apart sooner (top-two
sampling: Russo 2020, doi:10.1287/opre.2019.1911).
An arm is dropped, and a test stopped, by two rules; both hold however often one looks:
- expected loss: the arm that would be kept loses, on average over the posterior, less than `max_loss` of its click rate against the best
  (Stucchio 2015, "Bayesian A/B Testing at VWO", equation 10; loss here relative to the rate);
- always-valid intervals: each arm's click rate lies inside its interval at all times at once with probability 1 - `error` / arms, by the
  beta-binomial mixture martingale (Robbins 1970, doi:10.1214/aoms/1177696786; Howard et al. 2021, doi:10.1214/20-AOS1991). An arm whose
upper   end is below another's lower end is dropped.

Not covered: click rates that change over time or follow the day of the week (run whole weeks), one person seeing several arms, fraud.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from agora.errors import UsageError

Numbers = npt.NDArray[np.float64]
Rule = Literal["expected loss", "always-valid interval", "budget", "none"]
_DRAWS: Final = 2000


@dataclass(frozen=True, slots=True)
class Count:
    """Views and clicks of one arm."""

    views: int = 0
    clicks: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.clicks <= self.views:
            raise UsageError(f"{self.clicks} clicks of {self.views} views: clicks must be between 0 and views")

    def __add__(self, other: Count) -> Count:
        return Count(self.views + other.views, self.clicks + other.clicks)

    @property
    def rate(self) -> float:
        """Clicks per view; 0 without views."""
        return self.clicks / self.views if self.views else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentConfig:
    """`min_share`: of the views, for every arm still in the test. `challenge`: of an arm's views, for its likeliest rivals.
    `min_views`: per arm, before a rule may speak. `max_views`: of the test; 0 for no end."""

    min_share: float = 0.02
    challenge: float = 0.3
    min_views: int = 1000
    max_loss: float = 0.01
    error: float = 0.05
    max_views: int = 0

    def __post_init__(self) -> None:
        limits = {"min_share": (0.0, 0.5), "max_loss": (0.0, 1.0), "error": (0.0, 0.5), "challenge": (0.0, 1.0)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high or (name in ("max_loss", "error") and value == 0):
                raise UsageError(f"experiment.{name}={value} must be between {low} and {high}")
        if self.min_views < 0 or self.max_views < 0:
            raise UsageError("experiment.min_views and max_views must not be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmReport:
    """What is known of one arm. `low`, `high`: always-valid interval of its click rate. `loss`: expected, relative, if it is kept."""

    name: str
    views: int
    clicks: int
    rate: float
    low: float
    high: float
    chance_best: float
    loss: float
    share: float
    dropped: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do. `stop`: keep `best` and end the test, for the reason of `rule`. `regret_clicks`: expected clicks lost so far against the
    best arm, and `regret_uniform_clicks` what equal shares would have lost with the same views."""

    stop: bool
    rule: Rule
    best: str
    reason: str
    arms: tuple[ArmReport, ...]
    regret_clicks: float
    regret_uniform_clicks: float


class Experiment:
    """One test of several arms, for one audience."""

    def __init__(self, arms: Sequence[str], config: ExperimentConfig | None = None, *, seed: int = 0) -> None:
        if len(arms) < 2 or len(set(arms)) != len(arms):
            raise UsageError(f"an experiment needs at least two arms with different names, not {list(arms)}")
        self.config = config or ExperimentConfig()
        if self.config.min_share * len(arms) > 1:
            raise UsageError(f"experiment.min_share={self.config.min_share} is too much for {len(arms)} arms; at most {1 / len(arms):.3f}")
        self.counts = dict.fromkeys(arms, Count())
        self.dropped: set[str] = set()
        self._random = np.random.default_rng(seed)

    def add(self, more: Mapping[str, Count]) -> None:
        """Take in new views and clicks; then arms that cannot be the best any more are dropped."""
        for name, count in more.items():
            if name not in self.counts:
                raise UsageError(f"no arm {name!r}; there are {', '.join(self.counts)}")
            self.counts[name] += count
        self._drop()

    def shares(self) -> dict[str, float]:
        """Share of the next views per arm; they sum to 1."""
        active = [name for name in self.counts if name not in self.dropped]
        chances = _top_two(self._chances(active)[0], self.config.challenge)
        lowest = self.config.min_share
        spare = 1 - lowest * len(active)
        given = {name: lowest + spare * float(chance) for name, chance in zip(active, chances, strict=True)}
        return {name: given.get(name, 0.0) for name in self.counts}

    def draw(self, num_views: int) -> dict[str, int]:
        """Whole numbers of the next views per arm, drawn with the shares."""
        shares = self.shares()
        drawn = self._random.multinomial(num_views, np.array(list(shares.values())) / sum(shares.values()))
        return dict(zip(shares, map(int, drawn), strict=True))

    def decision(self) -> Decision:
        """Stop or go on, and everything that it rests on."""
        names = list(self.counts)
        chances, losses, lost = self._chances(names)
        active = [name for name in names if name not in self.dropped]
        loss_of = dict(zip(names, map(float, losses), strict=True))
        best = min(active, key=lambda name: (loss_of[name], -self.counts[name].rate))
        shares, ends = self.shares(), self._intervals()
        arms = tuple(
            ArmReport(
                name=name, views=self.counts[name].views, clicks=self.counts[name].clicks, rate=self.counts[name].rate, low=ends[name][0],
                high=ends[name][1], chance_best=float(chance), loss=loss_of[name], share=shares[name], dropped=name in self.dropped,
            )
            for name, chance in zip(names, chances, strict=True)
        )  # fmt: skip
        rule, reason = self._rule(active, best, loss_of[best])
        views = np.array([self.counts[name].views for name in names], dtype=np.float64)
        return Decision(
            stop=rule != "none", rule=rule, best=best, reason=reason, arms=arms,
            regret_clicks=float(views @ lost), regret_uniform_clicks=float(views.sum() * lost.mean()),
        )  # fmt: skip

    def _rule(self, active: Sequence[str], best: str, loss: float) -> tuple[Rule, str]:
        config = self.config
        total = sum(count.views for count in self.counts.values())
        enough = all(self.counts[name].views >= config.min_views for name in active)
        if len(active) == 1:
            return "always-valid interval", f"the click rate of {best} lies above all others'; each other was dropped"
        if enough and loss <= config.max_loss:
            return "expected loss", f"keeping {best} is expected to lose {loss:.2%} of its clicks at most, less than {config.max_loss:.2%}"
        if config.max_views and total >= config.max_views:
            return "budget", f"{total:,} views are used up; {best} is the best guess and is expected to lose {loss:.2%} of its clicks"
        wait = "" if enough else f"; some arm has fewer than {config.min_views:,} views"
        return "none", f"keeping {best} would be expected to lose {loss:.2%} of its clicks, more than {config.max_loss:.2%}{wait}"

    def _chances(self, names: Sequence[str]) -> tuple[Numbers, Numbers, Numbers]:
        """Per arm: the chance to be the best, the expected relative loss if it is kept, the expected absolute loss per view."""
        clicks = np.array([self.counts[name].clicks for name in names])
        views = np.array([self.counts[name].views for name in names])
        draws = self._random.beta(1 + clicks, 1 + views - clicks, size=(_DRAWS, len(names)))
        highest = draws.max(axis=1, keepdims=True)
        chances = np.bincount(draws.argmax(axis=1), minlength=len(names)) / _DRAWS
        lost = (highest - draws).mean(axis=0)
        return chances, lost / draws.mean(axis=0), lost

    def _intervals(self) -> dict[str, tuple[float, float]]:
        error = self.config.error / len(self.counts)
        return {name: always_valid_interval(count, error) for name, count in self.counts.items()}

    def _drop(self) -> None:
        ends = self._intervals()
        lows = {name: low for name, (low, _) in ends.items() if name not in self.dropped}
        for name in list(lows):
            enough = self.counts[name].views >= self.config.min_views
            if enough and any(other != name and low > ends[name][1] for other, low in lows.items()):
                self.dropped.add(name)


def _top_two(chances: Numbers, challenge: float) -> Numbers:
    """Chances to be shown: the best one's turn goes with probability `challenge` to the best of the others."""
    odds = chances / np.maximum(1e-12, 1 - chances)
    to_others = chances * (odds.sum() - odds)
    mixed: Numbers = (1 - challenge) * chances + challenge * (to_others if to_others.sum() > 0 else chances)
    return np.asarray(mixed / mixed.sum())


def always_valid_interval(count: Count, error: float) -> tuple[float, float]:
    """Click rates that the mixture martingale does not reject at level `error`, at any time: all p with
    log B(1 + k, 1 + n - k) - k log p - (n - k) log(1 - p) < log(1 / error), for n views and k clicks (uniform mixture)."""
    views, clicks = count.views, count.clicks
    if not views:
        return 0.0, 1.0
    mixture = math.lgamma(1 + clicks) + math.lgamma(1 + views - clicks) - math.lgamma(2 + views)

    def rejected(rate: float) -> bool:
        likelihood = (clicks * math.log(rate) if clicks else 0.0) + ((views - clicks) * math.log1p(-rate) if views > clicks else 0.0)
        return mixture - likelihood >= -math.log(error)

    return _edge(rejected, count.rate, 0.0), _edge(rejected, count.rate, 1.0)


def _edge(rejected: object, inside: float, outside: float) -> float:
    """Bisection between a rate that is accepted and one end of 0..1."""
    assert callable(rejected)
    nearest = min(max(outside, 1e-12), 1 - 1e-12)
    if not rejected(nearest):
        return outside
    good, bad = inside, nearest
    for _ in range(60):
        middle = (good + bad) / 2
        good, bad = (good, middle) if rejected(middle) else (middle, bad)
    return good


def simulate(
    rates: Sequence[float], num_views: int, config: ExperimentConfig, *, batch: int = 1000, seed: int = 0
) -> tuple[Experiment, float]:
    """A test on arms whose true click rates are known. Gives the experiment, and its regret: clicks lost against showing the best arm
    only."""
    names = [f"arm {number}" for number in range(1, len(rates) + 1)]
    test, truth = Experiment(names, config, seed=seed), np.random.default_rng(seed + 1_000_003)
    best, regret, left = max(rates), 0.0, num_views
    while left > 0:
        views = test.draw(min(batch, left))
        left -= sum(views.values())
        clicks = {name: int(truth.binomial(views[name], rate)) for name, rate in zip(names, rates, strict=True)}
        regret += sum(views[name] * (best - rate) for name, rate in zip(names, rates, strict=True))
        test.add({name: Count(views[name], clicks[name]) for name in names})
    return test, regret


def by_audience(rows: Iterable[tuple[str, str, Count]], config: ExperimentConfig | None = None, *, seed: int = 0) -> dict[str, Experiment]:
    """One experiment per audience of (audience, arm, count). Audiences with a single arm are refused by name."""
    counts: dict[str, dict[str, Count]] = {}
    for audience, arm, count in rows:
        arms = counts.setdefault(audience, {})
        arms[arm] = arms.get(arm, Count()) + count
    tests = {}
    for number, (audience, arms) in enumerate(sorted(counts.items())):
        if len(arms) < 2:
            raise UsageError(f"audience {audience!r} has the single arm {next(iter(arms))!r}; an experiment needs at least two")
        tests[audience] = Experiment(sorted(arms), config, seed=seed + number)
        tests[audience].add(arms)
    return tests
