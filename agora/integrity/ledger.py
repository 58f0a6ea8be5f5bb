"""The ledger: verdicts, appeals and the circuit breaker, in SQLite or any database SQLAlchemy knows. Rulings are only ever added, with
name, time and reason; a later one rules over an earlier one. The one exception: `forget` takes a deleted account's name and words out.

    with Ledger.open(Path("workspace/integrity/ledger.db")) as ledger:
        ledger.give_verdict(campaign, "explained", explanation="fan", name="Ada", reason="a fan club with open rules")

Not covered: who may write. Whoever can open the file or the database can add rulings under any name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, Literal, cast

import sqlalchemy as sa

import agora.integrity.migrations
from agora.config import unknown_value
from agora.database import Database
from agora.errors import UsageError
from agora.integrity.deletion import mentions
from agora.integrity.labels import DEFAULTS, LabelConfig
from agora.integrity.records import Campaign
from agora.integrity.results import utc
from agora.integrity.rulings import REASONS, VERDICT_STATES, Appeal, Breaker, Reason, Rulings, Verdict, VerdictState, labelled_members

DELETED: Final = "(deleted)"
_MIGRATIONS: Final = Path(agora.integrity.migrations.__file__).parent

METADATA: Final = sa.MetaData()


def _text(name: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False, **options)


def _ruling_columns() -> tuple[sa.Column[Any], ...]:
    return (_text("name"), _text("reason"), _text("at"))


def _members() -> sa.Column[Any]:
    return sa.Column("members", sa.Integer, sa.ForeignKey("groups.number"), nullable=False)


_NUMBER: Final = "number"
GROUPS: Final = sa.Table(
    "groups", METADATA, sa.Column(_NUMBER, sa.Integer, primary_key=True), _text("digest", unique=True),
    sa.Column("accounts", sa.JSON, nullable=False),
)  # fmt: skip
VERDICTS: Final = sa.Table(
    "verdicts", METADATA, sa.Column(_NUMBER, sa.Integer, primary_key=True), _text("campaign"), _text("state"),
    sa.Column("explanation", sa.Text), *_ruling_columns(), _members(),
)  # fmt: skip
APPEALS: Final = sa.Table(
    "appeals", METADATA, sa.Column(_NUMBER, sa.Integer, primary_key=True), _text("campaign"), _text("account"),
    sa.Column("is_automatic", sa.Boolean, nullable=False), *_ruling_columns(), _members(),
)  # fmt: skip
DECISIONS: Final = sa.Table(
    "decisions", METADATA, sa.Column(_NUMBER, sa.Integer, primary_key=True),
    sa.Column("appeal", sa.Integer, sa.ForeignKey("appeals.number"), nullable=False, unique=True), _text("state"), *_ruling_columns(),
)  # fmt: skip
BREAKER: Final = sa.Table(
    "breaker", METADATA, sa.Column(_NUMBER, sa.Integer, primary_key=True), _text("event"), *_ruling_columns(),
    sa.Column("last_decision", sa.Integer, nullable=False),
)  # fmt: skip
ISSUED: Final = sa.Table("issued", METADATA, _text("account", primary_key=True), _text("at"))


class Ledger:
    """One ledger. Times are the caller's `now`, by default the clock's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, place: Path | str) -> Ledger:
        """The ledger in an SQLite file (made if absent) or at a database URL, brought to the present schema.

        Raises DataError for a file that is no ledger, or one of a newer Agora; UsageError for a URL that cannot be used.
        """
        return cls(Database.open(place, "ledger", migrations=_MIGRATIONS))

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def give_verdict(
        self, campaign: Campaign, state: str, *, name: str, reason: str, explanation: str | None = None, now: datetime | None = None
    ) -> Verdict:
        """Add a person's verdict on a campaign. Raises UsageError when it is empty, unknown, or stands already."""
        name, reason = _given(name, "name", "verdict"), _given(reason, "reason", "verdict")
        if state not in VERDICT_STATES:
            raise UsageError(unknown_value(state, list(VERDICT_STATES), "verdict"))
        if state == "explained" and explanation is None:
            raise UsageError(f"verdict 'explained' needs an explanation: {', '.join(REASONS)}")
        if state != "explained" and explanation is not None:
            raise UsageError(f"explanation {explanation!r} belongs to the verdict 'explained', not to {state!r}")
        if explanation is not None and explanation not in REASONS:
            raise UsageError(unknown_value(explanation, list(REASONS), "explanation"))
        standing = self.rulings().verdict(campaign)
        if standing and (standing.campaign, standing.state, standing.explanation) == (campaign.id, state, explanation):
            raise UsageError(f"campaign {campaign.id} has the verdict {state!r} already, by {standing.name} at {standing.at}")
        row = {
            "campaign": campaign.id, "state": state, "explanation": explanation, "name": name, "reason": reason, "at": utc(now),
            "members": self._group(campaign),
        }  # fmt: skip
        number = self._database.add(VERDICTS, row)
        return next(verdict for verdict in self.rulings().verdicts if verdict.number == number)

    def appeal(self, campaign: Campaign, account: str, *, name: str, reason: str, now: datetime | None = None) -> Appeal:
        """Add an account's appeal. Raises UsageError when the account is not labelled, or an appeal of it is open or was upheld."""
        name, reason = _given(name, "name", "appeal"), _given(reason, "reason", "appeal")
        rulings = self.rulings()
        before = rulings.appeal(campaign, account)
        if before and before.state in ("open", "upheld"):
            raise UsageError(f"appeal {before.number} of {account!r} in campaign {before.campaign} is {before.state} already")
        how = {member.account: is_automatic for member, is_automatic in labelled_members(campaign, rulings)}
        if account not in how:
            raise UsageError(f"account {account!r} has no label in campaign {campaign.id}; see: agora integrity show {campaign.id}")
        row = {
            "campaign": campaign.id, "account": account, "is_automatic": how[account], "name": name, "reason": reason, "at": utc(now),
            "members": self._group(campaign),
        }  # fmt: skip
        number = self._database.add(APPEALS, row)
        return next(appeal for appeal in self.rulings().appeals if appeal.number == number)

    def decide(self, number: int, outcome: str, *, name: str, reason: str, now: datetime | None = None) -> Appeal:
        """Decide an open appeal: `upheld` or `rejected`. Raises UsageError for an unknown or decided one."""
        name, reason = _given(name, "name", "decision"), _given(reason, "reason", "decision")
        if outcome not in ("upheld", "rejected"):
            raise UsageError(f"outcome {outcome!r} of an appeal must be 'upheld' or 'rejected'")
        appeals = {appeal.number: appeal for appeal in self.rulings().appeals}
        if number not in appeals:
            open_ones = [str(appeal.number) for appeal in appeals.values() if appeal.state == "open"]
            raise UsageError(f"there is no appeal {number}; open: {', '.join(open_ones) or 'none'}")
        if (known := appeals[number]).state != "open":
            raise UsageError(f"appeal {number} was {known.state} by {known.decided_by} at {known.decided_at} already")
        self._database.add(DECISIONS, {"appeal": number, "state": outcome, "name": name, "reason": reason, "at": utc(now)})
        return next(appeal for appeal in self.rulings().appeals if appeal.number == number)

    def rulings(self) -> Rulings:
        """Everything people ruled so far, and whether automatic labels are stopped."""
        groups = {row["number"]: frozenset(row["accounts"]) for row in self._rows(GROUPS)}
        decisions = {row["appeal"]: row for row in self._rows(DECISIONS)}
        return Rulings(
            verdicts=tuple(_verdict(row, groups) for row in self._rows(VERDICTS)),
            appeals=tuple(_appeal(row, groups, decisions.get(row["number"])) for row in self._rows(APPEALS)),
            is_stopped=self._last_event("tripped") is not None,
        )

    def record_issued(self, accounts: Iterable[str], *, now: datetime | None = None) -> None:
        """Note which accounts have an automatic label now: what the breaker compares upheld appeals with."""
        at = utc(now)
        fresh = set(accounts)
        with self._database.begin() as connection:
            known = {row.account for row in connection.execute(sa.select(ISSUED.c.account))}
            if again := sorted(fresh & known):
                update = ISSUED.update().where(ISSUED.c.account == sa.bindparam("which")).values(at=at)
                connection.execute(update, [{"which": account} for account in again])
            if new := sorted(fresh - known):
                connection.execute(ISSUED.insert(), [{"account": account, "at": at} for account in new])

    def breaker(self, *, now: datetime | None = None, config: LabelConfig = DEFAULTS) -> Breaker:
        """The breaker's state. It trips here, and stays tripped, when the accounts with an upheld appeal exceed the share."""
        moment = now or datetime.now(timezone.utc)
        since = utc(moment - timedelta(days=config.breaker_days))
        reset, tripped = self._last_event("reset"), self._last_event("tripped")
        appeals = {row["number"]: row for row in self._rows(APPEALS) if row["is_automatic"]}
        decided = [
            row for row in self._rows(DECISIONS)
            if row["appeal"] in appeals and row["at"] > since and row["number"] > (reset["last_decision"] if reset else 0)
        ]  # fmt: skip
        upheld = {appeals[row["appeal"]]["account"] for row in decided if row["state"] == "upheld"}
        labelled = upheld | {row["account"] for row in self._rows(ISSUED) if row["at"] > since}
        if tripped is None and len(decided) >= config.breaker_appeals and len(upheld) > config.breaker_share * len(labelled):
            reason = (
                f"{len(upheld)} of {len(labelled)} labelled accounts had their appeal upheld ({len(decided)} decided); "
                f"the share allowed is {config.breaker_share:g}"
            )
            self._add_event("tripped", name="agora", reason=reason, now=moment)
            tripped = self._last_event("tripped")
        found = Breaker(is_tripped=False, num_labels=len(labelled), num_decided=len(decided), num_upheld=len(upheld))
        return replace(found, is_tripped=True, tripped_at=tripped["at"], reason=tripped["reason"]) if tripped else found

    def reset_breaker(self, *, name: str, reason: str, now: datetime | None = None) -> None:
        """Let automatic labels begin again; appeals decided before do not count any more. Raises UsageError when it has not tripped."""
        name, reason = _given(name, "name", "reset"), _given(reason, "reason", "reset")
        if self._last_event("tripped") is None:
            raise UsageError("the circuit breaker has not tripped: there is nothing to reset")
        self._add_event("reset", name=name, reason=reason, now=now)

    def forget(self, accounts: Collection[str]) -> None:
        """Take deleted accounts out: their names, and the words of their appeals. That something was decided stays, without them."""
        gone = set(accounts)
        with self._database.begin() as connection:
            appeals = connection.execute(sa.select(APPEALS).order_by(APPEALS.c.number)).mappings().all()
            issued = set(connection.execute(sa.select(ISSUED.c.account)).scalars())
            named = issued | {row["account"] for row in appeals}
            free = (name for number in itertools.count(1) if (name := f"{DELETED} {number}") not in named)
            alias = dict(zip(sorted(gone & named), free, strict=False))
            hidden = {row["number"] for row in appeals if row["account"] in alias}
            for account in issued & set(alias):
                connection.execute(ISSUED.update().where(ISSUED.c.account == account).values(account=alias[account]))
            for row in connection.execute(sa.select(GROUPS)).mappings().all():
                if gone & set(row["accounts"]):
                    left = {"accounts": [one for one in row["accounts"] if one not in gone], "digest": f"{DELETED} {row['number']}"}
                    connection.execute(GROUPS.update().where(GROUPS.c.number == row["number"]).values(left))
            for table in (VERDICTS, APPEALS, DECISIONS):
                for row in connection.execute(sa.select(table)).mappings().all():
                    change = {"reason": DELETED} if mentions(row["reason"], gone) else {}
                    if table is APPEALS and row["number"] in hidden:
                        change |= {"account": alias[row["account"]], "name": DELETED, "reason": DELETED}
                    elif table is DECISIONS and row["appeal"] in hidden:
                        change["reason"] = DELETED
                    if change:
                        connection.execute(table.update().where(table.c.number == row["number"]).values(change))

    def _group(self, campaign: Campaign) -> int:
        """The number under which these members are kept, once for all rulings on them."""
        accounts = sorted(member.account for member in campaign.members)
        digest = hashlib.sha256(json.dumps(accounts).encode()).hexdigest()
        with self._database.begin() as connection:
            known = connection.execute(sa.select(GROUPS.c.number).where(GROUPS.c.digest == digest)).scalar()
        return int(known) if known is not None else self._database.add(GROUPS, {"digest": digest, "accounts": accounts})

    def _add_event(self, event: Literal["tripped", "reset"], *, name: str, reason: str, now: datetime | None) -> None:
        last = max((row["number"] for row in self._rows(DECISIONS)), default=0)
        self._database.add(BREAKER, {"event": event, "name": name, "reason": reason, "at": utc(now), "last_decision": last})

    def _last_event(self, event: Literal["tripped", "reset"]) -> dict[str, Any] | None:
        """The newest event of the breaker if it is `tripped`; the newest reset, whatever came after."""
        rows = self._rows(BREAKER)
        if event == "tripped":
            return rows[-1] if rows and rows[-1]["event"] == event else None
        return next((row for row in reversed(rows) if row["event"] == event), None)

    def _rows(self, table: sa.Table) -> list[dict[str, Any]]:
        order = [table.c.number] if _NUMBER in table.c else list(table.primary_key.columns)
        return self._database.rows(sa.select(table).order_by(*order))


Groups = Mapping[int, frozenset[str]]


def _verdict(row: dict[str, Any], groups: Groups) -> Verdict:
    return Verdict(
        number=row["number"], campaign=row["campaign"], state=cast(VerdictState, row["state"]),
        explanation=cast("Reason | None", row["explanation"]), name=row["name"], reason=row["reason"], at=row["at"],
        accounts=groups[row["members"]],
    )  # fmt: skip


def _appeal(row: dict[str, Any], groups: Groups, decision: dict[str, Any] | None) -> Appeal:
    known = {key: value for key, value in row.items() if key != "members"} | {"accounts": groups[row["members"]], "state": "open"}
    if decision is not None:
        decided = {"decided_by": decision["name"], "decided_because": decision["reason"], "decided_at": decision["at"]}
        known |= {**decided, "state": decision["state"]}
    return Appeal(**known)


def _given(text: str, what: str, owner: str) -> str:
    if not text.strip():
        raise UsageError(f"a {owner} needs a {what}; it was empty")
    return text.strip()
