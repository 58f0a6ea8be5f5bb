"""How alike two ads are, one matrix per way of being alike. Goes in: ads. Comes out: matrices (rows of one list, columns of another).

A = ads of the first list, B = ads of the second, T = terms. Each way is a positive semidefinite kernel, so that sums and products of them
are too. Term weights are TF-IDF with sublinear counts, rows of length 1 (Salton and Buckley 1988, doi:10.1016/0306-4573(88)90021-0).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from agora.ads.scoring.past_ads import PastAd, readable
from agora.errors import MissingExtraError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Numbers = npt.NDArray[np.float64]
MONTH_DAYS, SEASON_DAYS = 30.0, 150.0
_NEAR_WIDTH: Final = 0.3  # of 1 - cosine: texts that share less than half their letters count as unrelated
_NUM_LETTERS: Final = (3, 4, 5)
_WORD: Final = re.compile(r"[#@]?\w[\w'-]*|[?!]+")
_PICTOGRAM: Final = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf]")
_ADDRESSES: Final = frozenset(
    [
        "you",
        "your",
        "yours",
        "we",
        "our",
        "us",
        "du",
        "dein",
        "sie",
        "ihr",
        "ihre",
        "wir",
        "uns",
        "vous",
        "votre",
        "nous",
        "tu",
        "tus",
        "nosotros",
    ]
)

TEXT_WAYS: Final = {"words": 0.4, "letters": 0.4, "near": 0.5, "shape": 0.5, "letters_for_shape": 1.0}
"""Ways that need the text alone, each with the weight that the search for weights starts from."""
TARGETING_WAYS: Final = {
    "items": 0.5, "item_words": 0.5, "setup": 0.5, "page_letters": 0.5, "page": 0.5, "season": 0.5,
    "page_in_month": 0.3, "items_in_month": 0.3, "item_words_in_season": 0.3, "letters_for_item_words": 0.3, "letters_for_items": 0.3,
    "shape_in_season": 0.5, "letters_in_season": 0.5, "shape_for_item_words": 0.5, "setup_for_shape": 0.5,
}  # fmt: skip
"""Ways that need the targeting, the landing page and the date."""


def words_of(text: str) -> list[str]:
    """Words of a text as they are compared; runs of ? and ! are words."""
    return _WORD.findall(readable(text))


def _word_terms(ad: PastAd) -> list[str]:
    words = words_of(ad.text)
    return words + [f"{one} {other}" for one, other in pairwise(words)]


def _letter_terms(text: str, sizes: Iterable[int]) -> list[str]:
    padded = [f" {word} " for word in readable(text).split()]
    return [word[at : at + size] for word in padded for size in sizes for at in range(max(1, len(word) - size + 1))]


def _items(ad: PastAd) -> list[str]:
    """Interests by name; other settings with their key; exclusions marked."""
    found = []
    for one in map(readable, ad.targeting):
        key, _, value = one.rpartition(":")
        area = key.split(":")[0].strip()
        found += [value.strip(), f"{area}=" if key.endswith("interests") else f"{area}={value.strip()}"]
    return found + ["not " + readable(one).split(":")[-1].strip() for one in ad.excluded]


_TERMS: Final[Mapping[str, tuple[Callable[[PastAd], list[str]], int]]] = {
    "words": (_word_terms, 2),
    "letters": (lambda ad: _letter_terms(ad.text, _NUM_LETTERS), 3),
    "items": (_items, 2),
    "item_words": (lambda ad: [word for item in _items(ad) for word in words_of(item)], 2),
    "page_letters": (lambda ad: _letter_terms(ad.page, (2, 3, 4)), 2),
}
TERM_WAYS = tuple(_TERMS)


def _shape(ad: PastAd) -> list[float]:
    """Length, lines, marks, capitals, digits, pictograms, links, how it addresses the reader."""
    text, words = ad.text, words_of(ad.text)
    size, num = max(1, len(text)), max(1, len(words))
    marks = [math.log1p(text.count(mark)) for mark in "\n?!#@"]
    return [
        math.log1p(len(text)), math.log1p(len(words)), *marks,
        sum(map(str.isupper, text)) / size, sum(map(str.isdigit, text)) / size, math.log1p(len(_PICTOGRAM.findall(text))),
        float("http" in text or ".com" in text), sum(map(len, words)) / num, len(set(words)) / num,
        sum(word in _ADDRESSES for word in words) / num, sum(len(word) > 2 and word.isupper() for word in text.split()) / num,
        math.log1p(max(map(len, text.split("\n")))), float(bool(set(text) & set('"“«„'))), text.count(",") / num, text.count(".") / num,
    ]  # fmt: skip


_SETTINGS: Final = (
    "interest", "must_also", "people who like", "friends of conn", "language", "location", "living_in", "behavior", "gender",
    "people_who_match", "exclude", "instagram", "right column", "mobile", "desktop", "custom_audience",
)  # fmt: skip


def _setup(ad: PastAd) -> list[float]:
    """Ages, how many settings of each kind, exclusions."""
    youngest, oldest = ad.ages or (18, 75)
    settings = [readable(one) for one in ad.targeting]
    counts = [math.log1p(sum(kind in one for one in settings)) for kind in _SETTINGS]
    return [youngest, oldest, oldest - youngest, math.log1p(len(settings)), float(bool(ad.excluded)), *counts]


@dataclass(frozen=True, slots=True)
class Described:
    """What is compared of a list of ads. `terms` are matrices AT, `shape` and `setup` are scaled, `day` is NaN where no date is known."""

    terms: Mapping[str, csr_matrix]
    shape: Numbers
    setup: Numbers
    day: Numbers
    pages: tuple[str, ...]

    def only(self, rows: npt.NDArray[np.int64]) -> Described:
        """The same of some of the ads."""
        kept = tuple(self.pages[row] for row in rows)
        return Described(
            {name: matrix[rows] for name, matrix in self.terms.items()}, self.shape[rows], self.setup[rows], self.day[rows], kept
        )


@dataclass(frozen=True, slots=True)
class Describer:
    """Vocabularies, term weights and scales, learnt from past ads. All of it is plain: it is saved as JSON."""

    vocabularies: Mapping[str, Mapping[str, float]]
    scales: Mapping[str, Sequence[Sequence[float]]]

    @classmethod
    def learn(cls, ads: Sequence[PastAd]) -> Describer:
        """Terms that several ads have, weighted by how few have them; means and deviations of what is measured."""
        vocabularies = {}
        for name, (terms_of, at_least) in _TERMS.items():
            seen = Counter(term for ad in ads for term in set(terms_of(ad)))
            vocabularies[name] = {
                term: math.log((1 + len(ads)) / (1 + num)) + 1 for term, num in sorted(seen.items()) if num >= min(at_least, len(ads))
            }
        scales = {}
        for name, measure in (("shape", _shape), ("setup", _setup)):
            measured = np.array([measure(ad) for ad in ads])
            scales[name] = [measured.mean(axis=0).tolist(), (measured.std(axis=0) + 1e-9).tolist()]
        return cls(vocabularies, scales)

    def describe(self, ads: Sequence[PastAd]) -> Described:
        """What is compared of `ads`."""
        day = np.array([np.nan if ad.created is None else ad.created.timestamp() / 86_400 for ad in ads])
        terms = {name: _matrix([terms_of(ad) for ad in ads], self.vocabularies[name]) for name, (terms_of, _) in _TERMS.items()}
        return Described(terms, self._scaled("shape", _shape, ads), self._scaled("setup", _setup, ads), day, tuple(ad.page for ad in ads))

    def _scaled(self, name: str, measure: Callable[[PastAd], list[float]], ads: Sequence[PastAd]) -> Numbers:
        mean, deviation = map(np.array, self.scales[name])
        constant = deviation < 1e-6  # what never differed among past ads says nothing about new ones
        scaled: Numbers = np.where(constant, 0.0, (np.array([measure(ad) for ad in ads]) - mean) / deviation)
        return np.clip(scaled, -6, 6)


def _matrix(terms: Sequence[Sequence[str]], vocabulary: Mapping[str, float]) -> csr_matrix:
    sparse = scipy_sparse()
    places = {term: place for place, term in enumerate(vocabulary)}
    rows, columns, values = [], [], []
    for row, found in enumerate(terms):
        counts = Counter(term for term in found if term in places)
        weights = [(1 + math.log(num)) * vocabulary[term] for term, num in counts.items()]
        length = math.sqrt(sum(weight * weight for weight in weights)) or 1.0
        rows += [row] * len(counts)
        columns += [places[term] for term in counts]
        values += [weight / length for weight in weights]
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(terms), max(1, len(vocabulary))))


def scipy_sparse() -> Any:
    """scipy.sparse. Raises MissingExtraError."""
    try:
        from scipy import sparse
    except ImportError:
        raise MissingExtraError("scipy", "ads", "the click model") from None
    return sparse


def likeness(a: Described, b: Described, ways: Iterable[str]) -> dict[str, Numbers]:
    """One matrix AB per way named. Raises KeyError for a way that does not exist."""
    found: dict[str, Numbers] = {}

    def basic(name: str) -> Numbers:
        if name not in found:
            found[name] = _basic(name, a, b)
        return found[name]

    made = {}
    for name in ways:
        first, *others = _PRODUCTS.get(name, (name,))
        made[name] = basic(first)
        for other in others:
            made[name] = made[name] * basic(other)
    return made


_PRODUCTS: Final = {
    "page_in_month": ("page", "month"), "items_in_month": ("items", "month"), "item_words_in_season": ("item_words", "season"),
    "letters_for_item_words": ("letters", "item_words"), "letters_for_items": ("letters", "items"),
    "letters_for_shape": ("letters", "shape"), "shape_in_season": ("shape", "season"), "letters_in_season": ("letters", "season"),
    "shape_for_item_words": ("shape", "item_words"), "setup_for_shape": ("setup", "shape"),
}  # fmt: skip


def _basic(name: str, a: Described, b: Described) -> Numbers:
    if name in TERM_WAYS:
        return np.asarray((a.terms[name] @ b.terms[name].T).todense(), dtype=np.float64)
    if name == "near":
        return np.asarray(np.exp((_basic("letters", a, b) - 1) / _NEAR_WIDTH))
    if name == "page":
        known = {page: place for place, page in enumerate(sorted({*a.pages, *b.pages}))}
        one, other = (np.array([known[page] for page in pages]) for pages in (a.pages, b.pages))
        return np.asarray(one[:, None] == other[None, :], dtype=np.float64)
    if name in ("month", "season"):
        apart = np.abs(a.day[:, None] - b.day[None, :]) / {"month": MONTH_DAYS, "season": SEASON_DAYS}[name]
        return np.asarray(np.nan_to_num(np.exp(-apart), nan=0.0))
    width = {"shape": 1.0, "setup": 0.7}[name]
    one, other = getattr(a, name), getattr(b, name)
    apart = np.maximum(0.0, (one**2).sum(1)[:, None] + (other**2).sum(1)[None, :] - 2 * one @ other.T) / one.shape[1]
    return np.asarray(np.exp(-apart / (2 * width * width)))
