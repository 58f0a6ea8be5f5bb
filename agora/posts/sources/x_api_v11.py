"""Tweet objects of X's API v1.1: one per file, one per line, or in a list; also thread folders (source-tweet/, replies/, structure.json).

Command: `agora posts import threads/`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from agora.errors import RecordError
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import convert_values, open_values
from agora.posts.sources.record import Item, Skipped, make_deletion
from agora.posts.sources.source import Source
from agora.posts.sources.x_tweet import is_tweet, tweet_to_post

NAME: Final = "x_api_v11"
_STRUCTURE: Final = re.compile(r'\{\s*"\d{5,}"\s*:\s*[\[{]')


def recognise(head: Head) -> bool:
    """A tweet with its user inside and ids as `id_str`; or the reply tree of a thread folder."""
    if head.name == "structure.json":
        return bool(_STRUCTURE.match(head.text))
    return head.text[:1] in "{[" and head.has("id_str", "user", "screen_name") and (head.has("text") or head.has("full_text"))


def read(file: SourceFile) -> Iterator[Item]:
    """One item per tweet."""
    if file.base_name == "structure.json":
        yield Skipped("reply tree (the tweets name what they answer)")
        return
    head = file.head()
    with file.open() as stream:
        yield from convert_values(open_values(stream, head.text, is_record=is_tweet), _convert)


def _convert(value: Any) -> Item:
    if not isinstance(value, dict):
        raise RecordError(f"not a tweet: {type(value).__name__}")
    deleted = (value.get("delete") or {}).get("status") if set(value) == {"delete"} else None
    if deleted:
        return make_deletion("post", deleted["id_str"])
    if not is_tweet(value) and len(value) == 1:
        return Skipped(f"stream message {next(iter(value))!r}")
    return tweet_to_post(value, source=NAME)


SOURCE: Final = Source(NAME, "X API v1.1 tweet objects: files, lines, lists, thread folders", recognise, read)
