"""What a filter asks of other posts than the one it looks at. Goes in: a store and a filter. Comes out: a MatchContext that knows it.

`min_reposts:` and `min_replies:` count voices, `conversation_id:` means the whole thread: the store is read once more for each of them that
the filter has, and not at all for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

import pyarrow.compute as pc

from agora.integrity.voice import Voices
from agora.log import Progress, silent
from agora.posts.schema import REPLY, REPOST
from agora.posts.store import PostStore
from agora.search import conversations
from agora.search.query import syntax
from agora.search.query.matching import Engagement, MatchContext
from agora.search.query.syntax import Node
from agora.search.voice_counts import VoiceCounts

_COUNTED: Final = {"replies": REPLY, "reposts": REPOST}


def context_of(
    store: PostStore, where: Node | None, voices: Voices | None, *, now: datetime | None = None, progress: Progress = silent
) -> MatchContext:
    """A context in which every node of `where` can be answered."""
    context = MatchContext.of(voices, now=now)
    nodes = list(syntax.walk(where)) if where is not None else []
    asked: dict[str, str] = {node.what: _COUNTED[node.what] for node in nodes if isinstance(node, syntax.AtLeast) and node.what in _COUNTED}
    if asked:
        counts = _counts(store, asked, voices or Voices(), progress)
        context = replace(context, engagement=lambda one: Engagement(**{what: known.of_one(one) for what, known in counts.items()}))
    if roots := {node.id for node in nodes if isinstance(node, syntax.Conversation)}:
        above: dict[str, set[str]] = {}
        for root, one in conversations.below(roots, store, progress):
            above.setdefault(one, set()).add(root)
        context = replace(context, above=lambda one: above.get(one, ()))
    return context


def _counts(store: PostStore, kinds: Mapping[str, str], voices: Voices, progress: Progress) -> dict[str, VoiceCounts]:
    """The voices that referred to each post with a post of each kind."""
    counts = {what: VoiceCounts(voices) for what in kinds}
    with progress.step("reposts and replies", total=store.num_posts, unit="posts") as step:
        for batch in store.scan(columns=["author", "kind", "ref_id"]):
            for what, kind in kinds.items():
                refers = batch.filter(pc.and_(pc.equal(batch["kind"], kind), pc.is_valid(batch["ref_id"])))
                counts[what].add(refers["author"], refers["ref_id"])
            step.advance(batch.num_rows)
    return counts


__all__ = ["context_of"]
