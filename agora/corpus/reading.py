"""The first pass: prepared posts go to disk, what is needed about all of them at once stays in memory.

Goes in: the batches of agora/corpus/prepare.py and extra texts. Comes out: `Gathered`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.corpus.config import CorpusConfig
from agora.corpus.duplicates import PostKeys
from agora.corpus.prepare import prepare_batch
from agora.corpus.privacy import MASK_KINDS
from agora.corpus.spill import Spill
from agora.errors import DataError
from agora.log import Step
from agora.text.codepoints import large_strings
from agora.text.minhash import hash_strings

SPILLED: Final = ("id", "author", "text", "key", "lang", "source")
_HASHES: Final = ("id_hash", "author_hash", "ref_hash", "text_hash", "key_hash")
_TEXTS_AT_ONCE: Final = 16
_LONGEST_WORD: Final = 900
"""RE2 counts repetitions up to 1000."""


@dataclass
class Gathered:
    """Columns of all posts, one entry per spilled row. `lang` and `source` are numbers into their lists of names."""

    spill: Spill
    posts_in: int = 0
    texts_in: int = 0
    columns: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)
    names: dict[str, dict[str, int]] = field(default_factory=lambda: {"lang": {}, "source": {}})

    def add(self, batch: pa.RecordBatch, step: Step) -> None:
        """Take one prepared batch."""
        created_at = batch.column("created_at").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        values = {name: np.asarray(batch.column(name)) for name in (*_HASHES, "reason", "num_words", *(f"masked_{k}" for k in MASK_KINDS))}
        values["created_at"] = np.asarray(pc.fill_null(created_at, 0))
        values["is_reply"] = np.asarray(pc.fill_null(batch.column("is_reply"), False))
        bands = batch.column("bands")
        values["bands"] = np.asarray(bands.flatten()).reshape(batch.num_rows, -1)
        for name in ("lang", "source"):
            values[name] = self._numbers(name, pc.fill_null(batch.column(name), "posts" if name == "source" else "und"))
        for name, column in values.items():
            self.columns.setdefault(name, []).append(column)
        self.spill.append(pa.RecordBatch.from_arrays([large_strings(batch.column(name)) for name in SPILLED], SPILLED))
        step.advance(batch.num_rows)

    def _numbers(self, name: str, values: pa.Array) -> npt.NDArray[np.int32]:
        coded = values.dictionary_encode()
        known = self.names[name]
        numbers = np.array([known.setdefault(value, len(known)) for value in coded.dictionary.to_pylist()], dtype=np.int32)
        return numbers[np.asarray(coded.indices)] if len(numbers) else np.empty(0, dtype=np.int32)

    def column(self, name: str) -> npt.NDArray[Any]:
        """One column over all batches; the batches are let go."""
        parts = self.columns[name]
        if len(parts) > 1:
            self.columns[name] = parts = [np.concatenate(parts)]
        return parts[0]

    def keys(self) -> PostKeys:
        """What duplicates and threads need."""
        names = ("created_at", *_HASHES, "bands", "num_words", "is_reply", "reason")
        columns = {name: self.column(name) for name in names}
        columns["reason"] = self.columns["reason"][0] = columns["reason"].copy()
        return PostKeys(**columns)


def read_texts(paths: Sequence[Path], config: CorpusConfig, gathered: Gathered, step: Step) -> None:
    """Add extra texts (books, articles): Parquet with a column `text`, optionally `author` and `lang`; one row, one document.

    They are normalised, masked and freed of exact duplicates; length limits and near duplicates are for posts. Their id is
    `text:` and a hash of the text. Raises DataError for a file without a text column.
    """
    relaxed = dataclasses.replace(
        config, max_characters=2**62, min_own_share=0.0, min_word_share=0.0, max_repeat_share=1.0, max_word_characters=_LONGEST_WORD
    )
    for path in paths:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if "text" not in names:
            raise DataError(f"extra texts {path} have no column 'text'; they have {', '.join(names)}")
        for batch in file.iter_batches(_TEXTS_AT_ONCE, columns=[name for name in ("text", "author", "lang") if name in names]):
            gathered.add(_prepared_texts(batch, path.stem, relaxed), step)
            gathered.texts_in += batch.num_rows


def _prepared_texts(batch: pa.RecordBatch, source: str, config: CorpusConfig) -> pa.RecordBatch:
    num = batch.num_rows
    texts = large_strings(batch.column("text"))
    empty = pa.array([""] * num, type=pa.large_string())
    ids = pa.array([f"text:{value:016x}" for value in hash_strings(texts).tolist()], type=pa.large_string())
    by_author = "author" in batch.schema.names
    authors = large_strings(batch.column("author")) if by_author else ids
    langs = batch.column("lang") if "lang" in batch.schema.names else pa.nulls(num, pa.large_string())
    none = pa.array([], type=pa.large_string())
    inputs = {"id": ids, "author": authors, "text": texts, "kind": empty, "lang": langs, "ref_id": empty, "ref_author": empty}
    made = prepare_batch(inputs, config, none, none)
    columns = {field.name: made.field(field.name) for field in made.type}
    columns["num_words"] = pa.array(np.zeros(num, dtype=np.uint32))
    columns |= {
        "id": ids, "created_at": pa.nulls(num, pa.timestamp("us", tz="UTC")), "source": pa.array([source] * num, type=pa.large_string()),
        "ref_hash": pa.array(np.zeros(num, dtype=np.uint64)), "is_reply": pa.array([False] * num),
    }  # fmt: skip
    return pa.RecordBatch.from_pydict(columns)


def keys_of(gathered: Gathered, rows: npt.NDArray[np.int64]) -> Iterator[pa.LargeStringArray]:
    """Comparison keys of the given rows (ascending), batch by batch from disk."""
    begin = 0
    for batch in gathered.spill.read():
        low, high = np.searchsorted(rows, [begin, begin + batch.num_rows])
        if high > low:
            yield batch.column("key").take(pa.array(rows[low:high] - begin))
        begin += batch.num_rows


def counted(numbers: npt.NDArray[np.int32], names: dict[str, int]) -> dict[str, int]:
    """How often each name occurs, most frequent first, then by name."""
    counts = np.bincount(numbers, minlength=len(names))
    found = [(name, int(counts[number])) for name, number in names.items() if counts[number]]
    return dict(sorted(found, key=lambda item: (-item[1], item[0])))


def batched(items: Iterator[pa.LargeStringArray], rows: int) -> Iterator[pa.LargeStringArray]:
    """Neighbouring arrays joined until each has about `rows` rows."""
    waiting: list[pa.LargeStringArray] = []
    for item in itertools.chain(items, [None]):
        if item is not None:
            waiting.append(item)
        if waiting and (item is None or sum(map(len, waiting)) >= rows):
            yield pa.concat_arrays(waiting)
            waiting = []
