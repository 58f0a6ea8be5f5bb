"""One window of the square: which posts are written, by whom, in answer to what. Texts come after, in `writing`.

Goes in: the population, the schedule and the pool of recent posts. Comes out: Rows in order of time. All choices are drawn
for the window as a whole, from a generator seeded by the window's number: how the posts are later cut into batches changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agora.posts.square.config import SquareConfig
from agora.posts.square.grammar import Grammar
from agora.posts.square.pool import NONE, POST_CODE, QUOTE_CODE, REPLY_CODE, REPOST_CODE, Pool, Rows
from agora.posts.square.population import FANDOM, Population
from agora.posts.square.schedule import Burst, Schedule, Wave, wakefulness

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]
Rng = np.random.Generator

WINDOW_POSTS: Final = 8192

# What a text does. The first ones start posts; replies answer the act of what they reply to.
ACTS: Final = ("opinion", "question", "update", "tips", "news", "joke", "smalltalk", "long", "quote", "reply", "reply_self", "slogan")
OPINION, QUESTION, UPDATE, TIPS, NEWS, JOKE, SMALLTALK, LONG, QUOTED, ANSWER, AFTERTHOUGHT, SLOGAN = range(len(ACTS))
_EVERYDAY_ACTS = np.array([0.27, 0.14, 0.2, 0.09, 0.04, 0.08, 0.1, 0.08])
_BURST_ACTS = np.array([0.55, 0.15, 0.18, 0.0, 0.08, 0.0, 0.0, 0.04])

_ORDINARY_KINDS = np.array([0.42, 0.27, 0.24, 0.07])  # post, reply, repost, quote
_BURST_KINDS = np.array([0.34, 0.2, 0.41, 0.05])
_TAGGED, _TAGGED_TWICE, _LINKED, _PICTURED = 0.2, 0.05, 0.05, 0.06
_REPLY_HORIZON_S, _REPOST_HORIZON_S, _HORIZON_SIGMA = 1200.0, 2400.0, 1.5
_HORIZON_POSTS = 64  # everybody sees at least this many posts back
_ANSWERS_BACK, _GOES_ON = 0.38, 0.07  # a reply by the one replied to before; by the author of the post itself
_FROM_A_REPOST = 0.35  # seen through an earlier repost rather than from the author
_FAITHFUL = 0.75  # share of a fandom's or protest's posts by its own members
_MAX_THREAD = 64


@dataclass(slots=True)
class _Pending:
    """Posts of waves that have begun and are still to come."""

    time_s: Floats
    wave: Ints
    author: Ints
    leads: Mask


class Windows:
    """The square as a sequence of windows; call `next` until it returns None."""

    def __init__(self, config: SquareConfig, people: Population, schedule: Schedule, grammar: Grammar, pool: Pool) -> None:
        self._config, self._people, self._schedule, self._grammar, self._pool = config, people, schedule, grammar, pool
        self._window, self._next_wave, self._number = 0, 0, 0
        self.num_windows = max(1, -(-schedule.num_ordinary // WINDOW_POSTS))
        self._pending = _Pending(np.zeros(0), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.bool_))
        self._seen_reposts = np.zeros(0, np.int64)
        self._fans = np.diff(people.follower_start)
        self._casts = [_Cast(people, None), _Cast(people, 0)]
        sizes = np.array([len(topic.subjects) for topic in grammar.topics])
        self._subjects = np.zeros((len(sizes), sizes.max()), np.int32)
        for number, topic in enumerate(grammar.topics):
            self._subjects[number, : sizes[number]] = topic.subjects
        self._num_subjects = sizes
        self._first_tag = np.array([topic.first_tag for topic in grammar.topics], np.int32)
        self._num_tags = np.array([topic.num_tags for topic in grammar.topics], np.int32)

    def next(self) -> tuple[Rows, Rows, Index, np.random.Generator] | None:
        """The posts of the next window; pool and window in one table; where each post's parent stands in it; the generator."""
        if self._window >= self.num_windows:
            return None
        rng = np.random.default_rng([self._config.seed, 3, self._window])
        low = self._window * WINDOW_POSTS
        high = min(low + WINDOW_POSTS, self._schedule.num_ordinary)
        begin, end = self._moment(low), self._moment(high)
        if self._window == 0:
            begin = 0.0
        if self._window + 1 == self.num_windows:
            end = self._schedule.duration_s
        self._window += 1
        rows = self._rows(low, high, begin, end, rng)
        rows.number[:] = self._number + np.arange(len(rows))
        self._number += len(rows)
        self._write_posts(rows, rng)
        every = self._pool.rows.joined(rows)
        parent = self._choose_parents(every, len(self._pool.rows), rng)
        self._answer(every, len(self._pool.rows), parent, rng)
        return every.take(np.arange(len(self._pool.rows), len(every))), every, parent, rng

    def lasting(self, rows: Rows) -> Floats:
        """Until when the pool must keep each post: leads until their wave is over, first posts of a burst for its duration."""
        until = np.zeros(len(rows))
        for wave in np.unique(rows.wave[rows.leads]):
            end = self._pending.time_s[self._pending.wave == wave].max(initial=0.0)
            until[rows.leads & (rows.wave == wave)] = end + 1
        first = self._pool.burst_quota(np.where(rows.kind == REPOST_CODE, NONE, rows.burst))
        for burst in np.unique(rows.burst[first]):
            curve = self._schedule.bursts[burst]
            until[first & (rows.burst == burst)] = curve.curve_t[np.searchsorted(curve.curve_f, 0.995)]
        return until

    def _moment(self, ordinary: int) -> float:
        return float(np.interp(ordinary, self._schedule.rhythm_f, self._schedule.rhythm_t))

    def _rows(self, low: int, high: int, begin: float, end: float, rng: Rng) -> Rows:
        """Times, kinds and origins of all posts in [begin, end), in order of time."""
        ordinary = Rows.blank(high - low)
        ordinary.time_s[:] = np.interp(low + rng.random(high - low) * (high - low), self._schedule.rhythm_f, self._schedule.rhythm_t)
        ordinary.kind[:] = rng.choice(4, high - low, p=_ORDINARY_KINDS)
        parts = [ordinary]
        last = end >= self._schedule.duration_s
        for number, burst in enumerate(self._schedule.bursts):
            f_low, f_high = (float(np.interp(t, burst.curve_t, burst.curve_f, left=0.0)) for t in (begin, end))
            first, stop = int(burst.size * f_low), burst.size if last else int(burst.size * f_high)
            if stop > first:
                parts.append(_burst_rows(number, burst, first, stop, f_low, f_high, begin, end, rng))
        parts.append(self._wave_rows(end, last))
        rows = parts[0]
        for part in parts[1:]:
            rows = rows.joined(part)
        return rows.take(np.argsort(rows.time_s, kind="stable"))

    def _wave_rows(self, end: float, last: bool) -> Rows:
        """Start the waves due before `end` and hand out their posts, and those of earlier waves, that fall before it."""
        waves, pending = self._schedule.waves, self._pending
        limit = np.nextafter(self._schedule.duration_s, 0)
        while self._next_wave < len(waves) and (last or waves[self._next_wave].time_s < end):
            wave = waves[self._next_wave]
            rng = np.random.default_rng([self._config.seed, 4, wave.number])
            members = wave.group.members[wave.group.members != wave.author]
            has_lead = wave.author >= 0
            delays = np.concatenate(([0.0] if has_lead else [], np.sort(wave.delays(rng))))
            chosen = rng.permutation(members)[: wave.turnout]
            authors = np.concatenate(([wave.author] if has_lead else [], chosen)).astype(np.int32)
            leads = np.arange(len(authors)) < has_lead
            pending.time_s = np.concatenate((pending.time_s, np.minimum(wave.time_s + delays, limit)))
            pending.wave = np.concatenate((pending.wave, np.full(len(authors), wave.number, np.int32)))
            pending.author = np.concatenate((pending.author, authors))
            pending.leads = np.concatenate((pending.leads, leads))
            self._next_wave += 1
        due = pending.time_s < end
        rows = Rows.blank(int(due.sum()))
        rows.time_s[:], rows.wave[:] = pending.time_s[due], pending.wave[due]
        rows.author[:], rows.leads[:] = pending.author[due], pending.leads[due]
        self._pending = _Pending(pending.time_s[~due], pending.wave[~due], pending.author[~due], pending.leads[~due])
        rows.kind[:] = POST_CODE
        for number in np.unique(rows.wave):
            mine = np.flatnonzero(rows.wave == number)
            self._fill_wave(rows, mine, waves[number])
        return rows

    def _fill_wave(self, rows: Rows, mine: Index, wave: Wave) -> None:
        if wave.channel == "repost":
            rows.kind[mine[~rows.leads[mine]]] = REPOST_CODE
        rows.topic[mine], rows.subject[mine], rows.url[mine] = wave.topic, wave.subject, wave.url
        rows.act[mine] = SLOGAN if wave.group.campaign else OPINION if wave.author == wave.group.lead else NEWS
        for column, tag in zip((rows.tag, rows.second_tag), wave.tags, strict=False):
            column[mine] = tag

    def _write_posts(self, rows: Rows, rng: Rng) -> None:
        """Authors, subjects and weights of all posts that start something."""
        ordinary = np.flatnonzero((rows.kind == POST_CODE) & (rows.author == NONE) & (rows.burst == NONE))
        self._write_everyday(rows, ordinary, rng)
        for number in np.unique(rows.burst[rows.burst != NONE]):
            burst = self._schedule.bursts[number]
            mine = np.flatnonzero(rows.burst == number)
            rows.topic[mine], rows.subject[mine] = burst.topic, burst.subject
            rows.tag[mine] = np.where(rng.random(len(mine)) < burst.tag_share, burst.tag, NONE)
            posts = mine[rows.kind[mine] == POST_CODE]
            rows.author[posts] = self._burst_authors(burst, rows.time_s[posts], rng)
            rows.act[posts] = rng.choice(8, len(posts), p=_BURST_ACTS)
        count = len(rows)
        noise = np.exp(rng.normal(0, 1.5, count))
        fans = self._fans[np.maximum(rows.author, 0)] + 1.0
        starts = (rows.kind == POST_CODE) & (rows.author != NONE)
        others = np.where(rows.kind == REPLY_CODE, 0.03, 0.8)
        rows.repost_weight[:] = np.where(starts, fans**0.9 * noise, others) * (rows.kind != REPOST_CODE)
        rows.reply_weight[:] = np.where(starts, fans**0.4 * np.sqrt(noise), 5.0) * (rows.kind != REPOST_CODE)
        rows.has_image[:] = (rows.kind == POST_CODE) & (rng.random(count) < _PICTURED) & (rows.act != SLOGAN)

    def _write_everyday(self, rows: Rows, index: Index, rng: Rng) -> None:
        count = len(index)
        authors = self._casts[0].draw(rows.time_s[index], self._schedule.start_hour, rng)
        rows.author[index] = authors
        topics = self._people.interests[authors, rng.choice(3, count, p=[0.6, 0.25, 0.15])]
        rows.topic[index] = topics
        rows.subject[index] = self._subjects[topics, (rng.random(count) * self._num_subjects[topics]).astype(np.int32)]
        rows.act[index] = rng.choice(8, count, p=_EVERYDAY_ACTS)
        tag = (rng.random(count) * self._num_tags[topics]).astype(np.int32)
        draw = rng.random(count)
        rows.tag[index] = np.where(draw < _TAGGED, self._first_tag[topics] + tag, NONE)
        rows.second_tag[index] = np.where(draw < _TAGGED_TWICE, self._first_tag[topics] + (tag + 1) % self._num_tags[topics], NONE)
        rows.url[index] = np.where(rng.random(count) < _LINKED, rng.integers(10_000, 10_000_000, count), NONE)

    def _burst_authors(self, burst: Burst, times: Floats, rng: Rng) -> Ints:
        authors = self._casts[1].draw(times, self._schedule.start_hour, rng)
        if burst.group is not None:
            members = burst.group.members[(rng.random(len(times)) ** 1.7 * len(burst.group.members)).astype(np.int32)]
            authors = np.where(rng.random(len(times)) < _FAITHFUL, members, authors)
        return authors

    def _choose_parents(self, every: Rows, past: int, rng: Rng) -> Index:
        """For each new row the position of what it refers to, or NONE. A row that finds nothing becomes a post of its own."""
        count = len(every) - past
        parent = np.full(count, NONE, np.int64)
        kind, burst, wave = every.kind[past:], every.burst[past:], every.wave[past:]
        for mask, weight, horizon in (
            (kind == REPLY_CODE, every.reply_weight, _REPLY_HORIZON_S),
            ((kind == REPOST_CODE) | (kind == QUOTE_CODE), every.repost_weight, _REPOST_HORIZON_S),
        ):
            index = np.flatnonzero(mask & (burst == NONE) & (wave == NONE))
            parent[index] = _recent(every.time_s, weight, past + index, horizon, rng)
            for number in np.unique(burst[mask & (burst != NONE)]):
                mine = np.flatnonzero(mask & (burst == number))
                parent[mine] = _among(np.flatnonzero((every.burst == number) & (weight > 0)), weight, past + mine, rng)
        reposting = np.flatnonzero((wave != NONE) & (kind == REPOST_CODE))
        leads = np.flatnonzero(every.leads)
        position = dict(zip(every.wave[leads].tolist(), leads.tolist(), strict=True))
        parent[reposting] = [position[number] for number in wave[reposting].tolist()]
        self._make_posts(every, past, np.flatnonzero((kind != POST_CODE) & (parent == NONE)), rng)
        return parent

    def _make_posts(self, every: Rows, past: int, index: Index, rng: Rng) -> None:
        """Turn rows that have nothing to refer to into posts."""
        if not len(index):
            return
        rows = every.take(past + index)
        everyday = np.flatnonzero(rows.burst == NONE)
        self._write_everyday(rows, everyday, rng)
        for number in np.unique(rows.burst[rows.burst != NONE]):
            mine = np.flatnonzero(rows.burst == number)
            rows.author[mine] = self._burst_authors(self._schedule.bursts[number], rows.time_s[mine], rng)
            rows.act[mine] = NEWS
        where = past + index
        every.kind[where] = POST_CODE
        for name in ("author", "topic", "subject", "act", "tag", "second_tag", "url"):
            getattr(every, name)[where] = getattr(rows, name)

    def _answer(self, every: Rows, past: int, parent: Index, rng: Rng) -> None:
        """Authors and subjects of replies, quotes and reposts, parents before children."""
        todo = np.flatnonzero(parent != NONE)
        drawn = rng.random((len(parent), 4))
        for _ in range(_MAX_THREAD):
            ready = todo[(every.author[parent[todo]] != NONE) & (every.topic[parent[todo]] != NONE)]
            if not len(ready):
                break
            self._answer_some(every, past, ready, parent[ready], drawn[ready])
            todo = todo[~np.isin(todo, ready, assume_unique=True)]
        if len(todo):  # a chain longer than _MAX_THREAD inside one window
            parent[todo] = NONE
            self._make_posts(every, past, todo, rng)
        self._spread(every, past, parent, rng)

    def _answer_some(self, every: Rows, past: int, index: Index, parent: Index, drawn: Floats) -> None:
        where = past + index
        origin = every.author[parent]
        reply = every.kind[where] == REPLY_CODE
        author = self._follower(origin, every.topic[parent], every.time_s[where], drawn[:, 0], drawn[:, 1])
        back = reply & (every.kind[parent] == REPLY_CODE) & (drawn[:, 2] < _ANSWERS_BACK)
        author = np.where(back, every.parent_author[parent], author)
        alone = reply & (drawn[:, 2] > 1 - _GOES_ON)
        author = np.where(alone, origin, author)
        free = every.author[where] == NONE
        for number in np.unique(every.burst[where][free & (every.burst[where] != NONE)]):
            group = self._schedule.bursts[number].group
            if group is not None and group.kind == FANDOM:
                mine = free & (every.burst[where] == number) & (drawn[:, 3] < _FAITHFUL)
                members = group.members[(drawn[:, 0] ** 1.4 * len(group.members)).astype(np.int32)]
                author = np.where(mine & ~back & ~alone, members, author)
        every.author[where] = np.where(free, author, every.author[where])
        every.topic[where], every.subject[where] = every.topic[parent], every.subject[parent]
        every.burst[where] = np.where(every.burst[where] == NONE, every.burst[parent], every.burst[where])
        every.parent[where], every.parent_author[where] = every.number[parent], origin
        quote = every.kind[where] == QUOTE_CODE
        own_act = np.where(reply, np.where(every.author[where] == origin, AFTERTHOUGHT, ANSWER), np.where(quote, QUOTED, every.act[parent]))
        every.act[where] = own_act.astype(np.int8)

    def _follower(self, followed: Ints, topic: Ints, time_s: Floats, first: Floats, second: Floats) -> Ints:
        """Somebody who follows each account, the more awake of two; without followers, an account chosen at random."""
        people = self._people
        start, fans = people.follower_start[followed], self._fans[followed]
        candidates = []
        for draw in (first, second):
            place = start + (draw * fans).astype(np.int64)
            stranger = (draw * len(people.handles)).astype(np.int32)
            candidates.append(np.where(fans > 0, people.followers[np.minimum(place, len(people.followers) - 1)], stranger))
        hour = self._schedule.start_hour + time_s / 3600
        levels = [wakefulness(hour, people.offset_h[candidate]) for candidate in candidates]
        return np.where(levels[0] >= levels[1] * (0.3 + 0.7 * second), candidates[0], candidates[1])

    def _spread(self, every: Rows, past: int, parent: Index, rng: Rng) -> None:
        """Let some reposts come from followers of an earlier reposter, and let nobody repost a post twice or their own."""
        index = np.flatnonzero((every.kind[past:] == REPOST_CODE) & (every.wave[past:] == NONE))
        if not len(index):
            return
        order = index[np.argsort(parent[index], kind="stable")]
        previous = np.concatenate(([NONE], order[:-1]))
        chained = np.concatenate(([False], parent[order][1:] == parent[order][:-1])) & (rng.random(len(order)) < _FROM_A_REPOST)
        chained &= ~np.concatenate(([False], chained[:-1]))  # the one before keeps its author
        links = np.flatnonzero(chained)
        via = every.author[past + previous[links]]
        where = past + order[links]
        every.author[where] = self._follower(via, every.topic[where], every.time_s[where], rng.random(len(links)), rng.random(len(links)))
        reposts = np.flatnonzero(every.kind[past:] == REPOST_CODE)
        keys = every.number[parent[reposts]] * len(self._people.handles) + every.author[past + reposts]
        _, first = np.unique(keys, return_index=True)
        again = np.ones(len(keys), np.bool_)
        again[first] = False
        again |= np.isin(keys, self._seen_reposts) | (every.author[past + reposts] == every.parent_author[past + reposts])
        again &= every.wave[past + reposts] == NONE
        changed = past + reposts[again]
        every.kind[changed] = REPLY_CODE
        same = every.author[changed] == every.parent_author[changed]
        every.act[changed] = np.where(same, AFTERTHOUGHT, ANSWER)
        self._seen_reposts = np.concatenate((self._seen_reposts, keys[~again]))[-4 * WINDOW_POSTS :]


class _Cast:
    """Who posts at a given hour: first a clock (distance from UTC), then an account of that clock by activity."""

    def __init__(self, people: Population, lang: int | None) -> None:
        activity = people.activity
        self._offsets = np.unique(people.offset_h)
        self._accounts, self._masses, totals = [], [], []
        for offset in self._offsets:
            mine = (people.offset_h == offset) if lang is None else (people.offset_h == offset) & (people.lang == lang)
            accounts = np.flatnonzero(mine & (activity > 0)).astype(np.int32)
            self._accounts.append(accounts)
            self._masses.append(np.cumsum(activity[accounts]))
            totals.append(activity[accounts].sum())
        self._totals = np.asarray(totals)

    def draw(self, time_s: Floats, start_hour: float, rng: Rng) -> Ints:
        """One account per moment."""
        hour = start_hour + time_s / 3600
        rates = np.stack([total * wakefulness(hour, offset) for offset, total in zip(self._offsets, self._totals, strict=True)])
        mass = np.cumsum(rates, axis=0)
        clock = (rng.random(len(hour)) * mass[-1] > mass).sum(axis=0)
        draw = rng.random(len(hour))
        result = np.zeros(len(hour), np.int32)
        for number, (accounts, masses) in enumerate(zip(self._accounts, self._masses, strict=True)):
            mine = clock == number
            if mine.any():
                result[mine] = accounts[np.minimum(np.searchsorted(masses, draw[mine] * masses[-1], side="right"), len(accounts) - 1)]
        return result


def _burst_rows(number: int, burst: Burst, first: int, stop: int, f_low: float, f_high: float, begin: float, end: float, rng: Rng) -> Rows:
    rows = Rows.blank(stop - first)
    share = f_low + rng.random(stop - first) * max(f_high - f_low, 0.0)
    inside = np.interp(share, burst.curve_f, burst.curve_t)
    rows.time_s[:] = np.clip(inside, begin, np.nextafter(end, 0))
    rows.kind[:] = rng.choice(4, stop - first, p=_BURST_KINDS)
    if first == 0:
        rows.kind[np.argmin(rows.time_s)] = POST_CODE
    rows.burst[:] = number
    return rows


def _recent(time_s: Floats, weight: Floats, where: Index, horizon_s: float, rng: Rng) -> Index:
    """For each position an earlier one, by weight, not much older than a log-normal horizon; NONE where there is none."""
    mass = np.concatenate(([0.0], np.cumsum(weight)))
    reach = horizon_s * np.exp(rng.normal(0, _HORIZON_SIGMA, len(where)))
    oldest = np.minimum(np.searchsorted(time_s, time_s[where] - reach), np.maximum(where - _HORIZON_POSTS, 0))
    low, high = mass[oldest], mass[where]
    found = np.searchsorted(mass, low + rng.random(len(where)) * (high - low), side="right") - 1
    found = np.minimum(found, where - 1)
    return np.where((high > low) & (found >= 0) & (weight[np.maximum(found, 0)] > 0), found, NONE)


def _among(candidates: Index, weight: Floats, where: Index, rng: Rng) -> Index:
    """For each position an earlier one of the sorted `candidates`, by weight; NONE where there is none."""
    mass = np.concatenate(([0.0], np.cumsum(weight[candidates])))
    before = np.searchsorted(candidates, where)
    found = np.searchsorted(mass, rng.random(len(where)) * mass[before], side="right") - 1
    found = np.minimum(found, before - 1)
    return np.where(before > 0, candidates[np.maximum(found, 0)] if len(candidates) else NONE, NONE)
