"""Databases of records that people made: rulings, accounts, conversations. SQLite in a file, or any database SQLAlchemy knows by its URL.

    database = Database.open(Path("workspace/server/server.db"), "server database", migrations=..., version_table="server_version")
    with database.begin() as connection: ...

Opened is brought to the present schema. What was committed survives a kill and a loss of power. Several processes may use one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from agora.errors import DatabaseBusyError, DatabaseError, DataError, UsageError

_BUSY_MS = 10_000


class Database:
    """One database and what to call it in errors."""

    def __init__(self, engine: sa.Engine, what: str, where: str) -> None:
        self.engine = engine
        self.what = what
        self.where = where

    @classmethod
    def open(cls, place: Path | str, what: str, *, migrations: Path, version_table: str = "alembic_version") -> Database:
        """The database in an SQLite file (made if absent) or at a URL. `migrations`: Alembic's folder. Two kinds of records may share
        one server's database if their `version_table` differs.

        Raises DataError for a file that is no such database, or one of a newer Agora; UsageError for a URL that cannot be used.
        """
        where = str(place) if isinstance(place, Path) else _without_password(place)
        try:
            if isinstance(place, Path):
                place.parent.mkdir(parents=True, exist_ok=True)
            engine = sa.create_engine(f"sqlite:///{place}" if isinstance(place, Path) else place)
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise UsageError(f"{what} {where} cannot be opened: {error}; example: postgresql+psycopg://user@host/agora") from error
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare_sqlite)
        database = cls(engine, what, where)
        try:
            database._migrate(migrations, version_table)
        except BaseException:
            engine.dispose()
            raise
        return database

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def begin(self) -> Transaction:
        """A transaction: committed at the end of the `with`, undone by an exception. Raises DatabaseError where it fails,
        DatabaseBusyError where others hold it for too long."""
        return Transaction(self)

    def rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """What `query` finds."""
        with self.begin() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def add(self, table: sa.Table, row: dict[str, Any]) -> int:
        """Add a row to a table whose primary key is a number; the number."""
        with self.begin() as connection:
            key = connection.execute(table.insert().values(row)).inserted_primary_key
            assert key is not None
            return int(key[0])

    def _migrate(self, migrations: Path, version_table: str) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(migrations).replace("%", "%%"))
        with self.begin() as connection:
            heads = ScriptDirectory.from_config(config).get_heads()
            context = MigrationContext.configure(connection, opts={"version_table": version_table})
            if tuple(context.get_current_heads()) == tuple(heads):
                return
            config.attributes |= {"connection": connection, "version_table": version_table}
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise DataError(f"{self.what} {self.where} is of another version of Agora: {error}; update Agora") from error


class Transaction:
    """A transaction whose database errors name the database."""

    def __init__(self, database: Database) -> None:
        self._context = database.engine.begin()
        self._database = database

    def __enter__(self) -> sa.Connection:
        try:
            return self._context.__enter__()
        except SQLAlchemyError as error:
            raise self._explained(error) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._context.__exit__(kind, error, trace)
        except SQLAlchemyError as failed:
            raise self._explained(failed) from failed
        if isinstance(error, SQLAlchemyError):
            raise self._explained(error) from error

    def _explained(self, error: SQLAlchemyError) -> DatabaseError:
        cause = getattr(error, "orig", None) or error
        kind = DatabaseBusyError if _is_busy(cause) else DatabaseError
        return kind(f"{self._database.what} {self._database.where} cannot be used: {cause}")


def _is_busy(cause: BaseException) -> bool:
    """Whether a driver's error says that others hold a lock: SQLite's names, PostgreSQL's states."""
    name = str(getattr(cause, "sqlite_errorname", ""))
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or getattr(cause, "sqlstate", None) in ("55P03", "40P01", "40001")


def _prepare_sqlite(connection: Any, record: Any) -> None:
    """Readers do not wait for a writer; a commit is on the disk; what is deleted is overwritten; rows refer to rows that exist."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "with this URL"
