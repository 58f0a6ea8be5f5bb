"""`agora model promote`: which model is served. The area's file registers it."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command, terminal_progress
from agora.errors import MissingExtraError, UsageError
from agora.settings import Workspace


def register(app: typer.Typer) -> None:
    """Give `app` the command."""
    app.command()(promote)


def promote(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL] [KEY=VALUE]...", help="Model or run, then settings.", show_default=False)
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Serve what was served before the last promotion.")] = False,
    force: Annotated[
        str | None, typer.Option("--force", metavar="REASON", help="Promote also what is refused; the reason is kept.")
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="Corpus whose held-out authors to measure on (default: main).")] = None,
    text: Annotated[list[Path] | None, typer.Option(help="Text file to measure on instead; may be repeated.", show_default=False)] = None,
    documents: Annotated[int, typer.Option(min=2, help="Measure on this many documents at most, evenly spaced.")] = 200,
    keep: Annotated[int, typer.Option(min=1, help="Keep the models of so many promotions; older ones go, their records stay.")] = 5,
    by: Annotated[str | None, typer.Option(help="Who promotes, for the record.", show_default="your user name")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a model in the place of the one that is served, if the evaluation suite does not get worse. A running server takes it up.

    Measured against the served one, item by item: bits per byte of held-out authors, answers on posts, what of them the posts support,
    preferences of members. How much worse each may get: promote.bits_per_byte=0.02 promote.answers=0.1 promote.own_sentences=0.15
    promote.preferences=0.1. The record of each promotion, with its figures, is in the workspace (serving/); the audit log has who switched.

    Example: agora model promote chat-2
    """
    try:
        from agora.server import promote as promoting
        from agora.server.suite import Tolerances
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "sqlalchemy", "serve", "agora model promote") from error
    from agora.config import apply_overrides, parse_assignments

    place, who = Workspace.find(workspace), by or getpass.getuser()
    names = [word for word in words or [] if "=" not in word]
    settings = {key.removeprefix("promote."): value for key, value in parse_assignments([w for w in words or [] if "=" in w]).items()}
    if rollback:
        if words:
            raise UsageError("--rollback goes back to the model before; it takes no model and no settings")
        back = promoting.roll_back(place, by=who, reason=force or "")
        emit({"served": back.name, "number": back.number, "by": back.by, "at": back.at}, as_json=as_json)
        next_command("agora serve")
        return
    if len(names) != 1:
        raise UsageError("name one model or run to promote; example: agora model promote chat-2")
    outcome = promoting.promote(
        place, names[0], by=who, tolerances=apply_overrides(Tolerances(), settings, "promote"), corpus=corpus, texts=text or (),
        num_documents=documents, force=force, keep=keep, progress=terminal_progress,
    )  # fmt: skip
    result = promoting.as_plain(outcome)
    if not as_json:
        del result["measures"]
        result |= {one.name: str(one).partition(": ")[2] for one in outcome.verdict.measures}
    emit(result, as_json=as_json)
    if outcome.promoted is None:
        next_command(f'agora model promote {names[0]} --force "why it is right all the same"')
        raise typer.Exit(1)
    next_command("agora serve")
