"""Replying to the same post."""

from __future__ import annotations

from agora.integrity.batch import Keys, PostBatch
from agora.integrity.signals.declaration import Signal
from agora.posts.schema import REPLY


def _keys(posts: PostBatch) -> Keys:
    return posts.refs(REPLY)


SIGNAL = Signal(
    id="reply", version=1, role="amplified", keys=_keys, organic_bursts={60: 0.05},
    nouns=("post they answered", "posts they answered"),
    why="They answered the same post within a short time of each other: pile-ons and staged applause look like this.",
    inputs=("kind", "ref_id"), outputs="the post that was answered",
    false_alarms=("a heated thread that everybody reads", "a live question hour", "friends talking with each other"),
)  # fmt: skip
