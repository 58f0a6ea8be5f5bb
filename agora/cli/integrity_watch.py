"""`agora integrity watch`: alerts from a live source of posts. The area's file registers it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agora.cli.output import JsonOption, WorkspaceOption, next_command
from agora.cli.running import stopped_by_signals
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.posts.sources.record import Broken

_MAX_NAMED = 20


def watch(
    follows: Annotated[Path | None, typer.Option("--follows", exists=True, help="Parquet with columns follower and followed.")] = None,
    store: Annotated[bool, typer.Option("--store", help="Follow the workspace's posts instead of stdin, until interrupted.")] = False,
    once: Annotated[bool, typer.Option("--once", help="With --store: end when all posts are read.")] = False,
    poll: Annotated[float, typer.Option("--poll", min=0.1, help="With --store: seconds between looks at the store.")] = 2.0,
    save: Annotated[float, typer.Option("--save", min=0.0, help="Seconds after which the state is saved.")] = 60.0,
    anew: Annotated[bool, typer.Option("--anew", help="Forget what an earlier watcher knew.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read posts as JSON lines from stdin (or with --store from the workspace) and print groups that act together, one alert per line.
    Alerts are for an analyst: nothing is labelled.

    Example: agora integrity watch < posts.jsonl
    """
    import json
    from dataclasses import asdict

    from agora.errors import UsageError
    from agora.integrity.inputs import read_follows
    from agora.integrity.stream import StreamConfig
    from agora.integrity.watch import open_stream, watch_store
    from agora.integrity.watch import watch as watch_lines
    from agora.posts.store import PostStore

    if once and not store:
        raise UsageError("--once is for --store; lines from stdin end by themselves")
    area = Workspace.find(workspace).create()
    state = area.folder("integrity") / ("watch_store.npz" if store else "watch.npz")
    if anew:
        state.unlink(missing_ok=True)
    state.parent.mkdir(parents=True, exist_ok=True)
    stream = open_stream(state, StreamConfig(), follows=read_follows(follows) if follows else None)
    with stopped_by_signals() as stop:
        if store:
            posts = PostStore.open(area.folder("posts"))
            alerts = watch_store(posts, stream, state=state, poll_s=poll, save_s=save, once=once, stop=stop)
        else:
            alerts = watch_lines(sys.stdin, stream, state=state, save_s=save, on_broken=_named_on_stderr(), stop=stop)
        for alert in alerts:
            shown = json.dumps(asdict(alert)) if as_json else f"{alert.at} {alert.sentence} {alert.explanation}".rstrip()
            print(shown, flush=True)
    counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in stream.counts.items())
    print(f"watched: {counts}; state: {state}", file=sys.stderr)
    if (left_out := stream.counts["late"] + stream.counts["ahead"]) > stream.counts["posts"]:
        print(
            f"warning: {left_out:,} posts did not come in the order of time and were left out: a watcher is for posts as they are written, "
            "agora integrity scan reads archives",
            file=sys.stderr,
        )
    next_command("agora integrity scan")


def _named_on_stderr() -> Callable[[Broken], None]:
    """Says what the first broken lines are."""
    named = itertools.count(1)

    def name(item: Broken) -> None:
        if (number := next(named)) <= _MAX_NAMED:
            print(f"skipped {item.place}: {item.reason}: {item.detail}".rstrip(": "), file=sys.stderr)
        if number == _MAX_NAMED:
            print("further broken lines are only counted", file=sys.stderr)

    return name
