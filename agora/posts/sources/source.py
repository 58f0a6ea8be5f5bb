"""What a source is: a name, a way to recognise its files by their first bytes, and a reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.record import Item


@dataclass(frozen=True, slots=True)
class Source:
    """One format. `recognise` sees the head of a file; `read` yields one item per record. `title` says what it reads, for people."""

    name: str
    title: str
    recognise: Callable[[Head], bool]
    read: Callable[[SourceFile], Iterator[Item]]
