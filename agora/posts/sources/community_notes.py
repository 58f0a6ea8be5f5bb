"""X's public Community Notes tables. They hold notes, ratings and enrolments about posts, but no posts: every row is counted and skipped.

Command: `agora posts import userEnrollment-00000.tsv`
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.record import Item, Skipped
from agora.posts.sources.source import Source

NAME: Final = "community_notes"
_TABLES: Final = {
    "participantId\tenrollmentState": "enrolment", "noteId\tnoteAuthorParticipantId\tcreatedAtMillis\ttweetId": "note",
    "noteId\traterParticipantId": "rating", "noteId\tparticipantId": "rating", "noteId\tnoteAuthorParticipantId": "note status",
}  # fmt: skip
_CHUNK_BYTES: Final = 2**20


def recognise(head: Head) -> bool:
    """By the first columns of the header."""
    return _table(head) is not None


def _table(head: Head) -> str | None:
    return next((name for start, name in _TABLES.items() if head.text.startswith(start)), None)


def read(file: SourceFile) -> Iterator[Item]:
    """One count of all rows."""
    name = _table(file.head())
    lines, last = 0, b"\n"
    with file.open() as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            lines, last = lines + chunk.count(b"\n"), chunk[-1:]
    rows = lines - 1 + (last != b"\n")
    if rows:
        yield Skipped(f"Community Notes {name} row (holds no post)", rows)


SOURCE: Final = Source(NAME, "Community Notes tables (recognised; they hold no posts)", recognise, read)
