"""The files of the embedded index and the seal that says what of them holds. Goes in: rows, ids, vectors. Comes out: the same after a kill.

    index/state.json           the seal: replaced atomically, last
    index/gN/text/             tantivy
    index/gN/rows.bin          columns.ROW per post
    index/gN/ids.txt           ids, one after the other
    index/gN/gone.bin          rows that were deleted
    index/gN/vectors.bin       near.py
    index/gN/codes.bin         near.py

The files only grow; what lies beyond the lengths in the seal was written by somebody who was killed, and is cut off by the next writer.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from agora.errors import IndexBusyError, PostIndexError
from agora.files import write_atomically

FORMAT: Final = 1
STATE_FILE: Final = "state.json"
_LOCK_FILE: Final = "lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """position: posts of the store that were seen; version: of the store then; key: of the hashes; languages: by their number in rows."""

    generation: int = 0
    num_rows: int = 0
    id_bytes: int = 0
    num_gone: int = 0
    position: int = 0
    version: int = 0
    num_tombstones: int = 0
    key: str = ""
    languages: tuple[str, ...] = ()
    vectors: str = ""
    dim: int = 0
    num_vectors: int = 0

    def folder(self, root: Path) -> Path:
        """Where the files of this generation lie."""
        return root / f"g{self.generation}"


def read_state(root: Path) -> State | None:
    """The seal, or None where there is none. Raises PostIndexError for one that cannot be read."""
    path = root / STATE_FILE
    try:
        values = json.loads(path.read_bytes())
        if values.pop("format") != FORMAT:
            raise PostIndexError(f"index {root} was made by another version of agora; delete the folder, it is made anew from the posts")
        return State(**{**values, "languages": tuple(values["languages"])})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PostIndexError(f"{path} cannot be read: {error}; delete the folder {root}, it is made anew from the posts") from error


def write_state(root: Path, state: State) -> None:
    """Seal."""
    write_atomically(root / STATE_FILE, json.dumps({"format": FORMAT, **asdict(state)}, ensure_ascii=False))


def new_state(generation: int) -> State:
    """An empty index with a key of its own."""
    return State(generation=generation, key=secrets.token_hex(16))


def remove_other_generations(root: Path, state: State) -> None:
    """Remove what the seal does not name."""
    for folder in root.glob("g[0-9]*"):
        if folder != state.folder(root):
            shutil.rmtree(folder, ignore_errors=True)


class AppendedFile:
    """A file that only grows, up to a sealed length."""

    def __init__(self, path: Path, sealed_bytes: int) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        found = os.fstat(self._file).st_size
        if found < sealed_bytes:
            os.close(self._file)
            raise PostIndexError(f"{path} has {found} of {sealed_bytes} bytes; delete the index folder, it is made anew from the posts")
        os.ftruncate(self._file, sealed_bytes)
        os.lseek(self._file, sealed_bytes, os.SEEK_SET)
        self._is_changed = found != sealed_bytes

    def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there."""
        left = memoryview(data).cast("B")
        self._is_changed |= bool(left)
        while left:
            left = left[os.write(self._file, left) :]

    def sync(self) -> None:
        """Flush to the disk what is new."""
        if self._is_changed:
            os.fsync(self._file)
            self._is_changed = False

    def close(self) -> None:
        """Close."""
        os.close(self._file)


def read_sealed(path: Path, sealed_bytes: int, *, start: int = 0) -> bytes:
    """The sealed part of a file, from `start` on. Raises PostIndexError when it is shorter."""
    if sealed_bytes <= start:
        return b""
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(sealed_bytes - start)
    except FileNotFoundError:
        data = b""
    if len(data) < sealed_bytes - start:
        found = start + len(data)
        raise PostIndexError(f"{path} has {found} of {sealed_bytes} bytes; delete the index folder, it is made anew from the posts")
    return data


class WriterLock:
    """One writer per index folder, also across processes. It ends with its process."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._file = os.open(root / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise IndexBusyError(f"index {root} is being written by another process; wait for it, or stop it") from error

    def release(self) -> None:
        """Let another writer in."""
        os.close(self._file)
