"""Find groups in one half of the posts and test them on the other, in both directions. Goes in: Shares of every signal. Comes out:
confirmed groups with their members' actions, and every test that was made.

All tests, over groups, windows, signals and both directions, go through Benjamini-Hochberg together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import poisson

from agora.integrity.bursts import EPISODE_GAP_S, EPISODE_WINDOW_S, burst_counts, gap_s, is_burst, occasions
from agora.integrity.candidates import groups_of
from agora.integrity.config import IntegrityConfig
from agora.integrity.control import q_values
from agora.integrity.episodes import Episodes, close_pairs, contains, episodes
from agora.integrity.memory import give_back
from agora.integrity.pairs import OCCASION_S, edges
from agora.integrity.records import Evidence
from agora.integrity.shared import Ints, Longs, Shares
from agora.integrity.signals import signals
from agora.integrity.timing import MIN_LIFT, Floats, GroupEpisodes, block_s, episode_pairs, group_episodes, timing_counts
from agora.log import Progress, silent

_SIGNAL_NUMBER = {signal.id: number for number, signal in enumerate(signals(meaning=True))}
MAX_SHARES_AT_ONCE: Final = 3_000_000
"""Above, one direction and window at a time: slower, in a third of the memory."""
Exposure = Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Actions:
    """Posts of accounts that are evidence, one row each. `burst` tells which actions belong together: one number per burst and group."""

    account: Ints
    post: Longs
    hour: Longs
    signal: npt.NDArray[Any]
    burst: Longs

    def of(self, accounts: Ints) -> Actions:
        """The actions of some accounts."""
        return self.where(np.isin(self.account, accounts))

    def where(self, mine: npt.NDArray[Any]) -> Actions:
        """Some of the rows, by mask or position."""
        return Actions(self.account[mine], self.post[mine], self.hour[mine], self.signal[mine], self.burst[mine])

    def occasions(self) -> tuple[Ints, Longs]:
        """Accounts that acted, and on how many occasions (hours) each."""
        pair = np.unique(np.stack((self.account.astype(np.int64), self.hour)), axis=1)[0]
        account, count = np.unique(pair, return_counts=True)
        return account.astype(np.int32), count

    @staticmethod
    def joined(parts: list[Actions]) -> Actions:
        """All rows of several."""
        if not parts:
            none = np.empty(0, np.int64)
            return Actions(none.astype(np.int32), none, none, np.empty(0, np.str_), none)
        fields = ("account", "post", "hour", "signal", "burst")
        return Actions(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


@dataclass(frozen=True, slots=True)
class Found:
    """One group in one direction and window. `direction` is the half it was found in; tests looked at the other half.

    actions  by kind of test, members' posts that are evidence if that test passes; `company`: posts in bursts that no test looks at,
             which tell something only about those who act with proven members
    chance   by kind of test, actions expected of an account that takes part no more than an outsider
    """

    direction: int
    window_s: int
    group: Ints
    evidence: tuple[Evidence, ...]
    actions: Mapping[str, Actions]
    chance: Mapping[str, float]

    def tests(self, config: IntegrityConfig) -> tuple[Evidence, ...]:
        """The tests that speak for the group, strongest first."""
        strong = [test for test in self.evidence if test.q_value <= config.q_groups]
        needed = config.min_occasions if self.window_s <= EPISODE_WINDOW_S else config.min_slow_occasions
        strong = [test for test in strong if min(test.observed, test.num_occasions) >= needed]
        strong = [test for test in strong if test.test == "burst" or test.observed >= MIN_LIFT * test.expected]
        return tuple(sorted(strong, key=lambda test: (test.p_value, test.signal)))

    def kinds(self, config: IntegrityConfig) -> list[str]:
        """Kinds of test that speak for the group."""
        return sorted({test.test for test in self.tests(config)})

    def proven(self, config: IntegrityConfig) -> Actions:
        """Actions of the kinds of test that speak for the group."""
        return Actions.joined([self.actions[kind] for kind in self.kinds(config)])


@dataclass(frozen=True, slots=True)
class Detection:
    """Confirmed groups, the strongest groups that were not, and how many groups and tests there were."""

    confirmed: tuple[Found, ...]
    rejected: tuple[Found, ...]
    num_groups: int
    num_tests: int


def detect(
    shares: Mapping[str, Shares],
    num_accounts: int,
    config: IntegrityConfig,
    *,
    exposure: Exposure | None = None,
    spill: Path | None = None,
    progress: Progress = silent,
) -> Detection:
    """Both directions and all windows. `exposure` tells per signal which shares are by followers of the artefact's author. `spill` is the
    folder for what does not fit into memory."""
    found: list[Found] = []
    num_groups = 0
    exposure = exposure or {}
    is_large = sum(len(one.post) for one in shares.values()) > MAX_SHARES_AT_ONCE
    with progress.step("integrity: test groups", total=2 * len(config.windows_s), unit="passes") as step:

        def one_way(direction: int) -> list[tuple[int, list[Found]]]:
            made, passes = _Made(shares, exposure, spill, is_kept=not is_large), []
            for window_s in config.windows_s:
                passes.append(_one_pass(made, num_accounts, config, direction, window_s))
                if is_large:
                    give_back()
                step.advance()
            return passes

        with ThreadPoolExecutor(1 if is_large else 2) as pool:
            for groups, some in (one for passes in pool.map(one_way, (0, 1)) for one in passes):
                num_groups += groups
                found += some
    tests = [evidence for one in found for evidence in one.evidence]
    q = iter(q_values(np.array([test.p_value for test in tests])))
    found = [replace(one, evidence=tuple(replace(test, q_value=float(next(q))) for test in one.evidence)) for one in found]
    confirmed = tuple(one for one in found if one.tests(config))
    rejected = tuple(one for one in found if not one.tests(config))
    return Detection(confirmed, rejected, num_groups, len(tests))


@dataclass(frozen=True, slots=True)
class _Made:
    """Episodes, each kind made once for all windows, unless memory is short (`is_kept` false)."""

    shares: Mapping[str, Shares]
    exposure: Exposure
    spill: Path | None = None
    is_kept: bool = True
    kept: dict[tuple[Any, ...], Episodes] = field(default_factory=dict)

    def episodes(self, name: str, half: int, gap_s: float, *, exposed: bool = False, block_s: int | None = None) -> Episodes:
        """Episodes of one half; `exposed` sets followers of an artefact's author apart where they are known."""
        exposed = exposed and name in self.exposure
        key = (name, half, gap_s, exposed, block_s)
        found = self.kept.get(key)
        if found is None:
            one = self.shares[name]
            found = episodes(one, one.half == half, gap_s, self.exposure[name] if exposed else None, block_s=block_s)
        if self.is_kept:
            self.kept[key] = found
        return found

    def groups(self, half: int, window_s: int, num_accounts: int, *, seed: int) -> list[Ints]:
        """Groups worth testing, from one half."""
        halves = [self.episodes(name, half, EPISODE_GAP_S, exposed=True) for name in self.shares]
        pairs = edges(halves, window_s, num_accounts, spill=self.spill)
        del halves
        if not self.is_kept:
            give_back()
        return groups_of(pairs, seed=seed)


def _one_pass(made: _Made, num_accounts: int, config: IntegrityConfig, direction: int, window_s: int) -> tuple[int, list[Found]]:
    shares = made.shares
    groups = made.groups(direction, window_s, num_accounts, seed=config.seed)
    if not groups:
        return 0, []
    group_of = np.full(num_accounts, -1, np.int32)
    for number, group in enumerate(groups):
        group_of[group] = number
    sizes = np.array([len(group) for group in groups])
    evidence: list[list[Evidence]] = [[] for _ in groups]
    actions: dict[str, list[Actions]] = {"burst": [], "timing": [], "company": []}
    chance = {"burst": np.ones(len(groups)), "timing": np.zeros(len(groups)), "company": np.ones(len(groups))}
    active = np.zeros(num_accounts, np.bool_)
    for one in shares.values():
        active[one.account[one.half != direction]] = True
    for name, one in shares.items():
        for kind, events in _tested(made, name, 1 - direction, window_s):
            if not len(events):
                continue
            found = group_episodes(events, episode_pairs(events, window_s), group_of, window_s)
            if kind == "timing":
                rows = _timing_evidence(evidence, events, found, window_s, config.seed)
                np.add.at(chance[kind], found.group[rows], found.mean[rows] / found.members[rows])
            else:
                if kind == "burst":
                    _burst_evidence(evidence, sizes, found, one, window_s)
                rows = np.flatnonzero(is_burst(found))
                np.add.at(chance[kind], found.group[rows], found.size[rows] - found.members[rows])
            actions[kind].append(_actions(events, found, rows, group_of, window_s, name))
    for kind in ("burst", "company"):
        chance[kind] /= max(int(active.sum()), 1)
    every = {kind: _by_group(Actions.joined(parts), group_of, len(groups)) for kind, parts in actions.items()}
    return len(groups), [
        Found(
            direction, window_s, group, tuple(evidence[number]), {kind: parts[number] for kind, parts in every.items()},
            {kind: float(part[number]) for kind, part in chance.items()},
        )
        for number, group in enumerate(groups)
        if evidence[number]
    ]  # fmt: skip


def _by_group(actions: Actions, group_of: Ints, num_groups: int) -> list[Actions]:
    """Actions of the members of each group, in their order: `actions.of(group)` for all groups at once."""
    group = group_of[actions.account]
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(num_groups + 1))
    return [actions.where(order[low:high]) for low, high in pairwise(bounds.tolist())]


def _tested(made: _Made, name: str, half: int, window_s: int) -> list[tuple[str, Episodes]]:
    """Episodes that each kind of test looks at: the same ones, unless bursts look at the whole life of an artefact."""
    kind = "burst" if window_s in made.shares[name].signal.organic_bursts else "company"
    timing = made.episodes(name, half, EPISODE_GAP_S, exposed=True, block_s=block_s(window_s))
    return [("timing", timing), (kind, made.episodes(name, half, gap_s(window_s, made.shares[name].signal)))]


def _burst_evidence(evidence: list[list[Evidence]], sizes: Longs, found: GroupEpisodes, shares: Shares, window_s: int) -> None:
    rate = shares.signal.organic_bursts[window_s]
    counts = burst_counts(found, sizes, rate)
    for number in np.flatnonzero(counts.occasions > 0):
        evidence[number].append(
            Evidence(
                test="burst", signal=shares.signal.id, window_s=window_s, num_occasions=int(counts.occasions[number]),
                observed=float(counts.bursts[number]), expected=float(rate * counts.occasions[number]),
                p_value=float(counts.p_value[number]), q_value=1.0,
            )
        )  # fmt: skip


def _timing_evidence(evidence: list[list[Evidence]], events: Episodes, found: GroupEpisodes, window_s: int, seed: int) -> Longs:
    """Adds the tests; returns the group episodes that inform."""
    rows = occasions(found, 2)
    counts = timing_counts(events, found, rows, len(evidence), window_s, seed=seed)
    for number in np.flatnonzero(counts.occasions > 0):
        evidence[number].append(
            Evidence(
                test="timing", signal=events.signal.id, window_s=window_s, num_occasions=int(counts.occasions[number]),
                observed=float(counts.observed[number]), expected=float(counts.expected[number]),
                p_value=float(counts.p_value[number]), q_value=1.0,
            )
        )  # fmt: skip
    informs = (found.variance > 0) & (found.close >= 3) & (found.close >= MIN_LIFT * found.mean)
    return np.flatnonzero(informs)


def _actions(events: Episodes, found: GroupEpisodes, rows: Longs, group_of: Ints, window_s: float, signal: str) -> Actions:
    """Posts of members in the group episodes `rows` that have at least half of the other members within the window."""
    group = group_of[events.account]
    code = group.astype(np.int64) * len(events.size) + events.episode
    wanted = np.sort(found.group[rows].astype(np.int64) * len(events.size) + found.episode[rows])
    mine = np.flatnonzero((group >= 0) & contains(wanted, code))
    mine = mine[np.lexsort((events.time_s[mine], code[mine]))]
    earlier, later = close_pairs(code[mine], events.time_s[mine], window_s)
    _, place, members = np.unique(code[mine], return_inverse=True, return_counts=True)
    near = earlier + later >= np.maximum(1, (members[place] - 1) / 2)
    mine = mine[near]
    burst = code[mine] * len(_SIGNAL_NUMBER) + _SIGNAL_NUMBER[signal]
    return Actions(events.account[mine], events.post[mine], events.time_s[mine] // OCCASION_S, np.full(len(mine), signal), burst)


def member_p_values(found: Found, num_posts: npt.NDArray[Any], config: IntegrityConfig) -> Floats:
    """For each account of the group: chance that an outsider who posts as much acts on as many occasions (Poisson tail). Of the kinds of
    test that speak for the group the better one counts, times their number: pooled, a weak one would drown a strong one."""
    kinds = found.kinds(config)
    each = [_chance_of(found.group, found.actions[kind], found.chance[kind], num_posts) for kind in kinds]
    return np.asarray(np.minimum(1.0, len(kinds) * np.min(each, axis=0)))


def in_company(found: Found, core: Ints, num_posts: npt.NDArray[Any]) -> tuple[Floats, Actions]:
    """The same for actions in bursts most of whose members are `core`, proven members: (p-value per account of the group, actions)."""
    every = found.actions["company"]
    if not len(every.burst):
        return np.ones(len(found.group)), every
    burst, place = np.unique(every.burst, return_inverse=True)
    proven = np.bincount(place, np.isin(every.account, core), minlength=len(burst))
    size = np.bincount(place, minlength=len(burst))
    actions = every.where(((proven >= 2) & (proven >= 0.5 * size))[place])
    return _chance_of(found.group, actions, found.chance["company"], num_posts), actions


def acts_together(
    shares: Mapping[str, Shares], groups: Sequence[Ints], windows_s: Sequence[Sequence[int]], num_accounts: int
) -> list[Actions]:
    """Of each group all bursts in both halves, in its own windows: what a person looks at. It proves nothing, as the groups were found
    in part of it. An account in several groups counts in the first."""
    group_of = np.full(num_accounts, -1, np.int32)
    for number in reversed(range(len(groups))):
        group_of[groups[number]] = number
    actions: list[Actions] = []
    made = _Made(shares, {})
    every_window = sorted({window for windows in windows_s for window in windows})
    for name in shares:
        for window_s in every_window:
            wanted = np.array([window_s in windows for windows in windows_s], np.bool_)
            for half in (0, 1):
                events = made.episodes(name, half, gap_s(window_s, made.shares[name].signal))
                found = group_episodes(events, episode_pairs(events, window_s), group_of, window_s)
                rows = np.flatnonzero(is_burst(found))
                actions.append(_actions(events, found, rows[wanted[found.group[rows]]], group_of, window_s, name))
        made.kept.clear()
    every = Actions.joined(actions)
    owner = group_of[every.account]
    return [every.where(np.flatnonzero(owner == number)) for number in range(len(groups))]


def _chance_of(group: Ints, actions: Actions, chance: float, num_posts: npt.NDArray[Any]) -> Floats:
    accounts, count = actions.occasions()
    acted = np.zeros(len(group), np.int64)
    acted[np.searchsorted(group, accounts)] = count
    active = np.maximum(1.0, num_posts[group] / max(float(num_posts.mean()), 1.0))
    return np.asarray(poisson.sf(acted - 1, chance * active))
