"""`agora accounts`: who may use the server, and their API keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command
from agora.errors import MissingExtraError, UsageError
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.server.accounts import Accounts
    from agora.server.records import AuditLog

app = typer.Typer(no_args_is_help=True, help="People who may use the server: accounts, scopes, API keys.")

NameArgument = Annotated[str, typer.Argument(help="The account's name.")]
ScopeOption = Annotated[
    list[str] | None, typer.Option("--scope", help="member, analyst, advertiser, engineer or admin; may be repeated.", show_default=False)
]
PasswordOption = Annotated[bool, typer.Option("--password", help="Read a password (one line of stdin), for signing in on the web page.")]
_WHO = "command line"


@contextmanager
def _opened(workspace: Path | None) -> Iterator[tuple[Accounts, AuditLog]]:
    try:
        from agora.server.accounts import Accounts
        from agora.server.records import AuditLog
        from agora.server.tables import open_database
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "sqlalchemy", "serve", "agora accounts") from error
    database = open_database(Workspace.find(workspace).create())
    try:
        yield Accounts(database), AuditLog(database)
    finally:
        database.close()


def _emit_rows(what: str, title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json or not rows:
        emit({what: rows}, as_json=as_json)
    else:
        emit({str(row[title]): {key: row[key] for key in row if key != title} for row in rows}, as_json=False, keys_are_data=True)


def _read_password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UsageError("--password reads a line of stdin, and there is none; example: agora accounts add ada --password < file")
    return line


@app.command()
def add(
    name: NameArgument,
    scope: ScopeOption = None,
    password: PasswordOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account; without --scope a member.

    Example: agora accounts add ada --scope analyst --password
    """
    with _opened(workspace) as (accounts, audit):
        secret = _read_password() if password else None
        accounts.add(name, scopes=scope or ["member"], password=secret)
        audit.add(_WHO, "accounts.add", name, scopes=scope or ["member"])
    emit({"name": name, "scopes": ", ".join(scope or ["member"]), "password": password}, as_json=as_json)
    next_command(f"agora accounts key {name}")


@app.command("list")
def list_accounts(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """All accounts.

    Example: agora accounts list
    """
    with _opened(workspace) as (accounts, _):
        rows = accounts.all()
    _emit_rows("accounts", "name", rows, as_json)
    next_command("agora accounts add NAME" if not rows else "agora accounts keys")


@app.command()
def change(
    name: NameArgument,
    scope: ScopeOption = None,
    password: PasswordOption = False,
    disable: Annotated[bool, typer.Option("--disable", help="End the account's keys and sessions.")] = False,
    enable: Annotated[bool, typer.Option("--enable", help="Undo --disable.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change an account's scopes or password, disable or enable it.

    Example: agora accounts change ada --scope analyst --scope engineer
    """
    if disable and enable:
        raise UsageError("--disable and --enable exclude each other")
    if not (scope or password or disable or enable):
        raise UsageError("nothing to change; give --scope, --password, --disable or --enable")
    with _opened(workspace) as (accounts, audit):
        secret = _read_password() if password else None
        accounts.change(name, scopes=scope, password=secret, is_disabled=disable if disable or enable else None)
        audit.add(_WHO, "accounts.change", name, scopes=scope, password=password, disable=disable, enable=enable)
        row = next(row for row in accounts.all() if row["name"] == name)
    emit(row, as_json=as_json)
    next_command("agora accounts list")


@app.command()
def key(
    account: NameArgument,
    name: Annotated[str, typer.Option("--name", help="What the key is for.")] = "key",
    scope: ScopeOption = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Limit of this key.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key of an account, with its scopes or fewer. The key is shown once.

    Example: agora accounts key ada --name laptop
    """
    with _opened(workspace) as (accounts, audit):
        made = accounts.new_key(account, name=name, scopes=scope, requests_per_minute=requests_per_minute)
        audit.add(_WHO, "keys.add", str(made.id), account=account)
    emit({"id": made.id, "account": account, "key": made.secret, "shown": "once; only its hash is kept"}, as_json=as_json)
    next_command("agora accounts keys")


@app.command()
def keys(
    account: Annotated[str | None, typer.Argument(help="Only of this account.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """All API keys, without their secrets.

    Example: agora accounts keys
    """
    with _opened(workspace) as (accounts, _):
        rows = accounts.keys(account)
    _emit_rows("keys", "id", rows, as_json)
    next_command("agora accounts revoke NUMBER" if rows else "agora accounts key ACCOUNT")


@app.command()
def revoke(
    number: Annotated[int, typer.Argument(help="The key's number in `agora accounts keys`.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an API key at once.

    Example: agora accounts revoke 3
    """
    with _opened(workspace) as (accounts, audit):
        accounts.revoke(number)
        audit.add(_WHO, "keys.revoke", str(number))
    emit({"revoked": number}, as_json=as_json)
    next_command("agora accounts keys")
