"""Kept posts to document files. Goes in: spilled posts and the plan of documents. Comes out: documents/part-*.parquet.

Two passes bound memory: posts are dealt to parts by document, then each part (about `posts_per_file` posts) is put in
order and written. Documents of one part come before those of the next, so the order is that of the plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.corpus.atomic import file_sha256
from agora.corpus.document_files import DOCUMENT_SCHEMA, HELD_OUT, TRAIN
from agora.corpus.spill import Spill
from agora.log import Step
from agora.text.codepoints import large_strings

NEXT_POST: Final = "\n"
NEXT_AUTHOR: Final = "\n> "
"""What stands between two posts of one document: the same author goes on, or another one answers."""
_CARRIED: Final = ("id", "author", "text", "lang", "source")


@dataclass(frozen=True, slots=True)
class Plan:
    """For each spilled post its part (-1: dropped), its place in the order of all kept posts, whether it begins a document,
    whether its author is another than the post before, and whether it is held out."""

    part: npt.NDArray[np.int32]
    order: npt.NDArray[np.int64]
    begins: npt.NDArray[np.bool_]
    other_author: npt.NDArray[np.bool_]
    heldout: npt.NDArray[np.bool_]
    num_parts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentFile:
    """One written file. `content_sha256` is over texts, ids and splits, whatever the Parquet library writes around them."""

    name: str
    sha256: str
    content_sha256: str
    documents: int
    heldout_documents: int
    posts: int
    characters: int


def deal(posts: Spill, plan: Plan, folder: Path, step: Step) -> list[Spill]:
    """Write each kept post to the spill of its part, with its place."""
    parts = [Spill(folder / f"part-{number}.arrow") for number in range(plan.num_parts)]
    begin = 0
    for batch in posts.read():
        rows = slice(begin, begin + batch.num_rows)
        begin += batch.num_rows
        part = plan.part[rows]
        by_part = np.argsort(part, kind="stable")
        by_part = by_part[part[by_part] >= 0]
        columns = {name: batch.column(name).take(pa.array(by_part)) for name in _CARRIED}
        for name in ("order", "begins", "other_author", "heldout"):
            columns[name] = pa.array(getattr(plan, name)[rows][by_part])
        dealt = pa.RecordBatch.from_pydict(columns)
        borders = np.searchsorted(part[by_part], np.arange(plan.num_parts + 1))
        for number in np.flatnonzero(np.diff(borders)):
            parts[number].append(dealt.slice(borders[number], borders[number + 1] - borders[number]))
        step.advance(batch.num_rows)
    for spill in parts:
        spill.close()
    return parts


def write_parts(parts: list[Spill], folder: Path, num_threads: int, step: Step) -> Iterator[DocumentFile]:
    """Write every part; yields them in order."""

    def write(numbered: tuple[int, Spill]) -> DocumentFile:
        number, spill = numbered
        written = _write_part(number, spill, folder)
        spill.remove()
        step.advance(written.posts)
        return written

    with ThreadPoolExecutor(num_threads) as pool:
        yield from pool.map(write, enumerate(parts))


def _write_part(number: int, spill: Spill, folder: Path) -> DocumentFile:
    batches = list(spill.read())
    documents = _documents(pa.Table.from_batches(batches)) if batches else DOCUMENT_SCHEMA.empty_table()
    num_posts = sum(batch.num_rows for batch in batches)
    del batches
    digest = _content_sha256(documents)
    path = folder / f"part-{number:05d}-{digest[:12]}.parquet"
    # Dictionaries help where values repeat; texts, ids and authors hardly do.
    pq.write_table(
        documents, path, compression="zstd", compression_level=1, use_dictionary=["lang", "source", "split"], row_group_size=32_768
    )
    return DocumentFile(
        name=path.name, sha256=file_sha256(path), content_sha256=digest, documents=len(documents),
        heldout_documents=pc.sum(pc.equal(documents["split"], HELD_OUT)).as_py() or 0, posts=num_posts,
        characters=pc.sum(pc.utf8_length(documents["text"])).as_py() or 0,
    )  # fmt: skip


def _documents(posts: pa.Table) -> pa.Table:
    """Posts of one part, any order -> documents in order."""
    posts = posts.take(pa.array(np.argsort(np.asarray(posts["order"]))))
    begins = np.asarray(posts["begins"])
    starts = np.flatnonzero(begins)
    offsets = pa.array(np.append(starts, len(begins)))
    glue = pc.if_else(pa.array(begins), "", pc.if_else(posts["other_author"], NEXT_AUTHOR, NEXT_POST))
    texts = large_strings(posts["text"])
    if len(starts) < len(begins):
        pieces = pc.binary_join_element_wise(large_strings(glue), texts, pa.scalar("", pa.large_string()))
        texts = pc.binary_join(pa.LargeListArray.from_arrays(offsets, pieces), pa.scalar("", pa.large_string()))
    first = pa.array(starts)
    split = pc.if_else(posts["heldout"].take(first), HELD_OUT, TRAIN)
    columns = [
        texts, *(pa.LargeListArray.from_arrays(offsets, posts[name].combine_chunks().cast(pa.string())) for name in ("id", "author")),
        pa.array(np.ones(len(starts), dtype=np.float32)), split.cast(pa.string()),
        posts["lang"].take(first).cast(pa.string()), posts["source"].take(first).cast(pa.string()),
    ]  # fmt: skip
    return pa.table(columns, schema=DOCUMENT_SCHEMA)


def _content_sha256(documents: pa.Table) -> str:
    digest = hashlib.sha256()
    for name in ("text", "post_ids", "split"):
        column = documents[name].combine_chunks()
        if pa.types.is_large_list(column.type):
            digest.update(np.diff(np.asarray(column.offsets)).tobytes())
            column = column.flatten()
        strings = large_strings(column)
        digest.update(np.asarray(pc.binary_length(strings)).tobytes())
        offsets = np.frombuffer(strings.buffers()[1], dtype=np.int64)[strings.offset : strings.offset + len(strings) + 1]
        if len(strings):
            digest.update(memoryview(strings.buffers()[2])[offsets[0] : offsets[-1]])
    return digest.hexdigest()
