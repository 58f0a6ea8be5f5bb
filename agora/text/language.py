"""Which language a text is in, cheaply and honestly. Goes in: comparison keys. Comes out: ISO 639-1 codes, `und` when unsure.

First the script (letters counted per Unicode block), then function words and telling letters for scripts that several
languages share (function_words.json: the commonest articles, pronouns, prepositions, written down for Agora). A word or
letter counts less the more languages share it. Not covered: languages without a list; mixed texts get the larger part;
short texts are often `und`.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.text.codepoints import NUM_CODEPOINTS, to_codepoints
from agora.text.ranges import ranges

UNKNOWN: Final = "und"
MIN_SCORE: Final = 1.5
"""Weighted function words needed; a word that no other language has gives 1.0. Chosen on labelled posts, see docs/corpus.md."""
MIN_LEAD: Final = 1.25
"""How far the best language must be ahead of the next, as a factor."""
_SCRIPT_SHARE: Final = 0.5

_SCRIPTS: Final = (
    ("latin", ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF))), ("cyrillic", ((0x400, 0x52F),)), ("greek", ((0x370, 0x3FF),)),
    ("arabic", ((0x600, 0x6FF), (0x750, 0x77F))), ("hebrew", ((0x590, 0x5FF),)), ("devanagari", ((0x900, 0x97F),)),
    ("bengali", ((0x980, 0x9FF),)), ("tamil", ((0xB80, 0xBFF),)), ("telugu", ((0xC00, 0xC7F),)), ("thai", ((0xE00, 0xE7F),)),
    ("georgian", ((0x10A0, 0x10FF),)), ("armenian", ((0x530, 0x58F),)), ("hangul", ((0x1100, 0x11FF), (0xAC00, 0xD7AF))),
    ("kana", ((0x3040, 0x30FF),)), ("han", ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x20000, 0x2FFFF))),
)  # fmt: skip
_SCRIPT_LANGUAGE: Final = {
    "greek": "el", "hebrew": "he", "devanagari": "hi", "bengali": "bn", "tamil": "ta", "telugu": "te", "thai": "th", "georgian": "ka",
    "armenian": "hy", "hangul": "ko", "kana": "ja", "han": "zh",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Words:
    languages: tuple[str, ...]
    script_of: npt.NDArray[np.int64]
    words: pa.Array
    entry_starts: npt.NDArray[np.int64]
    entry_language: npt.NDArray[np.int64]
    entry_weight: npt.NDArray[np.float64]
    letters: dict[int, list[int]]


@functools.cache
def _script_table() -> npt.NDArray[np.uint8]:
    table = np.zeros(NUM_CODEPOINTS, dtype=np.uint8)
    for number, (_, blocks) in enumerate(_SCRIPTS, start=1):
        for low, high in blocks:
            table[low : high + 1] = number
    return table


@functools.cache
def _function_words() -> _Words:
    content = json.loads(resources.files("agora.text").joinpath("function_words.json").read_text(encoding="utf-8"))
    letter_lists = content.pop("letters")
    languages: list[str] = []
    script_names = [name for name, _ in _SCRIPTS]
    by_word: dict[str, list[int]] = {}
    scripts = []
    for script, lists in content.items():
        for language, words in lists.items():
            for word in set(words.split()):
                by_word.setdefault(word, []).append(len(languages))
            languages.append(language)
            scripts.append(script_names.index(script))
    words = sorted(by_word)
    counts = np.array([len(by_word[word]) for word in words])
    by_letter: dict[int, list[int]] = {}
    for language, letters in letter_lists.items():
        for letter in letters:
            by_letter.setdefault(ord(letter), []).append(languages.index(language))
    return _Words(
        tuple(languages), np.array(scripts), pa.array(words, type=pa.large_string()), np.concatenate([[0], np.cumsum(counts)]),
        np.array([language for word in words for language in by_word[word]]), np.repeat(1.0 / counts, counts), by_letter,
    )  # fmt: skip


@functools.cache
def function_words() -> frozenset[str]:
    """The commonest articles, pronouns, prepositions of every language with a list: words that say nothing about a topic."""
    return frozenset(_function_words().words.to_pylist())


@functools.cache
def function_words_of(language: str) -> frozenset[str]:
    """Those of one language (ISO 639-1); none where it has no list."""
    content = json.loads(resources.files("agora.text").joinpath("function_words.json").read_text(encoding="utf-8"))
    scripts = [lists for name, lists in content.items() if name != "letters"]
    return frozenset(word for lists in scripts for word in lists.get(language, "").split())


def detect_languages(keys: pa.LargeStringArray) -> pa.LargeStringArray:
    """The language of each comparison key."""
    if not len(keys):
        return pa.array([], type=pa.large_string())
    table = _function_words()
    scores = _scores(keys, table)
    shares = _script_shares(keys, scores, table.letters)
    for index, script in enumerate(table.script_of):
        scores[:, index] *= shares[:, script] >= _SCRIPT_SHARE
    best = scores.argmax(axis=1)
    rows = np.arange(len(keys))
    top = scores[rows, best]
    scores[rows, best] = 0
    sure = (top >= MIN_SCORE) & (top >= MIN_LEAD * scores.max(axis=1))
    codes = np.where(sure, np.array(table.languages, dtype=object)[best], UNKNOWN)
    _fill_by_script(codes, shares)
    return pa.array(codes, type=pa.large_string())


def _fill_by_script(codes: npt.NDArray[np.object_], shares: npt.NDArray[np.float64]) -> None:
    """Scripts that stand for one language. Japanese mixes kana with Han: a fifth of kana is enough."""
    names = [name for name, _ in _SCRIPTS]
    kana, han = shares[:, names.index("kana")], shares[:, names.index("han")]
    for name, language in _SCRIPT_LANGUAGE.items():
        share = kana + han if name in ("kana", "han") else shares[:, names.index(name)]
        wins = share >= _SCRIPT_SHARE
        if name == "kana":
            wins &= kana >= 0.2 * share
        elif name == "han":
            wins &= kana < 0.2 * share
        codes[wins] = language


def _script_shares(keys: pa.LargeStringArray, scores: npt.NDArray[np.float64], letters: dict[int, list[int]]) -> npt.NDArray[np.float64]:
    """Share of each script among the letters of a row; telling letters are added to `scores`."""
    shares = np.zeros((len(keys), len(_SCRIPTS)))
    shares[:, 0] = 1.0
    foreign = np.flatnonzero(~np.asarray(pc.string_is_ascii(keys)))
    if len(foreign):
        points = to_codepoints(keys.take(pa.array(foreign)))
        rows = np.repeat(np.arange(len(foreign)), np.diff(points.row_starts))
        width = len(_SCRIPTS) + 1
        counts = np.bincount(rows * width + _script_table()[points.codes], minlength=len(foreign) * width).reshape(-1, width)[:, 1:]
        shares[foreign] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for letter in np.intersect1d(points.codes, list(letters)):
            found = np.bincount(rows[points.codes == letter], minlength=len(foreign))
            for language in letters[int(letter)]:
                scores[foreign, language] += np.minimum(found, 2) / len(letters[int(letter)])
    return shares


def _scores(keys: pa.LargeStringArray, table: _Words) -> npt.NDArray[np.float64]:
    """Weighted function words per row and language."""
    split = pc.split_pattern(keys, " ")
    starts = np.asarray(split.offsets, dtype=np.int64)
    found = pc.index_in(split.flatten(), value_set=table.words)
    hits = np.flatnonzero(np.asarray(found.is_valid()))
    word = np.asarray(found.drop_null(), dtype=np.int64)
    row = np.searchsorted(starts - starts[0], hits, side="right") - 1
    counts = table.entry_starts[word + 1] - table.entry_starts[word]
    entries = ranges(table.entry_starts[word], counts)
    cells = np.repeat(row, counts) * len(table.languages) + table.entry_language[entries]
    size = len(keys) * len(table.languages)
    scores = np.bincount(cells, weights=table.entry_weight[entries], minlength=size).astype(np.float64)
    return scores.reshape(len(keys), -1)
