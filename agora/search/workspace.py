"""Search over a workspace. Goes in: a workspace folder. Comes out: its index, caught up, and a Searcher with everything that belongs to it.

    index_posts(place, embeddings="minilm")      workspace/index, and workspace/search (which vectors, who is referred to)
    with open_searcher(place) as searcher: ...   what `agora search find` and `agora search ask` use; for a process that stays: held.py

Vectors of two models do not compare, so the model that made them is written down and used for queries; another one is chosen by indexing
again. Labels are read anew each time, so a ruling holds at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from agora.config import apply_overrides
from agora.errors import IndexBusyError, MissingExtraError, PostIndexError, UsageError
from agora.files import write_atomically
from agora.integrity.labels import read_labels
from agora.integrity.voice import voices
from agora.log import Progress, silent
from agora.posts.store import PostStore
from agora.search.answers.workspace import stored_answers
from agora.search.authority import COLUMNS, authority, read_authority, write_authority
from agora.search.confidence import shipped_confidence
from agora.search.find import Searcher
from agora.search.index.embedded import EmbeddedIndex
from agora.search.index.interface import CatchUp, PostIndex
from agora.search.ranking import RankingConfig
from agora.search.rerank import Reranker
from agora.settings import Workspace
from agora.text.embeddings import Embeddings, LexicalEmbeddings, ModelEmbeddings
from agora.text.minilm import is_installed, load_minilm

Changed = TypeVar("Changed")
AUTO: Final = "auto"
NONE: Final = "none"
LEXICAL: Final = "lexical"
MINILM: Final = "minilm"
SETTINGS_FILE: Final = "index.json"
AUTHORITY_FILE: Final = "authority.parquet"
RERANKER_FILE: Final = "reranker.json"
BUSY_S: Final = 5.0
"""A process that keeps the index up holds it for about a second at a time."""
_BUSY_AGAIN_S: Final = 0.1
_MEASURED: Final = (NONE, MINILM)
"""Confidence was trained on scores of these; other models spread theirs otherwise."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """What `index_posts` did. `embeddings`: which vectors the index has (`none`: words alone)."""

    caught_up: CatchUp
    num_posts: int
    embeddings: str
    num_labels: int


def index_posts(place: Workspace, *, embeddings: str | None = None, compact: bool = False, progress: Progress = silent) -> Indexed:
    """Bring the index of a workspace up to its store. `embeddings`: auto, none, lexical, minilm or a folder; by default what was chosen
    last. Raises StoreError without a store, PostIndexError while another process writes."""
    choice = chosen_embeddings(place, embeddings)
    with PostStore.open(place.folder("posts")) as store, opened_index(place) as index:
        made = load_choice(choice)  # seconds and a lot of memory: not before it is known that there are posts
        labels = read_labels(place.root, deletions=store.deletions())
        caught_up = when_free(lambda: index.catch_up(store, embeddings=made, labels=labels, progress=progress))
        stored_answers(place).catch_up(store)
        if compact:
            index.compact(progress=progress)
        count_authority(place, store, labels)
        write_atomically(place.folder("search") / SETTINGS_FILE, json.dumps({"embeddings": choice}) + "\n")
        return Indexed(caught_up, index.num_posts, choice, labels.num_rows)


def count_authority(place: Workspace, store: PostStore, labels: pa.Table) -> None:
    """Write down anew how much each account is referred to; who deleted an account is not named."""
    tombstones = store.deletions()
    gone = set(tombstones.filter(pc.equal(tombstones["kind"], "author"))["key"].to_pylist())
    known = authority(store.scan(columns=list(COLUMNS)), voices(labels))
    write_authority({account: value for account, value in known.items() if account not in gone}, place.folder("search") / AUTHORITY_FILE)


def when_free(change: Callable[[], Changed]) -> Changed:
    """Change an index as soon as no other process writes it. Raises IndexBusyError when one does for longer than BUSY_S."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            return change()
        except IndexBusyError:
            if time.monotonic() > until:
                raise
            time.sleep(_BUSY_AGAIN_S)


def is_indexed(place: Workspace) -> bool:
    """Whether the posts of a workspace were ever indexed."""
    return (place.folder("search") / SETTINGS_FILE).exists()


@contextmanager
def open_searcher(place: Workspace) -> Iterator[Searcher]:
    """A searcher over the index as it stands. Raises PostIndexError where nothing was indexed."""
    if not is_indexed(place):
        raise PostIndexError(f"{place.root} has no index of posts; make it: agora search index")
    choice = chosen_embeddings(place, None)
    with opened_index(place) as index:
        yield make_searcher(place, index, read_labels(place.root), choice, load_choice(choice))


def make_searcher(place: Workspace, index: PostIndex, labels: pa.Table, choice: str, embeddings: Embeddings | None) -> Searcher:
    """A searcher over an open index, with everything else that the workspace says about search. `choice` names the embeddings."""
    reranker = place.folder("search") / RERANKER_FILE
    return Searcher(
        index,
        embeddings=embeddings,
        voices=voices(labels),
        labels=labels,
        reranker=Reranker.load(reranker) if reranker.exists() else None,
        confidence=shipped_confidence(with_meaning=choice == MINILM) if choice in _MEASURED and not reranker.exists() else None,
        authority=read_authority(place.folder("search") / AUTHORITY_FILE),
        config=apply_overrides(RankingConfig(), place.defaults("search"), f"{place.settings_file} [search]"),
    )


def load_choice(choice: str) -> Embeddings | None:
    """What makes vectors, by its name. Raises UsageError for what is neither a name nor a folder."""
    if choice == NONE:
        return None
    if choice == LEXICAL:
        return LexicalEmbeddings()
    if choice == MINILM:
        return load_minilm()
    folder = Path(choice)
    if not folder.is_dir():
        raise UsageError(f"--embeddings {choice!r} is no folder; give one, or {AUTO}, {NONE}, {LEXICAL} or {MINILM}")
    return ModelEmbeddings(folder)


def chosen_embeddings(place: Workspace, embeddings: str | None) -> str:
    """What is asked for, what was chosen last, or MiniLM where it is installed."""
    path = place.folder("search") / SETTINGS_FILE
    if embeddings is None and path.exists():
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["embeddings"])
        except (ValueError, KeyError, TypeError) as error:
            raise PostIndexError(f"{path} cannot be read: {error}; make it anew: agora search index --embeddings auto") from error
    if embeddings not in (None, AUTO):
        assert embeddings is not None
        return str(Path(embeddings).absolute()) if Path(embeddings).is_dir() else embeddings
    return MINILM if is_installed() else NONE


@contextmanager
def opened_index(place: Workspace) -> Iterator[EmbeddedIndex]:
    """The index of a workspace, open. Raises MissingExtraError without its library."""
    try:
        index = EmbeddedIndex.open(place.folder("index"))
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "tantivy", "search", "the index of posts") from error
    with index:
        yield index
