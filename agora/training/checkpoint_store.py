"""Where checkpoints lie. Goes in: a folder, or a URL that fsspec knows (s3://bucket/path). Comes out: a Store, which writes a checkpoint
file by file and then makes it count, all at once.

In a folder a checkpoint is written under another name and renamed. Object stores cannot rename: there a checkpoint counts once its
manifest is there, which is written last and removed first.

A store tells what it is doing and counts what has moved (Movement), so that a slow place is not taken for a hanging one (watchdog.py), and
asks before it changes anything whether it still may (lease.py).
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from agora.files import sync, write_atomically
from agora.training.checkpoint_url import as_os_error, check_url, connect
from agora.training.movement import Counted, Movement
from agora.units import format_bytes

MANIFEST: Final = "manifest.json"
_REFUSED: Final = "refused.json"  # what the manifest of a checkpoint that was set aside is called
RECORD: Final = "run.json"
_NAME: Final = re.compile(r"step-(\d{8,})")
_SPARE_BYTES: Final = 1 << 20


def checkpoint_name(step: int) -> str:
    """What the checkpoint of a step is called."""
    return f"step-{step:08d}"


def step_of(name: str) -> int:
    """The step of a checkpoint's name."""
    return int(name.removeprefix("step-"))


class TakenOverError(OSError):
    """Another run writes at this place now; this one may not."""


class Store(Protocol):
    """A place for checkpoints. Every method raises OSError when the place cannot be read or written. `may_write` raises TakenOverError
    when another run has taken the place over; every method that writes, moves or deletes asks it first."""

    movement: Movement
    may_write: Callable[[], None]

    def place(self, name: str) -> str:
        """Where a checkpoint is, for people."""

    def names(self) -> list[str]:
        """Checkpoints that claim to be whole, oldest first."""

    def begin(self, name: str, size_bytes: int) -> None:
        """Make room for a new checkpoint; what a killed writer left of it goes."""

    def writing(self, name: str, file: str) -> Any:
        """A file of the checkpoint that was begun, as a context."""

    def commit(self, name: str) -> None:
        """From now on the checkpoint counts. Its manifest was the last file."""

    def abandon(self, name: str) -> None:
        """Remove what was written of a checkpoint that was not committed."""

    def sizes(self, name: str) -> dict[str, int]:
        """Bytes of each file."""

    def reading(self, name: str, file: str) -> Any:
        """A file of a committed checkpoint, as a context."""

    def remove(self, name: str) -> None:
        """Delete a checkpoint; killed meanwhile, it is whole or does not count."""

    def set_aside(self, name: str) -> None:
        """Make a checkpoint not count, without deleting it."""

    def names_set_aside(self) -> list[str]:
        """Checkpoints that were set aside, oldest first."""

    def read_record(self, file: str = RECORD) -> dict[str, Any]:
        """What is said beside the checkpoints: of the run, or who writes; empty when nothing is. Raises ValueError when it is damaged."""

    def write_record(self, record: Mapping[str, Any], file: str = RECORD) -> None:
        """Say whose checkpoints these are, or who writes."""

    def remove_record(self, file: str) -> None:
        """Say nothing any more."""

    def clean(self) -> None:
        """Delete what killed writers left. Only while nobody writes."""

    def clear(self) -> None:
        """Delete everything."""


def open_store(where: Path | str) -> Store:
    """The store of a path or URL. Raises ConfigError for a URL that cannot be used."""
    if isinstance(where, str):
        check_url(where)
    if isinstance(where, Path) or "://" not in where:
        return FolderStore(Path(where))
    if where.startswith("file://"):
        return FolderStore(Path(where.removeprefix("file://")))
    return UrlStore(where)


def _always() -> None:
    """Nobody else can write here."""


class FolderStore:
    """Checkpoints in a folder that all processes see."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.movement = folder, Movement()
        self.may_write: Callable[[], None] = _always

    def place(self, name: str) -> str:
        """As in Store."""
        return str(self.folder / name)

    def names(self) -> list[str]:
        """As in Store."""
        if not self.folder.is_dir():
            return []
        return sorted((path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), key=step_of)

    def begin(self, name: str, size_bytes: int) -> None:
        """As in Store."""
        self.may_write()
        self.folder.mkdir(parents=True, exist_ok=True)
        free_bytes, needed_bytes = shutil.disk_usage(self.folder).free, size_bytes + _SPARE_BYTES
        if free_bytes < needed_bytes:
            raise OSError(errno.ENOSPC, f"{format_bytes(needed_bytes)} needed, {format_bytes(free_bytes)} free")
        shutil.rmtree(self._draft(name), ignore_errors=True)
        self._draft(name).mkdir()

    @contextmanager
    def writing(self, name: str, file: str) -> Iterator[Any]:
        """As in Store."""
        self.may_write()
        path = self._draft(name) / file
        with self.movement.of(f"writing {self.place(name)}/{file}"):
            with path.open("wb") as stream:
                yield Counted(stream, self.movement)
            sync(path)

    def commit(self, name: str) -> None:
        """As in Store."""
        self.may_write()
        sync(self._draft(name))
        if (self.folder / name).exists():
            self.remove(name)
        os.replace(self._draft(name), self.folder / name)
        sync(self.folder)

    def abandon(self, name: str) -> None:
        """As in Store."""
        self.may_write()
        shutil.rmtree(self._draft(name), ignore_errors=True)

    def sizes(self, name: str) -> dict[str, int]:
        """As in Store."""
        return {path.name: path.stat().st_size for path in (self.folder / name).iterdir()}

    @contextmanager
    def reading(self, name: str, file: str) -> Iterator[Any]:
        """As in Store."""
        path = self.folder / name / file
        with self.movement.of(f"reading {path}"), path.open("rb") as stream:
            yield Counted(stream, self.movement)

    def remove(self, name: str) -> None:
        """As in Store."""
        self.may_write()
        doomed = self.folder / f".deleting-{name}"
        with self.movement.of(f"deleting {self.folder / name}"):
            shutil.rmtree(doomed, ignore_errors=True)
            (self.folder / name).rename(doomed)
            shutil.rmtree(doomed)

    def set_aside(self, name: str) -> None:
        """As in Store."""
        self.may_write()
        target = self.folder / f"{name}.corrupt"
        shutil.rmtree(target, ignore_errors=True)
        (self.folder / name).rename(target)

    def names_set_aside(self) -> list[str]:
        """As in Store."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        found = {path.stem for path in paths if path.suffix == ".corrupt"}
        return sorted((name for name in found if _NAME.fullmatch(name)), key=step_of)

    def read_record(self, file: str = RECORD) -> dict[str, Any]:
        """As in Store."""
        try:
            return _table((self.folder / file).read_bytes())
        except FileNotFoundError:
            return {}

    def write_record(self, record: Mapping[str, Any], file: str = RECORD) -> None:
        """As in Store."""
        self.may_write()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / file, json.dumps(record, indent=2))

    def remove_record(self, file: str) -> None:
        """As in Store."""
        self.may_write()
        (self.folder / file).unlink(missing_ok=True)

    def clean(self) -> None:
        """As in Store."""
        self.may_write()
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name.startswith((".writing-", ".deleting-")):
                shutil.rmtree(path)

    def clear(self) -> None:
        """As in Store."""
        self.may_write()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _draft(self, name: str) -> Path:
        return self.folder / f".writing-{name}"


class UrlStore:
    """Checkpoints under a URL, through fsspec."""

    def __init__(self, url: str) -> None:
        self.url = url.partition("?")[0].rstrip("/")  # for people: a query may hold a token
        self._files, self._root = connect(url.rstrip("/"))
        self.movement = Movement()
        self.may_write: Callable[[], None] = _always

    def place(self, name: str) -> str:
        """As in Store."""
        return f"{self.url}/{name}"

    def names(self) -> list[str]:
        """As in Store."""
        return self._names_with(MANIFEST)

    def begin(self, name: str, size_bytes: int) -> None:
        """As in Store."""
        self._delete(name)

    @contextmanager
    def writing(self, name: str, file: str) -> Iterator[Any]:
        """As in Store."""
        self.may_write()
        path = f"{self._root}/{name}/{file}"
        with self.movement.of(f"writing {self.place(name)}/{file}"), as_os_error(), self._files.open(path, "wb") as stream:
            yield Counted(stream, self.movement)

    def commit(self, name: str) -> None:
        """As in Store: the manifest, written last, has done it."""

    def abandon(self, name: str) -> None:
        """As in Store."""
        self._delete(name)

    def sizes(self, name: str) -> dict[str, int]:
        """As in Store."""
        return {path.rpartition("/")[2]: int(facts["size"]) for path, facts in self._find(name).items()}

    @contextmanager
    def reading(self, name: str, file: str) -> Iterator[Any]:
        """As in Store."""
        path = f"{self._root}/{name}/{file}"
        with self.movement.of(f"reading {self.place(name)}/{file}"), as_os_error(), self._files.open(path, "rb") as stream:
            yield Counted(stream, self.movement)

    def remove(self, name: str) -> None:
        """As in Store."""
        self._delete(name)

    def set_aside(self, name: str) -> None:
        """As in Store."""
        self.may_write()
        with as_os_error():
            self._files.mv(f"{self._root}/{name}/{MANIFEST}", f"{self._root}/{name}/{_REFUSED}")

    def names_set_aside(self) -> list[str]:
        """As in Store."""
        return self._names_with(_REFUSED)

    def read_record(self, file: str = RECORD) -> dict[str, Any]:
        """As in Store."""
        try:
            with as_os_error():
                self._files.invalidate_cache()
                with self._files.open(f"{self._root}/{file}", "rb") as stream:
                    return _table(stream.read())
        except FileNotFoundError:
            return {}

    def write_record(self, record: Mapping[str, Any], file: str = RECORD) -> None:
        """As in Store."""
        self.may_write()
        with as_os_error(), self._files.open(f"{self._root}/{file}", "wb") as stream:
            stream.write(json.dumps(record, indent=2).encode())

    def remove_record(self, file: str) -> None:
        """As in Store."""
        self.may_write()
        with as_os_error(), suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{file}")

    def clean(self) -> None:
        """As in Store. What was set aside stays."""
        paths = list(self._find(""))
        kept = {path.split("/")[-2] for path in paths if path.endswith((f"/{MANIFEST}", f"/{_REFUSED}"))}
        for name in {path.split("/")[-2] for path in paths} - kept:
            if _NAME.fullmatch(name):
                self._delete(name)

    def clear(self) -> None:
        """As in Store."""
        for name in {path.split("/")[-2] for path in self._find("")}:
            if _NAME.fullmatch(name):
                self._delete(name)

    def _names_with(self, file: str) -> list[str]:
        found = {path.split("/")[-2] for path in self._find("") if path.endswith(f"/{file}")}
        return sorted((name for name in found if _NAME.fullmatch(name)), key=step_of)

    def _find(self, name: str) -> dict[str, Any]:
        with as_os_error():
            self._files.invalidate_cache()
            found: dict[str, Any] = self._files.find(f"{self._root}/{name}".rstrip("/"), detail=True)
            return found

    def _delete(self, name: str) -> None:
        """The manifest first: what is left, should this be cut short, does not count."""
        self.may_write()
        for path in sorted(self._find(name), key=lambda path: not path.endswith(f"/{MANIFEST}")):
            with self.movement.of(f"deleting {self.place(name)}"), as_os_error(), suppress(FileNotFoundError):
                self._files.rm_file(path)


def _table(data: bytes) -> dict[str, Any]:
    table = json.loads(data)
    if not isinstance(table, dict):
        raise ValueError(f"a table was expected, not {type(table).__name__}")
    return table
