"""Reposting or quoting the same post."""

from __future__ import annotations

import numpy as np

from agora.integrity.batch import Keys, PostBatch
from agora.integrity.signals.declaration import Signal
from agora.posts.schema import QUOTE, REPOST


def _keys(posts: PostBatch) -> Keys:
    reposts, quotes = posts.refs(REPOST), posts.refs(QUOTE)
    return Keys(np.concatenate((reposts.rows, quotes.rows)), np.concatenate((reposts.keys, quotes.keys)))


SIGNAL = Signal(
    id="repost", version=1, role="amplified", keys=_keys, organic_bursts={60: 0.05, 600: 0.2},
    nouns=("post of others", "posts of others"),
    why="They passed on the same post within a short time of each other, again and again.",
    inputs=("kind", "ref_id"), outputs="the post that was reposted or quoted",
    false_alarms=("followers of one popular account", "breaking news", "alerts that many fans have switched on"),
)  # fmt: skip
