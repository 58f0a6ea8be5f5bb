"""`agora tokenizer`: text to tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from agora.cli.output import JsonOption, NameOption, Overrides, WorkspaceOption, emit, next_command, terminal_progress
from agora.settings import DEFAULT_NAME, Workspace

app = typer.Typer(help="Text to tokens and packed shards.\n\nExample: agora tokenizer train vocab_size=8192", no_args_is_help=True)

CorpusOption = Annotated[str, typer.Option("--corpus", help="Corpus of the workspace to read.")]
TokenizerOption = Annotated[str, typer.Option("--tokenizer", help="Tokenizer of the workspace to use.")]


@app.command()
def train(
    overrides: Overrides = None,
    corpus: CorpusOption = DEFAULT_NAME,
    name: NameOption = DEFAULT_NAME,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn a tokenizer from a corpus; returns at once when nothing has changed. Settings: vocab_size, max_characters.

    Example: agora tokenizer train vocab_size=8192
    """
    from agora.config import apply_overrides, parse_assignments
    from agora.corpus.deletions import warn_of_stale_corpus
    from agora.tokenizer.training import TokenizerConfig, train_tokenizer

    place = Workspace.find(workspace)
    config = apply_overrides(TokenizerConfig(), place.defaults("tokenizer"), f"{place.settings_file} [tokenizer]")
    config = apply_overrides(config, parse_assignments(overrides or []), "agora tokenizer train")
    out = place.folder("tokenizer", name)
    warn_of_stale_corpus(place.folder("corpus", corpus), place.folder("posts"))
    tokenizer = train_tokenizer(place.folder("corpus", corpus), out, config, progress=terminal_progress)
    emit({"vocabulary": tokenizer.vocab_size, "hash": tokenizer.hash, "folder": str(out)}, as_json=as_json)
    names = {"corpus": corpus, "tokenizer": name}
    next_command("agora tokenizer pack" + "".join(f" --{key} {value}" for key, value in names.items() if value != DEFAULT_NAME))


@app.command()
def pack(
    corpus: CorpusOption = DEFAULT_NAME,
    tokenizer: TokenizerOption = DEFAULT_NAME,
    name: NameOption = DEFAULT_NAME,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pack a corpus into shards/NAME (training) and shards/NAME-heldout; goes on where a killed run stopped.

    Example: agora tokenizer pack
    """
    from agora.corpus.deletions import refuse_stale_corpus
    from agora.tokenizer import Tokenizer
    from agora.tokenizer.shards import pack_shards

    place = Workspace.find(workspace)
    refuse_stale_corpus(place.folder("corpus", corpus), place.folder("posts"))
    used = Tokenizer.load(place.folder("tokenizer", tokenizer))
    documents = place.folder("corpus", corpus)
    result: dict[str, object] = {}
    for split, folder in (("train", name), ("heldout", f"{name}-heldout")):
        manifest = pack_shards(documents, used, place.folder("shards", folder), split=split, progress=terminal_progress)
        result[split] = {
            "documents": manifest.num_documents, "tokens_in": manifest.tokens_in, "tokens": manifest.tokens_out,
            "dropped": manifest.dropped, "bytes_per_token": round(manifest.text_bytes / max(manifest.tokens_out, 1), 2),
            "folder": str(place.folder("shards", folder)),
        }  # fmt: skip
    emit(result, as_json=as_json)
    next_command("agora train pretrain" + ("" if name == DEFAULT_NAME else f" --data {name}"))


@app.command()
def encode(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text to cut into tokens.")],
    name: NameOption = DEFAULT_NAME,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the tokens of a text.

    Example: agora tokenizer encode "Hello, square"
    """
    from agora.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(Workspace.find(workspace).folder("tokenizer", name))
    ids = tokenizer.encode(text)
    raw = [tokenizer.token_bytes(token) for token in ids]
    tokens = [token.decode("utf-8", "backslashreplace") for token in raw]
    bytes_per_token = round(len(text.encode("utf-8", "surrogatepass")) / max(len(ids), 1), 2)
    shown: object = tokens if as_json else " ".join(map(_quoted, raw))
    emit({"tokens": shown, "ids": ids if as_json else " ".join(map(str, ids)), "bytes_per_token": bytes_per_token}, as_json=as_json)
    next_command("agora tokenizer pack")


def _quoted(token: bytes) -> str:
    """A token for people: its text, or its bytes where it is a part of a character."""
    try:
        return repr(token.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(token)[1:]
