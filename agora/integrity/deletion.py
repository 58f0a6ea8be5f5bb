"""Deletions reach what a scan saved. Goes in: a scan and what was deleted from the post store. Comes out: the scan without it.

Deleted authors leave the members, deleted posts leave the evidence, with the words that came from them. What only counts stays: tests,
p-values, numbers of posts. A member that deleted its evidence stays a member until the next scan: the actions happened.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, replace
from typing import Final

import pyarrow.compute as pc

from agora.integrity.records import Action, Artefact, Campaign, ScanResult
from agora.posts.store import PostStore

MIN_MEMBERS: Final = 2
"""A group of fewer accounts is no group."""

_WORDS: Final = re.compile(r"[^\s,;()\[\]\"'<>`]+")
_REDACTED: Final = "(named an account that was deleted)"


@dataclass(frozen=True, slots=True)
class Deleted:
    """What is gone: accounts and post ids that a person deleted, and posts that went with them (reposts)."""

    accounts: frozenset[str] = frozenset()
    posts: frozenset[str] = frozenset()

    def __contains__(self, action: object) -> bool:
        return isinstance(action, Action) and (action.account in self.accounts or action.post in self.posts)


def deleted_from(store: PostStore, result: ScanResult) -> Deleted:
    """What of a scan's evidence the store has no more."""
    tombstones = store.deletions()
    accounts = tombstones.filter(pc.equal(tombstones["kind"], "author"))["key"].to_pylist()
    posts = set(tombstones.filter(pc.equal(tombstones["kind"], "post"))["key"].to_pylist())
    evidence = {action.post for campaign in result.campaigns for artefact in campaign.artefacts for action in artefact.actions}
    return Deleted(frozenset(accounts), frozenset(posts | (evidence - store.present(evidence))))


def forget(result: ScanResult, deleted: Deleted) -> ScanResult:
    """The scan without deleted accounts and posts, and without campaigns of which no group is left."""
    if not deleted.accounts and not deleted.posts:
        return result
    remaining = (_campaign(campaign, deleted) for campaign in result.campaigns)
    return replace(result, campaigns=tuple(campaign for campaign in remaining if len(campaign.members) >= MIN_MEMBERS))


def mentions(text: str, names: Container[str]) -> bool:
    """Whether one of these names stands in a text as a word of its own."""
    return any(word in names or word.strip(".:!?@") in names for word in _WORDS.findall(text))


def _campaign(campaign: Campaign, deleted: Deleted) -> Campaign:
    members = tuple(member for member in campaign.members if member.account not in deleted.accounts)
    artefacts = tuple(_artefacts(campaign.artefacts, deleted))
    explanations = tuple(
        replace(one, text=_REDACTED) if _names_deleted(one.text, deleted) else one for one in campaign.explanations
    )  # fmt: skip
    sentences = campaign.sentences
    if len(members) < len(campaign.members) or artefacts != campaign.artefacts:
        lost = len(campaign.members) - len(members)
        sentences = (
            f"{len(members)} accounts are left of this campaign; {lost} were deleted since the scan.",
            f"{len(artefacts)} shared artefacts are left as evidence; scan again for a new description.",
        )
    elif any(_names_deleted(sentence, deleted) for sentence in sentences):
        sentences = (_REDACTED, "Scan again for a new description.")
    companions = tuple(account for account in campaign.companions if account not in deleted.accounts)
    return replace(
        campaign, members=members, artefacts=artefacts, explanations=explanations, sentences=sentences, companions=companions
    )  # fmt: skip


def _artefacts(artefacts: Iterable[Artefact], deleted: Deleted) -> Iterable[Artefact]:
    for artefact in artefacts:
        actions = tuple(action for action in artefact.actions if action not in deleted)
        if len(actions) == len(artefact.actions):
            yield replace(artefact, text="") if _names_deleted(artefact.text, deleted) else artefact
            continue
        members, outsiders = _accounts(actions, True), _accounts(actions, False)
        before, others_before = _accounts(artefact.actions, True), _accounts(artefact.actions, False)
        if len(members) >= MIN_MEMBERS:
            # The words are those of a member's post, it does not say which: they go with the first of them that goes.
            is_whole = sum(one.is_member for one in actions) == sum(one.is_member for one in artefact.actions)
            yield replace(
                artefact, actions=actions, text=artefact.text if is_whole and not _names_deleted(artefact.text, deleted) else "",
                num_members=artefact.num_members - len(before - members),
                num_outsiders=artefact.num_outsiders - len(others_before - outsiders),
            )  # fmt: skip


def _accounts(actions: Collection[Action], is_member: bool) -> set[str]:
    return {action.account for action in actions if action.is_member == is_member}


def _names_deleted(text: str, deleted: Deleted) -> bool:
    return mentions(text, deleted.accounts)
