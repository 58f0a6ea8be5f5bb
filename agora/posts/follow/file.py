"""A file that grows: one JSON record per line, in any format with lines that `agora posts import` recognises (Jetstream events, statuses of
Mastodon, tweets, flat records ...). The same reader reads it, a block of whole lines at a time.

The cursor is a place in the file with a hash of its beginning: a file that was replaced or cut is read from its start. A line without
its end is left until the end comes. Edits count in Jetstream events, which say them.

Command: `agora posts follow posts.jsonl`
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

from agora.errors import RecordError, SourceError, UsageError
from agora.posts.follow.live import STANDING, ConnectionLost, Cursor, Event
from agora.posts.sources import recognise
from agora.posts.sources.files import HEAD_BYTES, Head, SourceFile
from agora.posts.sources.json_stream import MAX_RECORD_BYTES, parse, skip_line
from agora.posts.sources.record import Broken
from agora.posts.sources.source import Source
from agora.posts.store import PostStore

NAME: Final = "file"
_BLOCK_BYTES: Final = 1 << 20
_BEGINNING_BYTES: Final = 4096
_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class GrowingFile:
    """Raises UsageError for something that is no plain file."""

    path: Path
    name: str = NAME
    _closing: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise UsageError(f"{self.path} is neither bluesky, mastodon nor a file that can be followed")
        if self.path.suffix.lower() in (".gz", ".zst", ".zstd", ".zip", ".parquet"):
            raise UsageError(f"{self.path} does not grow line by line; use: agora posts import {self.path}")

    @property
    def place(self) -> str:
        return str(self.path)

    @property
    def identity(self) -> Mapping[str, str]:
        return {"source": NAME, "path": str(self.path.resolve())}

    def close(self) -> None:
        self._closing.set()

    def later(self, one: Cursor, other: Cursor) -> Cursor:
        return one if other is None else other

    def prepare(self, events: Sequence[Event], store: PostStore, state: Path) -> list[Event]:
        return list(events)

    def connect(self, cursor: Cursor) -> Iterator[Event]:
        try:
            with self.path.open("rb") as stream:
                yield STANDING
                yield from self._lines(stream, _start(stream, cursor))
        except OSError as error:
            raise ConnectionLost(error.strerror or str(error)) from error

    def _lines(self, stream: BinaryIO, offset: int) -> Iterator[Event]:
        source: Source | None = None
        while True:
            stream.seek(offset)
            block = _whole_lines(stream)
            if block:
                if source is None:
                    source = _recognised(self.path, stream)
                yield from _items(source, self.path, block, offset)
                offset += len(block)
                yield Event(None, cursor=_cursor(stream, offset))
            elif (longer := _too_long(stream, offset)) is not None:
                yield Event(longer)
                offset += longer.size_bytes
                yield Event(None, cursor=_cursor(stream, offset))
            elif self._closing.is_set():
                return
            elif _was_replaced(self.path, stream, offset):
                raise ConnectionLost("the file was replaced or cut; reading it from its start")
            elif self._closing.wait(_LOOK_S):
                continue


def _whole_lines(stream: BinaryIO) -> bytes:
    """The next whole lines; empty when there is none yet."""
    block = stream.read(_BLOCK_BYTES)
    if block and b"\n" not in block and len(block) == _BLOCK_BYTES:
        block += stream.read(MAX_RECORD_BYTES + 1 - len(block))  # the longest line and its end
    return block[: block.rfind(b"\n") + 1]


def _too_long(stream: BinaryIO, offset: int) -> Broken | None:
    """A line over MAX_RECORD_BYTES that has come to its end."""
    stream.seek(offset)
    begun = stream.read(MAX_RECORD_BYTES + 1)
    if len(begun) <= MAX_RECORD_BYTES or b"\n" in begun:
        return None
    item = skip_line(stream, begun, f"byte {offset}")
    stream.seek(offset + item.size_bytes - 1)
    return item if stream.read(1) == b"\n" else None


def _recognised(path: Path, stream: BinaryIO) -> Source:
    stream.seek(0)
    data = stream.read(HEAD_BYTES)
    text = data.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    source = recognise(Head(path.name.lower(), data, text))
    try:
        is_lines = isinstance(parse(text.partition("\n")[0]), dict)
    except RecordError:
        is_lines = False
    if source is None or not is_lines:
        raise SourceError(f"{path} does not hold one JSON record of a known format per line; see: agora posts sources")
    return source


def _items(source: Source, path: Path, block: bytes, offset: int) -> Iterator[Event]:
    file = SourceFile(path.name, len(block), "", lambda: io.BytesIO(block), lambda name: None)
    try:
        for item in source.read(file):
            yield Event(replace(item, place=f"byte {offset}, {item.place}") if isinstance(item, Broken) else item)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise SourceError(f"{path}, byte {offset}: {source.name} cannot go on, {type(error).__name__} {error}") from error


def _cursor(stream: BinaryIO, offset: int) -> dict[str, int | str]:
    size = min(offset, _BEGINNING_BYTES)
    return {"offset": offset, "beginning": size, "sha256": _beginning(stream, size)}


def _beginning(stream: BinaryIO, size: int) -> str:
    stream.seek(0)
    return hashlib.sha256(stream.read(size)).hexdigest()


def _start(stream: BinaryIO, cursor: Cursor) -> int:
    if not cursor or stream.seek(0, io.SEEK_END) < cursor["offset"] or _beginning(stream, cursor["beginning"]) != cursor["sha256"]:
        return 0
    return int(cursor["offset"])


def _was_replaced(path: Path, stream: BinaryIO, offset: int) -> bool:
    """Another file stands under the name, or this one lost what was read."""
    named, own = path.stat(), os.fstat(stream.fileno())
    return own.st_size < offset or (named.st_ino != own.st_ino and named.st_size > 0)
