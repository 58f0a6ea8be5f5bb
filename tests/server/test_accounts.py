"""Accounts, keys, sessions: who may do what, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from agora.database import Database
from agora.errors import UsageError
from agora.server.accounts import KEY_PREFIX, SESSION_DAYS, Accounts
from agora.server.records import FLUSH_S, AuditLog, UsageLog
from agora.server.tables import ACCOUNTS, METADATA, MIGRATIONS, VERSION_TABLE, open_database

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
PASSWORD = "correct horse battery"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    place = tmp_path / "server.db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    opened = open_database(place)
    yield opened
    opened.close()


@pytest.fixture
def accounts(database: Database) -> Accounts:
    return Accounts(database)


def test_migrations_make_the_tables_that_the_code_names(database: Database) -> None:
    with database.begin() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": lambda name, kind, parents: name != VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_usage_counted_before_it_was_counted_by_key_is_kept(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.begin() as connection:  # back to the first version, with something counted
        connection.execute(sa.text("DROP TABLE usage"))
        before = "day TEXT, who TEXT, route TEXT, requests INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER"
        connection.execute(sa.text(f"CREATE TABLE usage ({before}, PRIMARY KEY (day, who, route))"))
        connection.execute(sa.text("INSERT INTO usage VALUES ('2026-05-01', 'ada', '/v1/models', 3, 1, 2)"))
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '0001'"))
        config.attributes |= {"connection": connection, "version_table": VERSION_TABLE}
        command.upgrade(config, "head")
    (row,) = UsageLog(database).read()
    assert (row["day"], row["who"], row["key"], row["requests"], row["prompt_tokens"]) == ("2026-05-01", "ada", None, 3, 1)


def test_a_key_is_known_by_its_secret_and_only_its_hash_is_kept(database: Database, accounts: Accounts, tmp_path: Path) -> None:
    accounts.add("ada", scopes=["analyst", "member"])
    made = accounts.new_key("ada", name="laptop", scopes=["member"], requests_per_minute=7)
    caller = accounts.caller_of_key(made.secret)
    assert caller is not None and made.secret.startswith(KEY_PREFIX)
    assert (caller.name, caller.scopes, caller.requests_per_minute) == ("ada", {"member"}, 7)
    assert caller.may("member") and not caller.may("analyst")
    with database.begin() as connection:
        everything = str([list(connection.execute(sa.select(table))) for table in METADATA.sorted_tables])
    assert made.secret not in everything and accounts.caller_of_key(made.secret[:-1]) is None


def test_keys_end_by_revoking_by_time_and_with_their_account(accounts: Accounts) -> None:
    accounts.add("ada", scopes=["member"])
    accounts.add("root", scopes=["admin"])
    first = accounts.new_key("ada", name="a", expires_at=NOW + timedelta(hours=1), now=NOW)
    second = accounts.new_key("ada", name="b", now=NOW)
    assert accounts.caller_of_key(first.secret, now=NOW) is not None
    assert accounts.caller_of_key(first.secret, now=NOW + timedelta(hours=2)) is None
    accounts.revoke(first.id)
    assert accounts.caller_of_key(first.secret, now=NOW) is None
    assert accounts.caller_of_key(second.secret) is not None
    accounts.change("ada", is_disabled=True)
    assert accounts.caller_of_key(second.secret) is None
    accounts.change("ada", is_disabled=False)
    assert accounts.caller_of_key(second.secret) is not None
    with pytest.raises(UsageError, match="no key 99"):
        accounts.revoke(99)


def test_a_key_never_has_more_scopes_than_its_account_has_now(accounts: Accounts) -> None:
    accounts.add("ada", scopes=["member", "analyst"])
    with pytest.raises(UsageError, match="no scope 'admin'"):
        accounts.new_key("ada", name="k", scopes=["admin"])
    made = accounts.new_key("ada", name="k")
    accounts.change("ada", scopes=["member"])
    caller = accounts.caller_of_key(made.secret)
    assert caller is not None and caller.scopes == {"member"}


def test_sessions_need_the_password_and_end(accounts: Accounts) -> None:
    accounts.add("ada", scopes=["member"], password=PASSWORD)
    assert accounts.sign_in("ada", "wrong horse battery") is None
    assert accounts.sign_in("eve", PASSWORD) is None
    session = accounts.sign_in("ada", PASSWORD, now=NOW)
    assert session is not None
    caller = accounts.caller_of_session(session, now=NOW)
    assert caller is not None and caller.name == "ada"
    assert accounts.caller_of_session(session, now=NOW + timedelta(days=SESSION_DAYS, seconds=1)) is None
    accounts.sign_out(session)
    assert accounts.caller_of_session(session, now=NOW) is None


def test_a_new_password_and_a_disabled_account_end_sessions(accounts: Accounts) -> None:
    accounts.add("ada", scopes=["member"], password=PASSWORD)
    for change in ({"password": "another long one"}, {"is_disabled": True}):
        session = accounts.new_session("ada")
        assert accounts.caller_of_session(session) is not None
        accounts.change("ada", **change)  # type: ignore[arg-type]
        assert accounts.caller_of_session(session) is None
    assert accounts.sign_in("ada", "another long one") is None


def test_account_without_a_password_cannot_sign_in(accounts: Accounts) -> None:
    accounts.add("robot", scopes=["member"])
    assert accounts.sign_in("robot", "") is None
    assert accounts.sign_in("robot", "0" * 32) is None


def test_the_last_admin_stays(accounts: Accounts) -> None:
    accounts.add("root", scopes=["admin"])
    for change in ({"scopes": ["member"]}, {"is_disabled": True}):
        with pytest.raises(UsageError, match="only admin"):
            accounts.change("root", **change)  # type: ignore[arg-type]
    accounts.ensure("local", scopes=["admin"])  # nobody can sign in as that
    with pytest.raises(UsageError, match="only admin"):
        accounts.change("root", is_disabled=True)
    accounts.add("second", scopes=["admin"])
    accounts.change("root", scopes=["member"])


def test_two_admins_cannot_end_each_other(accounts: Accounts, database: Database) -> None:
    for name in ("ada", "bob"):
        accounts.add(name, scopes=["admin"])
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as connection:  # ada's end, not yet committed
            connection.execute(ACCOUNTS.update().where(ACCOUNTS.c.name == "ada").values(disabled_at="2026-05-01T12:00:00+00:00"))
            ending = pool.submit(accounts.change, "bob", is_disabled=True)
            assert not wait([ending], timeout=0.3).done
        with pytest.raises(UsageError, match="only admin"):
            ending.result()


def test_requests_that_come_together_first_all_get_the_account_of_this_machine(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    made, row, seen = accounts.ensure("local", scopes=["admin"]), accounts._row, list[str]()

    def late(name: str) -> dict[str, Any] | None:  # looked before the other one had made it
        seen.append(name)
        return row(name) if len(seen) > 1 else None

    monkeypatch.setattr(accounts, "_row", late)
    assert accounts.ensure("local", scopes=["admin"]) == made and len(accounts.all()) == 1


@pytest.mark.parametrize(
    ("name", "scopes", "password", "message"),
    [
        ("", ["member"], None, "account name ''"), ("a b", ["member"], None, "account name 'a b'"), ("x" * 65, ["member"], None, "1-64"),
        ("ada", ["analist"], None, "did you mean 'analyst'"), ("ada", ["member"], "short", "at least 10"),
        ("taken", [], None, "exists already"),
    ],
)  # fmt: skip
def test_wrong_accounts_are_refused(accounts: Accounts, name: str, scopes: list[str], password: str | None, message: str) -> None:
    accounts.add("taken", scopes=[])
    with pytest.raises(UsageError, match=message):
        accounts.add(name, scopes=scopes, password=password)
    assert [row["name"] for row in accounts.all()] == ["taken"]


def test_audit_log_is_read_newest_first_and_in_pages(database: Database) -> None:
    audit = AuditLog(database)
    for number in range(5):
        audit.add("ada", "keys.revoke" if number % 2 else "keystone.add", str(number), reason="lost")
    assert [row["what"] for row in audit.read(action="keys")] == ["3", "1"]
    page = audit.read(limit=2)
    assert [row["what"] for row in page + audit.read(before=page[-1]["id"])] == ["4", "3", "2", "1", "0"]
    assert page[0]["details"] == {"reason": "lost"}


def test_usage_is_summed_by_day_caller_and_route_over_processes(database: Database) -> None:
    one, two = UsageLog(database), UsageLog(database)
    for log in (one, two):
        log.add("ada", "/v1/chat/completions", requests=1, prompt_tokens=10, completion_tokens=3)
    one.flush()
    rows = two.read(who="ada")
    assert [(row["requests"], row["prompt_tokens"], row["completion_tokens"]) for row in rows] == [(2, 20, 6)]
    assert two.read(since="2999-01-01") == []


def test_a_database_that_is_locked_delays_nobody_and_loses_no_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.database._BUSY_MS", 300)
    opened, now = open_database(tmp_path / "server.db"), [0.0]
    usage = UsageLog(opened, clock=lambda: now[0])
    with closing(sqlite3.connect(tmp_path / "server.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        now[0] = FLUSH_S + 1
        begun = time.perf_counter()
        usage.add("ada", "/v1/models", requests=1)
        assert time.perf_counter() - begun < 0.2
        usage.flush()  # waits for the thread and fails too, without a word to the caller
        other.execute("ROLLBACK")
    usage.add("ada", "/v1/models", requests=1)
    assert [row["requests"] for row in usage.read()] == [2]
    opened.close()


@pytest.mark.parametrize("name", ["local", "Local", "LOCAL"])
def test_nobody_takes_the_name_of_this_machine(accounts: Accounts, name: str) -> None:
    with pytest.raises(UsageError, match="reserved"):
        accounts.add(name, scopes=["admin"], password=PASSWORD)
    assert accounts.ensure("local", scopes=["admin"]).name == "local" and accounts.num_people() == 0
    with pytest.raises(UsageError, match="no password"):
        accounts.change("local", password=PASSWORD)
    assert [one["has_password"] for one in accounts.all()] == [False]
