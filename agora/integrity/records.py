"""What a scan finds: campaigns with their members, evidence and explanations. Written as JSON lines, read back as the same records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, Literal, SupportsInt

from agora.integrity.config import IntegrityConfig

State = Literal["synchronised", "duplicated", "explained", "shared_interest"]
STATES: Final[dict[State, str]] = {
    "synchronised": "closer in time than virality explains, again and again",
    "duplicated": "the same or nearly the same content within a short time, again and again",
    "explained": "acts together, and something innocent would explain it; never labelled by itself",
    "shared_interest": "shares artefacts often, as a fandom does; never labelled",
}
"""Each state in plain words. None of them says "inauthentic": only a person's verdict does."""

LABELLED_STATES: Final[tuple[State, ...]] = ("synchronised", "duplicated")
"""States whose members get labels without a person's doing."""

Test = Literal["timing", "burst", "creation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """One test of one group: what was counted in the half of the posts that did not serve to find the group.

    test           `timing`: members against other sharers of the same artefacts; `burst`: artefacts that hardly anybody else shared;
                   `creation`: days on which the accounts were made, which labels nobody (signal `account`)
    num_occasions  occasions (hours) in which at least two (timing) or three (burst) members shared an artefact; creation: known days
    observed       timing and creation: pairs of members closer than the window; burst: occasions that were bursts
    expected       the same if the null holds
    p_value        of the null; `q_value` after Benjamini-Hochberg over all tests of the scan
    """

    test: Test
    signal: str
    window_s: int
    num_occasions: int
    observed: float
    expected: float
    p_value: float
    q_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One account of a campaign.

    q_value       of "takes part no more often than an outsider would", over all members of all groups
    num_actions   actions counted as evidence; `num_posts` all its posts
    is_automatic  both directions of the scan found the campaign, and it takes part as others do: it may be labelled without a person
    is_source     it is nearly always first: others may copy it, so it is never labelled automatically
    """

    account: str
    q_value: float
    num_actions: int
    num_posts: int
    is_automatic: bool
    is_source: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One post that is evidence."""

    post: str
    account: str
    at: str
    is_member: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Artefact:
    """One artefact that members shared: the actions of members and of outsiders, in order of time, and the words of its first post.

    key             64-bit key of the artefact as hexadecimal digits
    num_members     members that shared it; `num_outsiders` other accounts that shared it in the whole scan
    gap_s           seconds between the first and the last action of members that is evidence
    """

    signal: str
    key: str
    text: str
    num_members: int
    num_outsiders: int
    gap_s: int
    actions: tuple[Action, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """One innocent explanation that was looked into. `holds` when it would explain the group; `text` gives the numbers."""

    name: str
    holds: bool
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """A group of accounts that acts together.

    id          stable: made from its members, so the same group keeps it from scan to scan
    found_by    signals and windows whose tests speak for it are in `evidence`, strongest first
    sentences   two plain sentences; every number in them can be followed to `artefacts`
    companions  accounts that are no members and acted with them again and again (companions.py): they weigh along, without a label
    """

    id: str
    state: State
    members: tuple[Member, ...]
    evidence: tuple[Evidence, ...]
    explanations: tuple[Explanation, ...]
    artefacts: tuple[Artefact, ...]
    first_at: str
    last_at: str
    sentences: tuple[str, str]
    companions: tuple[str, ...] = ()

    @property
    def labelled(self) -> tuple[Member, ...]:
        """Members that get a label without a person's doing."""
        if self.state not in LABELLED_STATES:
            return ()
        return tuple(member for member in self.members if member.is_automatic and not member.is_source)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanResult:
    """What one scan found, and how much it looked at.

    num_groups  groups that were tested; `num_tests` tests over all of them, which the q-values count
    first_at    time of the first post; `last_at` of the last; both empty where there was no post
    """

    config: IntegrityConfig
    num_posts: int
    num_accounts: int
    num_groups: int
    num_tests: int
    first_at: str
    last_at: str
    campaigns: tuple[Campaign, ...]


def iso(time_s: SupportsInt) -> str:
    """Seconds since 1970 as the ISO time (UTC) that records carry."""
    return datetime.fromtimestamp(int(time_s), timezone.utc).isoformat()
