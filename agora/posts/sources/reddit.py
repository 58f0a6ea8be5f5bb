"""Reddit: listings and comment trees of its API, monthly dumps (one submission or comment per line), recorded answers (JSON).

Identity: the full name (t3_ submission, t1_ comment) and the account name, which Reddit never lets change. A submission's text is its
title, then its body. Deleted and removed ones are skipped: their text is gone.

Command: `agora posts import RC_2023-01.zst`
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agora.errors import RecordError
from agora.posts.sources.cassette import betamax_answers, read_answers
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import expand_values, open_values
from agora.posts.sources.plain_text import unescape_x
from agora.posts.sources.record import Item, Row, Skipped, attempt, broken, make_post, parse_time
from agora.posts.sources.source import Source

NAME: Final = "reddit"
_GONE: Final = frozenset(["[deleted]", "[removed]", "[deleted by user]"])
_REMEMBERED_AUTHORS: Final = 100_000
"""Answers stand near what they answer; this bounds memory for dumps of any size."""
_URL: Final = re.compile(r"https?://[^\s)\]>\"]+")
_MENTION: Final = re.compile(r"(?<![\w/])/?u/([\w-]{3,20})")
_IMAGE: Final = re.compile(r"\.(?:jpe?g|png|gif|webp)(?:\?|$)|//i\.(?:redd\.it|imgur\.com)/", re.IGNORECASE)


def recognise(head: Head) -> bool:
    """A cassette of reddit.com, a listing, or a dump's line."""
    if head.text[:1] not in "{[":
        return False
    if head.has("interactions", "request") and "reddit.com" in head.text:
        return True
    listing = head.has("kind", "data", "children") and ('"Listing"' in head.text)
    return listing or head.has("subreddit", "author", "created_utc")


def read(file: SourceFile) -> Iterator[Item]:
    """One item per submission, comment, or answer without one."""
    head = file.head()
    authors: dict[str, str] = {}
    with file.open() as stream:
        if not head.has("interactions"):
            yield from expand_values(
                open_values(stream, head.text, is_record=_is_thing), lambda value: _expand(value, authors, escaped=True)
            )
            return
        yield from read_answers(
            betamax_answers(stream), lambda value, answer: _expand(value, authors, escaped="raw_json=1" not in answer.uri)
        )


def _is_thing(value: Any) -> bool:
    return isinstance(value, dict) and ("kind" in value or "created_utc" in value)


def _expand(value: Any, authors: dict[str, str], *, escaped: bool) -> Iterator[Item]:
    """Everything inside a listing, parents before answers; `authors` remembers who wrote what. Walks without recursion."""
    waiting: list[Any] = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, list):
            waiting.extend(reversed(current))
            continue
        if isinstance(current, Mapping) and current.get("kind") == "Listing":
            data = current.get("data")
            children = data.get("children") if isinstance(data, Mapping) else None
            if isinstance(children, list):
                waiting.extend(reversed(children))
            else:
                yield broken("unexpected shape: a listing without a list of children", "", json.dumps(current).encode())
            continue
        thing = current.get("data") if isinstance(current, Mapping) and "kind" in current else current
        item = attempt(lambda found: _convert(found, authors, escaped=escaped), current, _name_of(thing))
        if isinstance(item, dict):
            if len(authors) >= _REMEMBERED_AUTHORS:
                authors.clear()
            authors[item["id"]] = item["author"]
        yield item
        replies = thing.get("replies") if isinstance(thing, Mapping) else None
        if isinstance(replies, Mapping):
            waiting.append(replies)


def _name_of(thing: Any) -> str:
    return str(thing.get("name") or thing.get("id") or "") if isinstance(thing, Mapping) else ""


def _convert(value: Any, authors: Mapping[str, str], *, escaped: bool) -> Item:
    if not isinstance(value, Mapping):
        raise RecordError(f"not a listing, submission or comment: {type(value).__name__}")
    kind, thing = (value["kind"], value["data"]) if "kind" in value and "data" in value else (None, value)
    if kind == "more":
        return Skipped("'more' placeholder (comments not loaded)")
    if kind not in (None, "t1", "t3"):
        return Skipped(f"{kind} object, not a post")
    if kind is None and "created_utc" not in thing:
        return Skipped("answer without posts")
    if thing.get("author") in _GONE or thing.get("author") is None:
        return Skipped("deleted by its author or removed")
    is_comment = "body" in thing if kind is None else kind == "t1"
    return _comment(thing, authors, escaped) if is_comment else _submission(thing, escaped)


def _comment(thing: Mapping[str, Any], authors: Mapping[str, str], escaped: bool) -> Item:
    if thing["body"] in _GONE:
        return Skipped("deleted by its author or removed")
    parent = thing.get("parent_id") or thing.get("link_id")
    author = authors.get(str(parent)) or (thing.get("link_author") if str(parent).startswith("t3_") else None)
    return _post(thing, "t1_", thing["body"], escaped, kind="reply", ref_id=parent, ref_author=None if author in _GONE else author)


def _submission(thing: Mapping[str, Any], escaped: bool) -> Item:
    body = thing.get("selftext") or ""
    if body in _GONE:
        return Skipped("deleted by its author or removed")
    text = f"{thing['title']}\n\n{body}" if body else thing["title"]
    parents = thing.get("crosspost_parent_list") or [{}]
    crosspost = thing.get("crosspost_parent")
    kind = "quote" if crosspost else "post"
    url = None if thing.get("is_self") else thing.get("url_overridden_by_dest") or thing.get("url")
    media = []
    if url:
        url = unescape_x(url) if escaped else url
        shown = "video" if thing.get("is_video") else "image" if _IMAGE.search(url) else "link"
        media = [{"kind": shown, "url": url, "alt": None}]
    refers = {"kind": kind, "ref_id": crosspost, "ref_author": parents[0].get("author")}
    return _post(thing, "t3_", text, escaped, **refers, url=url, media=media)


def _post(
    thing: Mapping[str, Any], prefix: str, text: str, escaped: bool, *, kind: str, ref_id: Any, ref_author: Any,
    url: str | None = None, media: Sequence[dict[str, str | None]] = (),
) -> Row:  # fmt: skip
    plain = unescape_x(text) if escaped else text
    return make_post(
        source=NAME,
        id=thing.get("name") or (f"{prefix}{thing['id']}" if thing.get("id") else None),
        author=thing.get("author"),
        created_at_us=parse_time(thing.get("created_utc")),
        text=plain,
        kind=kind,
        ref_id=ref_id,
        ref_author=ref_author,
        urls=list(dict.fromkeys([*([url] if url else []), *_URL.findall(plain)])),
        mentions=_MENTION.findall(plain),
        media=media,
        num_likes=None if thing.get("score_hidden") else thing.get("score"),
    )


SOURCE: Final = Source(NAME, "Reddit listings, comment trees, monthly dumps, recorded answers", recognise, read)
