"""Trends: terms that more voices use now than their own history lets expect. Goes in: the posts of a store and who speaks as one
(agora/integrity/voice.py). Comes out: a TrendReport.

Terms are words, phrases of two, tags, cashtags and links. The last `window_s` seconds are compared with the windows of equal length
before them. In each window a term counts its voices: an account counts once, all accounts of a campaign together once. Which counts are
surprising, with a controlled share of false ones, is decided in surprise.py. Terms that the same voices use are one trend.

Not covered: coordination that nobody has labelled; the week's rhythm, when the history is shorter than some weeks; other forms of a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import ConfigError
from agora.integrity.results import utc
from agora.integrity.voice import Voices
from agora.log import Progress, silent
from agora.posts.schema import POST_SCHEMA
from agora.posts.store import PostStore
from agora.search.context import context_of
from agora.search.index.text import microseconds
from agora.search.query import syntax
from agora.search.query.matching import MatchContext, matches
from agora.search.query.syntax import Node
from agora.search.surprise import DAY_S, Counts, History, Surprises, surprises
from agora.search.terms import Kind, in_sample, some_terms, some_terms_of_many, terms_of
from agora.units import format_span

MIN_WINDOWS: Final = 8
"""Windows of the history that must hold posts; with fewer, everything is new."""
COMMON_SHARE: Final = 0.02
"""A phrase with a word that this share of voices uses in any window is no headline ("of the")."""
SAME_VOICES: Final = 0.4
PART_VOICES: Final = 0.6
HEADLINE_VOICES: Final = 0.7
NUM_BUCKETS: Final = 24
NUM_EXAMPLES: Final = 3
NUM_ALIKE: Final = 8
_PREFERRED: Final[tuple[Kind, ...]] = ("phrase", "tag", "cashtag", "word", "link")
_COLUMNS: Final = ("id", "author", "created_at", "text", "urls", "hashtags")
_COMPACT: Final = 4_000_000
_NUMBER_BITS: Final = 28


@dataclass(frozen=True, kw_only=True, slots=True)
class TrendConfig:
    """What counts as a trend.

    window_s     length of "now" in seconds
    history_s    how far back the history goes before it, in seconds
    min_voices   fewer voices are no trend
    min_lift     voices over the expected number, at least
    max_q        highest false discovery rate
    limit        trends that are returned
    """

    window_s: float = 3_600.0
    history_s: float = 7 * DAY_S
    min_voices: int = 4
    min_lift: float = 2.0
    max_q: float = 0.01
    limit: int = 20

    def __post_init__(self) -> None:
        if not 60 <= self.window_s <= 366 * DAY_S:
            raise ConfigError(f"window_s={self.window_s} must lie between a minute and a year, in seconds; example: 3600")
        if not MIN_WINDOWS * self.window_s <= self.history_s <= 10_000 * self.window_s:
            raise ConfigError(
                f"history_s={self.history_s} must be {MIN_WINDOWS} to 10,000 windows (window_s={self.window_s:g}); "
                f"example: {168 * self.window_s:g}"
            )
        if self.min_voices < 2 or self.limit < 1:
            raise ConfigError(f"min_voices={self.min_voices} must be at least 2, limit={self.limit} at least 1")
        if not (self.min_lift >= 1 and 0 < self.max_q < 1):
            raise ConfigError(f"min_lift={self.min_lift} must be at least 1, max_q={self.max_q} between 0 and 1")

    @property
    def num_windows(self) -> int:
        """Whole windows of the history."""
        return int(self.history_s // self.window_s)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bar of a histogram."""

    start: str
    voices: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """`accounts` is how many accounts the voices are; `expected`: voices that the history lets expect; `score` = -log10 p; `alike`: terms
    of the same voices; `examples`: ids of the earliest posts of different voices; `histogram`: the last windows, now being the last."""

    term: str
    kind: Kind
    voices: int
    accounts: int
    posts: int
    expected: float
    lift: float
    p_value: float
    q_value: float
    score: float
    alike: tuple[str, ...]
    examples: tuple[str, ...]
    histogram: tuple[Bucket, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrendReport:
    """What rises at `at`. `num_voices` were active in the window, `num_terms` were tested, `num_windows` of the history held posts."""

    at: str
    window_s: float
    num_posts: int
    num_voices: int
    num_terms: int
    num_windows: int
    trends: tuple[Trend, ...]
    warnings: tuple[str, ...]


def find_trends(
    store: PostStore,
    config: TrendConfig | None = None,
    *,
    voices: Voices | None = None,
    where: Node | None = None,
    now: datetime | None = None,
    or_newest: bool = False,
    progress: Progress = silent,
) -> TrendReport:
    """What rises among the posts that match `where` (all, when None). With `or_newest`, a window that holds no posts is moved back to the
    newest post, and a warning says so. Reads the store twice, and once more for that. Raises StoreError."""
    config = config or TrendConfig()
    at = syntax.utc(now) if now else datetime.now(timezone.utc)
    reading = _window(store, config, voices, where, at, progress)
    moved = or_newest and reading.newest is not None and reading.newest <= at - timedelta(seconds=config.window_s)
    if moved and reading.newest is not None:
        at = reading.newest
        reading = _window(store, config, voices, where, at, progress)
    candidates = reading.candidates()
    with progress.step("posts of the history", total=store.num_posts, unit="posts") as step:
        for batch in store.scan(columns=reading.columns()):
            reading.add_history(batch)
            step.advance(batch.num_rows)
    history = reading.history()
    num_windows = int(np.count_nonzero(history.active[1:]))
    told = (f"the newest posts are of {at:%Y-%m-%d}; counted up to then",) if moved else ()
    warnings = (*told, *_warnings(reading, num_windows))
    trends: tuple[Trend, ...] = ()
    if candidates and num_windows >= MIN_WINDOWS:
        trends = tuple(_trends(reading, history))
    return TrendReport(
        at=utc(at), window_s=config.window_s, num_posts=reading.num_posts, num_voices=int(history.active[0]), num_terms=len(reading.first),
        num_windows=num_windows, trends=trends, warnings=warnings,
    )  # fmt: skip


def _window(store: PostStore, config: TrendConfig, voices: Voices | None, where: Node | None, at: datetime, progress: Progress) -> _Reading:
    """The counts of the window up to `at`."""
    reading = _Reading(config, voices or Voices(), where, context_of(store, where, voices, now=at, progress=progress))
    with progress.step("posts of the window", total=store.num_posts, unit="posts") as step:
        for batch in store.scan(columns=reading.columns()):
            reading.add_window(batch)
            step.advance(batch.num_rows)
    return reading


class _Reading:
    """Counts of one search for trends: first the window, then the history of the terms that came up in it."""

    def __init__(self, config: TrendConfig, voices: Voices, where: Node | None, context: MatchContext) -> None:
        at = context.now
        self.config, self.at = config, at
        self.first: dict[str, int] = {}
        self.sets: dict[str, set[int]] = {}
        self.kinds: dict[str, Kind] = {}
        self.now: set[int] = set()
        self.num_posts = 0
        self.posts: list[tuple[datetime, str, str, int, frozenset[str]]] = []
        self.newest: datetime | None = None
        self._voices, self._where = voices, where
        self._context = context
        self._start = at - timedelta(seconds=config.window_s)
        self._codes: dict[tuple[str, str], int] = {}
        self._uses: list[Counts] = []
        self._active: list[Counts] = []
        self._candidates: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._has_links = False

    def columns(self) -> Sequence[str]:
        """Columns that are read: all of them only to ask whether a post matches."""
        return _COLUMNS if self._where is None else POST_SCHEMA.names

    def add_window(self, batch: pa.RecordBatch) -> None:
        """Count who uses what now."""
        if batch.num_rows:
            newest = pc.max(pc.if_else(pc.less_equal(batch["created_at"], self._limit(0)), batch["created_at"], None)).as_py()
            self.newest = max(filter(None, [self.newest, newest]), default=None)
        for post, voice in self._rows(batch, self._limit(1), self._limit(0)):
            found = terms_of(post["text"], post["hashtags"], post["urls"])
            self.num_posts += 1
            self.now.add(voice)
            for term, kind in found.items():
                before = self.first.setdefault(term, voice)
                if before != voice:
                    self.kinds[term] = kind
                    self.sets.setdefault(term, {before}).add(voice)

    def candidates(self) -> Mapping[str, int]:
        """Terms that enough voices use now, numbered."""
        enough = sorted(term for term, used in self.sets.items() if len(used) >= self.config.min_voices)
        self._candidates = {term: number for number, term in enumerate(enough)}
        self._numbers = dict(self._candidates)
        self._has_links = any(self.kinds[term] == "link" for term in enough)
        return self._candidates

    def add_history(self, batch: pa.RecordBatch) -> None:
        """Count who used the candidates before, and the terms of the sample, and note the posts that use candidates now."""
        known, num_windows = self._candidates, self.config.num_windows
        posts = self._matching(batch, self._limit(num_windows + 1), self._limit(0))
        voices = self._voices_of(posts["author"])
        ago_us = microseconds(self._start) - posts["created_at"].cast(pa.int64()).to_numpy()
        for row in np.flatnonzero(ago_us < 0).tolist():
            post = {name: posts[name][row].as_py() for name in _COLUMNS}
            found = some_terms(known, post["text"], post["hashtags"], post["urls"])
            self.posts.append((post["created_at"], post["id"], post["author"], int(voices[row]), frozenset(known.keys() & found)))
        before = np.flatnonzero(ago_us >= 0)
        window = np.minimum(num_windows, 1 + ago_us[before] // int(self.config.window_s * 1e6))
        active = voices[before] * (num_windows + 1) + window
        earlier = posts.take(pa.array(before))
        urls = earlier["urls"].to_pylist() if self._has_links else [()] * len(before)
        terms = some_terms_of_many(known, earlier["text"].to_pylist(), earlier["hashtags"].to_pylist(), urls, with_links=self._has_links)
        numbers = np.zeros(len(terms.names), np.int64)
        for one in np.unique(terms.terms).tolist():
            numbers[one] = self._numbers.setdefault(terms.names[one], len(self._numbers))
        uses = active[terms.rows] << _NUMBER_BITS | numbers[terms.terms]
        for place, new in ((self._uses, uses), (self._active, active)):
            place.append(np.unique(new))
            if sum(map(len, place)) > _COMPACT:
                place[:] = [np.unique(np.concatenate(place))]

    def history(self) -> History:
        """All counts, the window's as well."""
        width = self.config.num_windows + 1
        pairs, active = (np.unique(np.concatenate([np.zeros(0, np.int64), *part])) for part in (self._uses, self._active))
        number, window = pairs & ((1 << _NUMBER_BITS) - 1), (pairs >> _NUMBER_BITS) % width
        cells, count = np.unique(number * width + window, return_counts=True)
        voices = np.bincount(active % width, minlength=width)
        voices[0] = len(self.now)
        sample = np.array([in_sample(term.partition(" ")[0]) for term in self._numbers], np.bool_)
        return History(cells // width, cells % width, count, voices, sample)

    def used_by(self, terms: set[str]) -> list[tuple[datetime, str, str, int]]:
        """Posts of the window that hold any of the terms, earliest first: time, id, author, voice."""
        return sorted((*rest, voice) for *rest, voice, found in self.posts if not terms.isdisjoint(found))  # type: ignore[misc]

    def _rows(self, batch: pa.RecordBatch, after: pa.Scalar, until: pa.Scalar) -> Iterator[tuple[Mapping[str, Any], int]]:
        posts = self._matching(batch, after, until)
        yield from zip(posts.to_pylist(), self._voices_of(posts["author"]).tolist(), strict=True)

    def _matching(self, batch: pa.RecordBatch, after: pa.Scalar, until: pa.Scalar) -> pa.RecordBatch:
        """The posts between two moments that match."""
        inside = batch.filter(pc.and_(pc.greater(batch["created_at"], after), pc.less_equal(batch["created_at"], until)))
        if self._where is None:
            return inside
        return inside.filter(pa.array([matches(self._where, post, self._context) for post in inside.to_pylist()], pa.bool_()))

    def _voices_of(self, authors: pa.Array) -> npt.NDArray[np.int64]:
        """The numbers of voices."""
        encoded = authors.dictionary_encode()
        codes = [self._codes.setdefault(self._voices.of(author), len(self._codes)) for author in encoded.dictionary.to_pylist()]
        return np.array(codes, np.int64)[encoded.indices.to_numpy()] if codes else np.empty(0, np.int64)

    def _limit(self, windows: int) -> pa.Scalar:
        return pa.scalar(self.at - timedelta(seconds=windows * self.config.window_s), pa.timestamp("us", tz="UTC"))


def _trends(reading: _Reading, history: History) -> Iterator[Trend]:
    """Rising terms, grouped by who uses them, the most surprising first."""
    config = reading.config
    terms = sorted(reading.candidates())
    now = np.array([len(reading.sets[term]) for term in terms], np.int64)
    tests = surprises(now, history, window_s=config.window_s, num_terms=len(reading.first))
    share = dict(zip(terms, tests.share.tolist(), strict=True))
    rises = (tests.q_value <= config.max_q) & (now >= config.min_lift * tests.expected)
    found = [
        number for number in np.flatnonzero(rises).tolist()
        if reading.kinds[terms[number]] != "phrase" or max(share.get(word, 0.0) for word in terms[number].split()) <= COMMON_SHARE
    ]  # fmt: skip
    found.sort(key=lambda number: (tests.p_value[number], -now[number], terms[number]))
    for group in _groups(found, terms, reading.sets)[: config.limit]:
        head = _headline(group, terms, reading)
        yield _trend(head, [terms[number] for number in group if number != head], terms, tests, history, reading)


def _groups(found: Iterable[int], terms: Sequence[str], sets: Mapping[str, set[int]]) -> list[list[int]]:
    """Terms that mostly the same voices use belong together; `found` is in order, and so are the groups."""
    groups: list[list[int]] = []
    for number in found:
        used = sets[terms[number]]
        for group in groups:
            first = sets[terms[group[0]]]
            common = len(used & first)
            is_part = common >= PART_VOICES * min(len(used), len(first)) and _share_a_word(terms[number], terms[group[0]])
            if is_part or common >= SAME_VOICES * len(used | first):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def _share_a_word(one: str, other: str) -> bool:
    return not set(one.lstrip("#$").split()).isdisjoint(other.lstrip("#$").split())


def _headline(group: Sequence[int], terms: Sequence[str], reading: _Reading) -> int:
    """The term that says most: of those that nearly all the voices use, a phrase before a tag before a word."""
    most = max(len(reading.sets[terms[number]]) for number in group)
    wide = [number for number in group if len(reading.sets[terms[number]]) >= HEADLINE_VOICES * most]
    return min(wide, key=lambda number: (_PREFERRED.index(reading.kinds[terms[number]]), -len(reading.sets[terms[number]]), terms[number]))


def _trend(head: int, alike: Sequence[str], terms: Sequence[str], tests: Surprises, history: History, reading: _Reading) -> Trend:
    term = terms[head]
    posts = reading.used_by({term})
    examples = {voice: name for _, name, _, voice in reversed(posts)}
    earliest = [name for _, name, _, voice in posts if examples[voice] == name]
    return Trend(
        term=term, kind=reading.kinds[term], voices=len(reading.sets[term]), accounts=len({author for _, _, author, _ in posts}),
        posts=len(posts), expected=float(tests.expected[head]), lift=len(reading.sets[term]) / float(tests.expected[head]),
        p_value=float(tests.p_value[head]), q_value=float(tests.q_value[head]), score=float(-np.log10(tests.p_value[head])),
        alike=tuple(alike[:NUM_ALIKE]), examples=tuple(earliest[:NUM_EXAMPLES]), histogram=_histogram(head, term, history, reading),
    )  # fmt: skip


def _histogram(number: int, term: str, history: History, reading: _Reading) -> tuple[Bucket, ...]:
    """Voices per window, the oldest first."""
    mine = history.term == number
    counts = dict(zip(history.window[mine].tolist(), history.count[mine].tolist(), strict=True)) | {0: len(reading.sets[term])}
    windows = range(min(NUM_BUCKETS - 1, reading.config.num_windows), -1, -1)
    starts = {window: utc(reading.at - timedelta(seconds=(window + 1) * reading.config.window_s)) for window in windows}
    return tuple(Bucket(starts[window], counts.get(window, 0)) for window in windows)


def _warnings(reading: _Reading, num_windows: int) -> Iterator[str]:
    if not reading.num_posts:
        newest = f"the newest before then is of {utc(reading.newest)}" if reading.newest else "there is none before then"
        window = f"the {format_span(reading.config.window_s)} up to {utc(reading.at)}"
        yield f"no post that matches is in {window}; {newest}; choose an earlier moment"
    elif num_windows < MIN_WINDOWS:
        yield f"only {num_windows} windows of the history hold posts, trends need {MIN_WINDOWS}: choose a shorter --window or wait"


__all__ = ["Bucket", "Trend", "TrendConfig", "TrendReport", "find_trends"]
