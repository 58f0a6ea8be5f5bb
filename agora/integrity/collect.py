"""Read posts once and keep numbers: who, when, and the keys of every signal. Goes in: batches of posts. Comes out: Collected.

Each batch becomes one Arrow file in a work folder, written atomically and mapped into memory when read, so a killed scan goes on
with the batch it was at and memory stays small. The result does not depend on the number of threads; `Collected` numbers accounts
by name, so it does not depend on the order of batches either, apart from the numbers of posts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.files import replacing
from agora.integrity.batch import Hashes, Keys, PostBatch
from agora.integrity.memory import give_back
from agora.integrity.signals import Signal, signals
from agora.log import Progress, silent
from agora.posts.distinct import Distinct
from agora.text.embeddings import Embeddings
from agora.text.minhash import hash_strings

NUM_THREADS = 2
_SUFFIX = ".arrow"
_HOST = r"(?i)^\s*(?:https?://)?(?:www\.|m\.|mobile\.|amp\.)?(?P<host>[^/:?#\s]+)"


def key_schema(*, meaning: bool = False) -> pa.Schema:
    """What is kept of a post: id, author, time_s (since 1970), ref_author, is_own (no repost), text, host (of its
    first link), and a list of keys per signal. Its metadata names the versions of the signals."""
    fields = [
        ("id", pa.string()),
        ("author", pa.string()),
        ("time_s", pa.int64()),
        ("ref_author", pa.string()),
        ("is_own", pa.bool_()),
        ("text", pa.string()),
        ("host", pa.string()),
    ]
    used = signals(meaning=meaning)
    versions = ",".join(f"{signal.id}:{signal.version}" for signal in used)
    return pa.schema(fields + [(column_of(signal), pa.list_(pa.uint64())) for signal in used], metadata={"signals": versions})


def column_of(signal: Signal) -> str:
    """Column of a key table that holds the keys of a signal."""
    return f"keys_{signal.id}"


def key_table(posts: pa.RecordBatch, *, meaning: bool = False, embeddings: Embeddings | None = None) -> pa.RecordBatch:
    """The keys of a batch of posts, one row per post, with `key_schema`."""
    batch = PostBatch(posts, embeddings)
    is_own = np.zeros(batch.num_rows, np.bool_)
    is_own[batch.own] = True
    time_s = pc.floor_temporal(batch.column("created_at"), unit="second").cast(pa.timestamp("s", tz="UTC")).cast(pa.int64())
    columns = [
        batch.column("id"),
        batch.column("author"),
        time_s,
        batch.column("ref_author"),
        pa.array(is_own),
        batch.column("text"),
        _hosts(batch),
    ]
    columns += [_as_lists(signal.keys(batch), batch.num_rows) for signal in signals(meaning=meaning)]
    return pa.RecordBatch.from_arrays(columns, schema=key_schema(meaning=meaning))


def _hosts(batch: PostBatch) -> pa.Array:
    """Host of the first link of each post, null where there is none."""
    links = batch.column("urls")
    has = np.diff(np.asarray(links.offsets)) > 0
    first = np.where(has, np.asarray(links.offsets)[:-1], 0)
    urls = links.values.take(pa.array(first, mask=~has))
    return pc.struct_field(pc.extract_regex(urls, _HOST), "host").cast(pa.string())


def _as_lists(found: Keys, num_rows: int) -> pa.Array:
    order = np.argsort(found.rows, kind="stable")
    offsets = np.searchsorted(found.rows[order], np.arange(num_rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(found.keys[order]))


@dataclass(frozen=True, slots=True)
class Collected:
    """Posts as numbers, in the order in which they were read.

    names       accounts that wrote something, sorted; all codes below are positions in it
    account     code of each post's author
    time_s      seconds since 1970, UTC
    ref_author  code of the account referred to; -1 where unknown or where that account wrote nothing here
    """

    names: pa.Array
    account: npt.NDArray[np.int32]
    time_s: npt.NDArray[np.int64]
    ref_author: npt.NDArray[np.int32]
    is_own: npt.NDArray[np.bool_]
    files: tuple[Path, ...]
    starts: npt.NDArray[np.int64]

    @property
    def num_posts(self) -> int:
        """Posts in all."""
        return len(self.account)

    @property
    def num_accounts(self) -> int:
        """Accounts that wrote at least one post."""
        return len(self.names)

    def keys(self, signal: Signal) -> tuple[npt.NDArray[np.int32], Hashes]:
        """Every post that has keys of one signal, once per key, and the keys."""
        rows, keys = [np.empty(0, np.int32)], [np.empty(0, np.uint64)]
        for path, start in zip(self.files, self.starts[:-1], strict=True):
            lists = _column(path, column_of(signal))
            rows.append(np.repeat(np.arange(start, start + len(lists), dtype=np.int32), np.diff(np.asarray(lists.offsets))))
            keys.append(np.asarray(lists.flatten()))
        return np.concatenate(rows), np.concatenate(keys)

    def bands(self, signal: Signal) -> tuple[npt.NDArray[np.int32], Hashes]:
        """Every post that has keys of a signal with bands, once, and its keys, one row per post: `keys` in half of the room."""
        sizes = [np.diff(np.asarray(_column(path, column_of(signal)).offsets)) for path in self.files]
        rows = np.concatenate([np.empty(0, np.bool_), *(size > 0 for size in sizes)])
        rows = np.flatnonzero(rows).astype(np.int32)
        width = max((int(size.max(initial=0)) for size in sizes), default=0)
        bands, done = np.empty((len(rows), width), np.uint64), 0
        for path in self.files if width else ():
            part = np.asarray(_column(path, column_of(signal)).flatten()).reshape(-1, width)
            bands[done : done + len(part)] = part
            done += len(part)
        return rows, bands

    def id_hashes(self) -> Hashes:
        """The hash of every post's id: what a repost of it has as key."""
        return np.concatenate([hash_strings(_column(path, "id")) for path in self.files])

    def values(self, name: str, posts: npt.NDArray[np.integer[Any]]) -> list[str]:
        """Column `id`, `text` or `host` of posts by number; null is empty."""
        found = [""] * len(posts)
        file_of = np.searchsorted(self.starts, posts, side="right") - 1
        for number in np.unique(file_of):
            mine = np.flatnonzero(file_of == number)
            part = _column(self.files[number], name).take(pa.array(posts[mine] - self.starts[number])).to_pylist()
            for place, value in zip(mine.tolist(), part, strict=True):
                found[place] = value or ""
        return found


def collect(
    batches: Iterable[pa.RecordBatch],
    work: Path,
    *,
    meaning: bool = False,
    embeddings: Embeddings | None = None,
    num_posts: int | None = None,
    make: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None,
    progress: Progress = silent,
) -> Collected:
    """Work out the keys of all posts. `work` belongs to this scan: what an earlier, killed one left there is used again, where it is of the
    same posts and of the same versions of signals.

    `meaning` adds the keys of optional signals, `embeddings` serve them. `make` turns a batch of posts into its `key_table`; tables made
    elsewhere (on a cluster) pass with `make=lambda table: table`.
    """
    work.mkdir(parents=True, exist_ok=True)
    make = make or functools.partial(key_table, meaning=meaning, embeddings=embeddings)
    name = f"keys-meaning-{embeddings.name}" if embeddings else "keys-meaning" if meaning else "keys"
    schema = key_schema(meaning=meaning)
    files: list[Path] = []
    with progress.step("integrity: read posts", total=num_posts, unit="posts") as step, ThreadPoolExecutor(NUM_THREADS) as pool:
        jobs = (pool.submit(_write, batch, work / f"{name}-{number:06d}{_SUFFIX}", make, schema) for number, batch in enumerate(batches))
        for path, rows in _in_order(jobs):
            files.append(path)
            step.advance(rows)
    result = _assemble(files)
    give_back()
    return result


def _in_order(jobs: Iterator[Future[tuple[Path, int]]]) -> Iterator[tuple[Path, int]]:
    """Results in order, with only a few batches in memory."""
    waiting: list[Future[tuple[Path, int]]] = []
    for job in jobs:
        waiting.append(job)
        if len(waiting) > NUM_THREADS:
            yield waiting.pop(0).result()
    for job in waiting:
        yield job.result()


def _write(posts: pa.RecordBatch, path: Path, make: Callable[[pa.RecordBatch], pa.RecordBatch], schema: pa.Schema) -> tuple[Path, int]:
    if not _is_of(path, posts, schema):
        table = make(posts).replace_schema_metadata(schema.metadata)
        with replacing(path) as part, pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_batch(table)
    return path, posts.num_rows


def _is_of(path: Path, posts: pa.RecordBatch, schema: pa.Schema) -> bool:
    """Whether the file holds keys of these very posts, made by the signals as they are now."""
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            is_current = file.num_record_batches == 1 and file.schema.equals(schema, check_metadata=True)
            return bool(is_current and file.get_batch(0).column("id").equals(posts.column("id")))
    except (FileNotFoundError, pa.ArrowInvalid):
        return False


def _column(path: Path, name: str) -> pa.Array:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).get_batch(0).column(name)


def _assemble(files: list[Path]) -> Collected:
    names = _names(files)
    starts = np.concatenate(([0], np.cumsum([len(_column(path, "time_s")) for path in files]))).astype(np.int64)
    kinds = {"account": np.int32, "time_s": np.int64, "ref_author": np.int32, "is_own": np.bool_}
    columns: dict[str, npt.NDArray[Any]] = {name: np.empty(starts[-1], kind) for name, kind in kinds.items()}
    for path, start, end in zip(files, starts[:-1], starts[1:], strict=True):
        columns["account"][start:end] = _codes(_column(path, "author"), names)
        columns["ref_author"][start:end] = _codes(_column(path, "ref_author"), names)
        for name in ("time_s", "is_own"):
            columns[name][start:end] = np.asarray(_column(path, name))
    return Collected(names=names, **columns, files=tuple(files), starts=starts)


def _names(files: list[Path]) -> pa.Array:
    """All authors, sorted."""
    found = Distinct()
    for path in files:
        found.add(_column(path, "author"))
    names = found.values()
    return names.take(pc.sort_indices(names))


def _codes(accounts: pa.Array, names: pa.Array) -> npt.NDArray[np.int32]:
    """Positions of accounts in names, -1 for null and for who is not among them."""
    encoded = accounts.dictionary_encode()
    place = np.asarray(pc.fill_null(pc.index_in(encoded.dictionary, names), -1), dtype=np.int32)
    index = np.asarray(pc.fill_null(encoded.indices, -1))
    return np.where(index < 0, np.int32(-1), np.append(place, np.int32(-1))[index])
