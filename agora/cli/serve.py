"""`agora serve`: an OpenAI-compatible server and a page to chat on."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit
from agora.errors import MissingExtraError, UsageError
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.engine import LanguageModel


def serve(
    model: Annotated[list[str] | None, typer.Option(help="Name in the workspace or a folder; may be repeated.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 = every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 = any free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="AGORA_API_KEY", help="Key that requests must carry; better given by the environment.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Number format of the weights: auto (int8 on a CPU, bfloat16 on a GPU), int8, bfloat16, float16 or float32.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda or mps.")] = "cpu",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the workspace to a browser and its models to OpenAI's clients, until Ctrl-C. Without a model it searches and quotes posts. On
    this machine's own address and without accounts or a key, whoever reaches the port may do everything; accounts are made with
    `agora accounts add`. Without --model the promoted model is served (agora model promote); another promotion is taken up while it runs.

    Example: agora serve --model main --port 8000
    """
    try:
        from agora.server.accounts import Accounts
        from agora.server.gate import LOOPBACK, GateConfig
        from agora.server.promotion import Promotions
        from agora.server.run import address_of, bind, serve_models
        from agora.server.served import PromotionWatch, Served
        from agora.server.tables import open_database
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "serve", "agora serve") from error
    from agora.engine import load_local_model, parse_device, parse_precision
    from agora.model.find import find_model

    place = Workspace.find(workspace)
    promotions = Promotions(place)
    promoted = promotions.current() if not model else None
    folders = [find_model(place, name) for name in model] if model else [promoted.folder] if promoted else _usual(place)
    database = open_database(place.create())
    if host not in LOOPBACK and api_key is None and not Accounts(database).num_people():
        raise UsageError(
            f"everyone who reaches {host}:{port} could use this server; make an account (agora accounts add) or give --api-key"
        )
    listener = bind(host, port)
    precision, where = parse_precision(dtype), parse_device(device)

    def load(folder: Path, name: str | None) -> LanguageModel:
        return load_local_model(folder, name=name, precision=precision, device=where)

    served = Served([load(folder, promoted.name if promoted else None) for folder in folders], promoted)
    watch = PromotionWatch(promotions, served, load)
    address = address_of(listener)

    def ready() -> None:
        names = ", ".join(served) or "none; answers quote posts"
        result = {"address": address, "api": f"{address}/v1", "models": names}
        emit(result, as_json=as_json, title="Agora serves")
        sys.stdout.flush()

    with_pages = find_spec("nicegui") is not None
    gate = GateConfig(api_key=api_key, is_open=host in LOOPBACK)
    try:
        with watch if not model else nullcontext():
            serve_models(
                served, listener, gate=gate, database=database, place=place, with_pages=with_pages, ready=ready,
                hung_up=None if model else watch.wake,
            )  # fmt: skip
    finally:
        database.close()


def _usual(place: Workspace) -> list[Path]:
    """The model that is served when none is named; none where there is none. Raises UsageError where there are several, none `main`."""
    from agora.model.find import find_model

    return [find_model(place, None)] if any(place.folder("models").glob("*/config.json")) else []
