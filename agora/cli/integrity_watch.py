"""`agora integrity watch`: alerts from a live source of posts. The area's file registers it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command
from agora.settings import Workspace


def watch(
    follows: Annotated[Path | None, typer.Option("--follows", exists=True, help="Parquet with columns follower and followed.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Forget what an earlier watcher knew.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read posts as JSON lines from stdin and print groups that act together, as they show. Alerts are for an analyst: nothing is labelled.

    Example: agora integrity watch < posts.jsonl
    """
    import json
    from dataclasses import asdict

    import pyarrow.parquet as pq

    from agora.integrity.stream import StreamConfig
    from agora.integrity.watch import open_stream, watch

    state = Workspace.find(workspace).create().folder("integrity") / "watch.npz"
    if anew:
        state.unlink(missing_ok=True)
    state.parent.mkdir(parents=True, exist_ok=True)
    stream = open_stream(state, StreamConfig(), follows=pq.read_table(follows) if follows else None)
    for alert in watch(sys.stdin, stream, state=state):
        shown = json.dumps(asdict(alert)) if as_json else f"{alert.at} {alert.sentence} {alert.explanation}".rstrip()
        print(shown, flush=True)
    emit({"counts": stream.counts, "state": str(state)}, as_json=as_json, title="watched")
    next_command("agora integrity scan")
