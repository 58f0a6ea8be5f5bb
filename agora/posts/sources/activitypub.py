"""ActivityPub (ActivityStreams 2) objects: notes, articles, questions, and the activities around them.

Create and bare objects become posts, Announce becomes a repost, Delete a deletion; likes, follows, accounts and the rest are skipped by
name. What was not addressed to the public is never read. Used by mastodon.py for outbox.json.

Command: `agora posts import note.as2.json`
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from agora.errors import RecordError
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import JsonArrays, convert_values, open_values, parse
from agora.posts.sources.plain_text import read_html
from agora.posts.sources.record import KEPT_FIRST, Item, Row, Skipped, make_deletion, make_post, parse_time
from agora.posts.sources.source import Source

NAME: Final = "activitypub"
PUBLIC: Final = frozenset(["https://www.w3.org/ns/activitystreams#Public", "as:Public", "Public"])
_WRITTEN: Final = frozenset(["Note", "Article", "Question", "Page"])
_SHOWN: Final = frozenset(["Image", "Video", "Audio", "Document"])
_ACTORS: Final = frozenset(["Person", "Organization", "Group", "Service", "Application"])
_TYPE: Final = re.compile(
    r'"type"\s*:\s*"(?:Note|Article|Question|Page|Create|Announce|Like|Follow|Accept|Reject|Undo|Update|Delete|Invite|Person|Organization'
    r'|Group|Service|Event|Video|Audio|Image|OrderedCollection(?:Page)?|Collection(?:Page)?|Add|Remove|Block|Flag|Move)"'
)
_STATUS_URI: Final = re.compile(r"(https?://.+?/users/[^/]+)/statuses/[^/]+")


def recognise(head: Head) -> bool:
    """An ActivityStreams type, with the context or an actor or author."""
    if head.text[:1] not in "{[" or '"type"' not in head.text:
        return False
    marked = "activitystreams" in head.text or head.has("attributedTo") or head.has("actor", "object")
    return marked and bool(_TYPE.search(head.text))


def read(file: SourceFile) -> Iterator[Item]:
    """One item per object or activity."""
    yield from read_as(file, NAME)


def read_as(file: SourceFile, source: str) -> Iterator[Item]:
    """The same under another source's name."""
    head = file.head()
    with file.open() as stream:
        if _is_collection(head):
            values: Any = JsonArrays(stream, members=frozenset(["orderedItems", "items"]), is_record=is_activity)
        else:
            values = open_values(stream, head.text, is_record=is_activity)
        yield from convert_values(values, lambda value: activity_to_item(value, source))


def _is_collection(head: Head) -> bool:
    """By its own type; a collection longer than the head cannot be parsed yet, and shows the list's name."""
    try:
        value = parse(head.text)
    except RecordError:
        return head.has("orderedItems") or (head.has("items") and bool(re.search(r'"type"\s*:\s*"Collection', head.text)))
    return isinstance(value, dict) and "Collection" in str(value.get("type"))


def is_activity(value: Any) -> bool:
    """True for an object with an ActivityStreams type that can stand alone."""
    return (
        isinstance(value, dict) and isinstance(value.get("type"), str) and bool({"actor", "object", "content", "attributedTo"} & set(value))
    )


def activity_to_item(value: Any, source: str) -> Item:
    """What one activity or object means for the store. Raises RecordError."""
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        raise RecordError("not an ActivityStreams object: no type")
    kind = value["type"]
    thing = value.get("object")
    if not _is_public(value):
        return Skipped("not public (direct or followers only)")
    if kind == "Create" and isinstance(thing, Mapping):
        if not _is_public(thing):
            return Skipped("not public (direct or followers only)")
        return _written(thing, source, author=value.get("actor"), published=value.get("published"))
    if kind == "Announce":
        return _repost(value, source)
    if kind == "Delete":
        key = _reference(thing)
        if not key:
            raise RecordError("no id: the deletion names no object")
        return make_deletion("author" if key == _reference(value.get("actor")) else "post", key)
    if kind in _WRITTEN or kind in _SHOWN:
        return _written(value, source, author=None, published=None)
    if kind == "Update" and isinstance(thing, Mapping) and thing.get("type") in _WRITTEN:
        return KEPT_FIRST
    return Skipped(f"{'account' if kind in _ACTORS else kind}, not a post")


def _is_public(value: Mapping[str, Any]) -> bool:
    """An object that says whom it is for must name the public; one that does not say (a blog, a forum) is taken as published."""
    if "to" not in value and "cc" not in value:
        return True
    return any(_reference(target) in PUBLIC for target in [*_many(value.get("to")), *_many(value.get("cc"))])


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _reference(value: Any) -> str | None:
    """The id behind a plain string, an object with id, url or href, or the first of several."""
    for item in _many(value):
        if isinstance(item, str):
            return item
        if isinstance(item, Mapping):
            found = item.get("id") or _reference(item.get("url") or item.get("href"))
            if isinstance(found, str) and found:
                return found
    return None


def _written(thing: Mapping[str, Any], source: str, *, author: Any, published: Any) -> Row:
    text, urls, mentions = _text(thing)
    tags = [tag for tag in _many(thing.get("tag")) if isinstance(tag, Mapping)]
    reply_to = _reference(thing.get("inReplyTo"))
    quoted = _reference(thing.get("quote") or thing.get("quoteUrl") or thing.get("quoteUri") or thing.get("_misskey_quote"))
    kind, ref_id = ("reply", reply_to) if reply_to else ("quote", quoted) if quoted else ("post", None)
    named = [str(tag.get("name") or _reference(tag) or "") for tag in tags if tag.get("type") in ("Mention", "Person")]
    languages = thing.get("contentMap")
    return make_post(
        source=source,
        id=thing.get("id") or _reference(thing.get("url")),
        author=_reference(thing.get("attributedTo")) or _reference(author),
        created_at_us=parse_time(thing.get("published") or published),
        text=text,
        lang=next(iter(languages)) if isinstance(languages, Mapping) and len(languages) == 1 else None,
        kind=kind,
        ref_id=ref_id,
        ref_author=_author_of(ref_id, thing.get("inReplyTo"), tags) if ref_id else None,
        urls=urls,
        hashtags=[str(tag.get("name") or "").lstrip("#") for tag in tags if tag.get("type") in ("Hashtag", "Tag")],
        mentions=[name.lstrip("@") for name in named] or mentions,
        media=list(_media(thing)),
        num_likes=likes.get("totalItems") if isinstance(likes := thing.get("likes"), Mapping) else None,
    )


def _text(thing: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    """Title and content warning stand before the content, as a reader sees them."""
    content = thing.get("content")
    if content is None and isinstance(thing.get("contentMap"), Mapping):
        content = next(iter(thing["contentMap"].values()), "")
    if content is not None and not isinstance(content, str):
        raise RecordError(f"no text: content is {type(content).__name__}")
    reading = read_html(content or "")
    title = thing.get("name") if thing.get("type") != "Note" else None
    parts = [read_html(part).text for part in (title, thing.get("summary")) if isinstance(part, str) and part]
    options = [f"- {option.get('name') or ''}" for option in _many(thing.get("oneOf") or thing.get("anyOf")) if isinstance(option, Mapping)]
    return "\n\n".join(part for part in [*parts, reading.text, "\n".join(options)] if part), reading.urls, reading.mentions


def _author_of(ref_id: str, target: Any, tags: Iterable[Mapping[str, Any]]) -> str | None:
    for item in _many(target):
        if isinstance(item, Mapping) and item.get("attributedTo"):
            return _reference(item["attributedTo"])
    match = _STATUS_URI.match(ref_id)
    return match[1] if match else None


def _media(thing: Mapping[str, Any]) -> Iterator[dict[str, str | None]]:
    seen: set[str | None] = set()
    own = [thing] if thing.get("type") in _SHOWN else []
    for item in [*_many(thing.get("attachment")), *_many(thing.get("image")), *own]:
        entry = {"type": "Image", "url": item} if isinstance(item, str) else item
        if not isinstance(entry, Mapping) or entry.get("type") not in _SHOWN:
            continue
        url = _reference(entry.get("url") or entry.get("href"))
        family = str(entry.get("mediaType") or entry["type"]).partition("/")[0].lower()
        if url not in seen:
            alt = entry.get("name") if entry is not thing else None
            yield {"kind": family if family in ("image", "video", "audio") else "other", "url": url, "alt": alt}
        seen.add(url)


def _repost(value: Mapping[str, Any], source: str) -> Row:
    thing = value.get("object")
    whole = next((item for item in _many(thing) if isinstance(item, Mapping)), {})
    ref_id = _reference(thing)
    if not ref_id:
        raise RecordError("no object: a repost that does not name what it repeats")
    match = _STATUS_URI.match(ref_id)
    return make_post(
        source=source,
        id=value.get("id") or _reference(value.get("url")),
        author=_reference(value.get("actor")),
        created_at_us=parse_time(value.get("published")),
        text=_text(whole)[0] if whole else "",
        kind="repost",
        ref_id=ref_id,
        ref_author=_reference(whole.get("attributedTo")) or (match[1] if match else None),
    )


SOURCE: Final = Source(NAME, "ActivityPub / ActivityStreams 2 objects and collections", recognise, read)
