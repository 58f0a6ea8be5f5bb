"""The files of a built corpus. The data card is the commit point: only files it names belong to the corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from agora.errors import DataError

DOCUMENTS: Final = "documents"
CARD_FILE: Final = "data_card.json"
TRAIN: Final = "train"
HELD_OUT: Final = "heldout"
SPLITS: Final = (TRAIN, HELD_OUT)

DOCUMENT_SCHEMA: Final = pa.schema(
    [
        pa.field("text", pa.large_string(), nullable=False, metadata={"doc": "what a model reads: one post or one chain of replies"}),
        pa.field("post_ids", pa.large_list(pa.string()), nullable=False, metadata={"doc": "posts it is made of, in order"}),
        pa.field("authors", pa.large_list(pa.string()), nullable=False, metadata={"doc": "author of each post"}),
        pa.field("weight", pa.float32(), nullable=False, metadata={"doc": "how much it counts in training"}),
        pa.field("split", pa.string(), nullable=False, metadata={"doc": "train, or heldout: never trained on"}),
        pa.field("lang", pa.string(), nullable=False, metadata={"doc": "language of its first post, und when unknown"}),
        pa.field("source", pa.string(), nullable=False, metadata={"doc": "reader of its first post, or the file of an extra text"}),
    ]
)
"""Columns of documents/*.parquet."""


def corpus_folder(path: Path) -> Path:
    """The corpus folder, given that folder or its documents/."""
    path = Path(path)
    return path.parent if path.name == DOCUMENTS and not (path / CARD_FILE).exists() else path


def read_card(path: Path) -> dict[str, Any] | None:
    """The data card as a table, or None when there is none. Raises DataError when it is damaged."""
    file = corpus_folder(path) / CARD_FILE
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"data card {file} cannot be read: {error}; build again with: agora corpus build") from error
    if not isinstance(card, dict) or "files" not in card:
        raise DataError(f"data card {file} names no files; build again with: agora corpus build")
    return card


def document_files(path: Path) -> list[tuple[Path, str | None]]:
    """Document files in order, with the SHA-256 the card states (None for a folder of Parquet files without a card).

    Raises DataError when there are none or one is missing.
    """
    card = read_card(path)
    folder = corpus_folder(path) / DOCUMENTS
    if card is None:
        plain = Path(path)
        files: list[tuple[Path, str | None]] = [(file, None) for file in sorted(plain.glob("*.parquet"))]
        if not files:
            raise DataError(f"{plain} holds no documents; build them with: agora corpus build")
        return files
    files = [(folder / entry["name"], entry["sha256"]) for entry in card["files"]]
    for file, _ in files:
        if not file.exists():
            raise DataError(f"{file} is missing though the data card names it; build again with: agora corpus build")
    return files
