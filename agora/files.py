"""Files and folders that are whole or absent. A killed process leaves the old one or the new one, and at most a hidden draft beside it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD = -100  # linux/fcntl.h: paths are relative to the working directory
_EXCHANGE = 2  # RENAME_EXCHANGE in linux/fs.h, RENAME_SWAP in macOS stdio.h
_DRAFTS = itertools.count()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; on success it is flushed to disk and takes the place of `path`. Threads and processes may
    write one path at the same time: each has a name of its own, and the last one stays. What cannot be written is an OSError that names
    `path`."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{next(_DRAFTS)}.part")
    try:
        yield part
        sync(part)
        os.replace(part, path)
        sync(path.parent)
    except OSError as error:
        if error.errno is not None and (error.filename is None or Path(error.filename) == part):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # a place that cannot be written has its own error
            part.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) as the whole content of `path`."""
    with replacing(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What a system call says without a file's name gets that of `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there or ask for a larger quota",
    errno.EFBIG: "allow larger files (ulimit -f unlimited)",
    errno.EROFS: "make that place writable",
    errno.EACCES: "allow this user to write there",
    errno.EMFILE: "allow more open files (ulimit -n)",
}


def remedy(error: OSError) -> str:
    """What a person can do about a file that could not be written, empty where nothing is known."""
    return _REMEDIES.get(error.errno or 0, "")


def is_disk_full(error: Exception) -> bool:
    """Whether no space is left, also where a library says so in words alone."""
    return (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or os.strerror(errno.ENOSPC) in str(error)


class LineFile:
    """Text lines at the end of a file, each handed to the system at once and there as a whole or not at all. Raises OSError with the name
    of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.closed = False

    def write(self, line: str) -> None:
        """`line` and its end."""
        data, start = f"{line}\n".encode(), os.fstat(self._descriptor).st_size
        try:
            with naming(self.path):
                while data:
                    data = data[os.write(self._descriptor, data) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, start)  # the next line must not follow half a one
            raise

    def sync(self) -> None:
        """Until all lines are on disk."""
        with naming(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Nothing more is written."""
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty draft folder; on leaving without an error it becomes `folder`, durably. On an error it is removed."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft, lock = _new_draft(folder)
    except OSError as error:
        error.filename = str(folder)
        raise
    try:
        yield draft
        draft.chmod(0o755)
        for path in [*draft.rglob("*"), draft]:
            sync(path)
        if folder.exists():
            _exchange(draft, folder)
        else:
            draft.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(lock)


def _new_draft(folder: Path) -> tuple[Path, int]:
    """An empty draft and the descriptor that holds its lock. Drafts whose writer was killed (the lock ends with it) are removed."""
    prefix = f".{folder.name}.draft-"
    with _locked(folder.parent):
        for other in folder.parent.iterdir():
            if other.name.startswith(prefix) and not _is_locked(other):
                shutil.rmtree(other, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        lock = os.open(draft, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return draft, lock


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; wait for it."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _is_locked(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return True  # its writer has just finished
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step of the kernel; in two renames where the system cannot (a kill between them then leaves
    the old folder under its draft name)."""
    library = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(one), os.fsencode(other))
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)
    elif sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, _EXCHANGE)
    else:
        failed = -1
    if failed:
        aside = one.with_name(one.name + "-old")
        other.rename(aside)
        one.rename(other)
        aside.rename(one)
