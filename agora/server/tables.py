"""The tables of the server: who may do what, what was said, what was done. Times are ISO 8601 in UTC.

Alembic's folder migrations/ makes them; a change is a new version there, and the same change here. A test holds both to each other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

import agora.server.migrations
from agora.database import Database
from agora.settings import Workspace

MIGRATIONS: Final = Path(agora.server.migrations.__file__).parent
VERSION_TABLE: Final = "server_version"
DATABASE_VARIABLE: Final = "AGORA_DATABASE"
DATABASE_FILE: Final = "server.db"
METADATA: Final = sa.MetaData()


def _text(name: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False, **options)


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.Integer, primary_key=True)


def _whose(**options: Any) -> sa.Column[Any]:
    return sa.Column("account", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False, **options)


ACCOUNTS: Final = sa.Table(
    "accounts", METADATA, _id(), _text("name", unique=True), sa.Column("password", sa.Text), sa.Column("scopes", sa.JSON, nullable=False),
    _text("created_at"), sa.Column("disabled_at", sa.Text), sqlite_autoincrement=True,
)  # fmt: skip
KEYS: Final = sa.Table(
    "keys", METADATA, _id(), _whose(index=True), _text("name"), _text("shown"), _text("digest", unique=True),
    sa.Column("scopes", sa.JSON, nullable=False), sa.Column("requests_per_minute", sa.Integer), _text("created_at"),
    sa.Column("expires_at", sa.Text), sa.Column("revoked_at", sa.Text), sa.Column("last_used_at", sa.Text), sqlite_autoincrement=True,
)  # fmt: skip
SESSIONS: Final = sa.Table(
    "sessions", METADATA, _text("digest", primary_key=True), _whose(index=True), _text("created_at"), _text("expires_at"),
)  # fmt: skip
CONVERSATIONS: Final = sa.Table(
    "conversations", METADATA, _text("id", primary_key=True), _whose(index=True), _text("title"), _text("created_at"), _text("updated_at"),
    sa.Column("shared", sa.Text, unique=True),
)  # fmt: skip
MESSAGES: Final = sa.Table(
    "messages", METADATA, _id(),
    sa.Column("conversation", sa.Text, sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("role"), _text("content"), sa.Column("details", sa.JSON, nullable=False), _text("state"), _text("created_at"),
    sqlite_autoincrement=True,
)  # fmt: skip
FEEDBACK: Final = sa.Table(
    "feedback", METADATA, _id(), _whose(index=True),
    sa.Column("message", sa.Integer, sa.ForeignKey("messages.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("kind"), _text("text"), _text("created_at"), sqlite_autoincrement=True,
)  # fmt: skip
AUDIT: Final = sa.Table(
    "audit", METADATA, _id(), _text("at"), _text("who"), _text("action"), _text("what"), sa.Column("details", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip
USAGE: Final = sa.Table(
    "usage", METADATA, _text("day", primary_key=True), _text("who", primary_key=True),
    sa.Column("key", sa.Integer, primary_key=True, autoincrement=False), _text("route", primary_key=True),
    sa.Column("requests", sa.Integer, nullable=False), sa.Column("prompt_tokens", sa.Integer, nullable=False),
    sa.Column("completion_tokens", sa.Integer, nullable=False),
)  # fmt: skip


def open_database(place: Workspace | Path | str) -> Database:
    """The server's database, brought to the present tables: of a workspace (or at the URL in AGORA_DATABASE), of a file, or at a URL.

    Raises DataError, UsageError.
    """
    if isinstance(place, Workspace):
        place = os.environ.get(DATABASE_VARIABLE) or place.folder("server") / DATABASE_FILE
    return Database.open(place, "server database", migrations=MIGRATIONS, version_table=VERSION_TABLE)
