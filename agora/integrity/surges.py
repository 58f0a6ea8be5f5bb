"""Surges: a rare word or pair of words that suddenly many accounts use. Goes in: the words of posts. Comes out: one surge per post at most.

A word's uses are cut into clusters where nobody uses it for a while (a quarter of its usual gap, at most GAP_S). A cluster of n accounts
is a surge when n is far above the number lambda that the word's usual share of posts would give: n > MIN_LIFT lambda, and the Poisson
deviance n log(n / lambda) - n + lambda >= MIN_DEVIANCE. The usual share counts hours in which the word occurs, not its uses, so surges do
not raise it; where the hours before and after know more uses, their share counts, so the tail of old news is no surge. A post
belongs to the surge of its words with the largest deviance. Who takes part plays no role beyond the number of accounts.
Not covered: a campaign whose posts name nothing in common, or only what everybody names at that time anyway; waves of many hours.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.runs_of_equals import run_starts
from agora.text.minhash import mix

GAP_S: Final = 3600.0
MIN_GAP_S: Final = 60.0
GAP_SHARE: Final = 0.25
AROUND_S: Final = 43_200
TURN_GAP_S: Final = 21_600
MIN_ACCOUNTS: Final = 4
MIN_LIFT: Final = 4.0
MIN_DEVIANCE: Final = 12.0
_HOUR_S: Final = 3600

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def joined_by_surge(rows: Ints, keys: Hashes, account: Ints, time_s: Longs) -> tuple[Ints, Hashes]:
    """For each post in a surge its surge's key, whose last bit says into which half it falls.

    `rows` are posts, `keys` their words; `account` and `time_s` belong to all posts.
    """
    if not len(rows):
        return rows, keys
    clock = np.sort(time_s[np.unique(rows)])  # of posts that have words: in it a busy evening is as long as a quiet week
    num_posts = len(clock)
    hours = np.unique(time_s[rows] // _HOUR_S)
    rows, keys = _used_often(rows, keys)
    order = np.lexsort((time_s[rows], keys))
    rows, keys = rows[order], keys[order]
    time = time_s[rows]
    new_word = run_starts(keys)
    word = np.cumsum(new_word) - 1
    hour_of = np.searchsorted(hours, time // _HOUR_S)
    occupied = np.bincount(word[new_word | np.append(True, np.diff(hour_of) != 0)])
    gap = np.clip(GAP_SHARE * len(hours) * _HOUR_S / occupied, MIN_GAP_S, GAP_S)
    cluster = np.cumsum(new_word | (np.diff(time, prepend=time[:1]) > gap[word])) - 1
    starts = np.flatnonzero(run_starts(cluster))
    ends = np.append(starts[1:], len(cluster)) - 1
    posts = np.searchsorted(clock, time[ends], side="right") - np.searchsorted(clock, time[starts])
    around = _share_around(word, time, clock, starts, ends)
    usual = np.maximum(occupied[word[starts]] / num_posts, around) * posts
    deviance = _deviance(_accounts(cluster, account[rows]), usual)
    surges = np.flatnonzero(deviance[cluster] >= MIN_DEVIANCE)
    best = surges[np.lexsort((keys[surges], -deviance[cluster[surges]], rows[surges]))]
    best = best[run_starts(rows[best])]
    turn = _turns(cluster[best], word[best], keys[best], time[starts[cluster[best]]])
    return rows[best], mix(keys[best] ^ mix(time[starts[cluster[best]]].astype(np.uint64))) & ~np.uint64(1) | turn


def _turns(cluster: Longs, word: Longs, keys: Hashes, start_s: Longs) -> Hashes:
    """0 or 1 for each row. Surges of one word that begin within TURN_GAP_S of each other may be one event and stay together; each such
    run goes where fewer of the word's surges are."""
    _, first, place = np.unique(cluster, return_index=True, return_inverse=True)
    turn = np.zeros(len(first), np.uint64)
    surges = zip(word[first].tolist(), start_s[first].tolist(), (keys[first] >> np.uint64(7) & np.uint64(1)).tolist(), strict=True)
    last_word, last_s, now, lead = -1, 0, 0, 0
    for number, (this_word, this_s, bit) in enumerate(surges):  # in order of word and time, as clusters are numbered
        if this_word != last_word:
            lead, now = 0, bit
        elif this_s - last_s > TURN_GAP_S and lead:
            now = int(lead > 0)
        lead += -1 if now else 1  # surges in half 0 less those in half 1
        last_word, last_s = this_word, this_s
        turn[number] = now
    return turn[place]


def _share_around(word: Longs, time: Longs, clock: Longs, starts: Longs, ends: Longs) -> Floats:
    """Share of posts with the cluster's word in the AROUND_S before and after the cluster: the tail of old news is no surge."""
    origin = clock[0] - AROUND_S
    span = clock[-1] - clock[0] + 3 * AROUND_S
    line = word * span + (time - origin)
    low, high = word[starts] * span + (time[starts] - AROUND_S - origin), word[ends] * span + (time[ends] + AROUND_S - origin)
    uses = np.searchsorted(line, high, side="right") - np.searchsorted(line, low) - (ends - starts + 1)
    posts = np.searchsorted(clock, time[ends] + AROUND_S, side="right") - np.searchsorted(clock, time[starts] - AROUND_S)
    inside = np.searchsorted(clock, time[ends], side="right") - np.searchsorted(clock, time[starts])
    return np.asarray(uses / np.maximum(posts - inside, 1))


def _used_often(rows: Ints, keys: Hashes) -> tuple[Ints, Hashes]:
    """Only words that at least MIN_ACCOUNTS posts hold, as far as 2^22 counters tell: a cheap first sieve."""
    bucket = (keys >> np.uint64(42)).astype(np.int64)
    often = np.bincount(bucket, minlength=1 << 22)[bucket] >= MIN_ACCOUNTS
    return rows[often], keys[often]


def _accounts(cluster: Longs, account: Ints) -> Longs:
    """Distinct accounts of each cluster."""
    pair = np.sort(cluster << np.int64(32) | account)
    return np.bincount(pair[run_starts(pair)] >> np.int64(32))


def _deviance(accounts: Longs, usual: Floats) -> Floats:
    more = (accounts >= MIN_ACCOUNTS) & (accounts > MIN_LIFT * usual)
    return np.where(more, accounts * np.log(accounts / usual) - accounts + usual, 0.0)
