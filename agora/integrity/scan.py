"""The whole search: posts in, campaigns out. Same posts, settings and follow graph, same result.

agora integrity scan
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import DataError
from agora.integrity.campaigns import campaigns
from agora.integrity.collect import Collected, collect
from agora.integrity.config import IntegrityConfig
from agora.integrity.detect import detect
from agora.integrity.episodes import contains
from agora.integrity.explain import Square, feeds
from agora.integrity.records import Campaign, ScanResult, iso
from agora.integrity.shared import Shares, shared
from agora.integrity.signals import signals
from agora.log import Progress, silent
from agora.text.embeddings import load_embeddings

_Value = TypeVar("_Value")


def scan(
    batches: Iterable[pa.RecordBatch],
    work: Path,
    *,
    config: IntegrityConfig | None = None,
    follows: pa.Table | None = None,
    declared: Mapping[str, str] | None = None,
    created: Mapping[str, int] | None = None,
    num_posts: int | None = None,
    make: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None,
    progress: Progress = silent,
) -> ScanResult:
    """Find campaigns among posts (columns `batch.POST_COLUMNS`). `work` keeps what was read, so a killed scan goes on where it was.

    follows    table with columns follower and followed, where the graph is known
    declared   organisation that an account has declared, by account
    created    when accounts were made, seconds since 1970, by account

    Raises DataError when `follows` lacks a column.
    """
    config = config or IntegrityConfig()
    embeddings = load_embeddings(Path(config.meaning_model)) if config.meaning_model else None
    posts = collect(batches, work, meaning=config.meaning, embeddings=embeddings, num_posts=num_posts, make=make, progress=progress)
    with progress.step("integrity: who shared what"):
        found = shared(posts, seed=config.seed, meaning=config.meaning)
    return examine(posts, found, config=config, follows=follows, declared=declared, created=created, progress=progress)


def examine(
    posts: Collected,
    found: Mapping[str, Shares],
    *,
    config: IntegrityConfig,
    follows: pa.Table | None = None,
    declared: Mapping[str, str] | None = None,
    created: Mapping[str, int] | None = None,
    progress: Progress = silent,
) -> ScanResult:
    """The part of `scan` after reading: test who shared what. Raises DataError like `scan`."""
    if not posts.num_posts:
        return _result(config, posts, 0, 0, ())
    posts = _with_authors(posts, found)
    square = _square(posts, follows, declared or {}, created or {})
    exposure = _exposure(found, posts, square)
    detection = detect(found, posts.num_accounts, config, exposure=exposure, spill=posts.files[0].parent, progress=progress)
    with progress.step("integrity: evidence"):
        result = campaigns(detection, posts, found, square, config)
    return _result(config, posts, detection.num_groups, detection.num_tests, tuple(result))


def _with_authors(posts: Collected, found: Mapping[str, Shares]) -> Collected:
    """Where a source names the post but not the account referred to, look for the post among those read."""
    unknown = [(one, np.flatnonzero(posts.ref_author[one.post] < 0)) for one in found.values() if one.signal.role == "amplified"]
    if not any(len(rows) for _, rows in unknown):
        return posts
    ids = posts.id_hashes()
    order = np.argsort(ids, kind="stable")
    ids, author = ids[order], posts.ref_author.copy()
    for one, rows in unknown:
        wanted = one.key[one.artefact[rows]]
        place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        author[one.post[rows]] = np.where(ids[place] == wanted, posts.account[order[place]], -1)
    return replace(posts, ref_author=author)


def _result(config: IntegrityConfig, posts: Collected, num_groups: int, num_tests: int, found: tuple[Campaign, ...]) -> ScanResult:
    first, last = ("", "") if not posts.num_posts else (iso(posts.time_s.min()), iso(posts.time_s.max()))
    return ScanResult(
        config=config, num_posts=posts.num_posts, num_accounts=posts.num_accounts, num_groups=num_groups, num_tests=num_tests,
        first_at=first, last_at=last, campaigns=found,
    )  # fmt: skip


def _square(posts: Collected, follows: pa.Table | None, declared: Mapping[str, str], created: Mapping[str, int]) -> Square:
    by_id = {signal.id: signal for signal in signals()}
    has_link, is_reply = np.zeros(posts.num_posts, np.bool_), np.zeros(posts.num_posts, np.bool_)
    has_link[posts.keys(by_id["link"])[0]] = True
    is_reply[posts.keys(by_id["reply"])[0]] = True
    return Square(
        _follow_codes(posts, follows), _by_code(posts, declared), _by_code(posts, created), has_link, feeds(posts, has_link, is_reply)
    )


def _by_code(posts: Collected, values: Mapping[str, _Value]) -> dict[int, _Value]:
    """The values of those accounts that posted."""
    codes = pc.index_in(pa.array(list(values), pa.string()), posts.names).to_pylist()
    return {code: value for code, value in zip(codes, values.values(), strict=True) if code is not None}


def _follow_codes(posts: Collected, follows: pa.Table | None) -> npt.NDArray[np.int64] | None:
    if follows is None:
        return None
    missing = [name for name in ("follower", "followed") if name not in follows.column_names]
    if missing:
        raise DataError(f"follow graph has no column {missing[0]!r}, only {follows.column_names}; name its columns follower and followed")
    ends = [pc.fill_null(pc.index_in(follows[name], posts.names), -1).to_numpy().astype(np.int64) for name in ("follower", "followed")]
    known = (ends[0] >= 0) & (ends[1] >= 0)
    code = np.sort(ends[0][known] * posts.num_accounts + ends[1][known])  # np.unique hashes, which takes 20 times as long here
    return code[np.diff(code, prepend=-1) > 0]


def _exposure(found: Mapping[str, Shares], posts: Collected, square: Square) -> dict[str, npt.NDArray[np.bool_]]:
    """Which shares of others' posts are by followers of their authors."""
    if square.follows is None:
        return {}
    result = {}
    for name, one in found.items():
        if one.signal.role == "amplified":
            author = posts.ref_author[one.post]
            code = one.account.astype(np.int64) * posts.num_accounts + author
            result[name] = (author >= 0) & contains(square.follows, code)
    return result
