"""Conversations of members. Goes in: what was said. Comes out: the same, for its owner alone, or for whoever has the link of a shared one.

A message of a person is on the disk before an answer begins. An answer is written in whole states: `writing` (with what it had at the last
save), then `complete`, `stopped` or `failed`. `writing` messages of a process that was killed are found as `interrupted`. An answer that
was rated and then asked for again is kept as `replaced`: nobody is shown it, and it ends with its conversation.
An answer that rests on a post which was deleted since is shown without its words and without that post; `rated` has it as it was.
Feedback (up, down, edit, unsupported) belongs to a message; `agora train preferences` reads it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, Literal

import sqlalchemy as sa

from agora.config import unknown_value
from agora.database import Database
from agora.errors import UsageError
from agora.server.errors import ApiError
from agora.server.tables import ACCOUNTS, CONVERSATIONS, FEEDBACK, MESSAGES

State = Literal["complete", "writing", "stopped", "failed", "interrupted", "replaced"]
ROLES: Final = ("user", "assistant")
FEEDBACK_KINDS: Final[dict[str, str]] = {
    "up": "a good answer",
    "down": "a bad answer",
    "edit": "`text` is the answer as it should have been",
    "unsupported": "the cited posts do not say what the answer says",
}
MAX_TITLE: Final = 80
MAX_TEXT: Final = 100_000
GONE: Final = "This answer rested on a post that was deleted since."
_KEPT: Final = ("persona", "is_deep")
"""Of the details of an answer that rests on a deleted post: what holds no words of it."""


class Conversations:
    """Every method that takes an `account` sees that account's conversations only; another's are as unknown as those that never were."""

    def __init__(self, database: Database, held: Callable[[Sequence[str]], Collection[str]] | None = None) -> None:
        """`held`: which of these ids of posts the workspace still holds; None where there is no workspace to ask."""
        self._database = database
        self._held = held

    def begin(self, account: int, title: str) -> str:
        """A new conversation; its id."""
        key, now = secrets.token_urlsafe(12), _now()
        shown = _shown(title) or "Untitled"
        row = {"id": key, "account": account, "title": shown, "created_at": now, "updated_at": now, "shared": None}
        with self._database.begin() as connection:
            connection.execute(CONVERSATIONS.insert().values(row))
        return key

    def all(self, account: int, *, limit: int = 200) -> list[dict[str, Any]]:
        """The newest first: id, title, created_at, updated_at, shared."""
        query = (
            sa.select(CONVERSATIONS)
            .where(CONVERSATIONS.c.account == account)
            .order_by(CONVERSATIONS.c.updated_at.desc(), CONVERSATIONS.c.id)
        )
        return [_without_account(row) for row in self._database.rows(query.limit(limit))]

    def read(self, account: int, conversation: str) -> dict[str, Any]:
        """A conversation with its messages. Raises UsageError for one that is not this account's."""
        return self._with_messages(self._own(account, conversation))

    def read_shared(self, token: str) -> dict[str, Any]:
        """A conversation by the link it was shared under. Raises UsageError, also where its owner's account is disabled."""
        query = sa.select(CONVERSATIONS).join(ACCOUNTS, CONVERSATIONS.c.account == ACCOUNTS.c.id)
        rows = self._database.rows(query.where(CONVERSATIONS.c.shared == token, ACCOUNTS.c.disabled_at.is_(None)))
        if not rows:
            raise UsageError("there is no shared conversation under this link; it may have been taken back")
        return self._with_messages(rows[0])

    def rename(self, account: int, conversation: str, title: str) -> None:
        """Give another title. Raises UsageError for an empty one."""
        if not title.strip():
            raise UsageError("the title is empty")
        self._change(account, conversation, title=_shown(title))

    def share(self, account: int, conversation: str, *, is_shared: bool) -> str | None:
        """Make a link under which anyone can read it, or take it back; the link's token."""
        now = self._own(account, conversation)["shared"]
        token = (now or secrets.token_urlsafe(18)) if is_shared else None
        self._change(account, conversation, shared=token)
        return token

    def delete(self, account: int, conversation: str) -> None:
        """Delete a conversation with its messages and their feedback."""
        self._own(account, conversation)
        with self._database.begin() as connection:
            connection.execute(CONVERSATIONS.delete().where(CONVERSATIONS.c.id == conversation))

    def add(
        self,
        account: int,
        conversation: str,
        role: str,
        content: str,
        *,
        state: State = "complete",
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Add a message; its number. `details`: citations, warnings, persona: whatever the page needs to show it again."""
        if role not in ROLES:
            raise UsageError(unknown_value(role, ROLES, "role"))
        if len(content) > MAX_TEXT:
            raise UsageError(f"a message has at most {MAX_TEXT:,} characters, not {len(content):,}")
        self._own(account, conversation)
        row = {
            "conversation": conversation, "role": role, "content": _storable(content), "details": dict(details or {}), "state": state,
            "created_at": _now(),
        }  # fmt: skip
        with self._database.begin() as connection:
            number = _added(connection, row)
            connection.execute(CONVERSATIONS.update().where(CONVERSATIONS.c.id == conversation).values(updated_at=row["created_at"]))
            return number

    def write(self, message: int, content: str, *, state: State, details: Mapping[str, Any] | None = None) -> None:
        """Replace what an answer says so far. Only an answer that is being written changes, or one that another server on the same
        database held for interrupted when it started: who writes it knows better."""
        values: dict[str, Any] = {"content": _storable(content), "state": state}
        if details is not None:
            values["details"] = dict(details)
        with self._database.begin() as connection:
            here = (MESSAGES.c.id == message, MESSAGES.c.state.in_(("writing", "interrupted")))
            connection.execute(MESSAGES.update().where(*here).values(values))

    def ask(
        self, account: int, conversation: str, text: str | None, *, after: int | None = None, details: Mapping[str, Any] | None = None
    ) -> tuple[int, int, list[dict[str, Any]]]:
        """Store a question and the answer that is to be written: their numbers, and the messages up to the question. With `after`, that
        message and what follows go first (an edit); without `text` the last question is answered again. A whole answer that was rated is
        set aside for this. All of it or, with an error, none. Raises UsageError for a conversation that is not the account's, ApiError."""
        if text is not None and len(text) > MAX_TEXT:
            raise ApiError(400, f"a message has at most {MAX_TEXT:,} characters, not {len(text):,}", param="text")
        now, here = _now(), MESSAGES.c.conversation == conversation
        row = {"conversation": conversation, "details": {}, "state": "complete", "created_at": now}
        own = CONVERSATIONS.update().where(CONVERSATIONS.c.id == conversation, CONVERSATIONS.c.account == account)
        with self._database.begin() as connection:
            if connection.execute(own.values(updated_at=now)).rowcount == 0:  # first, so that it waits for others who write here
                raise UsageError(f"there is no conversation {conversation!r}")
            shown = sa.select(MESSAGES).where(here, MESSAGES.c.state != "replaced").order_by(MESSAGES.c.id)
            known = [dict(one) for one in connection.execute(shown).mappings()]
            if after is not None:
                if after not in (one["id"] for one in known):
                    raise ApiError(400, f"There is no message {after} in this conversation", param="after")
                connection.execute(MESSAGES.delete().where(here, MESSAGES.c.id >= after))
                known = [one for one in known if one["id"] < after]
            if text is None:
                while known and known[-1]["role"] == "assistant":
                    _set_aside(connection, known.pop()["id"])
                if not known:
                    raise ApiError(400, "There is no question to answer again; send `text`", param="text")
                question = int(known[-1]["id"])
            else:
                known.append({**row, "role": "user", "content": _storable(text)})
                question = _added(connection, known[-1])
            answer = {**row, "role": "assistant", "content": "", "state": "writing", "details": dict(details or {})}
            number = _added(connection, answer)
        return question, number, self._without_deleted(known)

    def mark_interrupted(self) -> int:
        """Say of unfinished answers that they were interrupted. For a server's start; how many they were. One that another server still
        writes is taken back by its next `write`."""
        with self._database.begin() as connection:
            return int(connection.execute(MESSAGES.update().where(MESSAGES.c.state == "writing").values(state="interrupted")).rowcount)

    def give_feedback(self, account: int, message: int, kind: str, text: str = "") -> int:
        """Add feedback on an answer of one's own conversation; a later one of the same kind replaces it. Raises UsageError."""
        if kind not in FEEDBACK_KINDS:
            raise UsageError(unknown_value(kind, list(FEEDBACK_KINDS), "kind of feedback"))
        if kind == "edit" and not text.strip():
            raise UsageError("an edit needs the answer as it should have been; it was empty")
        if len(text) > MAX_TEXT:
            raise UsageError(f"feedback has at most {MAX_TEXT:,} characters, not {len(text):,}")
        found = self._database.rows(
            sa.select(MESSAGES.c.role).join(CONVERSATIONS, MESSAGES.c.conversation == CONVERSATIONS.c.id)
            .where(MESSAGES.c.id == message, CONVERSATIONS.c.account == account)
        )  # fmt: skip
        if not found or found[0]["role"] != "assistant":
            raise UsageError(f"there is no answer {message} in your conversations")
        replaced = (kind,) if kind in ("edit", "unsupported") else ("up", "down")
        here = (FEEDBACK.c.message == message, FEEDBACK.c.account == account, FEEDBACK.c.kind.in_(replaced))
        row = {"account": account, "message": message, "kind": kind, "text": _storable(text), "created_at": _now()}
        with self._database.begin() as connection:
            connection.execute(FEEDBACK.delete().where(*here))
            key = connection.execute(FEEDBACK.insert().values(row)).inserted_primary_key
            assert key is not None
            return int(key[0])

    def rated(self) -> list[dict[str, Any]]:
        """What tuning by preferences reads, the oldest first: every feedback with the answer (content, details, state), the messages
        `before` it, and the complete answer that was taken `instead` of it, where it was asked for again."""
        columns = (MESSAGES.c.conversation, MESSAGES.c.content, MESSAGES.c.details, MESSAGES.c.state)
        rows = self._database.rows(sa.select(FEEDBACK, *columns).join(MESSAGES).order_by(FEEDBACK.c.id))
        return [{**row, **self._around(row["conversation"], row["message"])} for row in rows]

    def _around(self, conversation: str, message: int) -> dict[str, Any]:
        here = MESSAGES.c.conversation == conversation
        shown = self._database.rows(sa.select(MESSAGES).where(here, MESSAGES.c.state != "replaced").order_by(MESSAGES.c.id))
        after = [one for one in shown if one["id"] > message]
        has_other = bool(after) and after[0]["role"] == "assistant" and after[0]["state"] == "complete"
        before = [
            {"role": one["role"], "content": one["content"]}
            | ({"citations": one["details"]["citations"]} if one["details"].get("citations") else {})
            for one in shown if one["id"] < message
        ]  # fmt: skip
        return {"before": before, "instead": {key: after[0][key] for key in ("content", "details")} if has_other else None}

    def _own(self, account: int, conversation: str) -> dict[str, Any]:
        rows = self._database.rows(sa.select(CONVERSATIONS).where(CONVERSATIONS.c.id == conversation, CONVERSATIONS.c.account == account))
        if not rows:
            raise UsageError(f"there is no conversation {conversation!r}")
        return rows[0]

    def _with_messages(self, row: Mapping[str, Any]) -> dict[str, Any]:
        shown = (MESSAGES.c.conversation == row["id"], MESSAGES.c.state != "replaced")
        messages = self._database.rows(sa.select(MESSAGES).where(*shown).order_by(MESSAGES.c.id))
        whole = [{key: one[key] for key in one if key != "conversation"} for one in messages]
        return {**_without_account(row), "messages": self._without_deleted(whole)}

    def _without_deleted(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        cited = [_cited(one["details"]) for one in messages]
        wanted = sorted({post for posts in cited for post in posts})
        if self._held is None or not wanted:
            return messages
        held = set(self._held(wanted))
        return [one if posts <= held else _blanked(one, held) for one, posts in zip(messages, cited, strict=True)]

    def _change(self, account: int, conversation: str, **values: Any) -> None:
        self._own(account, conversation)
        with self._database.begin() as connection:
            connection.execute(CONVERSATIONS.update().where(CONVERSATIONS.c.id == conversation).values(values))


def _added(connection: sa.Connection, row: Mapping[str, Any]) -> int:
    """The number of a message that was just added."""
    key = connection.execute(MESSAGES.insert().values(dict(row))).inserted_primary_key
    assert key is not None
    return int(key[0])


def _set_aside(connection: sa.Connection, answer: int) -> None:
    """Take an answer away, the last message, before the question is answered again. A whole one that was rated is kept as `replaced`."""
    here = MESSAGES.c.id == answer
    is_kept = sa.and_(MESSAGES.c.state == "complete", sa.exists().where(FEEDBACK.c.message == answer))
    connection.execute(MESSAGES.update().where(here, is_kept).values(state="replaced"))
    connection.execute(MESSAGES.delete().where(here, MESSAGES.c.state != "replaced"))


def _without_account(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in row if key != "account"}


def _cited(details: Mapping[str, Any]) -> set[str]:
    return {str(one["post_id"]) for one in details.get("citations") or () if isinstance(one, Mapping) and one.get("post_id")}


def _blanked(message: Mapping[str, Any], held: Collection[str]) -> dict[str, Any]:
    details = message["details"]
    left = [one for one in details["citations"] if isinstance(one, Mapping) and str(one.get("post_id")) in held]
    kept = {name: details[name] for name in _KEPT if name in details}
    return {**message, "content": GONE, "details": {**kept, "citations": left, "warnings": [], "steps": []}}


def _shown(title: str) -> str:
    return " ".join(_storable(title).split())[:MAX_TITLE]


def _storable(text: str) -> str:
    """Without what a database cannot hold: NUL and halves of surrogate pairs become U+FFFD."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
