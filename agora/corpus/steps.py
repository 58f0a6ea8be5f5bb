"""The filters: a list of small steps, each with a name that every drop carries and the reason it exists.

A post is dropped by the first step that objects. `agora corpus build keep_dropped=true` keeps every drop for audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.corpus.config import CorpusConfig
from agora.text.codepoints import to_codepoints
from agora.text.language import UNKNOWN

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch as the filters see it. `reposted_ids`: what a repost repeats, else null. `raw` is normalised text, `text` what is
    left for a model (own words, masked), `key` the comparison key of `text`."""

    ids: pa.Array
    reposted_ids: pa.Array
    authors: pa.Array
    is_repost: Mask
    raw: pa.LargeStringArray
    text: pa.LargeStringArray
    key: pa.LargeStringArray
    lang: pa.LargeStringArray
    deleted_ids: pa.Array
    deleted_authors: pa.Array


@dataclass(frozen=True, slots=True)
class Step:
    """`drops` says for each row whether to drop it; None marks a step that needs all posts at once (duplicates.py, one_voice.py)."""

    name: str
    why: str
    drops: Callable[[Rows, CorpusConfig], Mask] | None


def _deleted_author(rows: Rows, config: CorpusConfig) -> Mask:
    return np.asarray(pc.is_in(rows.authors, value_set=rows.deleted_authors))


def _deleted_post(rows: Rows, config: CorpusConfig) -> Mask:
    gone = [pc.is_in(ids, value_set=rows.deleted_ids) for ids in (rows.ids, rows.reposted_ids)]
    return np.asarray(pc.or_(*gone))


def _repost(rows: Rows, config: CorpusConfig) -> Mask:
    silent: Mask = rows.is_repost & (_lengths(rows.text) == 0)
    return silent


def _mostly_links(rows: Rows, config: CorpusConfig) -> Mask:
    own = _lengths(rows.key)
    little: Mask = ~rows.is_repost & (own < np.maximum(config.min_own_share * _lengths(rows.raw), 1))
    return little


def _too_short(rows: Rows, config: CorpusConfig) -> Mask:
    return _lengths(rows.text) < config.min_characters


def _too_long(rows: Rows, config: CorpusConfig) -> Mask:
    return _lengths(rows.text) > config.max_characters


def _symbols(rows: Rows, config: CorpusConfig) -> Mask:
    return _lengths(rows.key) < config.min_word_share * _lengths(rows.text)


def _repeats(rows: Rows, config: CorpusConfig) -> Mask:
    points = to_codepoints(rows.text)
    repeats = np.zeros(len(points.codes) + 1, dtype=np.int64)
    np.cumsum(points.codes[1:] == points.codes[:-1], out=repeats[2:]) if len(points.codes) > 1 else None
    counts = repeats[points.row_starts[1:]] - repeats[np.minimum(points.row_starts[:-1] + 1, points.row_starts[1:])]
    return counts > config.max_repeat_share * np.diff(points.row_starts)


def _gibberish(rows: Rows, config: CorpusConfig) -> Mask:
    return np.asarray(pc.match_substring_regex(rows.key, f"[a-z0-9]{{{config.max_word_characters + 1}}}"))


def _language(rows: Rows, config: CorpusConfig) -> Mask:
    if not config.languages:
        return np.zeros(len(rows.text), dtype=np.bool_)
    wanted = [*config.languages, *([UNKNOWN] if config.keep_unknown_language else [])]
    return ~np.asarray(pc.is_in(rows.lang, value_set=pa.array(wanted, type=pa.large_string())))


def _lengths(texts: pa.LargeStringArray) -> npt.NDArray[np.int64]:
    return np.asarray(pc.utf8_length(texts), dtype=np.int64)


STEPS: Final = (
    Step("deleted_author", "The author deleted the account; nothing of it may be read any more.", _deleted_author),
    Step("deleted_post", "The author deleted the post.", _deleted_post),
    Step("repost", "A repost without words of its own: the original counts once, however often it is passed on.", _repost),
    Step("mostly_links", "Words are less than `min_own_share` of what was posted; the rest is links, handles and symbols.", _mostly_links),
    Step("too_short", "Fewer characters than `min_characters`: too little to learn from, the same few words each time.", _too_short),
    Step("too_long", "More characters than `max_characters`: pasted logs and dumps, not posts.", _too_long),
    Step("symbols", "Words make up less than `min_word_share` of it: drawings, tables, rows of emoji.", _symbols),
    Step("repeated_characters", "More than `max_repeat_share` of its characters repeat the one before.", _repeats),
    Step("gibberish", "A word of more than `max_word_characters` letters and digits: keys, encoded data, keyboard mashing.", _gibberish),
    Step("language", "Not in one of `languages` (all are kept when empty).", _language),
    Step("duplicate_id", "The same id came in twice; the earliest is kept.", None),
    Step("coordinated", "Labelled as coordinated, and `coordinated=leave_out` leaves out what labelled accounts write.", None),
    Step("coordinated_copy", "Another account of the same labelled campaign, or the same one, said this earlier.", None),
    Step("one_voice", "More than the room of one account: the accounts of a labelled campaign count as one together.", None),
    Step("exact_duplicate", "Says the same as an earlier post, apart from case, punctuation, links and handles.", None),
    Step("near_duplicate", "Shares at least `near_duplicate_jaccard` of its word pairs with an earlier post.", None),
    Step("quotes_heldout", "Repeats all words of the held-out post it quotes, reposts or answers.", None),
)  # fmt: skip
"""All steps in the order in which they object."""

STEP_NUMBER: Final = {step.name: number for number, step in enumerate(STEPS, start=1)}
KEPT: Final = 0


def first_objection(rows: Rows, config: CorpusConfig) -> npt.NDArray[np.uint8]:
    """For each row the number of the first step that drops it (STEP_NUMBER), or KEPT."""
    reason = np.zeros(len(rows.text), dtype=np.uint8)
    for step in STEPS:
        if step.drops is not None:
            reason[(reason == KEPT) & step.drops(rows, config)] = STEP_NUMBER[step.name]
    return reason
