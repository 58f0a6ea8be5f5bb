"""Groups under watch and the tests of them. Goes in: communities of the pair sketch, then Rows of evidence. Comes out: Findings.

The split of the batch scan into halves becomes one in time: occasions before a group was tracked served to find it, later ones test it.
One test per signal and kind. Timing: over occasions, the close pairs of members against the expectation under random membership
(timing.py), with a gamma tail of the same mean and variance. Bursts: as in bursts.py, against the rate that organic groups reach.

A group is tested after every occasion for as long as the stream lasts, so a plain p-value would pass in the end. Bursts are tested by
betting (Ramdas, Grunwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023); wagers begun at several
moments are added (Shin, Ramdas, Rinaldo, "E-detectors", 2023): from one false alert to the next at least 1 / p_alert occasions pass in the
mean, whenever one looks. Timing spends p_alert over all occasions to come (Lan, DeMets, "Discrete sequential boundaries", 1983).
Not covered: an occasion still going on is looked at each tick, and which outsiders count is judged anew when a group grows; both favour
alerts a little, the organic rates, which are the highest seen, do the opposite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import betaincc, betaln, gammaincc

from agora.integrity.bursts import MIN_MEMBERS
from agora.integrity.candidates import MIN_SIZE
from agora.integrity.evidence import Roll, Row
from agora.integrity.pairs import OCCASION_S
from agora.integrity.signals import signals
from agora.integrity.timing import MIN_LIFT

MAX_ROWS: Final = 64
MAX_GROUP: Final = 512
NOBODY: Final = -1
MUCH_NEW: Final = 1.5
"""How many times as many accounts as earlier alerts have named a further alert must name."""
GROWTH: Final = 1.25
MARKS: Final = 3
SURE: Final = 3
"""How much the wager on bursts leans towards groups that always act at once: nearly nothing is lost then by looking after every wave."""
_LISTS: Final = ("accounts", "posts", "others", "around")


@dataclass(slots=True)
class Group:
    """A tracked group: its accounts with the moment each joined, its evidence, the search that found it last, the accounts that its
    alerts named, and when it grew."""

    since_s: dict[int, int]
    rows: dict[tuple[int, int], Row] = field(default_factory=dict)
    search: int = 0
    alerted: set[int] = field(default_factory=set)
    grown_s: list[int] = field(default_factory=list)
    size_then: int = 0

    def grow(self, now_s: int) -> None:
        """Note when it became a quarter larger than it was; the last MARKS such moments are kept."""
        if len(self.since_s) >= GROWTH * self.size_then:
            self.grown_s, self.size_then = [*self.grown_s, now_s][-MARKS:], len(self.since_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A group whose evidence passed a test."""

    group: int
    window_s: int
    test: str
    p_value: float
    observed: float
    expected: float
    accounts: tuple[int, ...]
    num_occasions: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a group is reported: see StreamConfig."""

    p_alert: float
    min_occasions: int
    min_actions: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    """`rows` are the evidence, one per occasion; `named` are all rows whose accounts took part in it."""

    test: str
    p_value: float
    observed: float
    expected: float
    rows: list[Row]
    named: list[Row]


class Tracker:
    """Groups of one window, at most `max_groups`; the ones found longest ago give way.

    A search does not end a group that it fails to find: modularity cannot see a small group beside many pairs that met by chance, and a
    campaign is in one search a community and in the next a part of a crowd. So an account may stand in two groups, one of the latest search
    and one of an earlier search, and there is a roll for each.
    """

    def __init__(self, *, window_s: int, max_groups: int) -> None:
        self.window_s, self.max_groups = window_s, max_groups
        self.groups: dict[int, Group] = {}
        self.next_number = self.num_searches = 0
        self.grown: set[int] = set()
        self.rolls = self._rolls()

    def track(self, communities: Iterable[npt.NDArray[Any]], now_s: int) -> None:
        """Follow these communities. A tracked group goes on as the community that is half of it and half in it. One that has become a
        smaller part of a community stays as it is and begins a second group, which takes over its evidence: it may have grown, or have
        been drawn into a crowd. Evidence was taken with the accounts that the group had then."""
        self.num_searches += 1
        found = [community[:MAX_GROUP].tolist() for community in communities]
        for accounts, (goes_on, begins) in zip(found, self._earlier(found), strict=True):
            number = goes_on
            if number == NOBODY:
                number, self.next_number = self.next_number, self.next_number + 1
                before = self.groups.get(begins, Group({}))
                self.groups[number] = replace(before, rows=dict(before.rows), alerted=set())
            group = self.groups[number]
            if not group.since_s.keys() >= set(accounts):
                self.grown.add(number)
            group.since_s = {account: group.since_s.get(account, now_s) for account in accounts}
            group.search = self.num_searches
            group.grow(now_s)
        kept: dict[int, Group] = {}
        earlier: set[int] = set()
        for number, group in sorted(self.groups.items(), key=lambda item: (-item[1].search, item[0])):
            if group.search < self.num_searches:
                group.since_s = {account: since for account, since in group.since_s.items() if account not in earlier}
                earlier |= group.since_s.keys()
            if len(group.since_s) >= MIN_SIZE and len(kept) < self.max_groups:
                kept[number] = group
        self.groups = dict(sorted(kept.items()))
        self.rolls = self._rolls()

    def _earlier(self, communities: list[list[int]]) -> list[tuple[int, int]]:
        """For each community the group that goes on as it, those most alike first, and the group that begins it: of those that have more
        than half of their accounts in it the one with most."""
        place_of = {account: place for place, accounts in enumerate(communities) for account in accounts}
        alike, inside = [], []
        for number, group in self.groups.items():
            for place, count in Counter(place_of[account] for account in group.since_s if account in place_of).items():
                mine, theirs = len(group.since_s), len(communities[place])
                if 2 * count >= max(mine, theirs):
                    alike.append((-count / (mine + theirs - count), number, place))
                if 2 * count > mine:
                    inside.append((-count, number, place))
        goes_on: dict[int, int] = {}
        for _, number, place in sorted(alike):
            if place not in goes_on and number not in goes_on.values():
                goes_on[place] = number
        begins: dict[int, int] = {}
        for _, number, place in sorted(inside):
            begins.setdefault(place, number)
        return [(goes_on.get(place, NOBODY), begins.get(place, NOBODY)) for place in range(len(communities))]

    def _rolls(self) -> list[Roll]:
        latest = {number: group for number, group in self.groups.items() if group.search == self.num_searches}
        return [_roll(latest), _roll({number: group for number, group in self.groups.items() if number not in latest})]

    def test(self, found: Iterable[tuple[int, Row]], limits: Limits) -> list[Finding]:
        """Take in rows and test the groups that they belong to, and those that have grown: their earlier rows may have been bursts."""
        changed = {number: self.groups[number] for number in self.grown if number in self.groups and self.groups[number].rows}
        self.grown.clear()
        for number, row in found:
            if number in self.groups:
                _take(self.groups[number].rows, row)
                if row.is_tight or row.close > row.mean:
                    changed[number] = self.groups[number]
        findings = []
        for number, group in sorted(changed.items()):
            finding = _test(number, self.window_s, group, limits)
            if finding and len(finding.accounts) >= max(MIN_SIZE, MUCH_NEW * self._num_told(finding)):
                group.alerted = group.alerted & group.since_s.keys() | set(finding.accounts)
                findings.append(finding)
        return findings

    def _num_told(self, finding: Finding) -> int:
        """How many of its accounts alerts have named, those of other groups too: a campaign may be tracked as two."""
        return len({account for group in self.groups.values() for account in group.alerted.intersection(finding.accounts)})

    def state(self) -> dict[str, Any]:
        """All that must be kept to go on, as JSON."""
        return {
            "next_number": self.next_number, "num_searches": self.num_searches, "grown": sorted(self.grown),
            "groups": {
                str(number): {"since_s": list(group.since_s.items()), "search": group.search, "alerted": sorted(group.alerted),
                              "grown_s": group.grown_s, "size_then": group.size_then, "rows": [asdict(row) for row in group.rows.values()]}
                for number, group in self.groups.items()
            },
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of `state`."""
        self.next_number, self.num_searches, self.grown = state["next_number"], state["num_searches"], set(state["grown"])
        self.groups = {}
        for number, kept in state["groups"].items():
            rows = [Row(**{**row, **{name: tuple(row[name]) for name in _LISTS}}) for row in kept["rows"]]
            self.groups[int(number)] = Group(
                dict(map(tuple, kept["since_s"])),
                {(row.key, row.start_s): row for row in rows},
                kept["search"],
                set(kept["alerted"]),
                kept["grown_s"],
                kept["size_then"],
            )
        self.rolls = self._rolls()


def _take(rows: dict[tuple[int, int], Row], row: Row) -> None:
    """Put in a row instead of earlier looks at the same episode; the oldest rows give way."""
    for place in [place for place, old in rows.items() if old.key == row.key and old.start_s <= row.end_s and old.end_s >= row.start_s]:
        del rows[place]
    rows[row.key, row.start_s] = row
    while len(rows) > MAX_ROWS:
        del rows[min(rows, key=lambda place: place[1])]


def occasions(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows by occasion, each from its first row on for OCCASION_S. Hours of the clock would make two of a wave that begins just before
    the full hour, and so count it twice."""
    found: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: (row.start_s, row.key)):
        if not found or row.start_s - found[-1][0].start_s >= OCCASION_S:
            found.append([])
        found[-1].append(row)
    return found


def thinned(rows: Iterable[Row]) -> list[Row]:
    """One row per occasion, the one of most members and fewest outsiders: artefacts of one moment are one piece of evidence."""
    return [min(rows, key=lambda row: (-row.members, row.size, row.start_s, row.key)) for rows in occasions(rows)]


def _test(number: int, window_s: int, group: Group, limits: Limits) -> Finding | None:
    """The strongest of a group's tests that passes: one per signal and kind of test."""
    found = []
    for place in sorted({row.signal for row in group.rows.values()}):
        mine = [row for row in group.rows.values() if row.signal == place]
        rate = signals()[place].organic_bursts.get(window_s)
        found += [_timing(mine, limits.min_occasions), _burst(mine, group, rate)]
    passed = [one for one in found if one.p_value <= limits.p_alert and len(one.rows) >= limits.min_occasions]
    if not passed:
        return None
    best = min(passed, key=lambda one: one.p_value)
    rows = {row for one in passed for row in one.named}
    counts = Counter(account for together in occasions(rows) for account in {account for row in together for account in row.accounts})
    return Finding(
        group=number, window_s=window_s, test=best.test, p_value=best.p_value, observed=best.observed, expected=best.expected,
        accounts=tuple(sorted(account for account, count in counts.items() if count >= limits.min_actions)),
        num_occasions=len(occasions(rows)), rows=tuple(sorted(rows, key=lambda row: (row.start_s, row.key))),
    )  # fmt: skip


def _timing(rows: list[Row], min_occasions: int) -> _Outcome:
    """The sum over occasions has the exact mean and variance of random membership; its tail is that of a gamma law. The limit is spent over
    the occasions: the k-th look, of those from `min_occasions` on, gets min_occasions / (k (k + 1)) of it."""
    informing = thinned(row for row in rows if row.variance > 0)
    observed, mean = sum(row.close for row in informing), sum(row.mean for row in informing)
    variance = sum(row.variance for row in informing)
    p_value = 1.0
    if mean > 0 and observed >= MIN_LIFT * mean:
        share = min_occasions / (len(informing) * (len(informing) + 1))
        p_value = min(1.0, float(gammaincc(mean**2 / variance, observed * mean / variance)) / share)
    use = [row for row in informing if row.close >= MIN_MEMBERS and row.close >= MIN_LIFT * row.mean]
    return _Outcome("timing", p_value, float(observed), mean, use, use)


def _burst(rows: list[Row], group: Group, organic_rate: float | None) -> _Outcome:
    """The sum of wagers that began with the first occasion and each time that the group grew: members not yet known count as outsiders."""
    several = thinned(row for row in rows if row.members >= MIN_MEMBERS)
    bursts = [row.bursts_for(group.since_s) for row in several]
    if organic_rate is None or not any(bursts):
        return _Outcome("burst", 1.0, 0.0, 0.0, [], [])
    firsts = sorted({0} | {sum(row.start_s < grown_s for row in several) for grown_s in group.grown_s} - {len(several)})
    wagers = [burst_wager(sum(bursts[first:]), len(several) - first, organic_rate) for first in firsts]
    first = firsts[wagers.index(max(wagers))]
    fast = [row for row, is_fast in zip(several[first:], bursts[first:], strict=True) if is_fast]
    named = [row for row in rows if row.start_s >= fast[0].start_s and row.bursts_for(group.since_s)] if fast else []
    return _Outcome("burst", min(1.0, 1.0 / sum(wagers)), float(len(fast)), organic_rate * (len(several) - first), fast, named)


def burst_wager(bursts: int, num_occasions: int, organic_rate: float) -> float:
    """What one has made of 1 by betting, occasion by occasion, that bursts are more frequent than in organic groups.

    The stake is a likelihood ratio, mixed over rates q above `organic_rate` with a density that grows as q^(SURE - 1) (Robbins,
    "Statistical methods related to the law of the iterated logarithm", 1970). While the rate is no higher, the mean of what one has
    never exceeds 1, whenever one looks.
    """
    misses = num_occasions - bursts
    first, second = bursts + SURE, misses + 1
    mixed = SURE / (1 - organic_rate**SURE) * np.exp(betaln(first, second)) * betaincc(first, second, organic_rate)
    return float(mixed * np.exp(-bursts * np.log(organic_rate) - misses * np.log1p(-organic_rate)))


def _roll(groups: dict[int, Group]) -> Roll:
    listed = sorted((account, number, since) for number, group in groups.items() for account, since in group.since_s.items())
    return Roll(
        np.asarray([row[0] for row in listed], np.uint64), np.asarray([row[1] for row in listed], np.int32),
        np.asarray([row[2] for row in listed], np.int64),
    )  # fmt: skip
