"""Discourse forums: topics, latest posts and single posts as their API answers them. Topic lists, searches, users and categories hold no
posts (titles and excerpts only) and are skipped by name.

Identity: `t/SLUG/TOPIC/NUMBER`, a post's address in its forum without the host, which answers do not hold; authors are account names.
Not covered: two forums with the same slug, topic and number clash; import them into two workspaces.

Command: `agora posts import topic.json`
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agora.errors import RecordError
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import expand_values, open_values
from agora.posts.sources.plain_text import read_html
from agora.posts.sources.record import Item, Skipped, attempt, attempt_each, make_post, parse_time
from agora.posts.sources.source import Source

NAME: Final = "discourse"
_WITHOUT_POSTS: Final = re.compile(
    r'\{\s*"(?:success|user_badges|user|users|category_list|topic_list|featured_users)"|\[\s*\{\s*"type"\s*:\s*"topic"'
)
_IMAGE: Final = re.compile(r'<img(?![^>]*class="[^"]*(?:emoji|avatar))[^>]*>')
_ASIDE: Final = re.compile(r"</?aside\b[^>]*>")
_LIKE_ACTION: Final = 2  # PostActionType of Discourse
_QUOTE: Final = re.compile(r'<aside\b[^>]*class="quote\b')
_QUOTED: Final = re.compile(r'<aside class="quote[^"]*"[^>]*data-username="([^"]+)"[^>]*>')


def recognise(head: Head) -> bool:
    """Posts with `cooked` and `post_number`, or one of the other answers."""
    if head.text[:1] not in "{[":
        return False
    posts = head.has("post_stream") or head.has("cooked", "post_number") or head.has("topics", "blurb")
    return posts or head.has("avatar_template") or bool(_WITHOUT_POSTS.match(head.text))


def read(file: SourceFile) -> Iterator[Item]:
    """One item per post, topic without posts, or other answer."""
    head = file.head()
    with file.open() as stream:
        yield from expand_values(open_values(stream, head.text, is_record=lambda value: isinstance(value, dict)), _expand)


def _expand(value: Any) -> Iterator[Item]:
    if not isinstance(value, Mapping):
        raise RecordError(f"not an answer of Discourse: {type(value).__name__}")
    stream = value.get("post_stream")
    if isinstance(stream, Mapping):
        posts = stream.get("posts") or []
        names = {post.get("post_number"): post.get("username") for post in posts if isinstance(post, Mapping)}
        yield from attempt_each(lambda post: _convert(post, value, names), posts, "post")
    elif isinstance(value.get("latest_posts"), list):
        yield from attempt_each(lambda post: _convert(post, {}, {}), value["latest_posts"], "post")
    elif "cooked" in value:
        yield attempt(lambda post: _convert(post, {}, {}), value)
    else:
        yield _without_posts(value)


def _without_posts(value: Mapping[str, Any]) -> Item:
    topics = (value.get("topic_list") or {}).get("topics")
    results = value.get("results") if value.get("type") == "topic" else None
    categories = (value.get("category_list") or {}).get("categories")
    if topics is not None or results is not None:
        return Skipped("topic without the text of its posts", len(topics or results or [0]))
    if categories is not None:
        return Skipped("category, not a post", len(categories or [0]))
    if "posts" in value and "topics" in value:
        return Skipped("search result (an excerpt, not the post)", len(value["posts"] or [0]))
    return Skipped("answer without posts")


def _convert(post: Any, topic: Mapping[str, Any], names: Mapping[Any, Any]) -> Item:
    if post.get("deleted_at") or post.get("user_deleted") or post.get("hidden"):
        return Skipped("deleted or hidden by the forum")
    if post.get("post_type", 1) != 1:
        return Skipped("moderator action or whisper, not a post")
    slug, topic_id, number = post.get("topic_slug") or topic.get("slug"), post.get("topic_id") or topic.get("id"), post["post_number"]
    if not slug or not topic_id:
        raise RecordError(f"no id: topic {topic_id!r} with slug {slug!r}")
    own = _without_quotes(post["cooked"])
    reading = read_html(_IMAGE.sub("", own))
    title = post.get("topic_title") or topic.get("title")
    answered = post.get("reply_to_post_number") or (1 if number > 1 else None)
    reply_author = (post.get("reply_to_user") or {}).get("username") or names.get(answered)
    quoted = _QUOTED.search(post["cooked"])
    return make_post(
        source=NAME,
        id=f"t/{slug}/{topic_id}/{number}",
        author=post.get("username"),
        created_at_us=parse_time(post.get("created_at")),
        text=f"{title}\n\n{reading.text}" if number == 1 and title else reading.text,
        kind="reply" if answered else "post",
        ref_id=f"t/{slug}/{topic_id}/{answered}" if answered else None,
        ref_author=reply_author or (quoted[1] if quoted and answered else None),
        urls=list(dict.fromkeys(reading.urls)),
        mentions=[target.rstrip("/").rpartition("/")[2] for target in reading.mentions],
        media=[{"kind": "image", "url": found[1], "alt": None} for found in re.finditer(r'<img[^>]*src="([^"]+)"', _images(own))],
        num_likes=_likes(post),
    )


def _likes(post: Mapping[str, Any]) -> Any:
    """Counted among a post's actions under number 2; an answer that lists actions leaves out those that nobody took."""
    actions = post.get("actions_summary")
    if not isinstance(actions, list):
        return post.get("like_count")
    return next((action.get("count", 0) for action in actions if action.get("id") == _LIKE_ACTION), 0)


def _without_quotes(cooked: str) -> str:
    """Without the words of others: `<aside class="quote">` to its end, with all that stands inside."""
    kept, position, depth = [], 0, 0
    for tag in _ASIDE.finditer(cooked):
        if depth == 0 and _QUOTE.match(tag[0]):
            kept.append(cooked[position : tag.start()])
            depth = 1
        elif depth:
            depth += -1 if tag[0].startswith("</") else 1
            position = tag.end()
    return "".join(kept) + ("" if depth else cooked[position:])


def _images(cooked: str) -> str:
    return "".join(_IMAGE.findall(cooked))


SOURCE: Final = Source(NAME, "Discourse topics and posts (API JSON)", recognise, read)
