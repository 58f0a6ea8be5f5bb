"""Labels: what the rest of the system knows about coordinated accounts and posts. Goes in: a scan and what people ruled. Comes out: a
table with LABEL_SCHEMA, kept as workspace/integrity/labels.parquet. Later stages only ever call `read_labels`.

A label says that an account or post was part of coordinated action, why, how sure the scan is, until when, and whether it is
contested. It never says that anybody is inauthentic unless a person did. A companion (companions.py) is not labelled: its row says with
whom it weighs along, is shown as no label anywhere, and goes when the campaign's labels go. Not covered: posts of labelled accounts that
are no evidence themselves have no label of their own (look at the account's), nor have posts beyond the artefacts that the scan kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.errors import ConfigError, DataError
from agora.files import replacing
from agora.integrity.records import STATES, Campaign, Member, ScanResult
from agora.integrity.results import utc
from agora.integrity.rulings import VERDICT_STATES, Rulings, Verdict, labelled_members

log = logging.getLogger(__name__)

ACCOUNT: Final = "account"
POST: Final = "post"
COMPANION: Final = "companion"
LABELS_FILE: Final = "labels.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """How long labels last, where they point, and when automatic ones stop.

    days               a label's life, in days from the scan; the next scan that finds the group again renews it
    evidence           where the evidence is shown; `{campaign}` and `{account}` are filled in
    breaker_share      automatic labels stop when the accounts whose appeal was upheld exceed this share of those labelled
    breaker_appeals    ... once this many appeals have been decided
    breaker_days       labels and appeals of this many days count
    """

    days: float = 90.0
    evidence: str = "agora integrity show {campaign}"
    breaker_share: float = 0.05
    breaker_appeals: int = 20
    breaker_days: float = 90.0

    def __post_init__(self) -> None:
        for name in ("days", "breaker_days"):
            if not 0 < getattr(self, name) <= 36_500:
                raise ConfigError(f"labels.{name}={getattr(self, name)} must be above 0 and at most 36500 days; example: labels.{name}=90")
        if not 0 < self.breaker_share < 1:
            raise ConfigError(f"labels.breaker_share={self.breaker_share} must lie between 0 and 1; example: labels.breaker_share=0.05")
        if self.breaker_appeals < 1:
            raise ConfigError(f"labels.breaker_appeals={self.breaker_appeals} must be at least 1")
        if "{campaign}" not in self.evidence:
            raise ConfigError(
                f"labels.evidence={self.evidence!r} must contain {{campaign}}; example: https://square.example/c/{{campaign}}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """One label of one account or post; the meaning of each field stands in LABEL_SCHEMA."""

    kind: Literal["account", "post", "companion"]
    id: str
    account: str
    campaign: str
    state: str
    is_automatic: bool
    reason: str
    evidence: str
    confidence: float
    expires_at: str
    appeal: Literal["none", "open", "rejected"]


def _field(name: str, kind: pa.DataType, doc: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"doc": doc})


LABEL_SCHEMA: Final = pa.schema(
    [
        _field("kind", pa.string(), "account or post: what is labelled; companion: an account that is not, and weighs along"),
        _field("id", pa.string(), "the account (as Post.author) or the post's id"),
        _field("account", pa.string(), "the account, or the post's author"),
        _field("campaign", pa.string(), "id of the campaign; a subject has one label per campaign"),
        _field("state", pa.string(), "synchronised or duplicated (by the scan); coordinated or inauthentic (by a person)"),
        _field("is_automatic", pa.bool_(), "no person decided it"),
        _field("reason", pa.string(), "why, in plain words"),
        _field("evidence", pa.string(), "where the evidence is shown"),
        _field("confidence", pa.float64(), "1 - q of the account's membership"),
        _field("expires_at", pa.string(), "ISO time, UTC; from then on it is no label any more"),
        _field("appeal", pa.string(), "none, open or rejected; upheld appeals leave no label"),
    ]
)
"""Arrow schema of labels; each field's meaning is in its metadata under `doc`."""

DEFAULTS: Final = LabelConfig()


def labels(
    result: ScanResult, rulings: Rulings, now: datetime, *, config: LabelConfig = DEFAULTS, scanned_at: str | None = None
) -> pa.Table:
    """The labels that hold at `now` by the scan made at `scanned_at` (default: now). Accounts first, then posts, each in order."""
    if rulings.is_stopped:
        log.warning(
            "automatic labels are stopped: too many appeals were upheld; look at: agora integrity breaker "
            "(a person re-arms them with --reset)"
        )
    start = datetime.fromisoformat(scanned_at) if scanned_at else now
    expires_at = utc(start + timedelta(days=config.days))
    found = [label for campaign in result.campaigns for label in _campaign_labels(campaign, rulings, config, expires_at)]
    found = sorted(found, key=lambda label: (label.kind, label.account, label.id, label.campaign)) if expires_at > utc(now) else []
    return pa.Table.from_pylist([asdict(label) for label in found], schema=LABEL_SCHEMA)


def _campaign_labels(campaign: Campaign, rulings: Rulings, config: LabelConfig, expires_at: str) -> Iterator[Label]:
    verdict, appeals = rulings.verdict(campaign), rulings.appeals_on(campaign)
    posts: dict[str, list[str]] = {}
    for artefact in campaign.artefacts:
        for action in artefact.actions:
            if action.is_member and action.post not in posts.setdefault(action.account, []):
                posts[action.account].append(action.post)
    chosen = labelled_members(campaign, rulings)
    contested = {account for account, appeal in appeals.items() if appeal.state == "upheld"}
    for account in sorted(set(campaign.companions) - contested) if any(is_automatic for _, is_automatic in chosen) else ():
        yield Label(
            kind="companion", id=account, account=account, campaign=campaign.id, state=campaign.state, is_automatic=True,
            reason=f"Not labelled: acted with campaign {campaign.id} again and again, so it weighs along with it as one voice.",
            evidence=config.evidence.replace("{campaign}", campaign.id).replace("{account}", account), confidence=0.0,
            expires_at=expires_at, appeal="none",
        )  # fmt: skip
    for member, is_automatic in chosen:
        account = member.account
        appeal = appeals[account].state if account in appeals else "none"
        assert appeal != "upheld"
        ruling = None if is_automatic else verdict
        for kind, subject in [(ACCOUNT, account), *((POST, post) for post in posts.get(account, []))]:
            yield Label(
                kind="account" if kind == ACCOUNT else "post", id=subject, account=account, campaign=campaign.id,
                state=ruling.state if ruling else campaign.state, is_automatic=is_automatic,
                reason=_reason(kind, campaign, member, ruling),
                evidence=config.evidence.replace("{campaign}", campaign.id).replace("{account}", account),
                confidence=1 - member.q_value, expires_at=expires_at, appeal=appeal,
            )  # fmt: skip


def _reason(kind: str, campaign: Campaign, member: Member, verdict: Verdict | None) -> str:
    """Why, in plain words, of an account or of one of its posts."""
    who = "This account is" if kind == ACCOUNT else "This post is evidence, and its author"
    counts = f"{member.num_actions} of its {member.num_posts} posts count as evidence"
    text = f"{who} one of {len(campaign.members)} accounts found to act together; {counts}."
    if verdict is None:
        return f"{text} What was found: {STATES[campaign.state]}. Coordination is measured here, not intent."
    return f"{text} On {verdict.at[:10]} {VERDICT_STATES[verdict.state].partition(';')[0]}: {verdict.reason}"


def write_labels(table: pa.Table, folder: Path) -> None:
    """Replace `folder`/labels.parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / LABELS_FILE) as part:
        pq.write_table(table.cast(LABEL_SCHEMA), part, compression="zstd")


def read_labels(
    workspace: Path,
    *,
    kind: Literal["account", "post", "companion"] | None = None,
    now: datetime | None = None,
    deletions: pa.Table | None = None,
) -> pa.Table:
    """The labels of a workspace folder that hold at `now`, of one kind or of all (LABEL_SCHEMA). Empty when nothing was scanned.

    `deletions` (PostStore.deletions()) leaves out what was deleted since the labels were made. Raises DataError for a damaged file.
    """
    path = workspace / "integrity" / LABELS_FILE
    if not path.exists():
        return LABEL_SCHEMA.empty_table()
    try:
        table = pq.read_table(path).cast(LABEL_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read as labels: {error}; make it anew: agora integrity scan") from error
    holds = pc.greater(table["expires_at"], utc(now or datetime.now(timezone.utc)))
    if kind is not None:
        holds = pc.and_(holds, pc.equal(table["kind"], kind))
    table = table.filter(holds)
    return table if deletions is None else _without_deleted(table, deletions)


def _without_deleted(table: pa.Table, deletions: pa.Table) -> pa.Table:
    accounts = deletions.filter(pc.equal(deletions["kind"], "author"))["key"].cast(pa.string())
    posts = deletions.filter(pc.equal(deletions["kind"], "post"))["key"].cast(pa.string())
    is_gone_post = pc.and_(pc.equal(table["kind"], POST), pc.is_in(table["id"], value_set=posts))
    return table.filter(pc.invert(pc.or_(pc.is_in(table["account"], value_set=accounts), is_gone_post)))
