"""The seal of a post store: one small file that says which versions of its tables are valid, and what their files hold.

Goes in: the folder of a store after a change. Comes out: `head.json`, replaced atomically. A change counts from the moment its
seal is in place; whatever a killed writer left beyond the seal is rolled back by the next writer and never read.

The seal also lists every file with size and CRC-32, because the tables alone would not notice: a manifest overwritten with
zeros read as an empty table, and a flipped bit in a data file as other text (tried with lancedb 0.40).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from agora.errors import StoreBusyError, StoreError
from agora.files import sync, write_atomically

SCHEMA_VERSION: Final = 3
HEAD_FILE: Final = "head.json"
WRITER_LOCK: Final = "writer.lock"
READERS_LOCK: Final = "readers.lock"
DELETIONS_TABLE: Final = "deletions"

_CHUNK_BYTES = 4 << 20
_UNSEALED_FOLDERS = ("_transactions",)  # history of the table library; nothing is read from it
_UNSEALED_NAMES = ("latest_version_hint.json",)  # rewritten in place; a hint that may be absent


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What a store holds. `version` grows with every append, edit and deletion; `*_version` are the table library's own.
    `appended` is the arrival number of the next post; posts from `numbered_from` on carry theirs. `files` maps each file of the tables
    to its size and CRC-32. `is_removing` is set while files that no version needs any more are removed: killed then, a file listed here
    may rightly be gone."""

    schema_version: int = SCHEMA_VERSION
    version: int = 0
    generation: int = 1
    num_posts: int = 0
    appended: int = 0
    numbered_from: int = 0
    posts_version: int
    deletions_version: int
    rows_since_maintenance: int = 0
    commits_since_maintenance: int = 0
    is_removing: bool = False
    files: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def posts_table(self) -> str:
        """Name of the posts' table; compaction writes the next generation beside it."""
        return f"posts_{self.generation}"


def read_head(folder: Path) -> Head:
    """The current seal. Raises StoreError when it is missing, damaged or from a newer Agora."""
    table = read_table(folder)
    found = table.get("schema_version")
    if found != SCHEMA_VERSION:
        raise StoreError(f"post store {folder} has schema version {found}; this Agora reads {SCHEMA_VERSION}: open it once to migrate")
    return as_head(folder, table)


def as_head(folder: Path, table: dict[str, Any]) -> Head:
    """The seal that `table` holds. Raises StoreError when it is damaged."""
    try:
        return Head(**{**table, "files": {name: (int(size), int(crc)) for name, (size, crc) in table["files"].items()}})
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise StoreError(f"post store file {folder / HEAD_FILE} is damaged ({error}); restore it from a backup") from error


def write_head(folder: Path, head: Head) -> None:
    """Replace the seal; whoever is killed here leaves the old one or the new one."""
    write_atomically(folder / HEAD_FILE, json.dumps(asdict(head), separators=(",", ":")))


def inventory(folder: Path, tables: tuple[str, ...], known: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Size and CRC-32 of every file of `tables`. Files in `known` never change, so only new ones are read, and flushed to disk."""
    files: dict[str, tuple[int, int]] = {}
    touched = set()
    for path in _table_files(folder, tables):
        name = str(path.relative_to(folder))
        size = path.stat().st_size
        if name in known and known[name][0] == size:
            files[name] = known[name]
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
            files[name] = (size, _crc(file))
        touched.add(path.parent)
    for parent in touched:
        sync(parent)
    return files


def check_files(folder: Path, head: Head, *, contents: Callable[[str], bool]) -> None:
    """Compare the files with the seal: all sizes, and the bytes of those that `contents` selects.

    Raises StoreError naming the first file that is missing, has another size or other bytes.
    """
    for name, (size, crc) in head.files.items():
        path = folder / name
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            if head.is_removing:
                continue
            raise StoreError(f"post store file {path} is missing; restore it from a backup or import into a new store") from None
        if found != size:
            raise StoreError(f"post store file {path} is damaged: {found} bytes instead of {size}; restore it from a backup")
        if contents(name):
            with path.open("rb") as file:
                if _crc(file) != crc:
                    raise StoreError(f"post store file {path} is damaged: its checksum differs; restore it from a backup")


def is_manifest(name: str) -> bool:
    """Whether this file of a table says what the table is: small, and checked at every opening."""
    return "/_versions/" in name


class WriterLock:
    """The right to write, until `release`, garbage collection or the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreBusyError when another writer is at work."""
        self._descriptor: int | None = os.open(folder / WRITER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._descriptor, 32).decode(errors="replace") or "unknown"
            self.release()
            message = f"post store {folder} is being written by process {owner}; wait until it ends, or close that store"
            raise StoreBusyError(message) from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Let another writer in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """While this is held, no file of the current seal is removed. Whoever may only read the folder may read the posts too."""
    lock = folder / READERS_LOCK
    try:
        file: IO[bytes] = lock.open("a+b")
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES) or not lock.exists():
            raise
        file = lock.open("rb")
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def without_readers(folder: Path) -> Iterator[bool]:
    """True when nobody reads, and new readers wait until the block ends; False when somebody does."""
    with (folder / READERS_LOCK).open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def read_table(folder: Path) -> dict[str, Any]:
    """The seal of any schema version as it stands in the file. Raises StoreError when it is missing or damaged."""
    path = folder / HEAD_FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"no post store in {folder}: {HEAD_FILE} is missing; import or simulate posts first") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"post store file {path} is damaged ({error}); restore it from a backup") from error
    if not isinstance(table, dict):
        raise StoreError(f"post store file {path} is damaged (not a table); restore it from a backup")
    return table


def _table_files(folder: Path, tables: tuple[str, ...]) -> Iterator[Path]:
    for table in tables:
        for parent, folders, names in os.walk(folder / f"{table}.lance"):
            folders[:] = sorted(name for name in folders if name not in _UNSEALED_FOLDERS)
            yield from (Path(parent, name) for name in sorted(names) if name not in _UNSEALED_NAMES)


def _crc(file: IO[bytes]) -> int:
    value = 0
    while chunk := file.read(_CHUNK_BYTES):
        value = zlib.crc32(chunk, value)
    return value
