"""Documents to packed tokens. Goes in: documents/*.parquet and a tokenizer. Comes out: a folder of shards and a manifest.

    shard-00000-KEY.tokens      all tokens of one documents file, little-endian; each document ends with <|endoftext|>
    shard-00000-KEY.starts.npy  where each document begins in it
    shard-00000-KEY.json        the shard's record; written last, so a shard with a record is whole
    manifest.json               every shard with its SHA-256; tokens_in = tokens_out + dropped; written last of all

KEY comes from the documents file, the tokenizer and the settings: a killed run goes on with the next shard, and a run
with other inputs never mixes with an old one.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.corpus.deletions import corpus_deletions
from agora.corpus.document_files import SPLITS, TRAIN, document_files
from agora.errors import DataError, UsageError
from agora.files import file_sha256, replacing, write_atomically
from agora.log import Progress, Step, silent
from agora.text.codepoints import large_strings
from agora.tokenizer.bpe import END_OF_TEXT, Tokenizer

MANIFEST_FILE: Final = "manifest.json"
FORMAT: Final = 1
BATCH_DOCUMENTS: Final = 16_384
BATCH_BYTES: Final = 4_000_000
NUM_THREADS: Final = 2
_SMALL_VOCAB: Final = 65_536

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """One shard. `sha256` is that of the tokens, `starts_sha256` that of the index; `text_bytes` is UTF-8."""

    name: str
    key: str
    tokens_in: int
    tokens_out: int
    dropped: int
    num_documents: int
    text_bytes: int
    sha256: str
    starts_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a folder of shards holds. `dropped` counts tokens cut off by `max_document_tokens`; `deletions` are the tombstones that its
    corpus was built under (None: not known)."""

    format: int
    split: str
    tokenizer_hash: str
    vocab_size: int
    dtype: str
    max_document_tokens: int | None
    tokens_in: int
    tokens_out: int
    dropped: int
    num_documents: int
    text_bytes: int
    shards: tuple[ShardRecord, ...]
    deletions: int | None = None


def pack_shards(
    documents_dir: Path, tokenizer: Tokenizer, out: Path, *, split: str = TRAIN, max_document_tokens: int | None = None,
    num_threads: int = NUM_THREADS, progress: Progress = silent,
) -> Manifest:  # fmt: skip
    """Encode the documents of `split` and pack them, one shard per documents file. Finished shards are kept.

    The result does not depend on `num_threads`. Raises UsageError for an unknown split, DataError without documents.
    """
    if split not in SPLITS:
        raise UsageError(f"split={split!r} is not one of {', '.join(SPLITS)}")
    if max_document_tokens is not None and max_document_tokens < 2:
        raise UsageError(f"max_document_tokens={max_document_tokens} must be at least 2: one token and {END_OF_TEXT}")
    files = document_files(documents_dir)
    out.mkdir(parents=True, exist_ok=True)
    packer = _Packer(tokenizer, out, split, max_document_tokens)
    total = sum(pq.read_metadata(file).num_rows for file, _ in files)
    records = []
    with progress.step(f"pack {split}", total=total, unit="documents") as step, ThreadPoolExecutor(num_threads) as pool:
        for index, (file, sha256) in enumerate(files):
            records.append(packer.pack(index, file, sha256 or file_sha256(file), pool, num_threads + 1, step))
    manifest = Manifest(
        format=FORMAT, split=split, tokenizer_hash=tokenizer.hash, vocab_size=tokenizer.vocab_size, dtype=packer.dtype.name,
        max_document_tokens=max_document_tokens, tokens_in=sum(r.tokens_in for r in records), tokens_out=sum(r.tokens_out for r in records),
        dropped=sum(r.dropped for r in records), num_documents=sum(r.num_documents for r in records),
        text_bytes=sum(r.text_bytes for r in records), shards=tuple(records), deletions=corpus_deletions(documents_dir),
    )  # fmt: skip
    write_atomically(out / MANIFEST_FILE, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
    _remove_others(out, {record.name for record in records})
    return manifest


class _Packer:
    def __init__(self, tokenizer: Tokenizer, out: Path, split: str, max_document_tokens: int | None) -> None:
        self.tokenizer, self.out, self.split, self.limit = tokenizer, out, split, max_document_tokens
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= _SMALL_VOCAB else np.uint32)

    def pack(self, index: int, file: Path, sha256: str, pool: ThreadPoolExecutor, ahead: int, step: Step) -> ShardRecord:
        """Write one shard, or return the record of the one that is there."""
        decides = json.dumps([FORMAT, sha256, self.tokenizer.hash, self.split, self.limit, self.dtype.name])
        key = hashlib.sha256(decides.encode()).hexdigest()
        name = f"shard-{index:05d}-{key[:12]}"
        if done := self._finished(name, key):
            step.advance(pq.read_metadata(file).num_rows)
            return done
        record = self._write(name, key, _in_order(pool, self._encode, _batches(file, self.split, step), ahead))
        write_atomically(self.out / f"{name}.json", (json.dumps(asdict(record), indent=2) + "\n").encode())
        return record

    def _finished(self, name: str, key: str) -> ShardRecord | None:
        try:
            record = ShardRecord(**json.loads((self.out / f"{name}.json").read_text(encoding="utf-8")))
            found = file_sha256(self.out / f"{name}.tokens"), file_sha256(self.out / f"{name}.starts.npy")
        except (OSError, ValueError, TypeError):
            return None
        return record if record.key == key and found == (record.sha256, record.starts_sha256) else None

    def _encode(self, texts: pa.LargeStringArray) -> tuple[Tokens, npt.NDArray[np.int64], int, int]:
        """Tokens of a batch with <|endoftext|> after each document, tokens per document, tokens before cutting, text bytes."""
        table = self.tokenizer.encode_table(texts)
        counts = np.diff(table.offsets)
        ids, tokens_in = table.ids, len(table.ids) + len(texts)
        if self.limit is not None and (counts >= self.limit).any():
            within = np.arange(len(ids)) - np.repeat(table.offsets[:-1], counts)
            ids, counts = ids[within < self.limit - 1], np.minimum(counts, self.limit - 1)
        ends = np.cumsum(counts + 1) - 1
        packed = np.empty(len(ids) + len(texts), dtype=self.dtype)
        is_text = np.ones(len(packed), dtype=np.bool_)
        is_text[ends] = False
        packed[is_text] = ids
        packed[ends] = self.tokenizer.special[END_OF_TEXT]
        return packed, counts + 1, tokens_in, int(pc.sum(pc.binary_length(texts)).as_py() or 0)

    def _write(self, name: str, key: str, encoded: Iterator[tuple[Tokens, npt.NDArray[np.int64], int, int]]) -> ShardRecord:
        digest = hashlib.sha256()
        tokens_in = tokens_out = text_bytes = 0
        counts: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
        with replacing(self.out / f"{name}.tokens") as part, part.open("wb") as file:
            for packed, document_counts, before, num_bytes in encoded:
                data = packed.astype(self.dtype.newbyteorder("<"), copy=False).tobytes()
                file.write(data)
                digest.update(data)
                counts.append(document_counts)
                tokens_in, tokens_out, text_bytes = tokens_in + before, tokens_out + len(packed), text_bytes + num_bytes
        starts = np.cumsum(np.concatenate(counts))[:-1]
        with replacing(self.out / f"{name}.starts.npy") as part, part.open("wb") as file:
            np.save(file, starts)
        return ShardRecord(
            name=name, key=key, tokens_in=tokens_in, tokens_out=tokens_out, dropped=tokens_in - tokens_out, num_documents=len(starts),
            text_bytes=text_bytes, sha256=digest.hexdigest(), starts_sha256=file_sha256(self.out / f"{name}.starts.npy"),
        )  # fmt: skip


def _batches(file: Path, split: str, step: Step) -> Iterator[pa.LargeStringArray]:
    """Texts of one split in batches bounded by documents and by bytes."""
    for batch in pq.ParquetFile(file).iter_batches(BATCH_DOCUMENTS, columns=["text", "split"]):
        texts = large_strings(batch.column("text").filter(pc.equal(batch.column("split"), split)))
        ends = np.cumsum(np.asarray(pc.binary_length(texts)))
        begin = 0
        while begin < len(texts):
            done = int(ends[begin - 1]) if begin else 0
            stop = max(begin + 1, int(np.searchsorted(ends, done + BATCH_BYTES, side="right")))
            yield texts.slice(begin, stop - begin)
            begin = stop
        step.advance(batch.num_rows)


def _in_order(pool: ThreadPoolExecutor, work: Any, items: Iterator[Any], ahead: int) -> Iterator[Any]:
    """Results of `work` in the order of `items`, at most `ahead` of them in memory."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _remove_others(out: Path, names: set[str]) -> None:
    for file in out.glob("shard-*"):
        if file.name.split(".")[0] not in names:
            file.unlink(missing_ok=True)
    for file in out.glob(".shard-*.part"):
        file.unlink(missing_ok=True)


class DocumentStarts:
    """Where the documents of all shards begin, in tokens. Memory-mapped, as there may be more of them than memory holds."""

    def __init__(self, parts: Sequence[npt.NDArray[np.integer[Any]]], begins: npt.NDArray[np.int64]) -> None:
        """`parts` count from the beginning of their shard, `begins` are those."""
        self._parts, self._begins = parts, begins
        self._firsts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, key: slice) -> npt.NDArray[np.int64]:
        """Those of the documents [start, stop)."""
        start, stop, _ = key.indices(len(self))
        found = [np.empty(0, dtype=np.int64)]
        number = int(np.searchsorted(self._firsts, start, side="right")) - 1
        while start < stop:
            first, end = (int(place) for place in self._firsts[number : number + 2])
            found.append(self._parts[number][start - first : min(stop, end) - first] + self._begins[number])
            start, number = min(stop, end), number + 1
        return np.concatenate(found)


class ShardSet:
    """Packed tokens as one long sequence, memory-mapped. Nothing is read before it is asked for."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._dtype = np.dtype(manifest.dtype).newbyteorder("<")
        self._maps = [self._map(folder / f"{shard.name}.tokens", shard.tokens_out) for shard in manifest.shards]
        self._begins = np.cumsum([0, *(shard.tokens_out for shard in manifest.shards)])
        starts = [
            np.load(folder / f"{shard.name}.starts.npy", allow_pickle=False, mmap_mode="r" if shard.num_documents else None)
            for shard in manifest.shards
        ]
        self.document_starts = DocumentStarts(starts, self._begins)

    @classmethod
    def open(
        cls, folder: Path, *, tokenizer: Tokenizer | None = None, verify: bool = True, share: tuple[int, int] = (0, 1)
    ) -> ShardSet:  # fmt: skip
        """Open a folder made by `pack_shards`; `verify` reads files to compare their checksums: all of them, or, as process r of n that
        open it (`share=(r, n)`), every n-th.

        Raises DataError that names the file that is missing, damaged, or of another tokenizer.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if tokenizer is not None and tokenizer.hash != manifest.tokenizer_hash:
            raise DataError(f"{folder} was packed by tokenizer {manifest.tokenizer_hash[:12]}, not by {tokenizer.hash[:12]}; pack again")
        item, (rank, size) = np.dtype(manifest.dtype).itemsize, share
        for number, shard in enumerate(manifest.shards):
            is_read = verify and number % size == rank
            _check(folder / f"{shard.name}.tokens", shard.sha256 if is_read else None, shard.tokens_out * item)
            _check(folder / f"{shard.name}.starts.npy", shard.starts_sha256 if is_read else None, None)
        return cls(folder, manifest)

    def _map(self, path: Path, num_tokens: int) -> Tokens:
        return np.memmap(path, dtype=self._dtype, mode="r") if num_tokens else np.empty(0, dtype=self._dtype)

    @property
    def num_tokens(self) -> int:
        """Tokens in all shards."""
        return int(self._begins[-1])

    def tokens(self, start: int, stop: int) -> Tokens:
        """Tokens [start, stop), across shard borders; clipped at the end like a slice."""
        stop = min(stop, self.num_tokens)
        if start < 0 or start > stop:
            raise IndexError(f"tokens({start}, {stop}) of {self.num_tokens}")
        first = int(np.searchsorted(self._begins, start, side="right")) - 1
        parts = []
        while start < stop:
            begin, end = int(self._begins[first]), int(self._begins[first + 1])
            parts.append(self._maps[first][start - begin : min(stop, end) - begin])
            start, first = min(stop, end), first + 1
        native = np.dtype(self.manifest.dtype)
        return np.concatenate(parts).astype(native, copy=False) if parts else np.empty(0, dtype=native)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of shards. Raises DataError when it is missing, damaged or does not add up."""
    path = Path(folder) / MANIFEST_FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**{**table, "shards": tuple(ShardRecord(**shard) for shard in table["shards"])})
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; make shards with: agora tokenizer pack") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not a shard manifest: {error}; pack again with: agora tokenizer pack") from error
    if manifest.format != FORMAT:
        raise DataError(f"{path} has format {manifest.format}, this version reads {FORMAT}; pack again with: agora tokenizer pack")
    if manifest.tokens_in != manifest.tokens_out + manifest.dropped or manifest.tokens_out != sum(s.tokens_out for s in manifest.shards):
        raise DataError(f"{path}: token counts do not add up; pack again with: agora tokenizer pack")
    return manifest


def _check(path: Path, sha256: str | None, num_bytes: int | None) -> None:
    if not path.exists():
        raise DataError(f"shard file {path} is missing; pack again with: agora tokenizer pack")
    size = path.stat().st_size
    if num_bytes is not None and size != num_bytes:
        raise DataError(f"shard file {path} has {size} bytes, the manifest says {num_bytes}; remove it and pack again")
    if sha256 is not None and file_sha256(path) != sha256:
        raise DataError(f"shard file {path} is corrupt: its SHA-256 differs from the manifest; remove it and pack again")
