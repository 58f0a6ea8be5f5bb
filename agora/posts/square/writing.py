"""What the posts of a window say. Goes in: Rows whose every choice is made. Comes out: texts, and the table with POST_SCHEMA.

A text is a sentence of the grammar in the habit of its author (lower case, no full stop, emoji, typos, shouting), the name
of whom it answers in front, tags and link at the end. A repost has the text of the original.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.posts.schema import KINDS, POST_SCHEMA
from agora.posts.square.config import SquareConfig
from agora.posts.square.grammar import Grammar, read_words
from agora.posts.square.pool import NONE, QUOTE_CODE, REPLY_CODE, REPOST_CODE, Rows
from agora.posts.square.population import STYLES, Population
from agora.posts.square.schedule import Schedule
from agora.posts.square.window import ACTS, AFTERTHOUGHT, ANSWER, QUOTED, SLOGAN

SOURCE = "simulated_square"

Index = npt.NDArray[np.int64]
Rng = np.random.Generator

_NAMES_ADDRESSEE = 0.7  # share of replies that begin with the name of whom they answer
_LOST_LANG = 0.02  # share of posts whose language the platform did not record
_EMOJI_TAILS = (" 😂", " ❤️", " 🔥", " ✨", " 😭", " 🙏", " 👏", " 😍", " 🎉", " 🤷", " 💀", " 🥰")
_ANSWER_TO = {
    "quote": "reply_opinion", "slogan": "reply_opinion", "long": "reply_opinion", "reply": "reply_reply", "reply_self": "reply_reply",
}  # fmt: skip


class Writer:
    """Writes windows one after the other; keeps the texts that campaigns repeat word for word."""

    def __init__(self, config: SquareConfig, people: Population, schedule: Schedule, grammar: Grammar) -> None:
        self._config, self._people, self._schedule, self._grammar = config, people, schedule, grammar
        self._start_us = config.start_us()
        self._prefix = f"{config.fingerprint()}-"
        symbols = [grammar.symbol("opinion" if name in ("reply", "slogan") else name) for name in ACTS]
        symbols[SLOGAN] = grammar.symbol("slogan")
        self._symbols = np.asarray(symbols, np.int32)
        self._answers = np.asarray([grammar.symbol(_ANSWER_TO.get(name, f"reply_{name}")) for name in ACTS], np.int32)
        self._tags = pa.array(grammar.tags, pa.string())
        self._tag_texts = pa.array([f" #{tag}" for tag in grammar.tags], pa.string())
        self._langs = pa.array([topic.lang for topic in grammar.topics], pa.string())
        self._domains = pa.array([f"https://{domain}/" for domain in read_words("handles.toml")["domains"]], pa.string())
        self._mentions = pc.binary_join_element_wise(pa.scalar("@"), people.handles, pa.scalar(" "), "")

    def texts(self, rows: Rows, every: Rows, past_texts: pa.Array, parent: Index, rng: Rng) -> pa.Array:
        """The texts of `rows`; sets their mentions. `parent` points into `every`, whose first rows have the texts `past_texts`."""
        own = np.flatnonzero(rows.kind != REPOST_CODE)
        body = self._bodies(rows, own, every, parent, rng)
        named = (rows.kind[own] == REPLY_CODE) & (rng.random(len(own)) < _NAMES_ADDRESSEE) & (rows.author[own] != rows.parent_author[own])
        rows.mention[own] = np.where(named, rows.parent_author[own], NONE)
        written = pc.binary_join_element_wise(
            _optional(self._mentions, rows.mention[own]), body, _optional(self._tag_texts, rows.tag[own]),
            _optional(self._tag_texts, rows.second_tag[own]), _spaced(self._urls(rows.url[own])), "", null_handling="skip",
        )  # fmt: skip
        past = len(past_texts)
        place = np.zeros(len(rows), np.int64)
        place[own] = past + np.arange(len(own))
        shared = np.flatnonzero(rows.kind == REPOST_CODE)
        source = parent[shared]
        place[shared] = np.where(source < past, source, place[np.maximum(source - past, 0)])
        for name in ("tag", "second_tag", "url", "mention", "has_image"):
            getattr(rows, name)[shared] = np.where(
                source < past, getattr(every, name)[source], getattr(rows, name)[np.maximum(source - past, 0)]
            )
        return pa.concat_arrays([past_texts, written]).take(pa.array(place))

    def table(self, rows: Rows, texts: pa.Array, rng: Rng) -> pa.Table:
        """The posts with POST_SCHEMA."""
        count = len(rows)
        lang = self._langs.take(pa.array(rows.topic))
        lang = pc.if_else(pa.array(rng.random(count) < _LOST_LANG), pa.scalar(None, pa.string()), lang)
        created = self._start_us + np.floor(rows.time_s * 1e6).astype(np.int64)
        columns = [
            self._ids(rows.number), self._people.handles.take(pa.array(rows.author)),
            pa.array(created).cast(pa.timestamp("us")).cast(POST_SCHEMA.field("created_at").type), texts, lang,
            pa.array(KINDS).take(pa.array(rows.kind)), self._ids(rows.parent), _optional(self._people.handles, rows.parent_author),
            _lists(self._urls(rows.url)), _lists(_optional(self._tags, rows.tag), _optional(self._tags, rows.second_tag)),
            _lists(_optional(self._people.handles, rows.mention)), self._media(rows), pa.repeat(SOURCE, count),
            pa.nulls(count, pa.int64()),
        ]  # fmt: skip
        return pa.Table.from_arrays(columns, schema=POST_SCHEMA)

    def _bodies(self, rows: Rows, own: Index, every: Rows, parent: Index, rng: Rng) -> pa.Array:
        act, kind = rows.act[own], rows.kind[own]
        symbols = self._symbols[act]
        answers = np.flatnonzero((kind == REPLY_CODE) & (act == ANSWER))
        symbols[answers] = self._answers[every.act[parent[own[answers]]]]
        symbols[act == AFTERTHOUGHT] = self._grammar.symbol("reply_self")
        symbols[(kind == QUOTE_CODE)] = self._symbols[QUOTED]
        forced = np.full(len(own), NONE, np.int32)
        copied: list[tuple[Index, str]] = []
        for number in np.unique(rows.wave[own][rows.wave[own] != NONE]):
            mine = np.flatnonzero(rows.wave[own] == number)
            wave = self._schedule.waves[number]
            once = np.random.default_rng([self._config.seed, 5, wave.number])
            if wave.text == "templated":
                forced[mine] = once.integers(self._grammar.num_alternatives("slogan", wave.topic))
            elif wave.text == "paraphrased" and wave.group.campaign is not None:
                symbols[mine] = self._grammar.symbol("paraphrase")
            elif wave.text == "verbatim":
                first = mine[:1]
                text = self._grammar.write(symbols[first], rows.topic[own][first], rows.subject[own][first], once)[0].as_py()
                copied.append((mine, text))
        body = self._grammar.write(symbols, rows.topic[own], rows.subject[own], rng, forced=forced)
        body = self._in_own_habit(body, rows.author[own], rows.wave[own] != NONE, rng)
        for mine, text in copied:
            mask = np.zeros(len(own), np.bool_)
            mask[mine] = True
            body = pc.if_else(pa.array(mask), pa.scalar(text), body)
        return body

    def _in_own_habit(self, body: pa.Array, authors: npt.NDArray[np.int32], official: npt.NDArray[np.bool_], rng: Rng) -> pa.Array:
        style = np.where(official & (rng.random(len(authors)) < 0.7), 0, self._people.style[authors])
        draw = rng.random(len(authors))
        parts, order = [], []
        for number, name in enumerate(STYLES):
            index = np.flatnonzero(style == number)
            if len(index):
                parts.append(self._styled(name, body.take(pa.array(index)), draw[index]))
                order.append(index)
        back = np.empty(len(authors), np.int64)
        back[np.concatenate(order)] = np.arange(len(authors))
        return pa.concat_arrays(parts).take(pa.array(back))

    def _styled(self, name: str, texts: pa.Array, draw: npt.NDArray[np.float64]) -> pa.Array:
        if name == "lowercase":
            return pc.utf8_lower(texts)
        if name == "no_stop":
            return pc.utf8_rtrim(texts, ".")
        if name == "emoji":
            tails = np.where(draw < 0.6, (draw / 0.6 * len(_EMOJI_TAILS)).astype(np.int32), NONE)
            return pc.binary_join_element_wise(texts, _optional(pa.array(_EMOJI_TAILS), tails), "", null_handling="skip")
        if name == "loud":
            return pc.if_else(pa.array(draw < 0.4), pc.utf8_upper(texts), pc.replace_substring(texts, ".", "!"))
        if name == "typos":
            pairs = self._grammar.typos
            which = (draw * len(pairs)).astype(np.int32)
            for number, (right, wrong) in enumerate(pairs):
                mine = which == number
                changed = pc.replace_substring(texts.filter(pa.array(mine)), right, wrong, max_replacements=2)
                texts = pc.replace_with_mask(texts, pa.array(mine), changed)
        return texts

    def _ids(self, numbers: npt.NDArray[np.int64]) -> pa.Array:
        known = pa.array(numbers, mask=numbers == NONE).cast(pa.string())
        return pc.binary_join_element_wise(pa.scalar(self._prefix), pc.utf8_lpad(known, 11, "0"), "")

    def _urls(self, pages: npt.NDArray[np.int64]) -> pa.Array:
        """Links, null for NONE. The page's remainder picks the domain."""
        index = np.flatnonzero(pages != NONE)
        known = pc.binary_join_element_wise(
            self._domains.take(pa.array(pages[index] % len(self._domains))), pa.array(pages[index]).cast(pa.string()), ""
        )
        place = np.zeros(len(pages), np.int64)
        place[index] = np.arange(len(index))
        return known.take(pa.array(place, mask=pages == NONE))

    def _media(self, rows: Rows) -> pa.Array:
        kind: Any = POST_SCHEMA.field("media").type
        index = np.flatnonzero(rows.has_image)
        origin = np.where(rows.kind[index] == REPOST_CODE, rows.parent[index], rows.number[index])
        url = pc.binary_join_element_wise(pa.scalar("https://photobooth.example/"), self._ids(origin), pa.scalar(".jpg"), "")
        values = [pa.repeat("image", len(index)), url, pa.nulls(len(index), pa.string())]
        struct = pa.StructArray.from_arrays(values, fields=list(kind.value_type))
        offsets = np.concatenate(([0], np.cumsum(rows.has_image, dtype=np.int32)))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct, type=kind)


def _optional(values: pa.Array, index: npt.NDArray[Any]) -> pa.Array:
    """`values[index]`, null where the index is NONE."""
    return values.take(pa.array(np.maximum(index, 0), mask=index == NONE))


def _spaced(urls: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(" "), urls, "")


def _lists(*columns: pa.Array) -> pa.Array:
    """One list per row out of columns whose nulls are left out."""
    present = np.stack([np.asarray(pc.is_valid(column)) for column in columns], axis=1)
    flat = pa.concat_arrays(list(columns))
    place = np.arange(present.shape[1]) * len(columns[0]) + np.arange(len(columns[0]))[:, None]
    offsets = np.concatenate(([0], np.cumsum(present.sum(axis=1)))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat.take(pa.array(place[present])))
