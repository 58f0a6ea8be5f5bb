"""Whether what was made of posts still holds words that were deleted since. Goes in: the post store and the number of tombstones that a
corpus or its shards were made under. Comes out: nothing, or an error or warning that names what to make again.

Tombstones only become more, so their number says which of them were heeded. Not covered: models, and copies outside the workspace.
"""

from __future__ import annotations

import logging
from pathlib import Path

from agora.corpus.document_files import read_card
from agora.errors import UsageError
from agora.posts.store import PostStore

logger = logging.getLogger(__name__)


def num_deletions(store: Path) -> int:
    """Tombstones of the store in that folder; 0 when there is none. Raises StoreError when it is damaged."""
    return PostStore.open(store).deletions().num_rows if store.is_dir() and any(store.iterdir()) else 0


def corpus_deletions(corpus: Path) -> int | None:
    """How many tombstones the corpus was built under; None when it has no card or the card does not say."""
    card = read_card(corpus)
    return None if card is None else card.get("deletions")


def refuse_stale_corpus(corpus: Path, store: Path) -> None:
    """Raises UsageError when posts were deleted after the corpus was built. One that is not there is for its reader to miss."""
    if problem := _stale_corpus(corpus, store):
        raise UsageError(problem)


def warn_of_stale_corpus(corpus: Path, store: Path) -> None:
    """Says what `refuse_stale_corpus` refuses."""
    if problem := _stale_corpus(corpus, store):
        logger.warning(problem)


def refuse_stale_shards(shards: Path, known: int | None, store: Path) -> None:
    """Raises UsageError when posts were deleted after the corpus was built that the shards were packed from."""
    if (since := num_deletions(store) - (known or 0)) > 0:
        raise UsageError(
            f"shards {shards} may hold words that {_deletions(since)} took back; make them again: "
            "agora corpus build, agora tokenizer train, agora tokenizer pack"
        )


def _stale_corpus(corpus: Path, store: Path) -> str:
    if read_card(corpus) is None or (since := num_deletions(store) - (corpus_deletions(corpus) or 0)) <= 0:
        return ""
    return f"corpus {corpus} may hold words that {_deletions(since)} took back; build it again: agora corpus build"


def _deletions(count: int) -> str:
    return "a later deletion" if count == 1 else f"{count:,} later deletions"
