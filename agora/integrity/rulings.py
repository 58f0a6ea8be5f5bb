"""What people decided: verdicts on campaigns, appeals of accounts, and whether automatic labels are stopped. Plain records and the
rules that apply them; `ledger.py` keeps them.

A ruling names the accounts that the campaign had when it was made. It covers every campaign of a later scan most of whose members
are among them: an account more or less does not undo what a person decided, and a campaign that merely kept its id, but took in
other accounts, does not inherit what was said about the old ones.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from agora.integrity.records import Campaign, Member

VerdictState = Literal["inauthentic", "coordinated", "explained", "not_coordinated"]
VERDICT_STATES: Final[dict[VerdictState, str]] = {
    "inauthentic": "a person judged it inauthentic; no scan ever says so",
    "coordinated": "a person looked and confirms that it acts together; says nothing about why",
    "explained": "acts together for an innocent reason: fans, a declared organisation, an official channel",
    "not_coordinated": "a person looked and finds no coordination",
}
CONFIRMING: Final[tuple[VerdictState, ...]] = ("inauthentic", "coordinated")
"""Verdicts under which the members that the person saw are labelled; the other verdicts take labels away."""

Reason = Literal["fan", "declared", "official"]
REASONS: Final[dict[Reason, str]] = {
    "fan": "supporters of one cause, artist or team who act of their own accord",
    "declared": "accounts of an organisation that says they are its own",
    "official": "a public body, an alert service, a newsroom",
}
"""What an `explained` verdict must name."""

AppealState = Literal["open", "upheld", "rejected"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A person's decision on a campaign. `accounts` are its members at that time; `explanation` is set for `explained`."""

    number: int
    campaign: str
    state: VerdictState
    explanation: Reason | None
    name: str
    reason: str
    at: str
    accounts: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Appeal:
    """An account contests its label. `decided_by`, `decided_because` and `decided_at` are None while it is open."""

    number: int
    campaign: str
    account: str
    state: AppealState
    name: str
    reason: str
    at: str
    accounts: frozenset[str]
    is_automatic: bool
    decided_by: str | None = None
    decided_because: str | None = None
    decided_at: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """The circuit breaker: stopped or not, and the numbers that decide it.

    num_labels   accounts that got an automatic label within the time it looks at
    num_decided  appeals against automatic labels that were decided since it was last re-armed, within that time
    num_upheld   accounts among them whose appeal was upheld
    tripped_at   when it stopped automatic labels, or None; `reason` says why
    """

    is_tripped: bool
    num_labels: int
    num_decided: int
    num_upheld: int
    tripped_at: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rulings:
    """All rulings in the order in which they were made, as labels need them."""

    verdicts: tuple[Verdict, ...] = ()
    appeals: tuple[Appeal, ...] = ()
    is_stopped: bool = False

    def verdict(self, campaign: Campaign) -> Verdict | None:
        """The ruling verdict on a campaign: the newest that covers it."""
        accounts = _accounts(campaign)
        return next((one for one in reversed(self.verdicts) if _covers(one.accounts, accounts)), None)

    def appeal(self, campaign: Campaign, account: str) -> Appeal | None:
        """The newest appeal of an account against its label in a campaign."""
        return self.appeals_on(campaign).get(account)

    def appeals_on(self, campaign: Campaign) -> dict[str, Appeal]:
        """The newest appeal of each account in a campaign."""
        accounts = _accounts(campaign)
        groups = {one.accounts for one in self.appeals}
        covering = {group for group in groups if _covers(group, accounts)}
        return {one.account: one for one in self.appeals if one.accounts in covering}


def _covers(seen: Collection[str], now: Collection[str]) -> bool:
    """Whether a ruling on the accounts `seen` is about a campaign of the accounts `now`: more than half of them were in it."""
    return 2 * len(set(now) & set(seen)) > len(now)


def labelled_members(campaign: Campaign, rulings: Rulings) -> tuple[tuple[Member, bool], ...]:
    """Members that are labelled as things stand, and for each whether it is so without a person's doing. A group that only shares an
    interest never is, whatever a person rules: there is no post to show as evidence."""
    if campaign.state == "shared_interest":
        return ()
    verdict = rulings.verdict(campaign)
    appeals = rulings.appeals_on(campaign)
    if verdict is None:
        chosen = [] if rulings.is_stopped else [(member, True) for member in campaign.labelled]
    elif verdict.state in CONFIRMING:
        automatic = () if rulings.is_stopped else {member.account for member in campaign.labelled}
        seen = verdict.accounts
        chosen = [
            (member, member.account not in seen)
            for member in campaign.members
            if not member.is_source and (member.account in seen or member.account in automatic)
        ]
    else:
        chosen = []
    return tuple((member, how) for member, how in chosen if not _is_upheld(appeals.get(member.account)))


def _is_upheld(appeal: Appeal | None) -> bool:
    return appeal is not None and appeal.state == "upheld"


def _accounts(campaign: Campaign) -> set[str]:
    return {member.account for member in campaign.members}
