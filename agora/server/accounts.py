"""Who may do what. Goes in: names, passwords, keys. Comes out: a `Caller` with scopes, or nothing.

    accounts = Accounts(open_database(place))
    ada = accounts.add("ada", scopes=["analyst"], password="...")
    key = accounts.new_key("ada", name="laptop", scopes=["analyst"]).secret     # shown once
    caller = accounts.caller_of_key(key)

Keys are 256 random bits and stored as SHA-256: nothing can be guessed from a stolen database. Passwords are stored with scrypt
(RFC 7914; n = 2^15, r = 8, p = 1). A key or session has no more scopes than its account has now.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from agora.config import unknown_value
from agora.database import Database
from agora.errors import UsageError
from agora.server.limits import Allowance, RateLimits
from agora.server.tables import ACCOUNTS, KEYS, SESSIONS

SCOPES: Final[dict[str, str]] = {
    "member": "ask and search; keep conversations, saved searches and feedback of one's own",
    "analyst": "campaigns: evidence, verdicts, appeals, the circuit breaker",
    "advertiser": "ads: audiences, texts, images, experiments",
    "engineer": "training runs, models, cluster plans",
    "admin": "everything, with accounts, keys, usage, sources, deletions and the audit log",
}
KEY_PREFIX: Final = "agora_"
SESSION_DAYS: Final = 14
MIN_PASSWORD: Final = 10
TRIES_PER_MINUTE: Final = 20
"""Passwords tried for one name, whoever tries."""
LOCAL: Final = "local"
"""Who acts on a server that nobody made an account for and only this machine reaches."""
_IS_PERSON: Final = sa.or_(ACCOUNTS.c.name != LOCAL, ACCOUNTS.c.password.is_not(None))
"""The local account is nobody's: it never has a password, and ends when somebody makes another."""
_NAME: Final = re.compile(r"[\w][\w.@+-]{0,63}")
_SCRYPT: Final = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 2**20}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `key`: the key's number, where one was used."""

    account: int
    name: str
    scopes: frozenset[str]
    key: int | None = None
    requests_per_minute: int | None = None

    def may(self, scope: str) -> bool:
        """Whether `scope`, or admin, was granted."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `secret` is known here and nowhere else."""

    id: int
    secret: str


class Accounts:
    """Accounts, keys and sessions of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tries = RateLimits()

    def add(self, name: str, *, scopes: Iterable[str], password: str | None = None, now: datetime | None = None) -> int:
        """Make an account; its number. Raises UsageError for a name that is taken, reserved or unfit, unknown scopes, a short password."""
        if name.casefold() == LOCAL:
            raise UsageError(f"the account name {name!r} is reserved for this machine on a server without accounts; take another name")
        return self._add(name, scopes=scopes, password=password, now=now)

    def _add(self, name: str, *, scopes: Iterable[str], password: str | None = None, now: datetime | None = None) -> int:
        if not _NAME.fullmatch(name):
            raise UsageError(f"account name {name!r} must be 1-64 letters, digits, or . @ + - _, beginning with a letter or digit")
        granted = _known(scopes)
        hashed = None if password is None else hash_password(password)
        row = {"name": name, "password": hashed, "scopes": granted, "created_at": _at(now), "disabled_at": None}
        with self._database.begin() as connection:
            try:
                key = connection.execute(ACCOUNTS.insert().values(row)).inserted_primary_key
            except IntegrityError as error:
                raise UsageError(f"the account {name!r} exists already; take another name") from error
            assert key is not None
            return int(key[0])

    def ensure(self, name: str, *, scopes: Iterable[str]) -> Caller:
        """The account of this name, made with these scopes if there is none."""
        row = self._row(name)
        if row is None:
            with suppress(UsageError):  # another request was quicker
                self._add(name, scopes=scopes)
            row = self._get(name)
        return Caller(row["id"], name, frozenset(row["scopes"]))

    def change(
        self, name: str, *, scopes: Iterable[str] | None = None, password: str | None = None, is_disabled: bool | None = None,
        now: datetime | None = None,
    ) -> None:  # fmt: skip
        """Change what is given. A disabled account's keys and sessions end at once; a new password ends its sessions.

        Raises UsageError for an unknown account, unknown scopes, a short password, or when no admin would be left.
        """
        row = self._get(name)
        if name == LOCAL and password is not None:
            raise UsageError(f"the account {LOCAL!r} stands for this machine and has no password; make another account")
        values: dict[str, Any] = {}
        if scopes is not None:
            values["scopes"] = _known(scopes)
        if password is not None:
            values["password"] = hash_password(password)
        if is_disabled is not None:
            values["disabled_at"] = _at(now) if is_disabled else None
        if not values:
            return
        stays_admin = "admin" in values.get("scopes", row["scopes"]) and not (
            is_disabled if is_disabled is not None else row["disabled_at"]
        )
        with self._database.begin() as connection:
            connection.execute(ACCOUNTS.update().where(ACCOUNTS.c.id == row["id"]).values(values))
            if "admin" in row["scopes"] and row["disabled_at"] is None and not stays_admin:
                _refuse_last_admin(connection, name)  # after the write: SQLite waits there for others who write
            if is_disabled or password is not None:
                connection.execute(SESSIONS.delete().where(SESSIONS.c.account == row["id"]))

    def all(self) -> list[dict[str, Any]]:
        """Every account: id, name, scopes, created_at, disabled_at, has_password. Never a hash."""
        rows = self._database.rows(sa.select(ACCOUNTS).order_by(ACCOUNTS.c.id))
        return [{**{key: row[key] for key in row if key != "password"}, "has_password": row["password"] is not None} for row in rows]

    def num_people(self) -> int:
        """Accounts that somebody made, the local one not counted."""
        with self._database.begin() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(ACCOUNTS).where(_IS_PERSON)).scalar_one())

    def new_key(
        self, account: str, *, name: str, scopes: Iterable[str] | None = None, requests_per_minute: int | None = None,
        expires_at: datetime | None = None, now: datetime | None = None,
    ) -> NewKey:  # fmt: skip
        """A key of an account, with its scopes or fewer. Raises UsageError for scopes that the account lacks, or a limit below 1."""
        row = self._get(account)
        granted = list(row["scopes"]) if scopes is None else _known(scopes)
        if lacking := [scope for scope in granted if scope not in row["scopes"] and "admin" not in row["scopes"]]:
            raise UsageError(f"the account {account!r} has no scope {lacking[0]!r}; it has {', '.join(row['scopes']) or 'none'}")
        if requests_per_minute is not None and requests_per_minute < 1:
            raise UsageError(f"requests per minute must be at least 1, not {requests_per_minute}")
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        values = {
            "account": row["id"], "name": name.strip() or "key", "shown": secret[: len(KEY_PREFIX) + 4] + "…" + secret[-4:],
            "digest": _digest(secret), "scopes": granted, "requests_per_minute": requests_per_minute, "created_at": _at(now),
            "expires_at": None if expires_at is None else _at(expires_at), "revoked_at": None, "last_used_at": None,
        }  # fmt: skip
        return NewKey(self._database.add(KEYS, values), secret)

    def keys(self, account: str | None = None) -> list[dict[str, Any]]:
        """Keys without their digests, of one account or all; `account` is the account's name."""
        query = sa.select(KEYS, ACCOUNTS.c.name.label("owner")).join(ACCOUNTS, KEYS.c.account == ACCOUNTS.c.id).order_by(KEYS.c.id)
        if account is not None:
            query = query.where(ACCOUNTS.c.name == account)
        rows = self._database.rows(query)
        return [{key: row[key] for key in row if key not in ("digest", "owner")} | {"account": row["owner"]} for row in rows]

    def revoke(self, key: int, *, now: datetime | None = None) -> None:
        """End a key at once. Raises UsageError for an unknown one."""
        with self._database.begin() as connection:
            found = connection.execute(KEYS.update().where(KEYS.c.id == key, KEYS.c.revoked_at.is_(None)).values(revoked_at=_at(now)))
            if found.rowcount == 0 and connection.execute(sa.select(KEYS.c.id).where(KEYS.c.id == key)).scalar() is None:
                raise UsageError(f"there is no key {key}")

    def caller_of_key(self, secret: str, *, now: datetime | None = None) -> Caller | None:
        """Who holds this key; None for one that is unknown, revoked or expired, or whose account is disabled, or the local one and over."""
        at = _at(now)
        query = (
            sa.select(KEYS, ACCOUNTS.c.name.label("owner"), ACCOUNTS.c.scopes.label("owner_scopes"))
            .join(ACCOUNTS, KEYS.c.account == ACCOUNTS.c.id)
            .where(KEYS.c.digest == _digest(secret), KEYS.c.revoked_at.is_(None), ACCOUNTS.c.disabled_at.is_(None))
        )
        rows = self._database.rows(query)
        if not rows or (rows[0]["expires_at"] is not None and rows[0]["expires_at"] <= at):
            return None
        row = rows[0]
        if row["owner"] == LOCAL and self.num_people():
            return None
        if row["last_used_at"] is None or row["last_used_at"][:16] != at[:16]:  # a write a minute at most
            with self._database.begin() as connection:
                connection.execute(KEYS.update().where(KEYS.c.id == row["id"]).values(last_used_at=at))
        return Caller(row["account"], row["owner"], _both(row["scopes"], row["owner_scopes"]), row["id"], row["requests_per_minute"])

    def may_try(self, name: str) -> Allowance:
        """Whether a password for this name may be tried now; counts as a try."""
        return self._tries.ask(_digest(name.casefold()), TRIES_PER_MINUTE)

    def sign_in(self, name: str, password: str, *, now: datetime | None = None) -> str | None:
        """A session's secret, or None. Takes the same time for an unknown name as for a wrong password."""
        row = self._row(name)
        right = check_password(password, row["password"] if row is not None and row["password"] else _NOBODY)
        return self.new_session(name, now=now) if row is not None and row["disabled_at"] is None and right else None

    def new_session(self, name: str, *, now: datetime | None = None) -> str:
        """A session's secret for an account whose holder has been recognised. Sessions that have expired go."""
        row, secret, start = self._get(name), secrets.token_urlsafe(32), now or datetime.now(timezone.utc)
        values = {
            "digest": _digest(secret),
            "account": row["id"],
            "created_at": _at(start),
            "expires_at": _at(start + timedelta(days=SESSION_DAYS)),
        }
        with self._database.begin() as connection:
            connection.execute(SESSIONS.delete().where(SESSIONS.c.expires_at <= _at(start)))
            connection.execute(SESSIONS.insert().values(values))
        return secret

    def caller_of_session(self, secret: str, *, now: datetime | None = None) -> Caller | None:
        """Whose session this is; None when it ended."""
        query = (
            sa.select(ACCOUNTS)
            .join(SESSIONS, SESSIONS.c.account == ACCOUNTS.c.id)
            .where(SESSIONS.c.digest == _digest(secret), SESSIONS.c.expires_at > _at(now), ACCOUNTS.c.disabled_at.is_(None))
        )
        rows = self._database.rows(query)
        return Caller(rows[0]["id"], rows[0]["name"], frozenset(rows[0]["scopes"])) if rows else None

    def sign_out(self, secret: str) -> None:
        """End a session."""
        with self._database.begin() as connection:
            connection.execute(SESSIONS.delete().where(SESSIONS.c.digest == _digest(secret)))

    def _row(self, name: str) -> dict[str, Any] | None:
        rows = self._database.rows(sa.select(ACCOUNTS).where(ACCOUNTS.c.name == name))
        return rows[0] if rows else None

    def _get(self, name: str) -> dict[str, Any]:
        row = self._row(name)
        if row is None:
            known = [account["name"] for account in self.all()]
            raise UsageError(unknown_value(name, known, "account") if known else f"unknown account {name!r}; there is none yet")
        return row


def hash_password(password: str) -> str:
    """`scrypt$SALT$HASH`. Raises UsageError for one that is too short."""
    if len(password) < MIN_PASSWORD:
        raise UsageError(f"a password has at least {MIN_PASSWORD} characters, not {len(password)}")
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"


def check_password(password: str, hashed: str) -> bool:
    """Whether `password` is the one that was hashed."""
    _, salt, digest = hashed.split("$")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(digest))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, dklen=32, **_SCRYPT)


_NOBODY: Final = f"scrypt${bytes(16).hex()}${bytes(32).hex()}"


def _refuse_last_admin(connection: sa.Connection, name: str) -> None:
    others = sa.select(ACCOUNTS.c.scopes).where(_IS_PERSON, ACCOUNTS.c.name != name, ACCOUNTS.c.disabled_at.is_(None))
    rows = connection.execute(others.with_for_update())  # PostgreSQL waits for who is changing one of them; SQLite has one writer anyway
    if not any("admin" in scopes for (scopes,) in rows):
        raise UsageError(f"{name!r} is the only admin; make another one first")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _known(scopes: Iterable[str]) -> list[str]:
    given = set(scopes)
    if unknown := sorted(given - SCOPES.keys()):
        raise UsageError(unknown_value(unknown[0], list(SCOPES), "scope"))
    return [scope for scope in SCOPES if scope in given]


def _both(of_key: Collection[str], of_account: Collection[str]) -> frozenset[str]:
    return frozenset(of_key) if "admin" in of_account else frozenset(of_key) & frozenset(of_account)


def _at(now: datetime | None) -> str:
    return (now or datetime.now(timezone.utc)).astimezone(timezone.utc).isoformat(timespec="seconds")
