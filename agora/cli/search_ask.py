"""`agora search ask`: a question answered from posts. The area's file registers it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli.asking import moment, writing_model
from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command, visible
from agora.cli.query_argument import QueryCommand
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.search.answers import Answer


def register(app: typer.Typer) -> None:
    """Add the command to the area `search`."""
    app.command("ask", cls=QueryCommand)(ask)


def ask(
    question: Annotated[str, typer.Argument(help="What to answer from posts; see docs/search_answers.md.")],
    model: Annotated[str | None, typer.Option(help="Let this model write (workspace or folder); else posts are quoted.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Let an OpenAI-compatible server write: its URL, ending in /v1.")] = None,
    endpoint_model: Annotated[str, typer.Option(help="The model's name at the endpoint.")] = "default",
    now: Annotated[str | None, typer.Option(help="Ask as of this time (ISO, UTC) instead of now.", show_default=False)] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not take a stored answer.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from posts: each sentence with the posts it rests on, or nothing where posts do not support an answer.

    With --endpoint the question and the posts found leave this machine; a key is read from AGORA_ENDPOINT_KEY.

    Example: agora search ask "What do people say about the night trains since Monday?"
    """
    from agora.search.answers import GeneratedWriter
    from agora.search.answers.workspace import ask_workspace

    place = Workspace.find(workspace)
    speaker = writing_model(place, model, endpoint, endpoint_model)
    writer = GeneratedWriter(speaker) if speaker is not None else None
    answer = ask_workspace(place, question, writer=writer, now=moment(now), fresh=fresh)
    if as_json:
        emit(answer_as_json(answer), as_json=True)
        return
    _print(answer)
    next_command(f"agora search find {shlex.quote(visible(answer.query))}")


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """An answer as plain values. Texts of posts are as written: escape them before they are shown in a page."""
    return {
        "question": answer.question, "query": answer.query, "writer": answer.writer, "abstained": answer.abstained,
        "confidence": round(answer.confidence, 4), "warnings": list(answer.warnings),
        "sentences": [
            {
                "text": one.text, "post_ids": list(one.post_ids), "labelled": list(one.labelled),
                "quotes": [{"text": quote.text, "post_id": quote.post_id, "start": quote.start} for quote in one.quotes],
            }
            for one in answer.sentences
        ],
        "posts": [
            {
                "id": one.id, "author": one.author, "created_at": one.created_at.isoformat(), "text": one.text, "label": one.label,
                "voice": one.voice, "alike": one.alike,
            }
            for one in answer.cited
        ],
        "removed": [{"text": one.text, "reason": one.reason} for one in answer.refused],
    }  # fmt: skip


def _print(answer: Answer) -> None:
    from agora.chat.shown import safe_text

    numbers = {one.id: number for number, one in enumerate(answer.cited, start=1)}
    if answer.abstained:
        print(visible(answer.abstained))
    for sentence in answer.sentences:
        cites = "".join(f"[{numbers[post_id]}]" for post_id in sentence.post_ids)
        print(f"{visible(safe_text(sentence.text))} {cites}{' (labelled as coordinated)' if sentence.labelled else ''}")
    for one in answer.cited:
        alike = f"  +{one.alike} alike" if one.alike else ""
        print(f"  [{numbers[one.id]}] {visible(one.id)}  @{visible(one.author)}  {one.created_at:%Y-%m-%d %H:%M}{alike}")
        if one.label:
            print(f"      [coordinated] {visible(one.label)}")
    for warning in answer.warnings:
        typer.echo(f"warning: {visible(warning)}", err=True)
