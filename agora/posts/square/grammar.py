"""The language of the square: word lists (words/*.toml) turned into tables that write thousands of texts at once.

Goes in: per text a start symbol, a topic and a subject. Comes out: an Arrow array of texts. A list in a topic replaces the
list of the same name in its language. `{name}` expands, `{^name}` starts with a capital letter, `{name?}` is there one time
in three, `{name~}` is one of the list's single words, `{name/1}` to `{name/3}` are thirds of the list that share nothing, `{subject}` is
the subject that the thread is about. Another subject of the topic that comes out as the same one becomes the one after it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

LANGUAGES: Final = ("en", "de", "es", "fr", "pt")
SUBJECT_SYMBOL: Final = "subject"

Ints = npt.NDArray[np.int32]

_EMPTY, _CAPITAL, _SUBJECT = 0, 1, 2
_SYMBOL_BASE = 1 << 24
_SLOT = re.compile(r"\{(\^?)([a-z_]+)(~|/[123]|\??)\}")
_NUM_PARTS = 3
_OPTIONAL_CHANCE = 3
_MAX_DEPTH = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """One thing people talk about; `subjects` are terminals, `first_tag`.. index the tags of the grammar."""

    name: str
    lang: str
    subjects: tuple[int, ...]
    first_tag: int
    num_tags: int
    everyday: bool


@dataclass(slots=True)
class _Tables:
    """Productions while they are read: alternatives are token sequences; (symbol, topic) selects a run of them."""

    flat: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def add(self, alternatives: list[list[int]]) -> tuple[int, int]:
        first = len(self.starts)
        for tokens in alternatives:
            self.starts.append(len(self.flat))
            self.lengths.append(len(tokens))
            self.flat += tokens
        return first, len(alternatives)


class Grammar:
    """All word lists, compiled. `add_subject` gives an event its own subject; everything else is fixed."""

    def __init__(self) -> None:
        self._words: list[str] = ["", "", ""]
        self._word_ids: dict[str, int] = {"": _EMPTY}
        self._capital: list[int] = [_EMPTY, _CAPITAL, _SUBJECT]
        self._symbols: dict[str, int] = {}
        self._array: pa.Array | None = None
        self.tags: list[str] = []
        self.topics: list[Topic] = []
        self.typos: list[tuple[str, str]] = []
        self._partial: set[tuple[str, str]] = set()
        self._load()

    def topic(self, name: str) -> int:
        """Number of the topic called `name`."""
        return next(number for number, topic in enumerate(self.topics) if topic.name == name)

    def everyday(self, lang: str) -> list[int]:
        """Topics that ordinary accounts of a language talk about."""
        return [number for number, topic in enumerate(self.topics) if topic.everyday and topic.lang == lang]

    def symbol(self, name: str) -> int:
        """Number of the symbol `name`, to start a text with."""
        return self._symbols[name]

    def num_alternatives(self, name: str, topic: int) -> int:
        """How many alternatives a symbol has in a topic."""
        return int(self._count[self._symbols[name], topic])

    def add_subject(self, text: str) -> int:
        """A terminal for a subject made at run time, such as one particular storm."""
        return self._word(text)

    def word(self, terminal: int) -> str:
        """The text of a terminal."""
        return self._words[terminal]

    def write(self, symbols: Ints, topics: Ints, subjects: Ints, rng: np.random.Generator, *, forced: Ints | None = None) -> pa.Array:
        """One text per row. `forced` fixes the alternative of the first symbol (negative: free)."""
        tokens, owner = self._expand(symbols, topics, rng, forced)
        same = np.flatnonzero(tokens == subjects[owner])
        tokens[same] = self._after[tokens[same]] if len(same) else tokens[same]
        is_subject = tokens == _SUBJECT
        tokens[is_subject] = subjects[owner[is_subject]]
        keep = tokens != _EMPTY
        tokens, owner = tokens[keep], owner[keep]
        capitals = np.flatnonzero(tokens[:-1] == _CAPITAL)
        tokens[capitals + 1] = np.asarray(self._capital, np.int32)[tokens[capitals + 1]]
        keep = tokens != _CAPITAL
        tokens, owner = tokens[keep], owner[keep]
        if self._array is None or len(self._array) != len(self._words):
            self._array = pa.array(self._words, pa.string())
        ends = np.cumsum(np.bincount(owner, minlength=len(symbols)))
        offsets = pa.array(np.concatenate(([0], ends)), pa.int32())
        return pc.binary_join(pa.ListArray.from_arrays(offsets, self._array.take(pa.array(tokens))), "")

    def _expand(self, symbols: Ints, topics: Ints, rng: np.random.Generator, forced: Ints | None) -> tuple[Ints, Ints]:
        tokens = symbols.astype(np.int32) + np.int32(_SYMBOL_BASE)
        owner = np.arange(len(symbols), dtype=np.int32)
        for depth in range(_MAX_DEPTH):
            where = np.flatnonzero(tokens >= _SYMBOL_BASE)
            if not len(where):
                return tokens, owner
            symbol, topic = tokens[where] - _SYMBOL_BASE, topics[owner[where]]
            pick = (rng.random(len(where), np.float32) * self._count[symbol, topic]).astype(np.int32)
            if forced is not None and depth == 0:
                pick = np.where(forced >= 0, forced, pick)
            alternative = self._first[symbol, topic] + pick
            lengths = np.ones(len(tokens), np.int32)
            lengths[where] = self._lengths[alternative]
            source = np.arange(len(tokens), dtype=np.int32) + np.int32(len(self._flat))
            source[where] = self._starts[alternative]
            ends = np.cumsum(lengths, dtype=np.int32)
            within = np.arange(ends[-1], dtype=np.int32) - np.repeat(ends - lengths, lengths)
            tokens = np.concatenate((self._flat, tokens))[np.repeat(source, lengths) + within]
            owner = np.repeat(owner, lengths)
        raise AssertionError("a word list refers to itself without end")

    def _load(self) -> None:
        shared = {lang: read_words(f"{lang}.toml") for lang in LANGUAGES}
        chat = read_words("chat.toml")["symbols"]
        assert not chat.keys() & shared["en"]["symbols"].keys(), "a list of chat.toml has the name of one in en.toml"
        shared["en"]["symbols"] |= chat
        self.typos = [(wrong[0], wrong[1]) for wrong in shared["en"]["typos"]["pairs"]]
        everyday = [(name, "en", table) for name, table in read_words("en_topics.toml")["topics"].items()]
        for lang in LANGUAGES[1:]:
            everyday += [(name, lang, table) for name, table in shared[lang]["topics"].items()]
        events = [(name, "en", table) for file in ("events", "campaigns") for name, table in read_words(f"{file}.toml")["topics"].items()]
        every = [table["symbols"] for table in shared.values()] + [table for _, _, table in everyday + events]
        slots = [slot for table in every for texts in table.values() for text in texts for slot in _SLOT.finditer(text)]
        self._partial = {(slot[2], slot[3]) for slot in slots if slot[3] not in ("", "?")}
        tables, runs = _Tables(), {}
        for lang in LANGUAGES:
            runs[lang] = self._compile(shared[lang]["symbols"], tables)
        own_runs = []
        for name, lang, table in everyday + events:
            own_runs.append(self._compile({key: value for key, value in table.items() if key != "hashtags"}, tables))
            subjects = tuple(self._word(text) for text in table["subjects"])
            self.topics.append(
                Topic(
                    name=name, lang=lang, subjects=subjects, first_tag=len(self.tags), num_tags=len(table["hashtags"]),
                    everyday=len(self.topics) < len(everyday),
                )
            )  # fmt: skip
            self.tags += table["hashtags"]
        self._flat = np.asarray(tables.flat, np.int32)
        self._starts, self._lengths = np.asarray(tables.starts, np.int32), np.asarray(tables.lengths, np.int32)
        self._after = np.arange(len(self._words), dtype=np.int32)
        for topic in self.topics:
            self._after[list(topic.subjects)] = [*topic.subjects[1:], topic.subjects[0]]
        self._first = np.zeros((len(self._symbols), len(self.topics)), np.int32)
        self._count = np.zeros_like(self._first)
        for number, (topic, own) in enumerate(zip(self.topics, own_runs, strict=True)):
            for symbol, (first, count) in {**runs[topic.lang], **own}.items():
                self._first[symbol, number], self._count[symbol, number] = first, count

    def _compile(self, lists: dict[str, list[str]], tables: _Tables) -> dict[int, tuple[int, int]]:
        runs = {}
        for name, texts in [*lists.items(), *self._partial_lists(lists)]:
            runs[self._symbol(name)] = tables.add([self._tokens(text, tables) for text in texts])
        return runs | self._optional_runs(lists, tables)

    def _partial_lists(self, lists: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
        """`{name~}` and `{name/1}` are symbols of their own, too, in every table that has the list."""
        for name, choice in sorted(self._partial):
            texts = lists.get(name, [])
            part = [text for text in texts if " " not in text] if choice == "~" else texts[int(choice[1]) - 1 :: _NUM_PARTS]
            if part:
                yield name + choice, part

    def _optional_runs(self, lists: dict[str, list[str]], tables: _Tables) -> dict[int, tuple[int, int]]:
        """`{name?}` and `{^name?}` are symbols of their own: one alternative in three is the name, the others are empty."""
        runs = {}
        for mark, name in sorted({(m[1], m[2]) for texts in lists.values() for text in texts for m in _SLOT.finditer(text) if m[3] == "?"}):
            full = [*([_CAPITAL] if mark else []), self._symbol(name) + _SYMBOL_BASE]
            runs[self._symbol(f"{mark}{name}?")] = tables.add([full, *[[_EMPTY]] * (_OPTIONAL_CHANCE - 1)])
        return runs

    def _tokens(self, text: str, tables: _Tables) -> list[int]:
        tokens, position = [], 0
        for slot in _SLOT.finditer(text):
            tokens.append(self._word(text[position : slot.start()]))
            mark, name, choice = slot.groups()
            if choice == "?":
                tokens.append(self._symbol(f"{mark}{name}?") + _SYMBOL_BASE)
            else:
                tokens += [_CAPITAL] if mark else []
                tokens.append(_SUBJECT if name == SUBJECT_SYMBOL else self._symbol(name + choice) + _SYMBOL_BASE)
            position = slot.end()
        tokens.append(self._word(text[position:]))
        return [token for token in tokens if token != _EMPTY] or [_EMPTY]

    def _symbol(self, name: str) -> int:
        return self._symbols.setdefault(name, len(self._symbols))

    def _word(self, text: str) -> int:
        if text not in self._word_ids:
            number = self._word_ids[text] = len(self._words)
            self._words.append(text)
            self._capital.append(number)
            capital = text[:1].upper() + text[1:]
            if capital != text:
                self._capital[number] = self._word(capital)
        return self._word_ids[text]


def read_words(name: str) -> dict[str, Any]:
    """One of the word lists beside this file."""
    return tomllib.loads(resources.files("agora.posts.square").joinpath("words", name).read_text(encoding="utf-8"))
