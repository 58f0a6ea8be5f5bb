"""Writing the same hashtags in the same order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agora.integrity.batch import Keys, PostBatch
from agora.integrity.signals.declaration import Signal
from agora.text.minhash import hash_strings

MIN_TAGS = 2


def _keys(posts: PostBatch) -> Keys:
    tags = posts.column("hashtags").take(pa.array(posts.own))
    several = np.diff(np.asarray(tags.offsets)) >= MIN_TAGS
    joined = pc.utf8_lower(pc.binary_join(tags.filter(pa.array(several)), " "))
    return Keys(posts.own[several], hash_strings(joined))


SIGNAL = Signal(
    id="hashtags", version=1, role="written", keys=_keys, organic_bursts={60: 0.05, 600: 0.05, 3600: 0.05, 7200: 0.05},
    nouns=("row of hashtags", "rows of hashtags"),
    why="They used the same hashtags in the same order.",
    inputs=("kind", "hashtags"), outputs="a sequence of at least two hashtags",
    false_alarms=("a conference or a show with agreed hashtags", "a fandom's usual pair of hashtags", "a protest"),
)  # fmt: skip
