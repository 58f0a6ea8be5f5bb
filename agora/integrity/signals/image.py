"""Posting the same picture or video."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agora.integrity.batch import Keys, PostBatch, distinct
from agora.integrity.signals.declaration import Signal
from agora.text.minhash import hash_strings


def _keys(posts: PostBatch) -> Keys:
    media = posts.column("media").take(pa.array(posts.own))
    rows = np.repeat(posts.own, np.diff(np.asarray(media.offsets)))
    urls = pc.struct_field(media.flatten(), "url")
    known = np.asarray(pc.is_valid(urls))
    return distinct(rows[known], hash_strings(urls.filter(pa.array(known))))


SIGNAL = Signal(
    id="image", version=1, role="written", keys=_keys, organic_bursts={60: 0.05, 600: 0.05, 3600: 0.1, 7200: 0.15},
    nouns=("picture", "pictures"),
    why="They attached the same file, as its address on the platform shows.",
    inputs=("kind", "media"), outputs="the address of an attachment; nothing is fetched, so a copy uploaded anew is missed",
    false_alarms=("stickers and GIFs of the platform's own collection", "one account's picture passed on by hand"),
)  # fmt: skip
