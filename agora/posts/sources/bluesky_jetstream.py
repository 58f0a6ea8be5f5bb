"""Bluesky's live stream as Jetstream writes it, one JSON event per line. Posts and reposts become posts; their deletion, and that of an
account, becomes a deletion; likes, follows, identity and other events are skipped by name.

Command: `agora posts import events.jsonl`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agora.errors import RecordError
from agora.posts.sources.bluesky import COLLECTIONS, POST, REPOST, record_to_post
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import JsonLines, convert_values
from agora.posts.sources.record import Edit, Item, Skipped, checked_identity, make_deletion
from agora.posts.sources.source import Source

NAME: Final = "bluesky_jetstream"


def recognise(head: Head) -> bool:
    """Lines with `did`, `time_us` and an event kind."""
    return head.text.startswith("{") and head.has("did", "time_us") and (head.has("commit") or head.has("identity") or head.has("account"))


def read(file: SourceFile) -> Iterator[Item]:
    """One item per event."""
    with file.open() as stream:
        yield from convert_values(JsonLines(stream), event_to_item)


def event_to_item(event: Any) -> Item:
    """What one event means for the store. Raises RecordError."""
    if not isinstance(event, Mapping) or "kind" not in event:
        raise RecordError("not a Jetstream event: no kind")
    if event["kind"] == "account":
        account = event["account"]
        if account.get("status") == "deleted" and not account.get("active"):
            return make_deletion("author", event["did"])
        return Skipped(f"account event ({account.get('status') or 'active'})")
    if event["kind"] != "commit":
        return Skipped(f"{event['kind']} event")
    commit = event["commit"]
    collection, operation = str(commit["collection"]), commit["operation"]
    if collection not in (POST, REPOST):
        name = COLLECTIONS.get(collection, "record of another application" if not collection.startswith("app.bsky.") else collection)
        return Skipped(f"{name} ({operation})")
    uri = f"at://{checked_identity(event['did'], 'author')}/{collection}/{checked_identity(commit['rkey'], 'id')}"
    if operation == "delete":
        return make_deletion("post", uri)
    row = record_to_post(commit["record"], uri=uri, author=event["did"], seen_at=event.get("time_us"), source=NAME)
    return Edit(row, str(commit.get("rev") or "")) if operation == "update" and isinstance(row, dict) else row


SOURCE: Final = Source(NAME, "Bluesky Jetstream events, one JSON object per line", recognise, read)
