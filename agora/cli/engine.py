"""`agora engine`: serve models with other engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command
from agora.errors import UsageError
from agora.settings import Workspace

app = typer.Typer(help="Serve models with vLLM or SGLang on GPUs.\n\nExample: agora engine launch main --vllm", no_args_is_help=True)


@app.command()
def launch(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name in the workspace or a folder.")],
    vllm: Annotated[bool, typer.Option("--vllm", help="Serve with vLLM.")] = False,
    sglang: Annotated[bool, typer.Option("--sglang", help="Serve with SGLang.")] = False,
    ray_serve: Annotated[bool, typer.Option("--ray-serve", help="Write a file for Ray Serve instead of a command (vLLM).")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; needed for --ray-serve.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 = every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that share one copy of the model.")] = 1,
    replicas: Annotated[int, typer.Option(min=1, help="Copies at most (Ray Serve).")] = 1,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer; all by default.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the command that serves an exported model with another engine, or write it to a file.

    Nothing is started. Agora then uses that server by its address, as in `agora search ask --endpoint`.

    Example: agora engine launch main --vllm --gpus 2
    """
    if vllm == sglang:
        raise UsageError("choose one engine: --vllm or --sglang")
    if ray_serve and out is None:
        raise UsageError("--ray-serve writes a file; name it with --out main.yaml")
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already; choose another name")
    from agora.engine.launch import LaunchConfig, launch_command, ray_serve_file
    from agora.files import write_atomically
    from agora.model.find import find_model

    folder = find_model(Workspace.find(workspace), model)
    config = LaunchConfig(
        server="vllm" if vllm else "sglang", host=host, port=port, gpus=gpus, replicas=replicas, context_tokens=context
    )  # fmt: skip
    text = ray_serve_file(folder, config) if ray_serve else launch_command(folder, config)
    if out is not None:
        write_atomically(out, text.encode() if ray_serve else f"#!/bin/sh\nexec {text}\n".encode())
    command = f"serve run {out}" if ray_serve else f"sh {out}" if out else text
    emit({"command": command, "endpoint": f"http://{host}:{port}/v1", "model": folder.resolve().name}, as_json=as_json, title="launch")
    next_command(f'agora search ask "what is new?" --endpoint http://{host}:{port}/v1 --endpoint-model {folder.resolve().name}')
