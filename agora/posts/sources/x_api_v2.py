"""X API v2: pages and stream lines {data, includes, meta}, and twarc's flattened lines.

Every tweet in `data` becomes a post. Tweets in `includes` are context: they give a repost its full text and references their author.
Counts, users and error messages hold no posts and are skipped by name.

Command: `agora posts import search.jsonl`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agora.errors import RecordError
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import expand_values, open_values
from agora.posts.sources.plain_text import expand_links, unescape_x
from agora.posts.sources.record import Item, Skipped, attempt, attempt_each, checked_identity, make_post, parse_time
from agora.posts.sources.source import Source
from agora.posts.sources.x_tweet import MEDIA_KINDS, SELF_LINK, language

NAME: Final = "x_api_v2"
_KINDS: Final = {"retweeted": "repost", "replied_to": "reply", "quoted": "quote"}


def recognise(head: Head) -> bool:
    """A page, stream line, flattened tweet, counts page or error line of the API."""
    if head.text[:1] not in "{[" or head.has("id_str"):
        return False
    page = head.has("data") and (head.has("tweet_count") or head.has("text") or head.has("meta", "result_count"))
    tweet = head.has("author_id") and (head.has("conversation_id") or head.has("edit_history_tweet_ids") or head.has("public_metrics"))
    bare = page and (head.has("includes") or head.has("__twarc") or head.has("author_id") or head.has("tweet_count"))
    return tweet or bare


def read(file: SourceFile) -> Iterator[Item]:
    """One item per tweet in `data`, per count, and per line that holds none."""
    head = file.head()
    with file.open() as stream:
        yield from expand_values(open_values(stream, head.text, is_record=_is_record), _expand)


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and ("data" in value or "author_id" in value)


def _expand(value: Any) -> Iterator[Item]:
    if not isinstance(value, dict):
        raise RecordError(f"not a page or tweet: {type(value).__name__}")
    if "data" not in value:
        yield _flat_or_message(value)
        return
    included = _Included(value.get("includes") or {})
    data = value["data"]
    if isinstance(data, list):
        if not data:
            yield Skipped("page without posts")
        yield from attempt_each(lambda tweet: _convert(tweet, included), data, "data item")
    else:
        yield attempt(lambda tweet: _convert(tweet, included), data)


def _flat_or_message(value: dict[str, Any]) -> Item:
    if "id" in value and "text" in value:
        return attempt(lambda tweet: _convert(tweet, _Included.of_flat(tweet)), value)
    if "errors" in value or "error" in value or "title" in value:
        return Skipped("API error message")
    if "meta" in value:
        return Skipped("page without posts")
    raise RecordError(f"not a page or tweet: keys {', '.join(sorted(map(str, value))[:8])}")


class _Included:
    """What a page brings along: tweets by id, media by key."""

    def __init__(self, includes: Mapping[str, Any]) -> None:
        self.tweets = {str(tweet.get("id")): tweet for tweet in includes.get("tweets") or []}
        self.media = {item.get("media_key"): item for item in includes.get("media") or []}

    @classmethod
    def of_flat(cls, tweet: Mapping[str, Any]) -> _Included:
        """A flattened tweet holds its referenced tweets and media in place."""
        keys = (tweet.get("attachments") or {}).get("media") or []
        references = [ref for ref in tweet.get("referenced_tweets") or [] if "text" in ref]
        return cls({"tweets": references, "media": keys})


def _convert(tweet: Mapping[str, Any], included: _Included) -> Item:
    if "tweet_count" in tweet and "text" not in tweet:
        return Skipped("count of posts, not a post")
    if "username" in tweet and "text" not in tweet:
        return Skipped("user object, not a post")
    references = {ref["type"]: checked_identity(ref["id"], "ref_id") for ref in tweet.get("referenced_tweets") or []}
    kind, ref_id = next(((name, references[key]) for key, name in _KINDS.items() if key in references), ("post", None))
    original = included.tweets.get(ref_id or "")
    ref_author = original.get("author_id") if original else None
    if kind == "reply":
        ref_author = ref_author or tweet.get("in_reply_to_user_id")
    elif kind == "post" and tweet.get("in_reply_to_user_id"):
        kind, ref_author = "reply", tweet["in_reply_to_user_id"]
    content = original if kind == "repost" and original else tweet
    text, entities = _text(content)
    media, own_links = _media(content, included), _own_links(entities)
    links = [link for link in entities.get("urls") or [] if link["url"] not in own_links]
    urls = list(dict.fromkeys(link.get("unwound_url") or link.get("expanded_url") or link["url"] for link in links))
    expansions = [(link["url"], link.get("unwound_url") or link.get("expanded_url")) for link in links]
    if kind == "repost" and not original:
        text = text.partition(": ")[2] if text.startswith("RT @") else text
    return make_post(
        source=NAME,
        id=tweet.get("id"),
        author=tweet.get("author_id") or (tweet.get("author") or {}).get("id"),
        created_at_us=parse_time(tweet.get("created_at")),
        text=expand_links(unescape_x(text), [*expansions, *((link, None) for link in own_links)]),
        lang=language(tweet.get("lang")),
        kind=kind,
        ref_id=ref_id,
        ref_author=ref_author,
        urls=urls,
        hashtags=[tag["tag"] for tag in entities.get("hashtags") or []],
        mentions=[mention["username"] for mention in (tweet.get("entities") or {}).get("mentions") or []],
        media=media,
        num_likes=(tweet.get("public_metrics") or {}).get("like_count"),
    )


def _text(tweet: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Text and entities; `note_tweet` holds both where the tweet is longer than 280 characters."""
    note = tweet.get("note_tweet") or {}
    return note.get("text") or tweet["text"], note.get("entities") or tweet.get("entities") or {}


def _media(tweet: Mapping[str, Any], included: _Included) -> list[dict[str, str | None]]:
    """Attachments that the page describes."""
    media: list[dict[str, str | None]] = []
    for key in (tweet.get("attachments") or {}).get("media_keys") or []:
        item = included.media.get(key, {})
        kind = MEDIA_KINDS.get(item.get("type", ""), "other")
        url = item.get("url") or next((v["url"] for v in item.get("variants") or [] if "url" in v), None) or item.get("preview_image_url")
        if url:
            media.append({"kind": kind, "url": url, "alt": item.get("alt_text")})
    return media


def _own_links(entities: Mapping[str, Any]) -> list[str]:
    """Links in the text that show nothing but the tweet's own media or its rest."""
    return [
        link["url"]
        for link in entities.get("urls") or []
        if "media_key" in link
        or str(link.get("display_url")).startswith("pic.twitter.com/")
        or SELF_LINK.match(str(link.get("expanded_url")))
    ]


SOURCE: Final = Source(NAME, "X API v2 pages, streams and flattened JSON lines", recognise, read)
