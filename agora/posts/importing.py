"""From a platform's files to the store. Goes in: a path (file, folder, zip). Comes out: posts in the store, broken records in a
quarantine file, and a summary in which every record of every file is counted once:

    records = posts + duplicates + deleted + deletions + sum(skipped) + sum(quarantined)

An import that was killed goes on with the first unfinished file when it is started again: what is done stands in a journal inside the
store's folder, and appending is idempotent. The quarantine file appears complete, under its name, when the import ends.

Command: `agora posts import PATH`
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol

import pyarrow as pa

from agora.errors import RecordError, SourceError, StoreError, UsageError
from agora.files import write_atomically
from agora.log import Progress, Step, silent
from agora.posts.schema import posts_table
from agora.posts.sources import SOURCES, recognise, source_named, tables
from agora.posts.sources.files import SourceFile, Unreadable, open_files
from agora.posts.sources.record import KEPT_FIRST, Broken, Deletion, Edit, Item, Skipped, broken
from agora.posts.sources.source import Source

BATCH_ROWS: Final = 50_000
"""Rows per append: an append costs about 50 ms however small it is, and 50,000 rows about 50 MB."""
CHECKPOINT_S: Final = 5.0
"""At the end of a file, at most this much work since the last checkpoint is left undone."""
_REPORT_RECORDS: Final = 2_000
_NOT_RECOGNISED: Final = "file not recognised"
_UNFORESEEN: Final = (TypeError, KeyError, ValueError, AttributeError, IndexError, RecursionError)


class AppendResult(Protocol):
    """What the store says about one append."""

    appended: int
    duplicates: int
    deleted: int


class Store(Protocol):
    """What an import needs of `agora.posts.store.PostStore`."""

    folder: Path

    def append(self, posts: pa.Table) -> Any:
        """Adds posts, idempotent by id; returns an AppendResult."""

    def delete_posts(self, ids: Sequence[str]) -> int:
        """Durable deletion by id."""

    def delete_authors(self, authors: Sequence[str]) -> int:
        """Durable deletion by author."""


@dataclass(kw_only=True, slots=True)
class ImportSummary:
    """What became of every record. `deletions` are records that said something was deleted; `deleted` are posts that the store refused
    because they had been deleted before."""

    source: str = ""
    files: int = 0
    records: int = 0
    posts: int = 0
    duplicates: int = 0
    deleted: int = 0
    deletions: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantine_file: Path | None = None
    resumed_files: int = 0

    @property
    def accounted(self) -> int:
        """Records with a known fate; equals `records`."""
        explained = sum(self.skipped.values()) + sum(self.quarantined.values())
        return self.posts + self.duplicates + self.deleted + self.deletions + explained


def import_posts(
    path: Path,
    store: Store,
    *,
    source: str | None = None,
    strict: bool = False,
    mapping: Mapping[str, str] | None = None,
    quarantine: Path,
    progress: Progress = silent,
) -> ImportSummary:
    """Read everything under `path` into `store`. `source` forces a reader, `mapping` is {column: field} of a table, `quarantine` the
    folder for broken records.

    Raises SourceError when nothing under `path` can be read (and then nothing was stored), UsageError for an unknown source or a mapping
    that does not belong to a table, and with `strict` RecordError at the first broken record.
    """
    forced = forced_source(source, mapping)
    options = {"path": str(path.resolve()), "source": source, "mapping": dict(mapping or {})}
    with _Journal(store.folder / "imports", quarantine, path, options) as journal:
        run = _Run(store, journal, forced, strict)
        with open_files(path) as files, progress.step(f"import {path.name}", unit="records") as step:
            for file in files:
                run.take(file, step)
            run.checkpoint()
        return run.finish(path)


def forced_source(source: str | None, mapping: Mapping[str, str] | None) -> Source | None:
    """The reader that these options ask for; None leaves it to recognition. Raises UsageError, see `import_posts`."""
    forced = source_named(source) if source else None
    if not mapping:
        return forced
    if forced is not None and forced.name != tables.SOURCE.name:
        raise UsageError(f"--map is for tables; the source {forced.name!r} has fixed fields")
    return tables.source_with(mapping)


class _Run:
    """One import: items in, batches to the store, counts."""

    def __init__(self, store: Store, journal: _Journal, forced: Source | None, strict: bool) -> None:
        self._store, self._journal, self._forced, self._strict = store, journal, forced, strict
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._pending = 0
        self._deletions: list[Deletion] = []
        self._sources: Counter[str] = Counter(journal.state.sources)
        self._counts = Counter(journal.state.counts)
        self._skipped = Counter(journal.state.skipped)
        self._quarantined = Counter(journal.state.quarantined)
        self._unread: list[str] = []
        self._errors: list[str] = []
        self._unopened: set[str] = set()  # reasons of the entries for files, not records
        self._resumed = 0
        self._saved_at = time.monotonic()

    def take(self, file: SourceFile | Unreadable, step: Step) -> None:
        """Read one file to its end."""
        fingerprint = file.reason if isinstance(file, Unreadable) else file.fingerprint
        if self._journal.state.finished.get(file.name) == fingerprint:
            self._resumed += 1
            return
        self._counts["files"] += 1
        self._journal.state.finished[file.name] = fingerprint  # durable only at the next checkpoint
        if isinstance(file, Unreadable):
            self._damaged(file.name, file.reason)
            return
        step.note(file.name)
        before = self._counts["records"]
        try:
            self._read(file, step)
        except SourceError as error:
            self._damaged(file.name, str(error), f"after record {self._counts['records'] - before}")
        if self._pending >= BATCH_ROWS // 2 or time.monotonic() - self._saved_at > CHECKPOINT_S:
            self.checkpoint()

    def _read(self, file: SourceFile, step: Step) -> None:
        if file.size_bytes == 0:
            self._skip(Skipped("empty file"))
            return
        source = self._forced or _recognised(file)
        if source is None:
            self._skip(Skipped(_NOT_RECOGNISED))
            self._unread.append(file.name)
            return
        self._sources[source.name] += 1
        unreported = 0
        for item in _items(source, file):
            self._handle(file.name, item)
            unreported += item.num_rows if isinstance(item, pa.Table) else 1
            if unreported >= _REPORT_RECORDS:
                step.advance(unreported)
                unreported = 0
        step.advance(unreported)

    def _handle(self, name: str, item: Item) -> None:
        if isinstance(item, dict):
            self._counts["records"] += 1
            self._rows.append(item)
            self._pending += 1
        elif isinstance(item, Skipped):
            self._skip(item)
        elif isinstance(item, Broken):
            self._break(name, item)
        elif isinstance(item, Edit):
            self._skip(KEPT_FIRST)
        elif isinstance(item, Deletion):
            self._counts["records"] += 1
            self._counts["deletions"] += 1
            self._deletions.append(item)
        else:
            self._counts["records"] += item.num_rows
            self._tables.append(item)
            self._pending += item.num_rows
        if self._pending >= BATCH_ROWS or len(self._deletions) >= BATCH_ROWS:
            self._flush()

    def _skip(self, item: Skipped) -> None:
        self._counts["records"] += item.count
        self._skipped[item.reason] += item.count

    def _break(self, name: str, item: Broken) -> None:
        if self._strict:
            raise RecordError(f"{name}, {item.place}: {item.reason}: {item.detail} (without --strict it goes to the quarantine file)")
        self._counts["records"] += 1
        self._quarantined[item.reason] += 1
        self._journal.quarantine(name, item)

    def _damaged(self, name: str, reason: str, place: str = "whole file") -> None:
        """A file that cannot be opened, or read to its end."""
        if self._strict:
            raise SourceError(f"{name}: {reason}")
        item = broken(reason, place, b"")
        self._errors.append(f"{name}: {reason}")
        self._unopened.add(item.reason)
        self._break(name, item)

    def _flush(self) -> None:
        """Hand everything pending to the store: posts first, so that a deletion in the same batch finds them."""
        parts = list(self._tables)
        if self._rows:
            parts.append(posts_table(self._rows))
        self._rows, self._tables, self._pending = [], [], 0
        if parts:
            result = self._store.append(pa.concat_tables(parts))
            self._counts["posts"] += result.appended
            self._counts["duplicates"] += result.duplicates
            self._counts["deleted"] += result.deleted
        deletions, self._deletions = self._deletions, []
        posts = [deletion.key for deletion in deletions if deletion.kind == "post"]
        authors = [deletion.key for deletion in deletions if deletion.kind == "author"]
        if posts:
            self._store.delete_posts(posts)
        if authors:
            self._store.delete_authors(authors)

    def checkpoint(self) -> None:
        """Everything up to the end of the last file is in the store; say so in the journal."""
        self._flush()
        state = self._journal.state
        state.sources, state.counts = dict(self._sources), dict(self._counts)
        state.skipped, state.quarantined = dict(self._skipped), dict(self._quarantined)
        self._journal.save()
        self._saved_at = time.monotonic()

    def finish(self, path: Path) -> ImportSummary:
        """The summary. Raises SourceError when nothing under `path` could be read."""
        quarantine_file = self._journal.complete()
        counts = self._counts
        if not self._sources or counts["records"] == sum(self._quarantined[reason] for reason in self._unopened) > 0:
            raise SourceError(self._nothing_read(path))
        return ImportSummary(
            source=", ".join(sorted(self._sources)), files=counts["files"], records=counts["records"], posts=counts["posts"],
            duplicates=counts["duplicates"], deleted=counts["deleted"], deletions=counts["deletions"],
            skipped=dict(self._skipped), quarantined=dict(self._quarantined),
            quarantine_file=quarantine_file, resumed_files=self._resumed,
        )  # fmt: skip

    def _nothing_read(self, path: Path) -> str:
        if self._errors:
            more = f" (and {len(self._errors) - 1} more)" if len(self._errors) > 1 else ""
            return f"nothing under {path} could be read: {self._errors[0]}{more}"
        seen = ", ".join(self._unread[:5]) + (f" and {len(self._unread) - 5} more" if len(self._unread) > 5 else "")
        tried = ", ".join(source.name for source in SOURCES)
        return (
            f"{path} holds nothing that a reader recognises (files seen: {seen or 'none'}; tried: {tried}). "
            "Force one with --source NAME, or name a table's columns with --map COLUMN=FIELD"
        )


def _recognised(file: SourceFile) -> Source | None:
    try:
        return recognise(file.head())
    except _UNFORESEEN as error:
        raise SourceError(f"unexpected shape: {type(error).__name__} {error}") from error


def _items(source: Source, file: SourceFile) -> Iterator[Item]:
    """What the reader yields. A file of a shape that it did not foresee costs the rest of that file, never the import."""
    try:
        yield from source.read(file)
    except _UNFORESEEN as error:
        raise SourceError(f"unexpected shape: {source.name} cannot go on, {type(error).__name__} {error}") from error


@dataclass(slots=True)
class _State:
    """What the journal remembers: totals of the finished files, and how long the quarantine file was then."""

    finished: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantine_bytes: int = 0


def quarantine_line(name: str, item: Broken) -> bytes:
    """One broken record as a line of a quarantine file; `name` says where it came from."""
    entry: dict[str, Any] = {"file": name, "place": item.place, "reason": item.reason, "detail": item.detail}
    try:
        entry["excerpt"] = item.excerpt.decode()
    except UnicodeDecodeError:
        entry["excerpt_base64"] = base64.b64encode(item.excerpt).decode()
    return json.dumps({**entry, "sha256": item.sha256, "size_bytes": item.size_bytes}).encode() + b"\n"


class _Journal:
    """The journal of one import and its quarantine file. Both are named for the path and the options, so another import does not mix."""

    def __init__(self, folder: Path, quarantine: Path, path: Path, options: Mapping[str, Any]) -> None:
        name = re.sub(r"[^\w.-]+", "_", path.name)[:60] or "posts"
        key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
        self._file = folder / f"{name}-{key}.json"
        self._target = quarantine / f"{name}-{key}.jsonl"
        self._part = self._target.with_name(self._target.name + ".part")
        self._output: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self.state = _State()

    def __enter__(self) -> _Journal:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._file.with_suffix(".lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise StoreError(f"another import of the same path into {self._file.parent.parent} is at work; wait for it") from error
        if self._file.exists():
            self.state = _State(**json.loads(self._file.read_text(encoding="utf-8")))
        if self._part.exists():
            if self._part.stat().st_size < self.state.quarantine_bytes:
                self.state = _State()  # the quarantined records are gone: read everything again rather than lose them
            os.truncate(self._part, self.state.quarantine_bytes)
        elif self.state.quarantine_bytes:
            self.state = _State()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in (self._output, self._lock):
            if handle is not None:
                handle.close()
        self._output = self._lock = None

    def quarantine(self, name: str, item: Broken) -> None:
        """Add one entry."""
        if self._output is None:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._output = self._part.open("ab")
        self._output.write(quarantine_line(name, item))

    def save(self) -> None:
        """Make the state durable: first the quarantine entries, then the journal that counts on them."""
        if self._output is not None:
            self._output.flush()
            os.fsync(self._output.fileno())
            self.state.quarantine_bytes = self._output.tell()
        write_atomically(self._file, json.dumps(asdict(self.state)))

    def complete(self) -> Path | None:
        """Give the quarantine file its name (None when nothing was broken) and forget the journal."""
        if self._output is not None:
            self._output.close()
            self._output = None
        if self.state.quarantine_bytes:
            os.replace(self._part, self._target)
        else:
            self._part.unlink(missing_ok=True)
            self._target.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)
        self._file.with_suffix(".lock").unlink(missing_ok=True)
        with suppress(OSError):
            self._file.parent.rmdir()
        return self._target if self.state.quarantine_bytes else None
