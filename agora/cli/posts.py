"""`agora posts`: import posts, list the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command, terminal_progress

app = typer.Typer(help="Posts: import them from a platform's files.\n\nExample: agora posts import my-archive.zip", no_args_is_help=True)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(exists=True, help="A file, folder or zip archive.")],
    source: Annotated[str | None, typer.Option("--source", help="Reader to use (see: agora posts sources).")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first broken record.")] = False,
    map_: Annotated[list[str] | None, typer.Option("--map", help="COLUMN=FIELD of a table; may be repeated.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a platform's posts into the workspace. What cannot be read goes to a quarantine file and is counted.

    Example: agora posts import twitter-archive.zip
    """
    from dataclasses import asdict

    from agora.errors import UsageError
    from agora.posts.importing import import_posts
    from agora.posts.store import PostStore
    from agora.settings import Workspace

    mapping = {}
    for word in map_ or []:
        column, separator, name = word.rpartition("=")
        if not separator or not column or not name:
            raise UsageError(f"--map {word!r} is not of the form COLUMN=FIELD; example: --map tweet=text")
        mapping[column] = name
    place = Workspace.find(workspace).create()
    with PostStore.open(place.folder("posts"), create=True) as store:
        summary = import_posts(
            path, store, source=source, strict=strict, mapping=mapping, quarantine=place.folder("quarantine"), progress=terminal_progress
        )
        total = store.num_posts
    emit({**asdict(summary), "posts_in_store": total}, as_json=as_json, title=f"imported {path}")
    next_command("agora corpus build")


@app.command("sources")
def sources(as_json: JsonOption = False) -> None:
    """List the formats that import recognises by itself.

    Example: agora posts sources
    """
    from agora.posts.sources import SOURCES

    emit({source.name: source.title for source in SOURCES}, as_json=as_json)
    next_command("agora posts import PATH")
