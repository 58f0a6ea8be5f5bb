"""`agora search`: the index of posts, and finding in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli import search_ask, search_tune, search_watch
from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command, terminal_progress, visible
from agora.cli.query_argument import QueryCommand
from agora.cli.running import seconds_of, stopped_by_signals
from agora.errors import UsageError
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.search.find import Hit, Results

app = typer.Typer(help='Search: index posts, find them.\n\nExample: agora search find "flood warning"', no_args_is_help=True)

search_ask.register(app)
search_watch.register(app)
search_tune.register(app)

MATCHES = ("all", "any", "auto")


@app.command()
def index(
    embeddings: Annotated[
        str | None,
        typer.Option("--embeddings", help="What makes vectors: auto, none, lexical, minilm or a model folder (default: as last time)."),
    ] = None,
    compact: Annotated[bool, typer.Option("--compact", help="Write the index anew, without the bytes of deleted posts.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes in and goes, until interrupted.")] = False,
    for_: Annotated[
        str | None, typer.Option("--for", help="With --follow: stop after this time: 90s, 10m, 2h.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the index up to the posts and labels of the workspace. Killed, it goes on where it was.

    Example: agora search index --embeddings minilm
    """
    from agora.search.live import KeptUp, keep_up
    from agora.search.workspace import index_posts

    for_s = seconds_of(for_)
    if for_s is not None and not follow:
        raise UsageError("--for says how long --follow goes on; give both")
    place, more = Workspace.find(workspace), KeptUp()
    done = index_posts(place, embeddings=embeddings, compact=compact, progress=terminal_progress)
    if follow:
        with stopped_by_signals() as stop:
            more = keep_up(place, stop=stop, for_s=for_s, progress=terminal_progress)
    result = {
        "added": done.caught_up.added + more.added, "deleted": done.caught_up.deleted + more.deleted,
        "posts": done.num_posts + more.added - more.deleted, "embeddings": done.embeddings, "labels": done.num_labels,
    }  # fmt: skip
    emit(result, as_json=as_json)
    next_command('agora search find "..."')


@app.command(cls=QueryCommand)
def find(
    query: Annotated[str, typer.Argument(help="What to look for; operators as in docs/search_query.md.")],
    latest: Annotated[bool, typer.Option("--latest", help="Strictly by time, newest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Hits to show.")] = 10,
    match: Annotated[str, typer.Option("--match", help="Plain words that a post must hold: all, any, or auto.")] = "auto",
    passage: Annotated[bool, typer.Option("--passage", help="The text is a post or question whose like is looked for, no query.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show every part of each score, and why.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find posts: by words and meaning, one voice per campaign, near-duplicates as one.

    Example: agora search find "flood (aare OR rhine) -filter:replies since:yesterday" --explain
    """
    from agora.search.workspace import open_searcher

    if match not in MATCHES:
        raise UsageError(f"--match {match!r} is not one of {', '.join(MATCHES)}")
    with open_searcher(Workspace.find(workspace)) as searcher:
        results = searcher.find(
            query, mode="latest" if latest else "top", limit=limit, explain=explain, match=match, passage=passage  # type: ignore[arg-type]
        )  # fmt: skip
    if as_json:
        emit(results_as_json(results, explain=explain), as_json=True)
        return
    _print(results, explain=explain)
    next_command('agora search ask "..."' if explain else 'agora search find "..." --explain')


def results_as_json(results: Results, *, explain: bool) -> dict[str, Any]:
    """Results as plain values; parts and reasons where they were asked for."""
    return {
        "query": results.query.text, "total": results.total, "voices": results.voices, "confidence": results.confidence,
        "notes": list(results.notes),
        "warnings": [{"position": one.position, "message": one.message} for one in results.warnings],
        "hits": [_hit_as_json(hit, explain=explain) for hit in results.hits],
    }  # fmt: skip


def _hit_as_json(hit: Hit, *, explain: bool) -> dict[str, Any]:
    post = hit.post
    shown: dict[str, Any] = {
        "id": post["id"], "author": post["author"], "created_at": post["created_at"].isoformat(), "text": post["text"], "score": hit.score,
        "alike": hit.alike, "alike_is_least": hit.alike_is_least, "is_loose": hit.is_loose, "voice": hit.voice, "label": hit.label,
    }  # fmt: skip
    return {**shown, "parts": dict(hit.parts), "why": list(hit.why), "alike_ids": list(hit.alike_ids)} if explain else shown


def _print(results: Results, *, explain: bool) -> None:
    for warning in results.warnings:
        print(f"warning: query, character {warning.position + 1}: {warning.message}")
    for note in results.notes:
        print(f"note: {note}")
    is_apart = False
    for hit in results.hits:
        if hit.is_loose and not is_apart:
            print("--- hold some of it, or mean the like ---")
            is_apart = True
        post = hit.post
        extra = f"  +{hit.alike}{' or more' if hit.alike_is_least else ''} alike" if hit.alike else ""
        print(f"{post['created_at']:%Y-%m-%d %H:%M}  @{visible(post['author'])}  {visible(post['id'])}{extra}")
        print(f"  {visible(post['text'])}")
        if hit.label:
            print(f"  [coordinated] {visible(hit.label)}")
        if explain:
            parts = " + ".join(f"{name} {value:.4f}" for name, value in hit.parts.items() if value)
            print(f"  score {hit.score:.4f} = {parts}")
            print(f"  {'; '.join(hit.why)}")
    sure = "" if results.confidence is None else f"; confidence {results.confidence:.2f}"
    print(f"{results.total:,} posts match; {results.voices:,} voices among those looked at{sure}")
