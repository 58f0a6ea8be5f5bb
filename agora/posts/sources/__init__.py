"""Readers of posts, one file per platform. `SOURCES` lists them in the order in which recognition asks them.

Goes in: files. Comes out: items (record.py) for `agora.posts.importing`.
"""

from __future__ import annotations

import difflib
from typing import Final

from agora.errors import UsageError
from agora.posts.sources import (
    activitypub,
    bluesky,
    bluesky_jetstream,
    bluesky_repo,
    community_notes,
    discourse,
    mastodon,
    reddit,
    tables,
    x_api_v2,
    x_api_v11,
    x_archive,
)
from agora.posts.sources.files import Head
from agora.posts.sources.source import Source

SOURCES: Final[tuple[Source, ...]] = (
    x_archive.SOURCE,
    bluesky_repo.SOURCE,
    bluesky_jetstream.SOURCE,
    bluesky.SOURCE,
    community_notes.SOURCE,
    mastodon.SOURCE,
    reddit.SOURCE,
    x_api_v11.SOURCE,
    x_api_v2.SOURCE,
    discourse.SOURCE,
    activitypub.SOURCE,
    tables.SOURCE,
)


def recognise(head: Head) -> Source | None:
    """The first source that takes the file for its own."""
    return next((source for source in SOURCES if source.recognise(head)), None)


def source_named(name: str) -> Source:
    """The source of that name. Raises UsageError with the nearest name."""
    names = [source.name for source in SOURCES]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else "see: agora posts sources"
        raise UsageError(f"unknown source {name!r}; {hint} (known: {', '.join(names)})")
    return next(source for source in SOURCES if source.name == name)
