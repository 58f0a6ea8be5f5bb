"""A corpus to a tokenizer. Goes in: the training documents of a corpus. Comes out: a tokenizer folder with `training.json`.

agora tokenizer train vocab_size=8192
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.config import to_dict
from agora.corpus.document_files import TRAIN, document_files
from agora.errors import ConfigError, DataError
from agora.files import file_sha256, write_atomically
from agora.log import Progress, Step, silent
from agora.tokenizer.bpe import Tokenizer

RECORD_FILE: Final = "training.json"
_BATCH_DOCUMENTS: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """What a tokenizer is learned from. Raises ConfigError for a limit below 1.

    vocab_size               tokens, at most: a small corpus gives fewer
    max_characters           text that merges are learned from; documents are in random order, so the first are a sample
    max_document_characters  of one document, so that books do not outweigh posts
    """

    vocab_size: int = 8192
    max_characters: int = 50_000_000
    max_document_characters: int = 20_000

    def __post_init__(self) -> None:
        for name in ("max_characters", "max_document_characters"):
            if getattr(self, name) < 1:
                raise ConfigError(f"TokenizerConfig.{name}={getattr(self, name)} must be at least 1")


def train_tokenizer(documents_dir: Path, out: Path, config: TokenizerConfig | None = None, *, progress: Progress = silent) -> Tokenizer:
    """Learn a tokenizer from the train split and save it in `out`; returns the one there when nothing has changed.

    A small corpus may give fewer tokens than `vocab_size`. Raises DataError without training documents.
    """
    config = config or TokenizerConfig()
    files = document_files(documents_dir)
    record: dict[str, Any] = {"config": to_dict(config), "documents": [sha256 or file_sha256(file) for file, sha256 in files]}
    if (done := _trained(out, record)) is not None:
        return done
    with progress.step("learn merges", total=config.max_characters, unit="characters") as step:
        tokenizer = Tokenizer.train(_sample([file for file, _ in files], config, step), vocab_size=config.vocab_size)
    tokenizer.save(out)
    write_atomically(out / RECORD_FILE, (json.dumps({**record, "hash": tokenizer.hash}, indent=2) + "\n").encode())
    return tokenizer


def _trained(out: Path, record: dict[str, Any]) -> Tokenizer | None:
    try:
        found = json.loads((out / RECORD_FILE).read_text(encoding="utf-8"))
        tokenizer = Tokenizer.load(out)
    except (OSError, ValueError, DataError):
        return None  # nothing usable there: it is made anew
    return tokenizer if found == {**record, "hash": tokenizer.hash} else None


def _sample(files: list[Path], config: TokenizerConfig, step: Step) -> Iterator[str]:
    left = config.max_characters
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(_BATCH_DOCUMENTS, columns=["text", "split"]):
            texts: pa.Array = batch.column("text").filter(pc.equal(batch.column("split"), TRAIN))
            for text in pc.utf8_slice_codeunits(texts, 0, config.max_document_characters).to_pylist():
                if left <= 0:
                    return
                yield text[:left]
                left -= len(text)
            step.advance(pc.sum(pc.utf8_length(texts)).as_py() or 0)
    if left == config.max_characters:
        raise DataError(f"{files[0].parent} holds no training documents; lower heldout_share or import more posts")
