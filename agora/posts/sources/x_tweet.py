"""The tweet object of X's API v1.1, which both formats of the X archive also hold. Used by x_archive and x_api_v11.

A repost takes text, links and media from the original inside it (its own text is cut at 140 characters); the original is context and
does not become a post of its own. Links are expanded in the text; links to the tweet's own media are removed, they are in `media`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from agora.errors import RecordError
from agora.posts.sources.plain_text import expand_links, unescape_x
from agora.posts.sources.record import Row, make_post, parse_time

STATUS_LINK: Final = re.compile(r"https?://(?:www\.|mobile\.)?(?:twitter|x)\.com/(\w+)/status(?:es)?/(\d+)")
_OLD_REPOST: Final = re.compile(r"RT @(\w{1,20}): ?")
SELF_LINK: Final = re.compile(r"https?://(?:twitter|x)\.com/i/web/status/\d+$")
"""X's own sign that a text was cut; nobody posted it."""
MEDIA_KINDS: Final = {"photo": "image", "video": "video", "animated_gif": "video"}


def is_tweet(value: Any) -> bool:
    """True for an object with a tweet's fields."""
    return isinstance(value, dict) and "created_at" in value and ("text" in value or "full_text" in value)


def tweet_to_post(tweet: Mapping[str, Any], *, source: str, author: str | None = None) -> Row:
    """One post. `author` is the archive's owner, for archives whose tweets name none. Raises RecordError."""
    if not is_tweet(tweet):
        raise RecordError(f"not a tweet: keys {', '.join(sorted(map(str, tweet))[:8])}")
    user = tweet.get("user") or {}
    original = tweet.get("retweeted_status")
    content: Mapping[str, Any] = _full(original if isinstance(original, Mapping) else tweet)
    text, urls, media = _read_content(content)
    mentions = _full(tweet)["entities"].get("user_mentions") or []
    kind, ref_id, ref_author = _reference(tweet, mentions, urls)
    prefix = _OLD_REPOST.match(text) if kind == "repost" and not original else None
    return make_post(
        source=source,
        id=tweet.get("id_str") or tweet.get("id"),
        author=user.get("id_str") or user.get("id") or user.get("screen_name") or author,
        created_at_us=parse_time(tweet["created_at"]),
        text=text[prefix.end() :] if prefix else text,
        lang=language(tweet.get("lang")),
        kind=kind,
        ref_id=ref_id,
        ref_author=ref_author,
        urls=urls,
        hashtags=[tag["text"] for tag in content["entities"].get("hashtags") or []],
        mentions=[mention["screen_name"] for mention in mentions],
        media=media,
        num_likes=tweet.get("favorite_count"),
    )


def _full(tweet: Mapping[str, Any]) -> dict[str, Any]:
    """Text and entities, from `extended_tweet` (streams) or `full_text` where the tweet is longer than 140 characters."""
    long = tweet.get("extended_tweet") or tweet
    return {
        "text": long.get("full_text") or long.get("text") or tweet.get("text") or "",
        "entities": long.get("entities") or tweet.get("entities") or {},
        "media": ((long.get("extended_entities") or long.get("entities") or {}).get("media")) or [],
    }


def _read_content(content: Mapping[str, Any]) -> tuple[str, list[str], list[dict[str, str | None]]]:
    links = [link for link in content["entities"].get("urls") or [] if not SELF_LINK.match(str(link.get("expanded_url")))]
    urls = [link.get("expanded_url") or link["url"] for link in links]
    expansions: list[tuple[str, str | None]] = [(link["url"], url) for link, url in zip(links, urls, strict=True)]
    media = []
    for item in content["media"]:
        expansions.append((item.get("url", ""), None))
        kind = MEDIA_KINDS.get(item.get("type", "photo"), "other")  # the oldest archives hold photos only and name no type
        url = item.get("media_url_https") or item.get("media_url")
        variants = [v for v in (item.get("video_info") or {}).get("variants") or [] if v.get("content_type") == "video/mp4"]
        if variants:
            url = max(variants, key=lambda v: int(v.get("bitrate") or 0))["url"]
        media.append({"kind": kind, "url": url, "alt": item.get("ext_alt_text")})
    return expand_links(unescape_x(content["text"]), expansions), urls, media


def _reference(tweet: Mapping[str, Any], mentions: list[Mapping[str, Any]], urls: list[str]) -> tuple[str, Any, Any]:
    """Kind, post and author referred to. Without `retweeted_status` (archives since 2019) a repost is known by its `RT @name:`."""
    original = tweet.get("retweeted_status")
    if isinstance(original, Mapping):
        author = original.get("user") or {}
        return "repost", original.get("id_str") or original.get("id"), author.get("id_str") or author.get("id") or author.get("screen_name")
    old = _OLD_REPOST.match(str(tweet.get("full_text") or tweet.get("text") or ""))
    if old:
        named = next((m for m in mentions if str(m.get("screen_name", "")).lower() == old[1].lower()), None)
        return "repost", tweet.get("retweeted_status_id_str"), named["id_str"] if named and named.get("id_str") else old[1]
    reply = tweet.get("in_reply_to_status_id_str") or tweet.get("in_reply_to_status_id")
    reply_author = tweet.get("in_reply_to_user_id_str") or tweet.get("in_reply_to_user_id") or tweet.get("in_reply_to_screen_name")
    if reply or reply_author:
        return "reply", reply, reply_author
    quoted = tweet.get("quoted_status")
    if isinstance(quoted, Mapping) or tweet.get("quoted_status_id_str"):
        author = (quoted or {}).get("user") or {}
        ref_id = tweet.get("quoted_status_id_str") or (quoted or {}).get("id_str")
        return "quote", ref_id, author.get("id_str") or author.get("id") or author.get("screen_name")
    link = STATUS_LINK.match(urls[-1]) if urls else None
    if link:
        return "quote", link[2], link[1]
    return "post", None, None


def language(lang: Any) -> str | None:
    """X writes `und`, `zxx` and private codes `qam`..`qst` where there is no language."""
    if not isinstance(lang, str) or lang in ("und", "zxx") or (len(lang) == 3 and lang.startswith("q")):
        return None
    return {"in": "id", "iw": "he", "ji": "yi"}.get(lang, lang)
