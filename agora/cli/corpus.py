"""`agora corpus`: what the model may read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

    Settings (agora.toml section corpus, or key=value): see docs/corpus.md.

    Example: agora corpus build min_characters=30 languages='["en"]'
    """
    from agora.config import apply_overrides, parse_assignments
    from agora.corpus.build import build_corpus, build_corpus_from_store
    from agora.corpus.config import CorpusConfig
    from agora.posts.store import PostStore

    place = Workspace.find(workspace)
    config = apply_overrides(CorpusConfig(), place.defaults("corpus"), f"{place.settings_file} [corpus]")
    config = apply_overrides(config, parse_assignments(overrides or []), "agora corpus build")
    out, folder = place.folder("corpus", name), place.folder("posts")
    if posts:
        # Whoever was deleted from the workspace's store stays deleted, whatever a file still holds.
        deletions = PostStore.open(folder).deletions() if folder.is_dir() and any(folder.iterdir()) else None
        card = build_corpus(posts, out, config, extra_texts=text or (), deletions=deletions, progress=terminal_progress)
    else:
        card = build_corpus_from_store(PostStore.open(folder), out, config, extra_texts=text or (), progress=terminal_progress)
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
    next_command("agora tokenizer train")
