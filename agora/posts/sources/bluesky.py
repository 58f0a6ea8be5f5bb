"""Bluesky's app.bsky objects: single records, feed and thread answers of its API. The records themselves are read here for
bluesky_jetstream and bluesky_repo too.

Identity: the at:// URI of a record, the DID of an account. A repost has no text of its own. `created_at` is the author's claim
(`createdAt`); when that is missing, unreadable or later than the time at which the network saw the record, the latter counts, as the
protocol advises.

Command: `agora posts import feed.json`
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agora.errors import RecordError
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import expand_values, open_values
from agora.posts.sources.record import Item, Row, Skipped, attempt, attempt_each, checked_identity, make_post, parse_time, whole_number
from agora.posts.sources.source import Source

NAME: Final = "bluesky"
POST: Final = "app.bsky.feed.post"
REPOST: Final = "app.bsky.feed.repost"
COLLECTIONS: Final = {
    "app.bsky.feed.like": "like", "app.bsky.graph.follow": "follow", "app.bsky.graph.block": "block",
    "app.bsky.actor.profile": "profile", "app.bsky.actor.status": "status",
}  # fmt: skip
_URI: Final = re.compile(r"at://([^/]+)/([^/]+)/([^/]+)")
_ABBREVIATED: Final = re.compile(r"(?:https?://)?(.*?)(?:\.\.\.|…)")


def recognise(head: Head) -> bool:
    """An object with an app.bsky `$type`, or an answer that holds such."""
    return head.text[:1] in "{[" and '"$type"' in head.text and '"app.bsky.' in head.text and not head.has("time_us", "commit")


def read(file: SourceFile) -> Iterator[Item]:
    """One item per post, repost, or other record."""
    head = file.head()
    with file.open() as stream:
        yield from expand_values(open_values(stream, head.text, is_record=lambda v: isinstance(v, dict) and "$type" in v), _expand)


def _expand(value: Any) -> Iterator[Item]:
    if not isinstance(value, dict):
        raise RecordError(f"not an object: {type(value).__name__}")
    for key in ("feed", "posts", "records"):
        if isinstance(value.get(key), list):
            yield from attempt_each(_convert, value[key], f"{key} item")
            return
    if isinstance(value.get("thread"), dict):
        yield from _thread(value["thread"])
        return
    yield attempt(_convert, value)


def _thread(node: Mapping[str, Any]) -> Iterator[Item]:
    """A thread answer, parents first. Walks without recursion."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if isinstance(current.get("post"), dict):
            yield attempt(_convert, current["post"], str(current["post"].get("uri")))
        else:
            yield Skipped("post not shown (deleted, blocked or not found)")
        if isinstance(current.get("parent"), dict):
            waiting.append(current["parent"])
        waiting.extend(reply for reply in current.get("replies") or [] if isinstance(reply, dict))


def _convert(value: Any) -> Item:
    kind = str(value.get("$type") or "")
    if "post" in value and isinstance(value["post"], dict):
        reason = value.get("reason") or {}
        if str(reason.get("$type", "")).endswith("reasonRepost"):
            return _view_of_repost(value["post"], reason)
        return _convert(value["post"])
    if "record" in value and "uri" in value:
        record = value["record"]
        author = (value.get("author") or {}).get("did") or owner_of(value["uri"])
        row = record_to_post(record, uri=value["uri"], author=author, seen_at=value.get("indexedAt"), source=NAME)
        if isinstance(row, dict) and row["kind"] != "repost":
            row["num_likes"] = whole_number(value.get("likeCount"))
        return row
    if "value" in value and "uri" in value:
        return record_to_post(value["value"], uri=value["uri"], author=owner_of(value["uri"]), seen_at=None, source=NAME)
    if kind in (POST, REPOST):
        return record_to_post(value, uri=value.get("uri"), author=value.get("did"), seen_at=None, source=NAME)
    if kind:
        return Skipped(f"{COLLECTIONS.get(kind, kind)} record, not a post")
    raise RecordError(f"not an app.bsky object: keys {', '.join(sorted(map(str, value))[:8])}")


def _view_of_repost(post: Mapping[str, Any], reason: Mapping[str, Any]) -> Item:
    by = (reason.get("by") or {}).get("did")
    uri = reason.get("uri") or f"{post['uri']}#repost-by-{by}"
    record = {"$type": REPOST, "subject": {"uri": post["uri"]}, "createdAt": reason.get("indexedAt")}
    text = str((post.get("record") or {}).get("text") or "")
    row = record_to_post(record, uri=uri, author=by, seen_at=reason.get("indexedAt"), source=NAME, text=text)
    by_original = (post.get("author") or {}).get("did")
    if isinstance(row, dict) and by_original:
        row["ref_author"] = checked_identity(by_original, "ref_author")
    return row


def owner_of(uri: str) -> str | None:
    """The account in an at:// URI."""
    match = _URI.match(uri)
    return match[1] if match else None


def record_to_post(record: Mapping[str, Any], *, uri: Any, author: Any, seen_at: Any, source: str, text: str = "") -> Item:
    """A post or repost record (of a post with that `text`) as a row; any other record is skipped by name. Raises RecordError."""
    kind = record.get("$type")
    if kind == REPOST:
        ref = record["subject"]["uri"]
        return make_post(
            source=source, id=uri, author=author, created_at_us=_created_at(record, seen_at),
            text=text, kind="repost", ref_id=ref, ref_author=owner_of(ref),
        )  # fmt: skip
    if kind != POST:
        return Skipped(f"{COLLECTIONS.get(str(kind), kind)} record, not a post")
    return _post(record, uri, author, seen_at, source)


def _post(record: Mapping[str, Any], uri: Any, author: Any, seen_at: Any, source: str) -> Row:
    embeds = _flat_embeds(record.get("embed") or {})
    facets = [(facet.get("index") or {}, feature) for facet in record.get("facets") or [] for feature in facet.get("features") or []]
    found = [(str(feature.get("$type", "")).rpartition("#")[2], feature) for _, feature in facets]
    kind, ref = "post", None
    quoted = next((e["record"].get("uri") for e in embeds if e.get("$type") == "app.bsky.embed.record"), None)
    if record.get("reply"):
        kind, ref = "reply", record["reply"]["parent"]["uri"]
    elif quoted and f"/{POST}/" in quoted:
        kind, ref = "quote", quoted
    cards = [e["external"]["uri"] for e in embeds if e.get("$type") == "app.bsky.embed.external"]
    links = [feature["uri"] for name, feature in found if name == "link"]
    langs = record.get("langs") or []
    return make_post(
        source=source,
        id=uri,
        author=author,
        created_at_us=_created_at(record, seen_at),
        text=_with_whole_links(record["text"], facets),
        lang=langs[0] if langs else None,
        kind=kind,
        ref_id=ref,
        ref_author=owner_of(ref) if ref else None,
        urls=list(dict.fromkeys([*links, *cards])),
        hashtags=[*(feature["tag"] for name, feature in found if name == "tag"), *(record.get("tags") or [])],
        mentions=[feature["did"] for name, feature in found if name == "mention"],
        media=[item for embed in embeds for item in _media(embed, str(author))],
    )


def _created_at(record: Mapping[str, Any], seen_at: Any) -> int:
    seen = parse_time(seen_at) if seen_at else None
    try:
        claimed = parse_time(record.get("createdAt"))
    except RecordError:
        if seen is None:
            raise
        return seen
    return claimed if seen is None else min(claimed, seen)


def _flat_embeds(embed: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A record with media is both of its parts."""
    if embed.get("$type") == "app.bsky.embed.recordWithMedia":
        return [embed.get("record") or {}, embed.get("media") or {}]
    return [embed]


def _media(embed: Mapping[str, Any], author: str) -> list[dict[str, str | None]]:
    kind = str(embed.get("$type"))
    if kind == "app.bsky.embed.images":
        where = "https://cdn.bsky.app/img/feed_fullsize/plain"
        return [{"kind": "image", "url": _blob(i.get("image"), where, author, "@jpeg"), "alt": i.get("alt")} for i in embed["images"]]
    if kind == "app.bsky.embed.video":
        url = _blob(embed.get("video"), "https://video.bsky.app/watch", author, "/playlist.m3u8")
        return [{"kind": "video", "url": url, "alt": embed.get("alt")}]
    if kind == "app.bsky.embed.external":
        return [{"kind": "link", "url": embed["external"]["uri"], "alt": None}]
    return []


def _blob(blob: Any, where: str, author: str, ending: str) -> str | None:
    reference = (blob or {}).get("ref")
    cid = reference.get("$link") if isinstance(reference, Mapping) else reference
    return f"{where}/{author}/{cid}{ending}" if cid else None


def _with_whole_links(text: str, facets: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """Clients show long links cut (`example.com/a/b...`); put the link itself there. Facets count bytes of UTF-8."""
    links = [(i["byteStart"], i["byteEnd"], f["uri"]) for i, f in facets if str(f.get("$type", "")).endswith("#link")]
    if not links:
        return text
    data = text.encode("utf-8", "surrogatepass")
    for start, end, uri in sorted(links, reverse=True):
        shown = _ABBREVIATED.fullmatch(data[start:end].decode("utf-8", "replace")) if 0 <= start < end <= len(data) else None
        if shown and shown[1] and re.sub(r"^https?://(www\.)?", "", uri).startswith(shown[1].removeprefix("www.")):
            data = data[:start] + uri.encode("utf-8", "surrogatepass") + data[end:]
    return data.decode("utf-8", "surrogatepass")


SOURCE: Final = Source(NAME, "Bluesky records, feeds and threads (app.bsky JSON)", recognise, read)
