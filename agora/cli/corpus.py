"""`agora corpus`: what the model may read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agora.cli.output import JsonOption, NameOption, Overrides, WorkspaceOption, emit, next_command, terminal_progress
from agora.settings import DEFAULT_NAME, Workspace

app = typer.Typer(help="What the model may read: clean, masked, distinct documents.\n\nExample: agora corpus build", no_args_is_help=True)

PostsOption = Annotated[
    list[Path] | None, typer.Option("--posts", help="Parquet file of posts instead of the store; may be repeated.", show_default=False)
]
TextOption = Annotated[
    list[Path] | None,
    typer.Option("--text", help="Parquet file with a column text (books); may be repeated.", show_default=False),
]


@app.command()
def build(
    overrides: Overrides = None,
    posts: PostsOption = None,
    text: TextOption = None,
    name: NameOption = DEFAULT_NAME,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make documents and a data card from the posts of the workspace; returns at once when nothing has changed.

    Accounts that the workspace's labels name as one campaign count as one (setting coordinated).

    Settings (agora.toml section corpus, or key=value): see docs/corpus.md.

    Example: agora corpus build min_characters=30 languages='["en"]'
    """
    from agora.config import apply_overrides, parse_assignments
    from agora.corpus.build import build_corpus, build_corpus_from_store
    from agora.corpus.config import CorpusConfig
    from agora.integrity.voice import read_voices
    from agora.posts.store import PostStore

    place = Workspace.find(workspace)
    config = apply_overrides(CorpusConfig(), place.defaults("corpus"), f"{place.settings_file} [corpus]")
    config = apply_overrides(config, parse_assignments(overrides or []), "agora corpus build")
    out, folder = place.folder("corpus", name), place.folder("posts")
    # Whoever was deleted from the workspace's store stays deleted, whatever a file still holds.
    store = PostStore.open(folder) if not posts or (folder.is_dir() and any(folder.iterdir())) else None
    deletions = store.deletions() if store is not None else None
    voices = read_voices(place.root, deletions=deletions)
    if voices is not None:
        numbers = {"accounts": len(voices.labelled), "campaigns": len(set(voices.accounts.values())), "posts": len(voices.posts)}
        labelled = ", ".join(f"{name} {number:,}" for name, number in numbers.items())
        print(f"labels in effect: {labelled}; coordinated={config.coordinated} (docs/corpus.md)", file=sys.stderr)
    inputs: dict[str, Any] = {"extra_texts": text or (), "voices": voices, "progress": terminal_progress}
    if posts:
        card = build_corpus(posts, out, config, deletions=deletions, **inputs)
    else:
        assert store is not None
        card = build_corpus_from_store(store, out, config, **inputs)
    place.create()
    card.require_documents(str(out))
    emit({**card.summary(), "folder": str(out)}, as_json=as_json)
    next_command("agora tokenizer train" + ("" if name == DEFAULT_NAME else f" --corpus {name}"))


@app.command()
def card(name: NameOption = DEFAULT_NAME, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Print the data card: posts in, kept and dropped by reason, languages, masking, settings.

    Example: agora corpus card
    """
    import json

    from agora.corpus.build import load_card
    from agora.corpus.deletions import warn_of_stale_corpus
    from agora.errors import DataError

    place = Workspace.find(workspace)
    folder = place.folder("corpus", name)
    found = load_card(folder)
    if found is None:
        raise DataError(f"no corpus at {folder}; build it with: agora corpus build")
    warn_of_stale_corpus(folder, place.folder("posts"))
    if as_json:
        emit(json.loads(found.to_json()), as_json=True)
    else:
        print(found.to_markdown(), end="")
    next_command("agora tokenizer train" + ("" if name == DEFAULT_NAME else f" --corpus {name}"))
