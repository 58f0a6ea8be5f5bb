"""Search over a workspace. Goes in: a workspace folder. Comes out: its index, caught up, and a Searcher with everything that belongs to it.

    index_posts(place, embeddings="minilm")      workspace/index, and workspace/search (which vectors, who is referred to)
    with open_searcher(place) as searcher: ...   what `agora search find` and `agora search ask` use; for a process that stays: held.py

Vectors of two models do not compare, so the model that made them is written down and used for queries; another one is chosen by indexing
again. Labels are read anew each time, so a ruling holds at once.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
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
from agora.search.confidence import Confidence
from agora.search.find import Searcher
from agora.search.index.embedded import EmbeddedIndex
from agora.search.index.interface import CatchUp
from agora.search.judgements import NOW, indexed, read_collection
from agora.search.ranking import RankingConfig
from agora.search.rerank import Reranker
from agora.search.tune import Tuned, tune
from agora.settings import Workspace
from agora.text.embeddings import Embeddings, LexicalEmbeddings, ModelEmbeddings
from agora.text.minilm import is_installed, load_minilm

log = logging.getLogger(__name__)

Changed = TypeVar("Changed")
AUTO: Final = "auto"
NONE: Final = "none"
LEXICAL: Final = "lexical"
MINILM: Final = "minilm"
SETTINGS_FILE: Final = "index.json"
AUTHORITY_FILE: Final = "authority.parquet"
ALERTS_FILE: Final = "alerts.db"
RERANKER_FILE: Final = "reranker.json"
BUSY_S: Final = 5.0
"""A process that keeps the index up holds it for about a second at a time."""
_BUSY_AGAIN_S: Final = 0.1
CONFIDENCE_FILE: Final = "confidence.json"


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
        words = when_free(lambda: index.catch_up(store, labels=labels, progress=progress))
        place.folder("search").mkdir(parents=True, exist_ok=True)
        # before the first vector: killed from here on, the same model goes on, and no query is compared with vectors of another
        write_atomically(place.folder("search") / SETTINGS_FILE, json.dumps({"embeddings": choice}) + "\n")
        more = index.catch_up(store, embeddings=made, progress=progress)
        caught_up = CatchUp(words.added + more.added, words.deleted + more.deleted, more.position)
        stored_answers(place).catch_up(store)
        if compact:
            index.compact(progress=progress)
        count_authority(place, store, labels)
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
    """A searcher over the index as it stands, without what was deleted since; what is not in it yet is noted. Raises PostIndexError where
    nothing was indexed, StoreError without a store."""
    if not is_indexed(place):
        raise PostIndexError(f"{place.root} has no index of posts; make it: agora search index")
    with opened_index(place) as index:
        with PostStore.open(place.folder("posts")) as store:
            index.hide_deleted(store)
            behind = index.num_behind(store)
        embeddings = load_choice(chosen_embeddings(place, None))
        bare = index.num_without_vectors(embeddings) if embeddings is not None else 0
        yield make_searcher(place, index, read_labels(place.root), embeddings, notes=_what_is_missing(behind, bare))


def _what_is_missing(behind: int, bare: int) -> tuple[str, ...]:
    """What `agora search index` would add: posts, vectors."""
    notes = []
    if behind:
        notes.append(f"{behind:,} posts of the store are" if behind > 1 else "1 post of the store is")
        notes[-1] += " not in the index: agora search index"
    if bare:
        notes.append(f"{bare:,} of the posts in the index have no vectors yet, so words alone find them: agora search index")
    return tuple(notes)


def make_searcher(
    place: Workspace, index: EmbeddedIndex, labels: pa.Table, embeddings: Embeddings | None, *, notes: tuple[str, ...] = ()
) -> Searcher:
    """A searcher over an open index, with everything else that the workspace says about search. `notes` go with all its results. Vectors
    of another model than `embeddings` are no help: as long as the index has those, words alone find posts."""
    if embeddings is not None and embeddings.name != index.vectors:
        embeddings = None
    vectors = embeddings.name if embeddings is not None else ""
    reranker = _reranker(place, vectors)
    return Searcher(
        index,
        embeddings=embeddings,
        voices=voices(labels),
        labels=labels,
        reranker=reranker,
        confidence=_confidence(place, vectors, is_reranked=reranker is not None),
        authority=read_authority(place.folder("search") / AUTHORITY_FILE),
        config=apply_overrides(RankingConfig(), place.defaults("search"), f"{place.settings_file} [search]"),
        notes=notes,
    )


def _reranker(place: Workspace, vectors: str) -> Reranker | None:
    """The re-ranker of a workspace, if it was trained on scores of these vectors: other models spread theirs otherwise."""
    path = place.folder("search") / RERANKER_FILE
    if not path.exists():
        return None
    found = Reranker.load(path)
    if found.vectors is not None and found.vectors != vectors:
        log.warning(
            "%s is left out: it was trained with vectors %r, and the index has %r; train it anew: agora search tune DATA",
            path, found.vectors or NONE, vectors or NONE,
        )  # fmt: skip
        return None
    return found


def _confidence(place: Workspace, vectors: str, *, is_reranked: bool) -> Confidence | None:
    """The confidence of a workspace, if it is about searches that are made as now."""
    path = place.folder("search") / CONFIDENCE_FILE
    found = Confidence.load(path) if path.exists() else None
    return found if found is not None and (found.vectors, found.is_reranked) == (vectors, is_reranked) else None


def tune_workspace(
    place: Workspace, data: Path, *, out: Path | None = None, embeddings: str | None = None, progress: Progress = silent
) -> tuple[Tuned, Path]:
    """Tune to a folder of judgements (judgements.py); without a corpus they are about the workspace's posts. A confidence, and a re-ranker
    if it helps on queries that it has not seen, are written into the folder `out`, by default where the workspace's searches use them; of a
    re-ranker that does not help, none is left there. Returns the folder as well."""
    collection = read_collection(data, is_corpus_needed=False)
    if not collection.texts and not is_indexed(place):
        raise PostIndexError(f"{data} has no corpus.parquet, and {place.root} has no index of posts; make it: agora search index")
    made = load_choice(chosen_embeddings(place, embeddings if collection.texts else None))
    with indexed(collection, made, progress=progress) if collection.texts else opened_index(place) as index:
        now = NOW if collection.texts else datetime.now(timezone.utc)
        tuned = tune(collection, index, made, now=now, progress=progress)
    folder = out if out is not None else place.folder("search")
    folder.mkdir(parents=True, exist_ok=True)
    if tuned.helps:
        tuned.reranker.save(folder / RERANKER_FILE)
    else:
        (folder / RERANKER_FILE).unlink(missing_ok=True)
    tuned.confidence.save(folder / CONFIDENCE_FILE)
    return tuned, folder


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
