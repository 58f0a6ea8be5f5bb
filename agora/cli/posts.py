"""`agora posts`: what is in the store, and how it gets there and out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agora.cli.integrity import integrity_folder
from agora.cli.output import JsonOption, Overrides, WorkspaceOption, emit, next_command, terminal_progress
from agora.cli.running import seconds_of, stopped_by_signals
from agora.errors import SourceError, UsageError
from agora.settings import Workspace
from agora.units import format_seconds

if TYPE_CHECKING:
    from agora.posts.follow.live import LiveSource
    from agora.posts.store import PostStore

app = typer.Typer(
    help="Posts: import, follow, simulate, count, delete, export.\n\nExample: agora posts import my-archive.zip", no_args_is_help=True
)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="PATH", exists=True, help="A file, folder or zip archive.")],
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

    from agora.posts.importing import forced_source, import_posts
    from agora.posts.store import PostStore
    from agora.search.workspace import is_indexed

    mapping: dict[str, str] = {}
    for word in map_ or []:
        column, separator, name = word.rpartition("=")
        if not separator or not column or not name:
            raise UsageError(f"--map {word!r} is not of the form COLUMN=FIELD; example: --map tweet=text")
        if mapping.setdefault(column, name) != name:
            raise UsageError(f"--map {word!r}: the column {column!r} is mapped to {mapping[column]!r} already")
    forced_source(source, mapping)
    place = Workspace.find(workspace).create()
    with PostStore.open(place.folder("posts"), create=True) as store:
        before = store.deletions().num_rows
        try:
            summary = import_posts(
                path, store, source=source, strict=strict, mapping=mapping, quarantine=place.folder("quarantine"),
                progress=terminal_progress,
            )  # fmt: skip
        finally:
            if store.deletions().num_rows != before:
                _forget_deleted(place, store)
        total = store.num_posts
    emit({**asdict(summary), "posts_in_store": total}, as_json=as_json, title=f"imported {path}")
    next_command("agora search index" if is_indexed(place) else "agora corpus build")


def _forget_deleted(place: Workspace, store: PostStore) -> None:
    """Take what the store has deleted out of everything that was made of it."""
    from agora.search.live import forget_deleted

    if place.folder("integrity").is_dir():
        integrity_folder(place).forget_deleted(store)
    if not forget_deleted(place, store):
        print("the index is being written by another process; it takes the deleted posts out when it is done", file=sys.stderr)


@app.command()
def follow(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="bluesky, mastodon, or a file that grows.")],
    url: Annotated[str | None, typer.Option("--url", help="The server to contact (see above).", show_default=False)] = None,
    stream: Annotated[str, typer.Option("--stream", help="Mastodon: public, public:local, public:remote or hashtag:TAG.")] = "public",
    dictionary: Annotated[
        Path | None, typer.Option("--dictionary", help="Bluesky: ask for zstd frames; this file is their dictionary.", show_default=False)
    ] = None,
    for_: Annotated[str | None, typer.Option("--for", help="Stop after this time: 90s, 10m, 2h.", show_default=False)] = None,
    max_posts: Annotated[int | None, typer.Option("--max-posts", min=1, help="Stop after so many new posts.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store posts while they are written; edits and deletions count. Goes on where it was stopped or killed. Ctrl-C ends it. Where posts
    are indexed (agora search index), the index is kept up meanwhile.

    Contacts one server and nothing else: for bluesky the public wss://jetstream2.us-east.bsky.network, or the Jetstream named by --url
    (wss://HOST/subscribe); for mastodon the server named by --url (https://HOST, or wss://HOST for its WebSocket). A Mastodon server that
    wants a token reads it from the environment's AGORA_MASTODON_TOKEN. FILE is a growing file with one JSON record per line.

    Example: agora posts follow bluesky --for 10m
    """
    from dataclasses import asdict

    from agora.posts.follow import FollowConfig, follow
    from agora.posts.store import PostStore
    from agora.search.live import kept_up

    for_s = seconds_of(for_)
    live = _live_source(source, url, stream, dictionary)
    place = Workspace.find(workspace).create()

    def forget() -> None:
        if place.folder("integrity").is_dir():
            integrity_folder(place).forget_deleted(store)

    with PostStore.open(place.folder("posts"), create=True) as store, stopped_by_signals() as stop, kept_up(place):
        summary = follow(
            live, store, config=FollowConfig(for_s=for_s, max_posts=max_posts), quarantine=place.folder("quarantine"),
            on_removed=forget, stop=stop, progress=terminal_progress,
        )  # fmt: skip
        total = store.num_posts
    emit({**asdict(summary), "posts_in_store": total}, as_json=as_json, title=f"followed {summary.source}")
    if not summary.connections:
        where = f"{source} ({url})" if url else source
        raise SourceError(f"{where} was never reached in {format_seconds(summary.seconds)}; check the address and the network")
    next_command("agora posts stats")


def _live_source(source: str, url: str | None, stream: str, dictionary: Path | None) -> LiveSource:
    """The source that the words name. Raises UsageError for options that belong to another one."""
    from agora.posts.follow import BlueskyStream, GrowingFile, MastodonStream
    from agora.posts.follow.bluesky import PUBLIC_URL

    given = {"--url": url is not None, "--stream": stream != "public", "--dictionary": dictionary is not None}
    taken = {"bluesky": ("--url", "--dictionary"), "mastodon": ("--url", "--stream")}.get(source, ())
    if wrong := [name for name, is_given in given.items() if is_given and name not in taken]:
        raise UsageError(f"{wrong[0]} does not belong to {source!r}; it takes {', '.join(taken) or 'no such option'}")
    if source == "bluesky":
        return BlueskyStream(url or PUBLIC_URL, dictionary=dictionary)
    if source == "mastodon":
        if url is None:
            raise UsageError("mastodon is many servers; name one: agora posts follow mastodon --url https://HOST")
        return MastodonStream(url, stream=stream, token=os.environ.get("AGORA_MASTODON_TOKEN") or None)
    return GrowingFile(Path(source))


@app.command()
def sources(as_json: JsonOption = False) -> None:
    """List the formats that import recognises by itself.

    Example: agora posts sources
    """
    from agora.posts.sources import SOURCES

    emit({source.name: source.title for source in SOURCES}, as_json=as_json, keys_are_data=True)
    next_command("agora posts import PATH")


@app.command()
def simulate(
    settings: Overrides = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Also write who belongs to which group (.parquet).", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill the store with a simulated square: people, events, and campaigns whose truth is known (docs/posts.md).

    Example: agora posts simulate num_posts=200000 num_accounts=10000 seed=7 --truth truth.parquet
    """
    from agora.config import apply_overrides, parse_assignments
    from agora.posts.simulate import SquareConfig, simulate_into, write_ground_truth
    from agora.posts.store import PostStore

    place = Workspace.find(workspace)
    config = apply_overrides(SquareConfig(), place.defaults("posts").get("simulate", {}), "agora.toml [posts.simulate]")
    config = apply_overrides(config, parse_assignments(settings or []), "command line")
    if truth is not None:
        write_ground_truth(config, truth)
    with PostStore.open(place.create().folder("posts"), create=True) as store:
        result = simulate_into(store, config, progress=terminal_progress)
        summary = {"appended": result.appended, "duplicates": result.duplicates, "deleted": result.deleted, "posts": store.num_posts}
    emit({**summary, **({"truth": truth} if truth else {})}, as_json=as_json)
    next_command("agora posts stats")


@app.command()
def stats(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Count posts by kind, language and source; accounts and time range.

    Example: agora posts stats --json
    """
    from dataclasses import asdict

    from agora.posts.overview import post_statistics
    from agora.posts.store import PostStore

    store = PostStore.open(Workspace.find(workspace).folder("posts"))
    emit(asdict(post_statistics(store, progress=terminal_progress)), as_json=as_json)
    next_command("agora corpus build")


@app.command()
def delete(
    post: Annotated[list[str] | None, typer.Option("--post", help="Id of a post; repeatable.", show_default=False)] = None,
    author: Annotated[list[str] | None, typer.Option("--author", help="Account; repeatable.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete posts or everything of an author, with reposts of it. They do not come back with a later import.

    Example: agora posts delete --author some_account --post 1234
    """
    from agora.posts.store import PostStore, refuse_blank_keys

    if not post and not author:
        raise UsageError("nothing to delete: give --post ID or --author NAME")
    refuse_blank_keys("post", post or [])
    refuse_blank_keys("author", author or [])
    place = Workspace.find(workspace)
    with PostStore.open(place.folder("posts")) as store:
        removed = store.delete_posts(post or []) + store.delete_authors(author or [])
        _forget_deleted(place, store)
        emit({"removed": removed, "posts": store.num_posts}, as_json=as_json)
    if not removed:
        print("the store held none of it: look at the spelling; what comes under these names from now on is refused", file=sys.stderr)
    print(
        "documents, shards and models that were made before still hold the deleted words: build, pack and train them again "
        "(docs/posts.md); agora posts compact takes the words off the store's disk",
        file=sys.stderr,
    )
    next_command("agora corpus build")


@app.command()
def compact(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Rewrite the store, and the index if there is one, without deleted posts, so that no byte of them stays on the disk there.

    Example: agora posts compact
    """
    from agora.posts.store import PostStore
    from agora.search.live import compact_search

    place = Workspace.find(workspace)
    with PostStore.open(place.folder("posts")) as store:
        store.compact(progress=terminal_progress)
        indexed = compact_search(place, store, progress=terminal_progress)
        more = {} if indexed is None else {"posts_in_index": indexed}
        emit({"posts": store.num_posts, "files": store.verify(), **more}, as_json=as_json)
    next_command("agora posts stats")


@app.command()
def verify(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Compare every file of the store with its checksum; names the damaged one.

    Example: agora posts verify
    """
    from agora.posts.store import PostStore

    store = PostStore.open(Workspace.find(workspace).folder("posts"))
    emit({"posts": store.num_posts, "files": store.verify()}, as_json=as_json)
    next_command("agora posts stats")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write: .parquet or .jsonl.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all posts to one file.

    Example: agora posts export posts.parquet
    """
    from agora.posts.overview import export_posts
    from agora.posts.store import PostStore

    store = PostStore.open(Workspace.find(workspace).folder("posts"))
    emit({"posts": export_posts(store, file, progress=terminal_progress), "file": file}, as_json=as_json)
    next_command(f"agora posts import {file} --workspace OTHER")
