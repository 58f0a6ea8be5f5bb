"""The data card: what went into a corpus, what came out, and why the rest did not. JSON for programs, Markdown for people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from agora.corpus.assemble import DocumentFile
from agora.corpus.steps import STEPS
from agora.errors import DataError
from agora.units import format_si


@dataclass(frozen=True, kw_only=True, slots=True)
class DataCard:
    """Every post and extra text is either kept or dropped for one reason: posts_in + texts_in = kept + sum(dropped).

    `coordination` says what labels did, empty where there were none: labelled accounts and posts; accounts and voices (campaigns)
    whose posts passed the filters, these posts, and how many of them were kept in the end.
    `masked` counts replacements in kept posts, `languages` and `sources` kept posts. Times are ISO, UTC. `content_hash`
    covers texts, post ids and splits of all documents in order; two corpora with equal hashes are the same. `deletions`:
    how many of the store's tombstones were heeded (None: made by an older version, which did not say).
    """

    format: int
    posts_in: int
    texts_in: int
    kept: int
    dropped: dict[str, int]
    documents: int
    heldout_documents: int
    heldout_posts: int
    authors: int
    heldout_authors: int
    characters: int
    first_post: str | None
    last_post: str | None
    languages: dict[str, int]
    sources: dict[str, int]
    masked: dict[str, int]
    licence: str
    config: dict[str, Any]
    fingerprint: str | None
    content_hash: str
    files: tuple[DocumentFile, ...]
    coordination: dict[str, Any] = field(default_factory=dict)
    deletions: int | None = None

    def __post_init__(self) -> None:
        accounted = self.kept + sum(self.dropped.values())
        assert self.posts_in + self.texts_in == accounted, (self.posts_in, self.texts_in, accounted)

    def to_json(self) -> str:
        """As saved in data_card.json."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_table(cls, table: dict[str, Any], where: str) -> DataCard:
        """Read what `to_json` wrote. Raises DataError when a field is missing or unknown."""
        try:
            return cls(**{**table, "files": tuple(DocumentFile(**entry) for entry in table["files"])})
        except (TypeError, KeyError, AssertionError) as error:
            raise DataError(f"{where} is not a data card of this version: {error}; build again with: agora corpus build") from error

    def require_documents(self, where: str) -> None:
        """Raises DataError, with the commonest reasons, when something came in and nothing was kept."""
        if self.kept or not self.posts_in + self.texts_in:
            return
        largest = sorted(((number, reason) for reason, number in self.dropped.items() if number), reverse=True)[:3]
        why = ", ".join(f"{number:,} as {reason}" for number, reason in largest)
        raise DataError(
            f"corpus {where} keeps none of {self.posts_in + self.texts_in:,} posts and texts: dropped {why}; "
            "docs/corpus.md says what each reason means and which setting decides"
        )

    def summary(self) -> dict[str, Any]:
        """The numbers for a terminal."""
        return {
            "posts_in": self.posts_in, "texts_in": self.texts_in, "kept": self.kept,
            "dropped": {name: count for name, count in self.dropped.items() if count},
            "documents": self.documents, "heldout_documents": self.heldout_documents, "authors": self.authors,
            "heldout_authors": self.heldout_authors, **({"coordination": self.coordination} if self.coordination else {}),
            "characters": self.characters, "content_hash": self.content_hash,
        }  # fmt: skip

    def to_markdown(self) -> str:
        """As saved in data_card.md."""
        total = max(self.posts_in + self.texts_in, 1)
        why = {step.name: step.why for step in STEPS}
        parts = [
            "# Data card\n",
            _table(
                ("", "number"),
                [
                    ("posts in", f"{self.posts_in:,}"), ("extra texts in", f"{self.texts_in:,}"), ("kept", f"{self.kept:,}"),
                    ("documents", f"{self.documents:,}"), ("of them held out", f"{self.heldout_documents:,}"),
                    ("characters", f"{self.characters:,} ({format_si(self.characters)})"), ("authors", f"{self.authors:,}"),
                    ("held-out authors", f"{self.heldout_authors:,} (with {self.heldout_posts:,} posts)"),
                    ("first post", self.first_post or "none"), ("last post", self.last_post or "none"),
                    ("licence of the data", self.licence),
                ],
            ),
            "\n## Dropped\n",
            _table(("reason", "number", "share", "why"), [(n, f"{c:,}", f"{c / total:.2%}", why[n]) for n, c in self.dropped.items()]),
            *(["\n## Coordinated accounts\n", _table(("", "number"), _coordination(self.coordination))] if self.coordination else []),
            "\n## Languages\n", _table(("language", "kept"), _largest(self.languages)),
            "\n## Sources\n", _table(("source", "kept"), _largest(self.sources)),
            "\n## Masked in kept posts\n", _table(("kind", "number"), [(kind, f"{count:,}") for kind, count in self.masked.items()]),
            "\nNot covered by masking: names, addresses, birth dates, national numbers, numbers written as words. See docs/corpus.md.\n",
            "\n## Configuration\n", _table(("key", "value"), [(key, f"`{json.dumps(value)}`") for key, value in self.config.items()]),
            f"\nContent hash: `{self.content_hash}`\n",
        ]  # fmt: skip
        return "\n".join(parts)


def _coordination(counts: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(name.replace("_", " "), f"{count:,}" if isinstance(count, int) else f"`{count}`") for name, count in counts.items()]


def _largest(counts: dict[str, int], limit: int = 30) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(name, f"{count:,}") for name, count in list(counts.items())[:limit]]
    if len(counts) > limit:
        rows.append((f"{len(counts) - limit} more", f"{sum(list(counts.values())[limit:]):,}"))
    return rows


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines) + "\n"
