"""The command line: `agora <area> <verb>`. Each area is one file here; it parses, calls one function and prints.

No torch (nor any other slow import) at module level: `agora --help` must answer at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from agora import __version__
from agora.cli import accounts, ads, chat, cluster, corpus, engine, evaluate, integrity, model, posts, search, serve, tokenizer, train
from agora.cli.output import INTERRUPTED, PlainCommand
from agora.errors import AgoraError
from agora.files import remedy
from agora.log import LEVELS, configure_logging

ORDER = (
    "posts", "integrity", "corpus", "tokenizer", "train", "evaluate", "model", "cluster", "engine", "search", "chat", "ads",
    "accounts", "serve",
)  # fmt: skip
"""Areas, as the data takes its way through them."""


class _InOrder(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="agora",
    cls=_InOrder,
    help="Agora: posts in, a language model that talks out.\n\nExample: agora posts import my-archive.zip",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(posts.app, name="posts")
app.add_typer(integrity.app, name="integrity")
app.add_typer(corpus.app, name="corpus")
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(train.app, name="train")
app.add_typer(model.app, name="model")
app.add_typer(cluster.app, name="cluster")
app.add_typer(engine.app, name="engine")
app.add_typer(search.app, name="search")
app.add_typer(accounts.app, name="accounts")
app.add_typer(ads.app, name="ads")
app.command("evaluate")(evaluate.evaluate)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
for _area in (app, *(group.typer_instance for group in app.registered_groups)):
    for _registered in _area.registered_commands if _area else ():
        _registered.cls = _registered.cls if issubclass(_registered.cls or object, PlainCommand) else PlainCommand


def _version(value: bool) -> None:
    if value:
        print(f"agora {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    log: Annotated[str | None, typer.Option(help=f"Log level: {', '.join(LEVELS)}.")] = None,
) -> None:
    configure_logging(log)


def main() -> None:
    """Entry point. An AgoraError prints one line; exit 2 for usage, 1 for failure, 130 when interrupted."""
    try:
        app()
    except AgoraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        advice = f"; {remedy(error)} and run the same command again" if remedy(error) else ""
        print(f"error: {place}{error.strerror or error}{advice}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)
