"""From confirmed groups to campaigns: members pruned, groups of several windows and directions joined, states and evidence. Goes in:
a Detection. Comes out: Campaigns.

A member needs a q-value of its own (takes part no more than an outsider would), so bystanders whom the search swept in fall out.
An account that others hardly ever precede may be the one that they copy: it is marked a source and never labelled automatically.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.candidates import MIN_SIZE
from agora.integrity.collect import Collected
from agora.integrity.companions import companions
from agora.integrity.config import IntegrityConfig
from agora.integrity.control import q_values
from agora.integrity.creation import made_together
from agora.integrity.detect import Actions, Detection, Found, acts_together, in_company, member_p_values
from agora.integrity.explain import Square, explained_part, explanations
from agora.integrity.records import LABELLED_STATES, Action, Artefact, Campaign, Evidence, Explanation, Member, State, iso
from agora.integrity.shared import Ints, Shares
from agora.integrity.signals import signals
from agora.integrity.sources import sources
from agora.units import format_seconds

SAME_GROUP: Final = 0.5
TAKES_PART: Final = 0.05
"""Of the median member's occasions; below that an account is no automatic member: attackers who flood meet everybody now and then."""
_TEXT_CHARACTERS: Final = 280
_MAX_ACTIONS: Final = 200
_MAX_SHARED_INTEREST: Final = 25


@dataclass(frozen=True, slots=True)
class _Known:
    """What all campaigns are made from."""

    posts: Collected
    shares: Mapping[str, Shares]
    square: Square
    num_posts: npt.NDArray[Any]
    config: IntegrityConfig


@dataclass(slots=True)
class _Draft:
    """Groups found to be the same, before they become a campaign."""

    accounts: set[int]
    groups: list[_Group]


@dataclass(frozen=True, slots=True)
class _Group:
    """A confirmed group, the q-values of those accounts that pass, and what they did."""

    found: Found
    members: dict[int, float]
    actions: Actions


def campaigns(
    detection: Detection, posts: Collected, shares: Mapping[str, Shares], square: Square, config: IntegrityConfig
) -> list[Campaign]:
    """Campaigns, most members first; afterwards some of the groups that only share an interest."""
    num_posts = np.bincount(posts.account, minlength=posts.num_accounts)
    drafts = _joined(_with_members(detection.confirmed, num_posts, config))
    known = _Known(posts, shares, square, num_posts, config)
    groups = [np.array(sorted(draft.accounts), np.int32) for draft in drafts]
    windows = [sorted({one.found.window_s for one in draft.groups}) for draft in drafts]
    together = acts_together(shares, groups, windows, posts.num_accounts) if drafts else []
    made = [one for pair in zip(drafts, together, strict=True) for one in _campaigns(*pair, known)]
    found = sorted(_with_creation(made, known), key=lambda one: (-len(one.members), one.id))
    found = _without_members(found)
    taken = set().union(*(draft.accounts for draft in drafts))
    return _told_apart(found + _shared_interest(detection.rejected, taken, posts, num_posts))


def _with_members(confirmed: Sequence[Found], num_posts: npt.NDArray[Any], config: IntegrityConfig) -> list[_Group]:
    """Each confirmed group with the members that pass: first by the tested actions alone, then those who act with these."""
    if not confirmed:
        return []
    q = q_values(np.concatenate([member_p_values(found, num_posts, config) for found in confirmed]))
    result, start = [], 0
    for found in confirmed:
        own = q[start : start + len(found.group)]
        start += len(found.group)
        core = found.group[own <= config.q_members]
        if len(core) < MIN_SIZE - 1:
            continue
        with_core, more = in_company(found, core, num_posts)
        best = np.minimum(own, np.minimum(1.0, with_core * len(q)))  # Bonferroni over all members looked at
        kept = best <= config.q_members
        members = dict(zip(found.group[kept].tolist(), best[kept].tolist(), strict=True))
        actions = Actions.joined([found.proven(config), more]).of(found.group[kept])
        result.append(_Group(found, members, actions))
    return result


def _joined(groups: list[_Group]) -> list[_Draft]:
    """Groups that share at least half of the smaller one's members are one, directly or in a chain, strongest first."""
    drafts: list[_Draft] = []
    for one in sorted(groups, key=lambda one: (-len(one.members), one.found.window_s, one.found.direction, one.found.group.tolist())):
        accounts = set(one.members)
        home = next((d for d in drafts if len(d.accounts & accounts) >= SAME_GROUP * min(len(d.accounts), len(accounts))), None)
        if home is None:
            drafts.append(_Draft(accounts, [one]))
        else:
            home.accounts |= accounts
            home.groups.append(one)
    return drafts


def _campaigns(draft: _Draft, together: Actions, known: _Known) -> list[Campaign]:
    """The campaign of a draft; where something innocent explains a part of it, that part and the others apart."""
    actions = _unique(Actions.joined([together, *(one.actions for one in draft.groups)]))
    accounts = _acted(np.array(sorted(draft.accounts), np.int32), actions, known.config.min_actions)
    parts: list[Campaign] = []
    while len(accounts) >= MIN_SIZE - 1:
        mine = actions.of(accounts)
        artefacts = _artefacts(mine, known.shares)
        checks = explanations(accounts, mine, artefacts, known.posts, known.square)
        nobody = accounts[:0], mine
        is_explained = any(check.holds for check in checks)
        part, theirs = nobody if is_explained else explained_part(accounts, mine, artefacts, known.posts, known.square)
        if not len(part):
            return [*parts, _campaign(draft, accounts, mine, artefacts, checks, known)]
        artefacts = _artefacts(theirs, known.shares)
        checks = explanations(part, theirs, artefacts, known.posts, known.square)
        parts.append(_campaign(draft, part, theirs, artefacts, checks, known))
        accounts = np.setdiff1d(accounts, part)
    return parts


def _acted(accounts: Ints, actions: Actions, min_actions: int) -> Ints:
    """Those who acted on enough occasions."""
    account, occasions = actions.occasions()
    return accounts[np.isin(accounts, account[occasions >= min_actions])]


def _campaign(
    draft: _Draft, accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], checks: Sequence[Explanation], known: _Known
) -> Campaign:
    posts = known.posts
    occasions = {int(a): int(n) for a, n in zip(*actions.occasions(), strict=True)}
    best = {account: min(one.members[account] for one in draft.groups if account in one.members) for account in accounts.tolist()}
    is_twice_found = len({one.found.direction for one in draft.groups}) == 2
    first = sources(artefacts, accounts)
    evidence = tuple(
        sorted({test for one in draft.groups for test in one.found.tests(known.config)}, key=lambda t: (t.p_value, t.signal, t.window_s))
    )
    typical = float(np.median([occasions[a] for a in accounts.tolist()]))
    members = tuple(
        Member(
            account=posts.names[a].as_py(), q_value=best[a], num_actions=occasions[a], num_posts=int(known.num_posts[a]),
            is_automatic=is_twice_found and occasions[a] >= TAKES_PART * typical, is_source=a in first,
        )
        for a in accounts.tolist()
    )  # fmt: skip
    members = tuple(sorted(members, key=lambda m: (m.q_value, -m.num_actions, m.account)))
    times = posts.time_s[actions.post]
    shown = tuple(_shown(one, accounts, posts, known.shares) for one in artefacts[: known.config.evidence_limit])
    state = _state(evidence, checks, known.shares)
    beside = _companions(draft, accounts, artefacts, known) if state in LABELLED_STATES else ()
    return Campaign(
        id=campaign_id([m.account for m in members]), state=state, members=members, evidence=evidence,
        explanations=tuple(checks), artefacts=shown, first_at=iso(times.min()), last_at=iso(times.max()),
        sentences=_sentences(members, artefacts, evidence, times), companions=beside,
    )  # fmt: skip


def _companions(draft: _Draft, accounts: Ints, artefacts: Sequence[SharedArtefact], known: _Known) -> tuple[str, ...]:
    window_s = min(one.found.window_s for one in draft.groups)
    found = companions(artefacts, accounts, known.shares, known.num_posts, window_s=window_s, q_most=known.config.q_members)
    return tuple(sorted(known.posts.names.take(found).to_pylist()))


def _without_members(found: Sequence[Campaign]) -> list[Campaign]:
    """Whoever is a member anywhere, explained or not, is nobody's companion."""
    members = {member.account for one in found for member in one.members}
    return [replace(one, companions=tuple(name for name in one.companions if name not in members)) for one in found]


def _with_creation(found: Sequence[Campaign], known: _Known) -> list[Campaign]:
    """What the days tell on which accounts were made, after the evidence that counts."""
    names = {name: code for code, name in enumerate(known.posts.names.to_pylist())} if known.square.created else {}
    groups = [np.array([names[m.account] for m in one.members] if names else [], np.int64) for one in found]
    tests = made_together(groups, known.square.created, known.num_posts, seed=known.config.seed)
    return [one if test is None else replace(one, evidence=(*one.evidence, test)) for one, test in zip(found, tests, strict=True)]


def campaign_id(accounts: Sequence[str]) -> str:
    """The smallest hash of a member's name: a group that gains or loses a few members mostly keeps it."""
    return "c-" + min(hashlib.sha256(name.encode()).hexdigest()[:12] for name in accounts)


def _told_apart(found: Sequence[Campaign]) -> list[Campaign]:
    """No two campaigns with one id: where the account that gives it is in both, the later one takes its next smallest hash."""
    result: dict[str, Campaign] = {}
    for one in found:
        names = sorted((member.account for member in one.members), key=lambda name: campaign_id([name]))
        name = next((campaign_id([name]) for name in names if campaign_id([name]) not in result), f"{one.id}-{len(result)}")
        result[name] = replace(one, id=name)
    return list(result.values())


def _unique(actions: Actions) -> Actions:
    """Each pair of post and signal once."""
    order = np.lexsort((actions.signal, actions.post))
    post, signal = actions.post[order], actions.signal[order]
    order = order[np.append(True, (np.diff(post) != 0) | (signal[1:] != signal[:-1]))[: len(order)]]
    return actions.where(order)


@dataclass(frozen=True, slots=True)
class SharedArtefact:
    """An artefact with the members' actions that are evidence and everybody who shared it."""

    signal: str
    key: int
    post: Ints
    account: Ints
    time_s: npt.NDArray[np.int64]
    row: slice


def _artefacts(actions: Actions, shares: Mapping[str, Shares]) -> list[SharedArtefact]:
    """Artefacts behind the actions, those that most members shared first."""
    result = []
    for name, one in shares.items():
        mine = np.sort(actions.post[actions.signal == name])
        if not len(mine):
            continue
        rows = np.flatnonzero(np.isin(one.post, mine))
        numbers, starts = np.unique(one.artefact[rows], return_index=True)
        begins, ends = (np.searchsorted(one.artefact, numbers, side).tolist() for side in ("left", "right"))
        for number, part, begin, end in zip(numbers.tolist(), np.split(rows, starts[1:]), begins, ends, strict=True):
            result.append(
                SharedArtefact(name, int(one.key[number]), one.post[part], one.account[part], one.time_s[part], slice(begin, end))
            )  # fmt: skip
    return sorted(result, key=lambda a: (-len(np.unique(a.account)), a.signal, a.key))


def _state(evidence: Sequence[Evidence], checks: Sequence[Explanation], shares: Mapping[str, Shares]) -> State:
    if any(check.holds for check in checks):
        return "explained"
    is_synchronised = any(test.test == "timing" or shares[test.signal].signal.role == "amplified" for test in evidence)
    return "synchronised" if is_synchronised else "duplicated"


def _shown(one: SharedArtefact, accounts: Ints, posts: Collected, shares: Mapping[str, Shares]) -> Artefact:
    everybody = shares[one.signal]
    post, account, time_s = everybody.post[one.row], everybody.account[one.row], everybody.time_s[one.row]
    member = np.isin(account, accounts)
    keep = np.sort(np.argsort(~member, kind="stable")[:_MAX_ACTIONS])
    ids, names = posts.values("id", post[keep]), posts.names.take(account[keep]).to_pylist()
    actions = tuple(
        Action(post=i, account=name, at=iso(at), is_member=bool(inside))
        for i, name, at, inside in zip(ids, names, time_s[keep], member[keep], strict=True)
    )
    first = one.post[np.argmin(one.time_s)]
    return Artefact(
        signal=one.signal, key=f"{one.key:016x}", text=posts.values("text", np.array([first]))[0][:_TEXT_CHARACTERS],
        num_members=len(np.unique(account[member])), num_outsiders=len(np.unique(account[~member])),
        gap_s=int(one.time_s.max() - one.time_s.min()), actions=actions,
    )  # fmt: skip


def _sentences(
    members: Sequence[Member],
    artefacts: Sequence[SharedArtefact],
    evidence: Sequence[Evidence],
    times: npt.NDArray[np.int64],
) -> tuple[str, str]:
    counts = Counter(one.signal for one in artefacts)
    if counts["near_text"]:
        counts["text"] = 0  # they are among the near duplicates
    nouns = {signal.id: signal.nouns for signal in signals(meaning=True)}
    parts = [f"{count:,} {nouns[name][count != 1]}" for name, count in counts.most_common() if count]
    listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    first = (
        f"{len(members):,} accounts shared {listed} close together in time, between {iso(times.min())[:10]} and {iso(times.max())[:10]}."
    )
    if not evidence:
        return first, ""
    best = evidence[0]
    window = format_seconds(best.window_s)
    if best.test == "timing":
        second = (
            f"On {best.num_occasions:,} occasions that had no part in finding them, {best.observed:,.0f} pairs of them acted within "
            f"{window}, where {best.expected:,.1f} would be expected of as many accounts that shared the same things."
        )
    else:
        second = (
            f"On {best.observed:,.0f} of {best.num_occasions:,} occasions that had no part in finding them, most of them acted within "
            f"{window} on something hardly anybody else shared; of ordinary groups at most {best.expected:,.1f} would be expected."
        )
    return first, second


def _shared_interest(rejected: Sequence[Found], taken: set[int], posts: Collected, num_posts: npt.NDArray[Any]) -> list[Campaign]:
    """The largest groups that tests did not confirm: shown so that anybody can see what was looked at, never labelled."""
    result: list[Campaign] = []
    used = set(taken)
    for found in sorted(rejected, key=lambda one: (-len(one.group), one.window_s, one.direction, one.group.tolist())):
        if len(result) == _MAX_SHARED_INTEREST:
            break
        if len(used & set(found.group.tolist())) > SAME_GROUP * len(found.group):
            continue
        used |= set(found.group.tolist())
        names = posts.names.take(found.group).to_pylist()
        members = tuple(
            Member(account=name, q_value=1.0, num_actions=0, num_posts=int(num_posts[a]), is_automatic=False, is_source=False)
            for name, a in zip(names, found.group.tolist(), strict=True)
        )
        times = posts.time_s[np.isin(posts.account, found.group)]
        best = sorted(found.evidence, key=lambda test: (test.p_value, test.signal))[:4]
        first = f"{len(members):,} accounts often share the same things."
        second = "Tests found them no closer in time, and their texts no more alike, than interest explains."
        result.append(
            Campaign(
                id=campaign_id(names), state="shared_interest", members=members, evidence=tuple(best), explanations=(), artefacts=(),
                first_at=iso(times.min()), last_at=iso(times.max()), sentences=(first, second),
            )
        )  # fmt: skip
    return result
