"""Mastodon: `outbox.json` of an account export, statuses as the API answers them (also one per line), and recorded answers (YAML).

Identity is the ActivityPub address (`uri`) of status and account, so an export and the API give the same post the same id. The status a
reply answers is known by its local number only: its address is built where the server's scheme allows it, else it is the API address.
Direct and followers-only posts are never read. An answer to a DELETE request is a deletion.

Command: `agora posts import outbox.json`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from agora.posts.sources.activitypub import read_as
from agora.posts.sources.cassette import read_answers, vcr_answers
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import expand_values, open_values
from agora.posts.sources.plain_text import read_html
from agora.posts.sources.record import Item, Row, Skipped, attempt, attempt_each, make_deletion, make_post, parse_time
from agora.posts.sources.source import Source

NAME: Final = "mastodon"
_ORIGIN: Final = re.compile(r"https?://[^/]+")
_MEDIA_KINDS: Final = {"image": "image", "gifv": "video", "video": "video", "audio": "audio"}


def recognise(head: Head) -> bool:
    """An outbox, a status, or a cassette with answers of the statuses API."""
    if head.has("orderedItems") and "activitystreams" in head.text:
        return True
    if _is_cassette(head):
        return "/api/v1/" in head.text and '"spoiler_text"' in head.text
    return head.text[:1] in "{[" and head.has("spoiler_text", "visibility", "account")


def read(file: SourceFile) -> Iterator[Item]:
    """One item per activity or status."""
    head = file.head()
    if head.has("orderedItems"):
        yield from read_as(file, NAME)
        return
    with file.open() as stream:
        if not _is_cassette(head):
            yield from expand_values(open_values(stream, head.text, is_record=_is_status), _expand)
            return
        yield from read_answers(vcr_answers(stream), lambda value, answer: _expand(value, deleted=answer.method == "DELETE"))


def _is_cassette(head: Head) -> bool:
    return head.text.startswith("interactions:")


def _is_status(value: Any) -> bool:
    return isinstance(value, dict) and "visibility" in value and "account" in value


def _expand(value: Any, deleted: bool = False) -> Iterator[Item]:
    convert: Callable[[Any], Item] = _deletion if deleted else status_to_item
    if isinstance(value, Mapping) and "ancestors" in value:
        statuses = [*value["ancestors"], *value.get("descendants", [])]
        yield from attempt_each(convert, statuses, "thread item") if statuses else iter([Skipped("answer without a status")])
    elif isinstance(value, Mapping) and isinstance(value.get("statuses"), list):
        yield from attempt_each(convert, value["statuses"], "statuses item")
    elif isinstance(value, list):
        yield from attempt_each(convert, value)
    else:
        yield attempt(convert, value)


def _deletion(value: Any) -> Item:
    return make_deletion("post", value["uri"]) if _is_status(value) else Skipped("answer without a status")


def status_to_item(status: Any) -> Item:
    """A status as a post. Raises RecordError."""
    if not _is_status(status):
        if isinstance(status, Mapping) and "content" in status and "account" in status:
            return Skipped("earlier version of an edited post")
        return Skipped("answer without a status")
    if status["visibility"] not in ("public", "unlisted"):
        return Skipped("not public (direct or followers only)")
    original = status.get("reblog")
    content = original if isinstance(original, Mapping) else status
    reading = read_html(content["content"])
    kind, ref_id, ref_author = _reference(status)
    warning = content.get("spoiler_text") or ""
    poll = [f"- {option['title'] or ''}" for option in (content.get("poll") or {}).get("options") or []]
    card = (content.get("card") or {}).get("url")
    return make_post(
        source=NAME,
        id=status.get("uri") or status.get("url"),
        author=_account(status["account"]),
        created_at_us=parse_time(status["created_at"]),
        text="\n\n".join(part for part in (warning, reading.text, "\n".join(poll)) if part),
        lang=content.get("language"),
        kind=kind,
        ref_id=ref_id,
        ref_author=ref_author,
        urls=list(dict.fromkeys([*reading.urls, *([card] if card else [])])),
        hashtags=[tag["name"] for tag in content.get("tags") or []],
        mentions=[mention["acct"] for mention in content.get("mentions") or []],
        media=[_media(item) for item in content.get("media_attachments") or []],
        num_likes=status.get("favourites_count"),
    )


def _account(account: Mapping[str, Any]) -> str | None:
    """The account's ActivityPub address; servers before 4.2 give only its page `https://host/@name`."""
    if account.get("uri"):
        return str(account["uri"])
    return re.sub(r"^(https?://[^/]+)/@([^/@]+)$", r"\1/users/\2", str(account.get("url") or "")) or None


def _reference(status: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    original, quote = status.get("reblog"), status.get("quote")
    if isinstance(original, Mapping):
        return "repost", original.get("uri"), _account(original["account"])
    if status.get("in_reply_to_id"):
        return "reply", *_answered(status)
    quoted = (quote.get("quoted_status") or quote) if isinstance(quote, Mapping) else None
    if quoted and quoted.get("uri"):
        return "quote", quoted["uri"], _account(quoted["account"])
    return "post", None, None


def _answered(status: Mapping[str, Any]) -> tuple[str, str | None]:
    number, author_number = status["in_reply_to_id"], status.get("in_reply_to_account_id")
    own = str(status.get("uri") or "")
    if author_number == status["account"].get("id"):
        return re.sub(r"/statuses/[^/]+.*$", f"/statuses/{number}", own), _account(status["account"])
    origin = (_ORIGIN.match(str(status.get("url") or own)) or [""])[0]
    mention = next((m for m in status.get("mentions") or [] if m.get("id") == author_number), None)
    if mention and "@" in mention["acct"]:
        return f"{origin}/api/v1/statuses/{number}", _account(mention)
    if "/ap/users/" in own and author_number:
        return f"{origin}/ap/users/{author_number}/statuses/{number}", f"{origin}/ap/users/{author_number}"
    if mention:
        return f"{origin}/users/{mention['username']}/statuses/{number}", f"{origin}/users/{mention['username']}"
    return f"{origin}/api/v1/statuses/{number}", None


def _media(item: Mapping[str, Any]) -> Row:
    return {"kind": _MEDIA_KINDS.get(item.get("type", ""), "other"), "url": item.get("url"), "alt": item.get("description")}


SOURCE: Final = Source(NAME, "Mastodon outbox.json, API statuses, recorded API answers", recognise, read)
