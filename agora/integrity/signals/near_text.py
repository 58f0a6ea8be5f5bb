"""Writing nearly the same text: templates whose slots are filled anew, copies with a word changed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from agora.integrity.batch import Keys, PostBatch
from agora.integrity.signals.declaration import Signal
from agora.text.minhash import band_keys, signatures

MIN_WORDS = 5
NUM_BANDS, ROWS_PER_BAND = 6, 3
"""Two texts of Jaccard index s (over word pairs) share one band with probability p = s^rows, and are joined where they share at least two
(shared.MIN_EQUAL_BANDS): with probability 1 - (1 - p)^b - b p (1 - p)^(b - 1) for b bands."""


def _keys(posts: PostBatch) -> Keys:
    long = posts.own_words >= MIN_WORDS
    rows = posts.own[long]
    if not len(rows):
        return Keys(rows, np.empty(0, np.uint64))
    bands = band_keys(signatures(posts.own_keys.filter(pa.array(long)), NUM_BANDS * ROWS_PER_BAND), NUM_BANDS)
    return Keys(np.repeat(rows, NUM_BANDS), bands.ravel())


SIGNAL = Signal(
    id="near_text", version=1, role="written", keys=_keys, organic_bursts={60: 0.02, 600: 0.05, 3600: 0.08, 7200: 0.12}, bands=True,
    nouns=("text", "texts"),
    why="They wrote nearly the same words, as when one template is filled in again and again.",
    inputs=("kind", "text"), outputs="texts joined by shared MinHash bands",
    false_alarms=("set phrases", "chains of quotations", "texts that an app writes", "headlines of one agency"),
)  # fmt: skip
