"""Posting the same link."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from agora.integrity.batch import Keys, PostBatch, distinct
from agora.integrity.signals.declaration import Signal
from agora.text.links import canonical_urls
from agora.text.minhash import hash_strings


def _keys(posts: PostBatch) -> Keys:
    urls = posts.column("urls").take(pa.array(posts.own))
    counts = np.diff(np.asarray(urls.offsets))
    rows = np.repeat(posts.own, counts)
    encoded = urls.flatten().dictionary_encode()
    canonical = pa.array(canonical_urls(encoded.dictionary.to_pylist()), pa.string())
    keys = hash_strings(canonical)[np.asarray(encoded.indices)] if len(rows) else np.empty(0, np.uint64)
    return distinct(rows, keys)


SIGNAL = Signal(
    id="link", version=1, role="written", keys=_keys, organic_bursts={60: 0.05, 600: 0.05, 3600: 0.1, 7200: 0.15}, recurs=True,
    nouns=("link", "links"),
    why="They posted the same page, tracking parameters aside.",
    inputs=("kind", "urls"), outputs="the canonical form of a link",
    false_alarms=("outlets behind one syndication client", "a story everybody talks about", "share buttons", "a site's front page"),
)  # fmt: skip
