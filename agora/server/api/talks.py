"""One's own conversations, and feedback on answers.

GET /api/v1/conversations         POST (begin)
GET, PATCH, DELETE /api/v1/conversations/{id}       GET /api/v1/shared/{token} (no sign-in)
POST /api/v1/messages/{id}/feedback
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from agora.errors import UsageError
from agora.server.access import Asking, needs
from agora.server.api.forms import MAX_ID, Body, Done, LongText, Words
from agora.server.conversations import Conversations
from agora.server.errors import ApiError

Id = Annotated[str, Path(max_length=64)]
MessageId = Annotated[int, Path(ge=0, le=MAX_ID)]


class NewTalk(Body):
    title: Words = ""


class TalkChange(Body):
    title: Words | None = None
    is_shared: bool | None = None


class Talk(BaseModel):
    """`shared`: the token of its link, where it has one."""

    id: str
    title: str
    created_at: str
    updated_at: str
    shared: str | None


class Message(BaseModel):
    id: int
    role: str
    content: str
    details: dict[str, Any]
    state: str
    created_at: str


class WholeTalk(Talk):
    messages: list[Message]


class Feedback(Body):
    kind: Words
    text: LongText = ""


def talk_routes(talks: Conversations) -> APIRouter:
    """The routes above."""
    router = APIRouter(prefix="/api/v1", tags=["conversations"])
    member = [needs("member")]

    @router.get("/conversations", dependencies=member)
    def list_talks(caller: Asking, limit: Annotated[int, Query(ge=1, le=1_000)] = 200) -> list[Talk]:
        """One's own, the newest first."""
        return [Talk(**row) for row in talks.all(caller.account, limit=limit)]

    @router.post("/conversations", dependencies=member, status_code=201)
    def begin_talk(body: NewTalk, caller: Asking) -> Talk:
        """Begin one."""
        return Talk(**_found(lambda: talks.read(caller.account, talks.begin(caller.account, body.title))))

    @router.get("/conversations/{talk}", dependencies=member)
    def read_talk(talk: Id, caller: Asking) -> WholeTalk:
        """One of one's own, with its messages."""
        return WholeTalk(**_found(lambda: talks.read(caller.account, talk)))

    @router.patch("/conversations/{talk}", dependencies=member)
    def change_talk(talk: Id, body: TalkChange, caller: Asking) -> Talk:
        """Another title; a link for others, or none."""
        _found(lambda: talks.read(caller.account, talk))
        if body.title is not None:
            talks.rename(caller.account, talk, body.title)
        if body.is_shared is not None:
            talks.share(caller.account, talk, is_shared=body.is_shared)
        return Talk(**_found(lambda: talks.read(caller.account, talk)))

    @router.delete("/conversations/{talk}", dependencies=member)
    def delete_talk(talk: Id, caller: Asking) -> Done:
        """Delete it with its messages."""
        _found(lambda: talks.read(caller.account, talk))
        talks.delete(caller.account, talk)
        return Done()

    @router.get("/shared/{token}")
    def read_shared(token: Id) -> WholeTalk:
        """A conversation that its owner shared. Needs no sign-in."""
        return WholeTalk(**_found(lambda: talks.read_shared(token)))

    @router.post("/messages/{message}/feedback", dependencies=member, status_code=201)
    def give_feedback(message: MessageId, body: Feedback, caller: Asking) -> Done:
        """up, down, edit (with the answer as it should have been) or unsupported."""
        talks.give_feedback(caller.account, message, body.kind, body.text)
        return Done()

    return router


def _found(read: Any) -> dict[str, Any]:
    try:
        row: dict[str, Any] = read()
    except UsageError as error:
        raise ApiError(404, str(error), code="not_found") from error
    return row
