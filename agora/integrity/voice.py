"""Who speaks as one. Goes in: the labels of a workspace. Comes out: the voice of every account: N accounts that are labelled as
one campaign count as one voice, everybody else is a voice of their own.

    speakers = read_voices(workspace) or Voices()
    count_voices(sharers, speakers)      how many voices shared something, however many accounts they use
    voice_weights(sharers, speakers)     what each account counts among them

Every later stage that counts accounts counts voices instead: the corpus, search, audiences, chat. Whoever adds accounts to a
campaign adds nothing to its weight. Its companions, who acted with it again and again without being labelled, weigh along.

Not covered: accounts that neither are labelled nor took part at least twice, and one operation that is labelled as several campaigns (it
has as many voices).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Final

import pyarrow as pa

from agora.errors import DataError
from agora.integrity.labels import ACCOUNT, COMPANION, LABELS_FILE, POST, read_labels

NEEDED: Final = ("kind", "id", "campaign", "expires_at")
"""Columns of the labels that are read here."""


@dataclass(frozen=True)
class Voices:
    """`accounts`: campaign of each account that is labelled or weighs along; `companions` are the latter. `posts`: ids of labelled posts;
    they speak for whoever wrote them."""

    accounts: Mapping[str, str] = field(default_factory=dict)
    posts: frozenset[str] = frozenset()
    companions: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.accounts or self.posts)

    def of(self, account: str) -> tuple[str, str]:
        """The voice of an account: ('campaign', its id), or ('account', the account itself)."""
        campaign = self.accounts.get(account)
        return (ACCOUNT, account) if campaign is None else ("campaign", campaign)

    @cached_property
    def labelled(self) -> frozenset[str]:
        """Accounts that have a label: all but companions."""
        return frozenset(self.accounts.keys() - self.companions)

    def without_companions(self) -> Voices:
        """What labels alone say."""
        return Voices({account: self.accounts[account] for account in self.accounts if account in self.labelled}, self.posts)

    @cached_property
    def sha256(self) -> str:
        """Equal for labels that name the same accounts for the same campaigns, and the same posts."""
        content = json.dumps([sorted(self.accounts.items()), sorted(self.posts)])
        return hashlib.sha256(content.encode()).hexdigest()


def voices(labels: pa.Table, *, at: datetime | None = None) -> Voices:
    """The voices that `labels` (LABEL_SCHEMA) make at `at` (default: now); expired labels have no effect.

    An account that is in several campaigns speaks with the largest of them (its smallest weight), of equal ones with the first by id.
    Raises DataError when a column is missing.
    """
    if missing := [name for name in NEEDED if name not in labels.column_names]:
        raise DataError(
            f"labels have no column {missing[0]!r}, only {', '.join(labels.column_names)}; make them anew: agora integrity scan"
        )
    now = at or datetime.now(timezone.utc)
    rows = [row for row in labels.select(NEEDED).to_pylist() if datetime.fromisoformat(row["expires_at"]) > now]
    labelled = {row["id"] for row in rows if row["kind"] == ACCOUNT}
    beside = frozenset(row["id"] for row in rows if row["kind"] == COMPANION) - labelled
    pairs = {(row["campaign"], row["id"]) for row in rows if row["id"] in (labelled if row["kind"] == ACCOUNT else beside)}
    sizes = Counter(campaign for campaign, _ in pairs)
    smallest_first = sorted(pairs, key=lambda pair: (-sizes[pair[0]], pair), reverse=True)
    posts = frozenset(row["id"] for row in rows if row["kind"] == POST)
    return Voices({account: campaign for campaign, account in smallest_first}, posts, beside)


def read_voices(workspace: Path, *, at: datetime | None = None, deletions: pa.Table | None = None) -> Voices | None:
    """The voices that the labels of a workspace folder make, or None when nothing has been labelled there.

    `deletions` (PostStore.deletions()): who deleted an account is no voice any more, and no part of one.
    Raises DataError when the labels cannot be read: nothing goes on as if there were none.
    """
    if not (workspace / "integrity" / LABELS_FILE).exists():
        return None
    return voices(read_labels(workspace, now=at, deletions=deletions), at=at)


def count_voices(accounts: Iterable[str], speakers: Voices) -> int:
    """How many voices these accounts are. An account that comes twice counts once."""
    return len({speakers.of(account) for account in accounts})


def voice_weights(accounts: Iterable[str], speakers: Voices) -> dict[str, float]:
    """What each of these accounts counts: 1 when it speaks for itself, 1/N when N of them speak as one. They add up to `count_voices`."""
    distinct = dict.fromkeys(accounts)
    sizes = Counter(speakers.of(account) for account in distinct)
    return {account: 1.0 / sizes[speakers.of(account)] for account in distinct}


__all__ = ["Voices", "count_voices", "read_voices", "voice_weights", "voices"]
