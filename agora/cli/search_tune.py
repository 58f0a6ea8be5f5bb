"""`agora search tune`: ranking trained on one's own judgements. The area's file registers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command, terminal_progress
from agora.settings import Workspace


def register(app: typer.Typer) -> None:
    """Add the command to the area `search`."""
    app.command("tune")(tune)


def tune(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Folder with queries, qrels and mostly corpus (Parquet); see docs/search_ranking.md."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to (default: into the workspace, to be used).", show_default=False)
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option("--embeddings", help="Vectors to train with (default: those of the index).", show_default=False),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the order of hits on judged queries, and say how much better it is on queries that it has not seen (MAP@5).

    Without corpus.parquet the judgements are about posts of the workspace. What is written, a re-ranker (if it helps) and a confidence,
    is used by find and ask from then on; remove reranker.json and confidence.json from the workspace's folder search to go back.

    Example: agora search tune judgements
    """
    from agora.search.workspace import tune_workspace

    tuned, folder = tune_workspace(Workspace.find(workspace), data, out=out, embeddings=embeddings, progress=terminal_progress)
    result = {
        "trained_on_queries": tuned.num_trained_on, "held_out_queries": tuned.num_held_out, "held_out": tuned.how,
        "map_at_5_without": round(tuned.before, 4), "map_at_5_with": round(tuned.after, 4),
        "better": tuned.better, "worse": tuned.worse, "auroc_of_confidence": round(tuned.auroc, 4), "folder": folder,
    }  # fmt: skip
    emit(result, as_json=as_json)
    if not tuned.helps:
        typer.echo("no re-ranker was written: on queries that it has not seen it does not help", err=True)
    next_command('agora search find "..." --explain')
