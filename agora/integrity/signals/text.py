"""Writing the same text, word for word."""

from __future__ import annotations

import pyarrow as pa

from agora.integrity.batch import Keys, PostBatch
from agora.integrity.signals.declaration import Signal
from agora.text.minhash import hash_strings

MIN_WORDS = 4


def _keys(posts: PostBatch) -> Keys:
    long = posts.own_words >= MIN_WORDS
    return Keys(posts.own[long], hash_strings(posts.own_keys.filter(pa.array(long))))


SIGNAL = Signal(
    id="text", version=1, role="written", keys=_keys, organic_bursts={60: 0.03, 600: 0.1, 3600: 0.3, 7200: 0.45},
    nouns=("text", "texts"),
    why="They wrote the same words; case, punctuation, links and handles aside.",
    inputs=("kind", "text"), outputs="the comparison key of a text of at least four words",
    false_alarms=("set phrases and greetings", "lyrics and quotations", "texts that an app or a share button writes", "petitions"),
)  # fmt: skip
