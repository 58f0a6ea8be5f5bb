"""A scan as STIX 2.1 (OASIS Standard, 10 June 2021). Goes in: a scan, rulings, labels. Comes out: a bundle, the same for the same input.

Only accounts with a label travel: an explained group, or a fandom, must not become threat intelligence. A campaign is a `grouping` of
`user-account`s with a `note` that says what was measured; STIX's own `campaign`, which means malice, is used only under a person's
verdict `inauthentic`. Verdicts are `opinion`s. Ids are uuid5 of what they stand for; those of accounts follow section 2.9 of the standard.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any, Final

import pyarrow as pa

from agora.integrity.records import STATES, Campaign, Member, ScanResult
from agora.integrity.rulings import CONFIRMING, Rulings, Verdict

STATEMENT: Final = (
    "This measures coordination: accounts acted together more closely than the spread of the same material among other accounts explains. "
    "It does not measure intent, and does not say that the accounts are inauthentic, automated or paid."
)
_ACCOUNTS: Final = uuid.UUID("00abedb4-aa42-466c-9c01-fed23315a9b7")  # namespace of STIX 2.1, section 2.9
_OWN: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://agora.example/integrity/stix")


def stix_bundle(result: ScanResult, rulings: Rulings, labels: pa.Table, *, scanned_at: str) -> dict[str, Any]:
    """The bundle as plain JSON values."""
    labelled: dict[str, set[str]] = {}
    for row in labels.to_pylist():
        if row["kind"] == "account":
            labelled.setdefault(row["campaign"], set()).add(row["id"])
    start = _stamp(scanned_at)
    maker = {
        **_common("identity", "agora", start, start), "name": "Agora integrity scan", "identity_class": "system",
        "description": "Software that tests groups of accounts for coordination with a controlled error rate.",
    }  # fmt: skip
    objects: dict[str, dict[str, Any]] = {maker["id"]: maker}
    for campaign in result.campaigns:
        members = [member for member in campaign.members if member.account in labelled.get(campaign.id, ())]
        if members:
            found = _campaign(campaign, members, rulings.verdict(campaign), scanned_at)
            objects.update(
                {one["id"]: {**one, **({} if one["type"] == "user-account" else {"created_by_ref": maker["id"]})} for one in found}
            )
    return {"type": "bundle", "id": _id("bundle", json.dumps([scanned_at, sorted(objects)])), "objects": list(objects.values())}


def _campaign(campaign: Campaign, members: list[Member], verdict: Verdict | None, scanned_at: str) -> list[dict[str, Any]]:
    created = min(_stamp(campaign.first_at), _stamp(scanned_at))
    common = {"created": created, "modified": _stamp(scanned_at)}
    accounts = [_account(member.account) for member in members]
    refs = [account["id"] for account in accounts]
    confidence = _confidence(max(member.q_value for member in members))
    group = {
        **_common("grouping", campaign.id, **common), "name": f"Coordinated accounts {campaign.id}", "context": "suspicious-activity",
        "description": " ".join(campaign.sentences), "labels": [campaign.state], "confidence": confidence, "object_refs": refs,
    }  # fmt: skip
    found = [*accounts, group]
    if verdict and verdict.state == "inauthentic":
        group = {
            **_common("campaign", campaign.id, **common), "name": f"Inauthentic campaign {campaign.id}", "confidence": confidence,
            "description": f"Judged inauthentic by a person: {verdict.reason}",
            "first_seen": _stamp(campaign.first_at), "last_seen": max(_stamp(campaign.first_at), _stamp(campaign.last_at)),
        }  # fmt: skip
        found.append(group)
    found += [_relationship(group["id"], account["id"], member, common) for account, member in zip(accounts, members, strict=True)]
    note = {
        **_common("note", campaign.id, **common), "abstract": "Coordination is measured, not intent", "object_refs": [group["id"]],
        "content": f"{STATEMENT} What was found: {STATES[campaign.state]}. {' '.join(campaign.sentences)}",
    }  # fmt: skip
    found.append(note)
    if verdict:
        given = {"created": _stamp(verdict.at), "modified": _stamp(verdict.at)}
        opinion = {
            **_common("opinion", f"{campaign.id} {verdict.number}", **given), "authors": [verdict.name], "object_refs": [group["id"]],
            "opinion": "agree" if verdict.state in CONFIRMING else "disagree", "explanation": f"{verdict.state}: {verdict.reason}",
        }  # fmt: skip
        found.append(opinion)
    return found


def _relationship(group: str, account: str, member: Member, common: dict[str, str]) -> dict[str, Any]:
    return {
        **_common("relationship", f"{account} {group}", **common), "relationship_type": "related-to", "source_ref": account,
        "target_ref": group, "confidence": _confidence(member.q_value),
        "description": f"q-value {member.q_value:.3g}; {member.num_actions} of {member.num_posts} posts are evidence",
    }  # fmt: skip


def _account(account: str) -> dict[str, Any]:
    name = json.dumps({"user_id": account}, ensure_ascii=False, separators=(",", ":"))
    return {"type": "user-account", "spec_version": "2.1", "id": f"user-account--{uuid.uuid5(_ACCOUNTS, name)}", "user_id": account}


def _common(kind: str, name: str, created: str, modified: str) -> dict[str, Any]:
    return {"type": kind, "spec_version": "2.1", "id": _id(kind, name), "created": created, "modified": modified}


def _id(kind: str, name: str) -> str:
    return f"{kind}--{uuid.uuid5(_OWN, f'{kind} {name}')}"


def _confidence(q_value: float) -> int:
    """STIX's 0 to 100."""
    return round(100 * (1 - min(1.0, max(0.0, q_value))))


def _stamp(text: str) -> str:
    """An ISO time as STIX writes it: UTC, milliseconds, Z. A time without offset is UTC."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
