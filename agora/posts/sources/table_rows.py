"""What a row of a table means: columns matched with the fields of a post, and one row as a post."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from agora.errors import RecordError, SourceError
from agora.posts.schema import POST_SCHEMA
from agora.posts.sources.json_stream import parse
from agora.posts.sources.record import Item, make_post, parse_time

NAME: Final = "table"
REQUIRED: Final = ("id", "author", "created_at", "text")
FIELDS: Final = tuple(name for name in POST_SCHEMA.names if name != "source")
COLUMN_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "id_str", "post_id", "tweet_id", "status_id", "uri"),
    "author": ("author", "author_id", "user_id", "did", "user", "username", "screen_name", "external_author_id", "account"),
    "created_at": ("created_at", "timestamp", "datetime", "published", "created_utc", "date", "time"),
    "text": ("text", "full_text", "content", "body", "message", "tweet"),
    "lang": ("lang", "language"),
    "kind": ("kind",),
    "ref_id": ("ref_id", "in_reply_to_id", "parent_id", "in_reply_to_status_id"),
    "ref_author": ("ref_author", "in_reply_to_user_id"),
    "urls": ("urls",),
    "hashtags": ("hashtags",),
    "mentions": ("mentions",),
    "media": ("media",),
    "num_likes": ("num_likes", "like_count", "likes", "favorite_count", "favourites_count", "favorites_count"),
}
"""Column names that mean a field, best first."""
LISTS: Final = ("urls", "hashtags", "mentions")
MARKS: Final = "#@"
"""What stands in front of a hashtag or a mention and is no part of it."""
_SPLIT: Final = re.compile(r"[\s|]+")


def match_columns(columns: list[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """{field: column}. Raises SourceError for a mapping that names an unknown column, or when a needed field has none."""
    for column, name in mapping.items():
        if column not in columns:
            raise SourceError(f"--map {column}={name}: the table has no column {column!r}; it has {', '.join(columns)}")
    chosen = {name: column for column, name in mapping.items()}
    lower = {column.lower(): column for column in reversed(columns) if column not in mapping}
    for name, candidates in COLUMN_NAMES.items():
        if name not in chosen:
            found = next((lower[candidate] for candidate in candidates if candidate in lower), None)
            if found is not None:
                chosen[name] = found
    missing = [name for name in REQUIRED if name not in chosen]
    if missing:
        raise SourceError(
            f"table without a column for {', '.join(missing)}; it has {', '.join(columns[:40])}. "
            f"Name them on import: agora posts import FILE --map COLUMN={missing[0]}"
        )
    return chosen


def refuse_repeated(columns: list[str], chosen: Mapping[str, str]) -> None:
    """Raises SourceError where a column that is needed is there twice."""
    for name, column in chosen.items():
        if columns.count(column) > 1:
            raise SourceError(f"the table has {columns.count(column)} columns called {column!r}, needed for {name}; rename all but one")


class JsonRows:
    """Rows of JSON records. Columns are matched again whenever a record has other keys."""

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self._mapping, self._keys, self._columns = mapping, frozenset[str](), dict[str, str]()
        self.unseen = set(mapping)

    def __call__(self, value: Any) -> Item:
        if not isinstance(value, dict):
            raise RecordError(f"not a record: {type(value).__name__}")
        if value.keys() != self._keys:
            present = {column: name for column, name in self._mapping.items() if column in value}
            try:
                self._columns = match_columns(list(value), present)
            except SourceError as error:
                raise RecordError(f"missing column: {error}") from error
            self._keys = frozenset(value)
            self.unseen -= self._keys
        return make_row({name: value.get(column) for name, column in self._columns.items()})


def make_row(value: Mapping[str, Any]) -> Item:
    """The post of {field: value}. Raises RecordError."""
    ref_id = value.get("ref_id")
    lists = {name: _list(value.get(name), name) for name in LISTS}
    media = value.get("media")
    media = parse(media) if isinstance(media, str) and media else media
    media = [item for item in media if item is not None] if isinstance(media, list) else media
    return make_post(
        source=NAME,
        id=value.get("id"),
        author=value.get("author"),
        created_at_us=parse_time(value.get("created_at")),
        text=value.get("text"),
        lang=value.get("lang"),
        kind=value.get("kind") or ("post" if ref_id in (None, "") else "reply"),
        ref_id=ref_id,
        ref_author=value.get("ref_author"),
        media=media or (),
        num_likes=value.get("num_likes"),
        **lists,
    )


def _list(value: Any, name: str) -> list[str]:
    if not value:
        return []
    if isinstance(value, str):
        value = parse(value) if value.startswith("[") else [word for word in _SPLIT.split(value) if word]
    if not isinstance(value, list):
        raise RecordError(f"no list: {name} is {type(value).__name__}")
    words = [_word(word, name) for word in value if word is not None]
    return words if name == "urls" else [word.lstrip(MARKS) for word in words]


def _word(word: Any, name: str) -> str:
    if isinstance(word, str):
        return word
    if isinstance(word, int) and not isinstance(word, bool):
        return str(word)
    raise RecordError(f"no text: {name} holds {type(word).__name__}")
