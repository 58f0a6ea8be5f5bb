"""What was done and how much was used. Goes in: actions and counts. Comes out: the audit log and usage by day.

The audit log is only added to: verdicts, deletions, keys, accounts, promotions, with who and when. Usage is summed in memory and written
every FLUSH_S seconds, in a thread, and at the end; a kill loses that much of it. What a database does not take is kept for the next time.
Neither holds what somebody asked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final

import sqlalchemy as sa

from agora.database import Database
from agora.server.tables import AUDIT, KEYS, USAGE

FLUSH_S: Final = 10.0
NO_KEY: Final = 0
"""Stands for sessions, and for the key that a server was started with."""
_COUNTED: Final = ("requests", "prompt_tokens", "completion_tokens")
log = logging.getLogger(__name__)


class AuditLog:
    """Who did what to what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, who: str, action: str, what: str, **details: Any) -> None:
        """`action` in the form `keys.revoke`; `what` is the thing's id."""
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._database.add(AUDIT, {"at": at, "who": who, "action": action, "what": what, "details": details})

    def read(self, *, action: str | None = None, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest first. `action` may be a prefix (`keys`); `before` is the id of the last one seen."""
        query = sa.select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        if action is not None:
            query = query.where(sa.or_(AUDIT.c.action == action, AUDIT.c.action.startswith(f"{action}.", autoescape=True)))
        if before is not None:
            query = query.where(AUDIT.c.id < before)
        return self._database.rows(query)


class UsageLog:
    """Requests and tokens by day, caller, key and route."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._mutex = threading.Lock()
        self._writing = threading.Lock()
        self._counts: dict[tuple[str, str, int, str], Counter[str]] = {}
        self._flushed = clock()

    def add(
        self, who: str, route: str, *, key: int | None = None, requests: int = 0, prompt_tokens: int = 0, completion_tokens: int = 0
    ) -> None:
        """Count. When it is time, a thread writes: who counts never waits for the database."""
        day = datetime.now(timezone.utc).date().isoformat()
        with self._mutex:
            self._count((day, who, key or NO_KEY, route), requests, prompt_tokens, completion_tokens)
            is_due = self._clock() - self._flushed >= FLUSH_S and not self._writing.locked()
            if is_due:
                self._flushed = self._clock()
        if is_due:
            threading.Thread(target=self.flush, name="usage", daemon=True).start()

    def flush(self) -> None:
        """Write what was counted. Where the database fails, the log says so and the counts wait for the next time."""
        with self._writing:
            with self._mutex:
                counts, self._counts, self._flushed = self._counts, {}, self._clock()
            if not counts:
                return
            try:
                self._write(counts)
            except Exception:
                log.exception("usage could not be written and is kept for later")
                with self._mutex:
                    for place, more in counts.items():
                        self._count(place, *(more[name] for name in _COUNTED))

    def _count(self, place: tuple[str, str, int, str], requests: int, prompt_tokens: int, completion_tokens: int) -> None:
        counts = self._counts.setdefault(place, Counter())
        counts.update(requests=requests, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)

    def _write(self, counts: dict[tuple[str, str, int, str], Counter[str]]) -> None:
        with self._database.begin() as connection:
            for (day, who, key, route), more in sorted(counts.items()):
                here = (USAGE.c.day == day, USAGE.c.who == who, USAGE.c.key == key, USAGE.c.route == route)
                changed = connection.execute(USAGE.update().where(*here).values({name: USAGE.c[name] + more[name] for name in _COUNTED}))
                if changed.rowcount == 0:
                    new = {"day": day, "who": who, "key": key, "route": route}
                    connection.execute(USAGE.insert().values(**new, **{name: more[name] for name in _COUNTED}))

    def read(self, *, since: str | None = None, who: str | None = None, key: int | None = None) -> list[dict[str, Any]]:
        """Rows by day, caller, key and route, with `key_name`; `since` is a day. `key` is None where no key was used."""
        self.flush()
        joined = USAGE.outerjoin(KEYS, USAGE.c.key == KEYS.c.id)
        query = sa.select(USAGE, KEYS.c.name.label("key_name")).select_from(joined)
        query = query.order_by(USAGE.c.day.desc(), USAGE.c.who, USAGE.c.key, USAGE.c.route)
        for column, wanted in ((USAGE.c.who, who), (USAGE.c.key, key)):
            query = query if wanted is None else query.where(column == wanted)
        if since is not None:
            query = query.where(USAGE.c.day >= since)
        return [{**row, "key": row["key"] or None} for row in self._database.rows(query)]
