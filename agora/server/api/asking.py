"""Asking in a conversation, as server-sent events.

POST /api/v1/conversations/{id}/ask

    event: step|text|citation|warning|error|done      data: JSON (agora/server/asking.py)

The first event is `begun` with the numbers of the stored question and answer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from agora.errors import UsageError
from agora.server.access import Asking, needs
from agora.server.api.forms import MAX_ID, Body
from agora.server.asking import Asker
from agora.server.services import found_or_404

Persona = Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]


class Question(Body):
    """`text`: the question; without it the last one is answered again. `after`: that message and all later ones go first (an edit).
    `persona`: how it speaks (neutral, fun). `mode`: one search, or several with a report."""

    text: Annotated[str, Field(min_length=1, max_length=8_000)] | None = None
    after: Annotated[int, Field(ge=0, le=MAX_ID)] | None = None
    persona: Persona = "neutral"
    mode: Literal["answer", "research"] = "answer"


def asking_routes(asker: Asker) -> APIRouter:
    """The route above."""
    router = APIRouter(prefix="/api/v1", tags=["conversations"], dependencies=[needs("member")])

    @router.post(
        "/conversations/{talk}/ask",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events until `done`"}},
    )
    async def ask(talk: Annotated[str, Path(max_length=64)], body: Question, caller: Asking) -> StreamingResponse:
        """Ask; the answer comes piece by piece and is stored in the conversation."""

        def begin() -> Any:
            try:
                is_deep = body.mode == "research"
                return asker.begin(caller.account, talk, body.text, after=body.after, persona=body.persona, is_deep=is_deep)
            except UsageError as error:
                raise found_or_404(error) from error

        question, answer, asked = await run_in_threadpool(begin)

        async def lines() -> AsyncIterator[str]:
            yield _line("begun", {"question": question, "answer": answer})
            async with aclosing(asker.events(answer, asked)) as events:
                async for event in events:
                    yield _line(event.kind, event.data)

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-cache"})

    return router


def _line(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"
