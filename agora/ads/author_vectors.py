"""Authors as points. Goes in: counts of their words. Comes out: one unit row per author; near rows, near interests.

By words: TF-IDF, which knows that two authors use the same words. By meaning: beside that the mean of MiniLM vectors (extra `minilm`,
agora/text/minilm.py) of the author's words, weighed by TF-IDF, with the mean of all words taken off, so that "bike" is near "bicycle".
Single words are embedded and never posts: only words that enough voices use, none of posts that touch a sensitive topic. English only, as
MiniLM is.
"""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from agora.ads.author_words import Written
from agora.errors import MissingExtraError
from agora.integrity.voice import Voices, count_voices
from agora.text import minilm

log = logging.getLogger(__name__)

Method = Literal["auto", "words", "meaning"]
_LEAST_USERS: Final = 10
_DIMS: Final = 64
_LANGUAGE: Final = "en"
_MOST_WORDS: Final = 20_000
"""Words that are embedded, those of most voices first: about half a minute on one core."""
_MEANING: Final = 1.0
"""Weight of meaning beside words: the same."""

_ALIKE_BY_WORDS: Final = 0.4
"""Likeness to a list, as a share of what its own members have, from which an author is like it. Strangers have up to 0.3 by small talk."""
_ALIKE: Final = 0.15
"""The same with meaning: words of all kinds have some."""

Points = npt.NDArray[np.float64]
"""[authors, dimensions]"""


def by_meaning(method: Method, language: str) -> bool:
    """Whether meaning is looked at: `auto` does where MiniLM is installed. Raises MissingExtraError where it is asked for and is not."""
    if method == "words" or language != _LANGUAGE:
        return False
    if method == "meaning" and not minilm.is_installed():
        raise MissingExtraError(minilm.PACKAGE, minilm.EXTRA, "finding audiences by meaning")
    return minilm.is_installed()


@dataclass(frozen=True, slots=True)
class AuthorVectors:
    """One row per author: `words` (sparse TF-IDF, unit length) and, where meaning is looked at, `meaning` (unit length)."""

    words: Any
    meaning: Points | None

    def points(self, seed: int) -> Points:
        """Dense rows for grouping, all zero where an author has no word that others share."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.preprocessing import normalize

        dims = min(_DIMS, self.words.shape[1] - 1, self.words.shape[0] - 1)
        few = self.words.toarray() if dims < 2 else TruncatedSVD(dims, random_state=seed).fit_transform(self.words)
        found = normalize(few)
        if self.meaning is not None:
            found = normalize(np.hstack([found, _MEANING * self.meaning]))
        found[np.asarray(self.words.getnnz(axis=1)) == 0] = 0.0
        return np.asarray(found)

    def likeness(self, rows: Sequence[int], weights: Sequence[float]) -> npt.NDArray[np.float64]:
        """How like each author is to the middle of `rows`, each with its weight; not above 0 where there is no likeness."""
        shares = np.asarray(weights) / np.sum(weights)
        scores = np.asarray(self.words @ (self.words[rows].T @ shares)).ravel()
        if self.meaning is None:
            return np.asarray(scores - _ALIKE_BY_WORDS * float(np.median(scores[rows])))
        both = scores + _MEANING * (self.meaning @ (shares @ self.meaning[rows]))
        return np.asarray(both - _ALIKE * float(np.median(both[rows])))


def author_vectors(
    written: Written, names: Sequence[str], speakers: Voices, language: str, *, method: Method = "auto", seed: int = 0
) -> AuthorVectors:
    """The vectors of `names`. Raises MissingExtraError."""
    try:
        from sklearn.feature_extraction import DictVectorizer
        from sklearn.feature_extraction.text import TfidfTransformer
        from sklearn.preprocessing import normalize
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "ads", "finding audiences") from error
    users = _users(written, names, speakers)
    counts = [{word: count for word, count in written.authors[name].words.items() if word in users} for name in names]
    if not any(counts):
        from scipy.sparse import csr_matrix

        return AuthorVectors(csr_matrix((len(names), 1)), None)
    reader = DictVectorizer(dtype=np.float64)
    words = TfidfTransformer(sublinear_tf=True).fit_transform(reader.fit_transform(counts))
    if not by_meaning(method, language):
        return AuthorVectors(words, None)
    known = [str(word) for word in reader.get_feature_names_out()]
    return AuthorVectors(words, normalize(words @ _meanings(known, users, seed)))


def _users(written: Written, names: Sequence[str], speakers: Voices) -> dict[str, int]:
    """How many voices use a word, of words that enough use, and not nearly all."""
    users: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name in names:
        voice = speakers.of(name)
        for word in written.authors[name].words:
            users[word].add(voice)
    most = 0.5 * count_voices(names, speakers)
    return {word: len(some) for word, some in sorted(users.items()) if _LEAST_USERS <= len(some) <= most}


def _meanings(words: Sequence[str], users: dict[str, int], seed: int) -> Points:
    """A vector per word, in `_DIMS` dimensions at most; all zero for those beyond `_MOST_WORDS`."""
    import pyarrow as pa
    from sklearn.decomposition import TruncatedSVD

    chosen = sorted(range(len(words)), key=lambda row: (-users[words[row]], words[row]))[:_MOST_WORDS]
    if len(chosen) < len(words):
        log.info("the meaning of the %d words that most use is looked at, of %d", len(chosen), len(words))
    found = np.asarray(_model().vectors(pa.array([words[row] for row in chosen])), dtype=np.float64)
    found -= found.mean(axis=0)
    if min(found.shape) > _DIMS:
        found = TruncatedSVD(_DIMS, random_state=seed).fit_transform(found)
    table = np.zeros((len(words), found.shape[1]))
    table[chosen] = found
    return table


@functools.cache
def _model() -> Any:
    return minilm.load_minilm()


__all__ = ["AuthorVectors", "Method", "author_vectors", "by_meaning"]
