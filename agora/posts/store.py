"""The post store: an embedded LanceDB table behind a seal. Goes in: tables with POST_SCHEMA. Comes out: posts, each id once.

    with PostStore.open(Path("workspace/posts"), create=True) as store:
        store.append(table)

What it promises, and why LanceDB: docs/posts.md and docs/decisions/0001-post-store.md. Not covered: several machines
writing to one folder, and file systems without flock (some network mounts).
"""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import StoreError, UsageError
from agora.files import is_disk_full
from agora.log import Progress, silent
from agora.posts import migrations, sealing
from agora.posts.incoming import as_posts, first_of_each_id, named_in, without_deleted
from agora.posts.lance_tables import ARRIVAL, TABLE_SCHEMA, connect, create_posts, create_store, optimize, watched
from agora.posts.schema import DELETIONS_SCHEMA, POST_SCHEMA, REPOST

if TYPE_CHECKING:
    import daft

_CONTENT: Final = ("text", "lang", "urls", "hashtags", "mentions", "media")
"""What a repost shows of the post that it repeats."""
_ARRIVAL_RANGE = 262_144  # rows read and sorted at once; bounds memory
_MERGE_ROWS = 262_144  # rows per insert of a large append; bounds memory, the seal makes all of them one step
_DELETE_KEYS = 2_000  # keys per deletion predicate
_MAINTENANCE_ROWS = 1_000_000  # rows outside the id index before fragments are merged and the index grows ...
_MAINTENANCE_SHARE = 8  # ... or this fraction (1/8) of the store, so that the work stays proportional to the posts
_MAINTENANCE_COMMITS = 128


@dataclass(frozen=True, slots=True)
class AppendResult:
    """appended: new posts; duplicates: ids already present (or twice in the table); deleted: refused by a tombstone."""

    appended: int
    duplicates: int
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class ReplaceResult:
    """edited: posts that changed; added: posts that were not there; unchanged: the same already, or an earlier version in the same
    table; deleted: refused by a tombstone. Reposts that were edited along are not counted."""

    edited: int
    added: int
    unchanged: int
    deleted: int = 0


class PostStore:
    """One folder of posts. Many readers at any time; one writer, from its first change until `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: sealing.WriterLock | None = None
        self._mutex = threading.RLock()
        self._verified: set[str] = set()
        self._database: Any = None

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> PostStore:
        """Open the store at `path`. Raises StoreError when there is none (unless `create`), or when its files are damaged."""
        path = Path(path)
        if not (path / sealing.HEAD_FILE).exists():
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise StoreError(f"{path} is not a post store: it has no {sealing.HEAD_FILE}; give an empty or new folder")
            if not create:
                raise StoreError(f"no post store at {path}; import or simulate posts first (agora posts import PATH)")
            create_store(path)
        store = cls(path)
        if migrations.needs_migration(path):
            store._acquire()
            migrations.migrate(path)
            store.close()
        with sealing.reading(path):
            sealing.check_files(path, sealing.read_head(path), contents=sealing.is_manifest)
        return store

    def close(self) -> None:
        """Let another writer in. The store can be used again; it takes the lock with its next change."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> PostStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def num_posts(self) -> int:
        """Live posts."""
        return sealing.read_head(self.folder).num_posts

    @property
    def version(self) -> int:
        """Grows with every append or deletion that changed something; `compact` leaves it."""
        return sealing.read_head(self.folder).version

    @property
    def appended(self) -> int:
        """The position after the last post that came in, for `scan(after=...)`. It grows with every post, edits included, never shrinks,
        and may skip numbers."""
        return sealing.read_head(self.folder).appended

    def append(self, posts: pa.Table) -> AppendResult:
        """Add the posts whose id is new: all of them or, when this fails, none. Deleted ids and authors stay deleted.

        Raises StoreError for another writer at work, a damaged store, or a table that does not fit POST_SCHEMA.
        """
        posts = as_posts(posts)
        with self._mutex, self._changing() as (head, tables):
            allowed = without_deleted(posts, self._deletions(tables))
            unique = _with_arrivals(first_of_each_id(allowed), head.appended)
            appended = 0
            for start in range(0, unique.num_rows, _MERGE_ROWS):
                batch = unique.slice(start, _MERGE_ROWS)
                result = tables.posts.merge_insert("id").when_not_matched_insert_all().execute(batch)
                appended += result.num_inserted_rows
            if appended:
                self._seal(_after_arrival(head, appended, unique.num_rows), tables)
        return AppendResult(appended, allowed.num_rows - appended, posts.num_rows - allowed.num_rows)

    def replace(self, posts: pa.Table) -> ReplaceResult:
        """Put these versions in the place of the posts with their ids, all or none: an edit. Of two versions of one post the last counts.

        Reposts of an edited post, which carry its words, are edited with it. A post that was not there is added; deleted ids and authors
        stay deleted. Edited posts arrive anew: `scan(after=...)` brings them again, at the end. Raises StoreError as `append` does.
        """
        posts = as_posts(posts)
        with self._mutex, self._changing() as (head, tables):
            allowed = without_deleted(posts, self._deletions(tables))
            wanted = {row["id"]: row for row in allowed.to_pylist()}
            known = {row["id"]: row for row in self._rows_of(tables, "id", list(wanted))}
            changed = {key: row for key, row in wanted.items() if known.get(key) != row}
            edited = [key for key in changed if key in known]
            for repost in self._rows_of(tables, "ref_id", edited, f" AND kind = '{REPOST}' AND text != ''"):
                changed.setdefault(repost["id"], {**repost, **{name: wanted[repost["ref_id"]][name] for name in _CONTENT}})
            if changed:
                rows = _with_arrivals(pa.Table.from_pylist(list(changed.values()), POST_SCHEMA), head.appended)
                tables.posts.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
                self._seal(_after_arrival(head, len(changed), len(changed)), tables)
        added, refused = len(wanted.keys() - known.keys()), posts.num_rows - allowed.num_rows
        return ReplaceResult(edited=len(edited), added=added, unchanged=allowed.num_rows - len(edited) - added, deleted=refused)

    def _rows_of(
        self, tables: _Tables, column: str, keys: Sequence[str], condition: str = "", *, schema: pa.Schema = POST_SCHEMA
    ) -> Iterator[dict[str, Any]]:
        for start in range(0, len(keys), _DELETE_KEYS):
            words = ",".join(_quoted(key) for key in keys[start : start + _DELETE_KEYS])
            found = tables.posts.search().where(f"{column} IN ({words}){condition}").select(schema.names).to_arrow()
            yield from found.select(schema.names).cast(schema).to_pylist()

    def rows(self, column: Literal["id", "ref_id"], keys: Sequence[str]) -> list[dict[str, Any]]:
        """The live posts whose id, or the id of what they refer to, is among `keys`, in no order."""
        if not keys:
            return []
        with self._snapshot() as (_, tables):
            return list(self._guard(lambda: list(self._rows_of(tables, column, keys))))

    def delete_posts(self, ids: Sequence[str]) -> int:
        """Delete posts and their reposts (which carry the same words), for good. Returns the number of posts removed.

        Raises UsageError for a blank id."""
        return self._delete("post", ids)

    def delete_authors(self, authors: Sequence[str]) -> int:
        """Delete everything of these authors, and reposts of it, for good. Returns the number of posts removed.

        Raises UsageError for a blank name."""
        return self._delete("author", authors)

    def deletions(self) -> pa.Table:
        """All tombstones (DELETIONS_SCHEMA), oldest first."""
        with self._snapshot() as (_, tables):
            return self._deletions(tables)

    def scan(self, *, columns: Sequence[str] | None = None, batch_rows: int = 65536, after: int | None = None) -> Iterator[pa.RecordBatch]:
        """The live posts as they are now, whatever is written meanwhile.

        With `after`, a position that `appended` had: those that came in (or were edited) since, in order of arrival; after=0 are all posts
        in that order. Posts that came in before stores kept the order (schema version 3) are taken in the order in which they lie.
        """
        names = list(columns) if columns is not None else POST_SCHEMA.names
        schema = pa.schema([POST_SCHEMA.field(name) for name in names])
        with self._snapshot() as (head, tables):
            self._verify_data(head)
            found = self._all(tables, names, batch_rows) if after is None else self._since(head, tables, names, batch_rows, after)
            for batch in found:
                if batch.num_rows:
                    yield pa.RecordBatch.from_arrays([batch.column(name) for name in names], schema=schema)

    def arrivals(self, after: int, *, batch_rows: int = 65536) -> Iterator[tuple[pa.RecordBatch, list[int]]]:
        """As `scan(after=after)`, with the position of each post: after the last one of a batch, `after=position + 1` goes on. Positions
        are not counts: deleted posts leave gaps. Those that came in before stores kept the order are counted back from the first number."""
        names = POST_SCHEMA.names
        with self._snapshot() as (head, tables):
            self._verify_data(head)
            first = max(after, head.numbered_from - int(tables.posts.count_rows(f"{ARRIVAL} IS NULL")))
            for batch in self._since(head, tables, names, batch_rows, after):
                if batch.num_rows:
                    numbers = batch.column(ARRIVAL).to_pylist()
                    positions = [first + place if number is None else number for place, number in enumerate(numbers)]
                    first += batch.num_rows
                    yield pa.RecordBatch.from_arrays([batch.column(name) for name in names], schema=POST_SCHEMA), positions

    def num_since(self, after: int) -> int:
        """How many posts `scan(after=after)` brings."""
        with self._snapshot() as (head, tables):
            legacy = int(tables.posts.count_rows(f"{ARRIVAL} IS NULL")) if after < head.numbered_from else 0
            numbered: int = self._guard(lambda: tables.posts.count_rows(f"{ARRIVAL} >= {max(after, head.numbered_from)}"))
            return numbered + min(legacy, max(0, head.numbered_from - after))

    def present(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that live posts have: looked up one by one, the store is not read."""
        if not ids:
            return set()
        schema = pa.schema([POST_SCHEMA.field("id")])
        with self._snapshot() as (_, tables):
            return {row["id"] for row in self._guard(lambda: list(self._rows_of(tables, "id", list(ids), schema=schema)))}

    def _all(self, tables: _Tables, names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        yield from self._batches(tables.posts.search().select(names), batch_rows)

    def _since(self, head: sealing.Head, tables: _Tables, names: list[str], batch_rows: int, after: int) -> Iterator[pa.RecordBatch]:
        if after < head.numbered_from:
            first = tables.posts.search().where(f"{ARRIVAL} IS NULL").select([*names, ARRIVAL])
            past = int(tables.posts.count_rows(f"{ARRIVAL} IS NULL")) - (head.numbered_from - after)
            yield from self._batches(first.offset(past) if past > 0 else first, batch_rows)
        for start in range(max(after, head.numbered_from), head.appended, _ARRIVAL_RANGE):
            within = f"{ARRIVAL} >= {start} AND {ARRIVAL} < {start + _ARRIVAL_RANGE}"
            query = tables.posts.search().where(within).select([*names, ARRIVAL])
            yield from self._guard(query.to_arrow).sort_by(ARRIVAL).combine_chunks().to_batches(max_chunksize=batch_rows)

    def _batches(self, query: Any, batch_rows: int) -> Iterator[pa.RecordBatch]:
        reader = self._guard(lambda: query.to_batches(batch_size=batch_rows))
        while (batch := self._guard(lambda: next(reader, None))) is not None:
            yield batch

    def to_daft(self) -> daft.DataFrame:
        """The live posts as a lazy Daft dataframe; only the columns that are used are read. A snapshot per execution."""
        from agora.posts.dataframe import posts_dataframe

        return posts_dataframe(self.folder)

    def verify(self) -> int:
        """Compare every byte with its checksum. Returns the number of files. Raises StoreError naming a damaged one."""
        with sealing.reading(self.folder):
            head = sealing.read_head(self.folder)
            sealing.check_files(self.folder, head, contents=lambda name: True)
        return len(head.files)

    def compact(self, *, progress: Progress = silent) -> None:
        """Write the live posts anew and remove every old file: deleted words are gone from the disk afterwards.

        Needs room for a second copy. New readers wait. Raises StoreError while somebody reads.
        """
        with self._mutex, self._changing() as (head, tables), sealing.without_readers(self.folder) as alone:
            if not alone:
                raise StoreError(f"post store {self.folder} is being read; compact it when no reader is at work")
            self._verify_data(head)
            self._remove_other_generations(head)
            following = replace(head, generation=head.generation + 1)
            with progress.step("compact posts", total=head.num_posts, unit="posts") as step:
                live = tables.posts.search().select(TABLE_SCHEMA.names).to_batches(batch_size=65536)
                posts = create_posts(self._database, following.posts_table, watched(live, step))
            following = self._maintain(following, _Tables(posts, tables.deletions), remove_old=True)
            self._remove_other_generations(following)

    def _delete(self, kind: Literal["post", "author"], keys: Sequence[str]) -> int:
        refuse_blank_keys(kind, keys)
        with self._mutex, self._changing() as (head, tables):
            known = named_in(self._deletions(tables), kind, pa.chunked_array([list(keys)], pa.string()))
            before = set(known.to_pylist())
            fresh = [key for key in dict.fromkeys(keys) if key not in before]
            if not fresh:
                return 0
            now = datetime.now(timezone.utc)
            rows = pa.table([[kind] * len(fresh), fresh, [now] * len(fresh)], schema=DELETIONS_SCHEMA)
            tables.deletions.add(rows)
            own, referred = ("id", "ref_id") if kind == "post" else ("author", "ref_author")
            for start in range(0, len(fresh), _DELETE_KEYS):
                words = ",".join(_quoted(key) for key in fresh[start : start + _DELETE_KEYS])
                tables.posts.delete(f"{own} IN ({words}) OR (kind = '{REPOST}' AND {referred} IN ({words}))")
            self._seal(replace(head, version=head.version + 1), tables)
            return head.num_posts - int(tables.posts.count_rows())

    def _acquire(self) -> None:
        if self._lock is None:
            self._lock = sealing.WriterLock(self.folder)

    @contextmanager
    def _changing(self) -> Iterator[tuple[sealing.Head, _Tables]]:
        """The sealed state, ready to be changed; what an earlier writer left unsealed is rolled back first."""
        self._acquire()
        head = sealing.read_head(self.folder)
        sealing.check_files(self.folder, head, contents=sealing.is_manifest)
        tables = self._guard(lambda: self._open_tables(head))
        if head.is_removing:  # killed in maintenance, which changes no post: the newest versions hold what the seal promises
            head = self._write_head(replace(head, is_removing=False), tables)
        for table, sealed in ((tables.posts, head.posts_version), (tables.deletions, head.deletions_version)):
            if table.version != sealed:
                table.checkout(sealed)
                table.restore()
        try:
            yield head, tables
        except (RuntimeError, ValueError, OSError) as error:
            raise self._explained(error) from error

    def _seal(self, head: sealing.Head, tables: _Tables) -> None:
        head = replace(head, commits_since_maintenance=head.commits_since_maintenance + 1)
        self._write_head(head, tables)
        due = max(_MAINTENANCE_ROWS, head.num_posts // _MAINTENANCE_SHARE)
        if head.rows_since_maintenance >= due or head.commits_since_maintenance >= _MAINTENANCE_COMMITS:
            with sealing.without_readers(self.folder) as alone:
                self._maintain(sealing.read_head(self.folder), tables, remove_old=alone)

    def _maintain(self, head: sealing.Head, tables: _Tables, *, remove_old: bool) -> sealing.Head:
        """Merge fragments and extend the index; then seal; only then remove what the old seal needed."""
        for table in (tables.posts, tables.deletions):
            optimize(table)
        head = replace(head, rows_since_maintenance=0, commits_since_maintenance=0, is_removing=remove_old)
        head = self._write_head(head, tables)
        if remove_old:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="optimize.cleanup_older_than=0", category=UserWarning)
                for table in (tables.posts, tables.deletions):
                    table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
            head = self._write_head(replace(head, is_removing=False), tables)
        return head

    def _remove_other_generations(self, head: sealing.Head) -> None:
        for folder in self.folder.glob("posts_*.lance"):
            if folder.stem != head.posts_table:
                shutil.rmtree(folder)

    def _write_head(self, head: sealing.Head, tables: _Tables) -> sealing.Head:
        head = replace(
            head,
            num_posts=int(tables.posts.count_rows()),
            posts_version=int(tables.posts.version),
            deletions_version=int(tables.deletions.version),
            files=sealing.inventory(self.folder, (head.posts_table, sealing.DELETIONS_TABLE), head.files),
        )
        sealing.write_head(self.folder, head)
        return head

    @contextmanager
    def _snapshot(self) -> Iterator[tuple[sealing.Head, _Tables]]:
        with sealing.reading(self.folder):
            head = sealing.read_head(self.folder)
            sealing.check_files(self.folder, head, contents=sealing.is_manifest)
            tables = self._guard(lambda: self._open_tables(head))
            if not head.is_removing:
                self._guard(lambda: tables.posts.checkout(head.posts_version))
                self._guard(lambda: tables.deletions.checkout(head.deletions_version))
            yield head, tables

    def _open_tables(self, head: sealing.Head) -> _Tables:
        if self._database is None:
            self._database = connect(self.folder)
        return _Tables(self._database.open_table(head.posts_table), self._database.open_table(sealing.DELETIONS_TABLE))

    def _deletions(self, tables: _Tables) -> pa.Table:
        found = self._guard(tables.deletions.to_arrow)
        table = pa.table([found[name] for name in DELETIONS_SCHEMA.names], schema=DELETIONS_SCHEMA)
        return table.filter(pc.not_equal(table["key"], ""))  # older versions accepted an empty key, which names nothing

    def _verify_data(self, head: sealing.Head) -> None:
        """Check data files against their checksums, each once per open store: they never change."""
        fresh = {name for name in head.files if "/data/" in name and name not in self._verified}
        sealing.check_files(self.folder, head, contents=fresh.__contains__)
        self._verified |= fresh

    def _guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (RuntimeError, ValueError, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> StoreError:
        """The error of the table library, or the damaged file behind it."""
        try:
            self.verify()
        except StoreError as damage:
            return damage
        if is_disk_full(error):
            return StoreError(
                f"post store {self.folder} cannot be written: no space is left; free some there and run the same command again"
            )
        return StoreError(f"post store {self.folder}: {error}")


@dataclass(frozen=True, slots=True)
class _Tables:
    posts: Any
    deletions: Any


def _with_arrivals(posts: pa.Table, first: int) -> pa.Table:
    """The posts numbered in order of arrival."""
    return posts.append_column(TABLE_SCHEMA.field(ARRIVAL), pa.array(np.arange(first, first + posts.num_rows)))


def _after_arrival(head: sealing.Head, written: int, numbered: int) -> sealing.Head:
    return replace(
        head, version=head.version + 1, appended=head.appended + numbered, rows_since_maintenance=head.rows_since_maintenance + written
    )


def _quoted(key: str) -> str:
    return "'" + key.replace("'", "''") + "'"


def refuse_blank_keys(kind: str, keys: Sequence[str]) -> None:
    """Raises UsageError for a key that names nothing: an empty one would match every post that refers to no other."""
    if blank := [key for key in keys if not key.strip()]:
        raise UsageError(f"{kind} {blank[0]!r} to delete is blank; give the {'id of a post' if kind == 'post' else 'name of an author'}")
