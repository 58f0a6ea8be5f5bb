"""Watch posts as they arrive. Goes in: batches of posts, roughly in order. Comes out: Alerts for the analyst's queue.

An alert is a reason to look, never a label: labels come from `agora integrity scan`, which tests both halves of all posts, and from
people. Memory is fixed by StreamConfig whatever the length or the rate of the stream: per artefact the last actions (buffers.py), pairs
of accounts in a sketch (pair_sketch.py), and at most so many groups under watch, which are tested every few minutes (tracking.py).

Time is the posts' own. The clock is the median of the last CLOCK_POSTS times, so that single wrong times do not move it and a jump of
the whole feed does, forwards or backwards. Posts too far from the clock are counted and left out, as are ids seen before.
Not covered: campaigns slower than the widest window, or that act less often than pairs are remembered; paraphrases; ids repeated after
so many posts that they have been forgotten. The batch scan sees the first two.
"""

from __future__ import annotations

import json
import zipfile
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import ConfigError, DataError
from agora.files import replacing
from agora.integrity.batch import POST_COLUMNS, Hashes
from agora.integrity.buffers import Events, KeyBuffers
from agora.integrity.candidates import communities
from agora.integrity.collect import column_of, key_table
from agora.integrity.episodes import contains
from agora.integrity.evidence import Row, rows_of
from agora.integrity.near_buffer import NearTexts
from agora.integrity.pair_sketch import PairSketch
from agora.integrity.shared import Longs
from agora.integrity.signals import signals
from agora.integrity.slots import Arrays, NameTable, SlotTable, nonzero
from agora.integrity.tracking import Finding, Limits, Tracker
from agora.text.minhash import hash_strings, mix

CLOCK_POSTS: Final = 9
MIN_OCCASIONS: Final = 1.5
"""Occasions that a pair is a candidate from: two, of which the first may have faded by a half-life."""
MIN_RISEN: Final = 5
"""New candidate pairs between two ticks that make a search urgent: those of four accounts or so."""
_SALT: Final = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """How much a watcher remembers and how sure it must be.

    windows_s       windows within which two actions count as close, seconds
    num_first       artefacts remembered that only one account has shared
    num_rings       artefacts remembered that several accounts have shared
    num_bands       bands of near-duplicate texts remembered
    num_pairs       pairs of accounts remembered per window
    num_accounts    names of accounts remembered; num_posts ids of posts remembered (to tell repeated ones and to quote them)
    max_groups      groups under watch per window
    max_edges       pairs that one search for groups looks at
    tick_s          groups are tested so often, in the posts' time
    search_s        groups are looked for at most so often; urgent_s the same when many pairs became candidates between two ticks
    max_late_s      a post so much older than the clock is left out; max_ahead_s so much newer
    slice_posts     posts worked on at a time
    p_alert         limit at which a group is reported; it holds however often one looks (tracking.py)
    min_occasions   occasions that the evidence must have; min_actions actions of each account named
    max_alerts      alerts kept; older ones are for the queue that has read them
    posts_per_alert ids of posts that an alert quotes
    seed            of the search for communities
    """

    windows_s: tuple[int, ...] = (60, 600)
    num_first: int = 1 << 18
    num_rings: int = 1 << 14
    num_bands: int = 1 << 19
    num_pairs: int = 1 << 17
    num_accounts: int = 1 << 16
    num_posts: int = 1 << 17
    max_groups: int = 200
    max_edges: int = 20_000
    tick_s: int = 240
    search_s: int = 1800
    urgent_s: int = 600
    max_late_s: int = 21_600
    max_ahead_s: int = 3_600
    slice_posts: int = 8_192
    p_alert: float = 2.5e-4
    min_occasions: int = 3
    min_actions: int = 2
    max_alerts: int = 10_000
    posts_per_alert: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.windows_s or any(window <= 0 for window in self.windows_s):
            raise ConfigError(f"windows_s={list(self.windows_s)} must name at least one window, all above 0; example: windows_s=[60,600]")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("windows_s", "p_alert", "seed") and value < 1:
                raise ConfigError(f"{field.name}={value} must be at least 1")
        if not 0 < self.p_alert < 1:
            raise ConfigError(f"p_alert={self.p_alert} must lie between 0 and 1; example: p_alert=2.5e-4")


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """A group that an analyst should look at. Not a label, and no word about who they are.

    at            stream time of the test: that of the last post before it
    accounts      accounts with several actions of evidence
    test          `timing`: closer than a random draw of the same artefacts' sharers; `burst`: artefacts hardly shared by anybody else, fast
    observed      close pairs (timing) or bursts; `expected` the same if the null holds; `p_value` of the null, however often one has looked
    signals       what they shared, most frequent first
    posts         ids of posts that are evidence, as far as they are remembered
    explanation   what innocent reason would explain it, or empty; explained alerts go to the end of the queue
    sentence      plain words
    """

    id: str
    at: str
    window_s: int
    test: str
    p_value: float
    observed: float
    expected: float
    num_occasions: int
    signals: tuple[str, ...]
    accounts: tuple[str, ...]
    posts: tuple[str, ...]
    explanation: str
    sentence: str


class Stream:
    """A watcher. `follows` (columns follower, followed) and `declared` (account -> organisation) serve to explain groups.

    `source_at` is for whoever feeds it: how far its source has been read, saved in one step with all that came of it.
    """

    def __init__(
        self, config: StreamConfig | None = None, *, follows: pa.Table | None = None, declared: Mapping[str, str] | None = None
    ) -> None:
        self.config = config = config or StreamConfig()
        self.buffers = KeyBuffers(num_first=config.num_first, num_rings=config.num_rings, window_s=max(config.windows_s))
        self.near = NearTexts(config.num_bands)
        self.accounts, self.posts = NameTable(config.num_accounts), NameTable(config.num_posts)
        self.pairs = [PairSketch(num_pairs=config.num_pairs, window_s=window) for window in config.windows_s]
        self.trackers = [Tracker(window_s=window, max_groups=config.max_groups) for window in config.windows_s]
        self.recent: deque[int] = deque(maxlen=CLOCK_POSTS)
        self.counts = dict.fromkeys(("posts", "repeated", "late", "ahead", "co_actions", "alerts", "searches"), 0)
        self.last_s = self.next_tick_s = 0
        self.source_at = 0
        self.searched_s = [0 for _ in config.windows_s]
        self.edges = [0 for _ in config.windows_s]
        self.risen_before = [0 for _ in config.windows_s]
        self._alerts: deque[Alert] = deque(maxlen=config.max_alerts)
        self._follows = _follow_keys(follows)
        self._declared = dict(declared or {})

    @property
    def clock_s(self) -> int:
        """Stream time, seconds since 1970: the median of the last posts' times; 0 before the first."""
        return int(np.median(np.asarray(self.recent))) if self.recent else 0

    def alerts(self) -> list[Alert]:
        """Alerts so far, oldest first; at most `max_alerts`."""
        return list(self._alerts)

    def feed(self, posts: pa.RecordBatch) -> list[Alert]:
        """Take in posts (columns POST_COLUMNS) and return the alerts that they lead to."""
        found: list[Alert] = []
        for start in range(0, posts.num_rows, self.config.slice_posts):
            table = key_table(posts.select(list(POST_COLUMNS)).slice(start, self.config.slice_posts))
            found += self._feed_keys(table)
        return found

    def tick(self) -> list[Alert]:
        """Test now what has changed since the last test. `feed` does so by itself."""
        config, now_s = self.config, self.last_s
        limits = Limits(p_alert=config.p_alert, min_occasions=config.min_occasions, min_actions=config.min_actions)
        rolls = [(roll, tracker.window_s) for tracker in self.trackers for roll in tracker.rolls]
        rows = rows_of(self.buffers, self.buffers.take_touched(), rolls)
        found: list[Alert] = []
        for number, (pairs, tracker) in enumerate(zip(self.pairs, self.trackers, strict=True)):
            mine = [rows.pop(0) for _ in tracker.rolls]
            found += [self._alert(finding, now_s) for finding in tracker.test([row for part in mine for row in part], limits)]
            if self._search_is_due(number):
                left, right, weight = pairs.edges(MIN_OCCASIONS, config.max_edges)
                tracker.track(communities(left, right, weight, seed=config.seed), now_s)
                pairs.risen, self.searched_s[number], self.edges[number] = 0, now_s, len(left)
                self.risen_before[number] = 0
                self.counts["searches"] += 1
        self._alerts.extend(found)
        self.counts["alerts"] += len(found)
        self.next_tick_s = now_s + self.config.tick_s
        return found

    def _search_is_due(self, number: int) -> bool:
        """Whether so many pairs became candidates since the last search, or since the last tick, that groups may have changed."""
        risen, waited_s = self.pairs[number].risen, self.last_s - self.searched_s[number]
        is_urgent = risen - self.risen_before[number] >= MIN_RISEN
        self.risen_before[number] = risen
        needed, due_s = max(MIN_RISEN, self.edges[number] // 50), self.config.search_s
        if is_urgent:
            needed, due_s = MIN_RISEN, self.config.urgent_s
        return risen >= needed and not 0 <= waited_s < due_s

    def memory_bytes(self) -> int:
        """Memory of all tables. It is taken at the start and does not change; strings of ids and names come on top, as many as slots."""
        return sum(array.nbytes for name, array in self.arrays().items() if not name.endswith(("/text", "/length")))

    def arrays(self) -> Arrays:
        """Every table, by name."""
        parts: dict[str, Any] = {"buffers": self.buffers, "near": self.near, "accounts": self.accounts, "posts": self.posts}
        parts |= {f"pairs{number}": sketch for number, sketch in enumerate(self.pairs)}
        return {f"{name}/{key}": array for name, part in parts.items() for key, array in part.arrays().items()}

    def save(self, path: Path) -> None:
        """Write all state as one file, which is whole or the old one."""
        names = {f"array/{name}": array for name, array in self.arrays().items()}
        note = np.frombuffer(json.dumps(self.state_dict()).encode(), np.uint8)
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, state=note, **names)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path, *, follows: pa.Table | None = None, declared: Mapping[str, str] | None = None) -> Stream:
        """Go on where `save` left off. Raises DataError when the file is not one that `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as kept:
                state = json.loads(kept["state"].tobytes())
                config = {**state["config"], "windows_s": tuple(state["config"]["windows_s"])}
                stream = cls(StreamConfig(**config), follows=follows, declared=declared)
                stream.load_state_dict(state, {name: kept[f"array/{name}"] for name in stream.arrays()})
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is not the state of a watcher of this version ({error}); remove it to start anew") from error
        return stream

    def state_dict(self) -> dict[str, Any]:
        """All state but the tables (`arrays`), as JSON."""
        return {
            "config": asdict(self.config), "recent": list(self.recent), "counts": self.counts, "next_tick_s": self.next_tick_s,
            "last_s": self.last_s, "source_at": self.source_at,
            "searched_s": self.searched_s, "edges": self.edges, "risen_before": self.risen_before,
            "alerts": [asdict(alert) for alert in self._alerts],
            "clock": self.buffers.clock, "risen": [sketch.risen for sketch in self.pairs],
            "lost": [[table.evicted, table.left_out] for table in self._tables()], "trackers": [one.state() for one in self.trackers],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any], arrays: Arrays) -> None:
        """The opposite of `state_dict` and `arrays`, for a stream of the same config."""
        for name, array in self.arrays().items():
            if not name.endswith(("/text", "/length")):
                array[...] = arrays[name]
        for name, table in (("accounts", self.accounts), ("posts", self.posts)):
            table.restore_names(arrays[f"{name}/text"], arrays[f"{name}/length"])
        self.recent = deque(state["recent"], maxlen=CLOCK_POSTS)
        self.counts, self.next_tick_s, self.last_s = dict(state["counts"]), state["next_tick_s"], state["last_s"]
        self.source_at = state["source_at"]
        self.searched_s, self.edges, self.risen_before = (list(state[name]) for name in ("searched_s", "edges", "risen_before"))
        lists = ("signals", "accounts", "posts")
        kept = [Alert(**{**alert, **{name: tuple(alert[name]) for name in lists}}) for alert in state["alerts"]]
        self._alerts = deque(kept, maxlen=self.config.max_alerts)
        self.buffers.clock = state["clock"]
        for sketch, risen in zip(self.pairs, state["risen"], strict=True):
            sketch.risen = risen
        for slots, (evicted, left_out) in zip(self._tables(), state["lost"], strict=True):
            slots.evicted, slots.left_out = evicted, left_out
        for tracker, one in zip(self.trackers, state["trackers"], strict=True):
            tracker.restore(one)

    def _tables(self) -> list[SlotTable]:
        return [self.buffers.first, self.buffers.rings, self.near.bands, self.accounts, self.posts] + [one.table for one in self.pairs]

    def _feed_keys(self, table: pa.RecordBatch) -> list[Alert]:
        time_s = np.asarray(table.column("time_s"))
        found: list[Alert] = []
        table, time_s = self._usable(table, time_s)
        if not table.num_rows:
            return found
        events, row = self._events(table, time_s)
        # the clock when each post arrives moves little within a slice, so slices end where a tick is due by the posts' own times
        due = np.maximum.accumulate(time_s) // self.config.tick_s
        cuts = np.append(np.flatnonzero(np.diff(due)) + 1, len(time_s))
        start = 0
        for stop in cuts.tolist():
            part = events.take(slice(*np.searchsorted(row, (start, stop))))  # type: ignore[arg-type]
            if len(part):
                pairs = self.buffers.add(part)
                self.counts["co_actions"] += len(pairs)
                for sketch in self.pairs:
                    sketch.add(pairs, MIN_OCCASIONS)
            self.recent.extend(time_s[max(start, stop - CLOCK_POSTS) : stop].tolist())
            self.last_s = int(time_s[stop - 1])
            if not self.next_tick_s - self.config.tick_s <= self.last_s < self.next_tick_s:
                found += self.tick()
            start = stop
        return found

    def _usable(self, table: pa.RecordBatch, time_s: Longs) -> tuple[pa.RecordBatch, Longs]:
        """Posts that are new and near the clock."""
        ids = nonzero(hash_strings(table.column("id")))
        first = np.zeros(len(ids), np.bool_)
        first[np.unique(ids, return_index=True)[1]] = True
        is_new = first & (self.posts.find(ids) < 0)
        clock = self._clocks(time_s)
        late, ahead = time_s < clock - self.config.max_late_s, time_s > clock + self.config.max_ahead_s
        self.counts["repeated"] += int((~is_new).sum())
        self.counts["late"] += int((is_new & late).sum())
        self.counts["ahead"] += int((is_new & ahead).sum())
        keep = is_new & ~late & ~ahead
        self.recent.extend(time_s[~keep & is_new].tolist())
        self.counts["posts"] += int(keep.sum())
        table, time_s, ids = table.filter(pa.array(keep)), time_s[keep], ids[keep]
        arrival = self.counts["posts"] + np.zeros(len(ids), np.int64)
        self.posts.put(ids, np.asarray(table.column("id").to_numpy(zero_copy_only=False), object), arrival)
        return table, time_s

    def _clocks(self, time_s: Longs) -> npt.NDArray[np.float64]:
        """The clock at each post: the running median of the times before and with it."""
        line = np.concatenate((np.asarray(self.recent, np.int64), time_s))
        if len(line) < CLOCK_POSTS:
            return np.full(len(time_s), np.median(line))
        blocks = np.lib.stride_tricks.sliding_window_view(line, CLOCK_POSTS)[:: CLOCK_POSTS // 2]
        medians = np.median(blocks, axis=1)
        at = np.clip((np.arange(len(line) - len(time_s), len(line)) - CLOCK_POSTS + 1) // (CLOCK_POSTS // 2), 0, len(medians) - 1)
        return np.asarray(medians[at])

    def _events(self, table: pa.RecordBatch, time_s: Longs) -> tuple[Events, Longs]:
        """All artefacts of a table as events in order of rows, and the row of each."""
        authors = table.column("author").dictionary_encode()
        names = nonzero(hash_strings(authors.dictionary))
        account = names[np.asarray(authors.indices)]
        arrival = np.full(len(names), self.counts["posts"], np.int64)
        self.accounts.put(names, np.asarray(authors.dictionary.to_numpy(zero_copy_only=False), object), arrival)
        known = np.asarray(pc.is_valid(table.column("ref_author")))
        author = np.where(known, nonzero(hash_strings(pc.fill_null(table.column("ref_author"), ""))), np.uint64(0))
        exposed = contains(self._follows, _edge(account, author)) & known
        post = nonzero(hash_strings(table.column("id")))
        rows, keys, kinds = [], [], []
        for number, signal in enumerate(signals()):
            lists = table.column(column_of(signal))
            counts = np.diff(np.asarray(lists.offsets))
            row, key = np.repeat(np.arange(len(lists)), counts), np.asarray(lists.flatten())
            if signal.bands:
                row, key = self.near.roots(row, key, len(lists), self.counts["posts"])
            stratum = np.uint64(2 * number) + (exposed[row].astype(np.uint64) if signal.role == "amplified" else np.uint64(0))
            rows.append(row)
            keys.append(nonzero(mix(key ^ mix(np.atleast_1d(stratum + _SALT)))))
            kinds.append(np.full(len(row), number, np.uint8))
        row = np.concatenate(rows)
        order = np.argsort(row, kind="stable")
        row = row[order]
        events = Events(
            np.concatenate(keys)[order], account[row], time_s[row], post[row], np.concatenate(kinds)[order], exposed[row], author[row]
        )
        return events, row

    def _alert(self, finding: Finding, now_s: int) -> Alert:
        accounts = sorted(name for name in self.accounts.get(np.asarray(finding.accounts, np.uint64)) if name)
        names = [signal.id for signal in signals()]
        counted = {name: sum(names[row.signal] == name for row in finding.rows) for name in names}
        shared = tuple(sorted((name for name in names if counted[name]), key=lambda name: (-counted[name], name)))
        posts = np.asarray([post for row in reversed(finding.rows) for post in row.posts][: self.config.posts_per_alert], np.uint64)
        within = f"within {finding.window_s} s of each other"
        if finding.test == "timing":
            what = f"{finding.observed:.0f} pairs of actions {within}, {finding.expected:.1f} expected of those who shared the same"
        else:
            what = f"{finding.observed:.0f} bursts {within} of what hardly anybody else shared, {finding.expected:.1f} expected"
        return Alert(
            id=f"{finding.window_s}-{finding.group}-{len(accounts)}",
            at=_iso(now_s), window_s=finding.window_s, test=finding.test, p_value=finding.p_value, observed=finding.observed,
            expected=round(finding.expected, 3), num_occasions=finding.num_occasions, signals=shared, accounts=tuple(accounts),
            posts=tuple(name for name in self.posts.get(posts) if name), explanation=self._explanation(finding.rows, accounts),
            sentence=f"{len(accounts)} accounts shared the same ({', '.join(shared)}) on {finding.num_occasions} occasions: {what}.",
        )  # fmt: skip

    def _explanation(self, rows: tuple[Row, ...], accounts: list[str]) -> str:
        """What innocent reason would explain most of it."""
        exposed = [row.author for row in rows if row.exposed]
        if exposed and 2 * len(exposed) >= len(rows) and max(map(exposed.count, exposed)) >= 0.8 * len(exposed):
            return "followers of one account who repost it at once"
        organisations = [self._declared[name] for name in accounts if name in self._declared]
        if organisations and max(map(organisations.count, organisations)) >= 0.8 * len(accounts):
            return f"declared as one organisation: {max(set(organisations), key=organisations.count)}"
        return ""


def _follow_keys(follows: pa.Table | None) -> Hashes:
    if follows is None:
        return np.empty(0, np.uint64)
    ends = [nonzero(hash_strings(follows[name].combine_chunks())) for name in ("follower", "followed")]
    return np.unique(_edge(*ends))


def _edge(follower: Hashes, followed: Hashes) -> Hashes:
    return mix(mix(follower) + followed)


def _iso(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).isoformat().replace("+00:00", "Z")
