"""Bits per byte on text that the model never saw, next to general compressors on the same bytes.

Goes in: model, tokenizer, texts. Comes out: EvaluationResult. Bits per byte = total bits / bytes of the text, so models with
different tokenizers, and compressors, compare.

    agora evaluate --model main --corpus main

How a text is scored:
- The text is every document followed by one newline: those are the bytes that are counted and that the compressors get.
- The model pays for every token of each document and for the <|endoftext|> after it, which stands for that newline.
- Each document is scored by itself: its first token is predicted from <|endoftext|> alone, its others from all tokens before
  them in the document, but from `block_tokens` at most. A longer document is cut into overlapping blocks: half of each block
  is context, and only the other half is scored there, so every token is scored once.
- Documents share rows without seeing each other.

Shapes: B rows, T positions.
"""

from __future__ import annotations

import lzma
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from agora.corpus.document_files import HELD_OUT, document_files
from agora.errors import DataError, UsageError
from agora.log import Progress, silent
from agora.model.buffers import release_buffers
from agora.model.loss import token_log_probabilities
from agora.model.transformer import Transformer
from agora.tokenizer.bpe import END_OF_TEXT, Tokenizer
from agora.training.step import Batch

IGNORED_TARGET: Final = -100
ENCODE_TEXTS: Final = 1024
ZSTD_LEVEL: Final = 19


class Encoder(Protocol):
    """What scoring needs of a tokenizer."""

    special: dict[str, int]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """What a text costs. The two compressors are None when they were not asked for."""

    bits_per_byte: float
    bits_per_token: float
    num_bytes: int
    num_tokens: int
    num_documents: int
    block_tokens: int
    elapsed_s: float
    xz_bits_per_byte: float | None = None
    zstd_bits_per_byte: float | None = None

    @property
    def below_xz(self) -> float | None:
        """How far below `xz -9e` the model is: 0.25 means a quarter fewer bits."""
        return None if self.xz_bits_per_byte is None else 1 - self.bits_per_byte / self.xz_bits_per_byte


@dataclass(frozen=True, slots=True)
class _Block:
    """Inputs, and the targets from position `first` on; those before are context only."""

    inputs: list[int]
    targets: list[int]
    first: int


def bits_per_byte(
    model: Transformer,
    tokenizer: Encoder,
    texts: Iterable[str],
    *,
    block_tokens: int | None = None,
    batch_tokens: int = 8192,
    compressors: bool = True,
    progress: Progress = silent,
) -> EvaluationResult:
    """Score `texts` (held in memory as a whole; the compressors need them so).

    Computes in the dtype of the model's weights, log-probabilities in float32. Raises DataError when there is no text.
    """
    documents = list(texts)
    if not documents:
        raise DataError("there is no text to evaluate; the held-out share of the corpus is empty")
    block = min(block_tokens or model.config.max_seq_len, model.config.max_seq_len)
    if block < 2:
        raise DataError(f"block_tokens={block} must be at least 2")
    started = time.perf_counter()
    data = b"".join(document.encode("utf-8", "surrogatepass") + b"\n" for document in documents)
    tokens = _encode(tokenizer, documents)
    num_tokens = sum(map(len, tokens)) + len(tokens)
    rows = _rows(_blocks(tokens, tokenizer.special["<|endoftext|>"], block), block)
    nats = _total_nats(model, rows, block, batch_tokens, num_tokens, progress)
    bits = nats / math.log(2)
    xz, zstd = compressed_bits_per_byte(data, progress) if compressors else (None, None)
    return EvaluationResult(
        bits_per_byte=bits / len(data), bits_per_token=bits / num_tokens, num_bytes=len(data), num_tokens=num_tokens,
        num_documents=len(documents), block_tokens=block, elapsed_s=time.perf_counter() - started,
        xz_bits_per_byte=xz, zstd_bits_per_byte=zstd,
    )  # fmt: skip


@torch.inference_mode()
def document_bits(
    model: Transformer, tokenizer: Encoder, documents: Sequence[str], *, batch_tokens: int = 8192, progress: Progress = silent
) -> npt.NDArray[np.float64]:
    """The bits of each document, as `bits_per_byte` scores them, which adds them up: for comparing models document by document."""
    block, end = model.config.max_seq_len, tokenizer.special[END_OF_TEXT]
    cut = [(number, one) for number, tokens in enumerate(_encode(tokenizer, documents)) for one in _blocks([tokens], end, block)]
    cut.sort(key=lambda item: -len(item[1].inputs))
    nats, device = np.zeros(len(documents)), next(model.parameters()).device
    with progress.step("score documents", total=len(cut), unit="blocks") as step:
        while cut:
            count = max(1, batch_tokens // len(cut[0][1].inputs))
            taken, cut = cut[:count], cut[count:]
            tokens_BT, targets_BT, _ = (tensor.to(device) for tensor in _tensors([[one] for _, one in taken], block))
            hidden_BTC = model(tokens_BT)
            log_probs_BT = token_log_probabilities(hidden_BTC.flatten(0, 1), model.head_weight, targets_BT.flatten()).view(targets_BT.shape)
            np.add.at(nats, [number for number, _ in taken], -log_probs_BT.double().sum(1).cpu().numpy())
            step.advance(len(taken))
    release_buffers()
    return nats / math.log(2)


def target_bytes(batches: Sequence[Batch], tokenizer: Tokenizer) -> int:
    """The bytes of text that the targets of `batches` stand for; <|endoftext|> counts as the newline that ends a document."""
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for batch in batches:
        targets = batch.targets_BT[batch.targets_BT != IGNORED_TARGET]
        counts += np.bincount(targets.numpy(), minlength=len(counts))
    special = {number: int(name == END_OF_TEXT) for name, number in tokenizer.special.items()}
    return sum(int(counts[token]) * special.get(token, len(tokenizer.token_bytes(token))) for token in np.flatnonzero(counts).tolist())


def heldout_texts(corpus: Path) -> list[str]:
    """The documents of held-out authors of a corpus folder, in stored order. Raises UsageError when there is no such folder,
    DataError when it holds none."""
    if not corpus.is_dir():
        raise UsageError(f"there is no corpus {corpus}; build it with: agora corpus build, or give --text FILE")
    texts: list[str] = []
    for file, _ in document_files(corpus):
        texts += pq.read_table(file, columns=["text"], filters=[("split", "=", HELD_OUT)])["text"].to_pylist()
    if not texts:
        raise DataError(f"{corpus} has no held-out authors; build it again with a larger held-out share")
    return texts


def file_texts(paths: Sequence[Path], *, lines: bool = False) -> list[str]:
    """The files as documents, or each of their lines. Raises UsageError for a file that is not there, DataError for one
    that is not UTF-8 text."""
    texts: list[str] = []
    for path in paths:
        if not path.is_file():
            raise UsageError(f"text file {path} " + ("is a folder; give the files in it" if path.is_dir() else "does not exist"))
        try:
            # newline="": the bytes counted are the file's own.
            with path.open(encoding="utf-8", newline="") as file:
                content = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error
        texts += content.removesuffix("\n").split("\n") if lines else [content.removesuffix("\n")]
    return texts


def evenly_spaced(texts: Sequence[str], count: int | None) -> list[str]:
    """`count` of `texts` at equal distances; all of them for None."""
    if count is None or count >= len(texts):
        return list(texts)
    return [texts[index * len(texts) // count] for index in range(count)]


def compressed_bits_per_byte(data: bytes, progress: Progress = silent) -> tuple[float, float]:
    """Of `xz -9e` (liblzma preset 9 | EXTREME, as the tool) and `zstd -19` (libzstd inside pyarrow, level 19)."""
    with progress.step("compress", total=2) as step:
        step.note("xz -9e")
        xz = len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
        step.advance()
        step.note("zstd -19")
        zstd = len(pa.Codec("zstd", compression_level=ZSTD_LEVEL).compress(data))
        step.advance()
    return 8 * xz / len(data), 8 * zstd / len(data)


def _encode(tokenizer: Encoder, documents: Sequence[str]) -> list[list[int]]:
    result: list[list[int]] = []
    for start in range(0, len(documents), ENCODE_TEXTS):
        result += tokenizer.encode_batch(documents[start : start + ENCODE_TEXTS])
    return result


def _blocks(documents: Iterable[list[int]], end: int, block: int) -> Iterator[_Block]:
    """Each document with <|endoftext|> before and after it, in blocks of at most `block` positions, overlapping by half."""
    for document in documents:
        inputs, targets = [end, *document], [*document, end]
        scored = 0
        while scored < len(targets):
            start = max(0, scored - block // 2)
            stop = min(len(targets), start + block)
            yield _Block(inputs[start:stop], targets[start:stop], scored - start)
            scored = stop


def _rows(blocks: Iterable[_Block], width: int) -> list[list[_Block]]:
    """Blocks put together in rows of at most `width` positions: longest first, each into the fullest row that has room."""
    rows: list[list[_Block]] = []
    room: dict[int, list[int]] = {}
    for block in sorted(blocks, key=lambda block: -len(block.inputs)):
        size = len(block.inputs)
        free = next((free for free in range(size, width + 1) if room.get(free)), None)
        if free is None:
            rows.append([])
            index, free = len(rows) - 1, width
        else:
            index = room[free].pop()
        rows[index].append(block)
        room.setdefault(free - size, []).append(index)
    return rows


@torch.inference_mode()
def _total_nats(model: Transformer, rows: list[list[_Block]], width: int, batch_tokens: int, total: int, progress: Progress) -> float:
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    per_batch = max(1, batch_tokens // width)
    nats = 0.0
    with progress.step("evaluate", total=total, unit="tokens") as step:
        for start in range(0, len(rows), per_batch):
            tokens_BT, targets_BT, ids_BT = (tensor.to(device) for tensor in _tensors(rows[start : start + per_batch], width))
            nats += float(model.loss(tokens_BT, targets_BT, ids_BT, divisor=1.0))
            step.advance(int((targets_BT != IGNORED_TARGET).sum()))
    model.train(was_training)
    release_buffers()
    return nats


def _tensors(rows: Sequence[Sequence[_Block]], width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """tokens_BT, targets_BT, document_ids_BT; rows are cut to the longest of them."""
    width = min(width, max(sum(len(block.inputs) for block in row) for row in rows))
    shape = (len(rows), width)
    tokens_BT, targets_BT = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORED_TARGET, dtype=np.int64)
    ids_BT = np.zeros(shape, dtype=np.int32)
    for index, row in enumerate(rows):
        place = 0
        for number, block in enumerate(row):
            end = place + len(block.inputs)
            tokens_BT[index, place:end] = block.inputs
            targets_BT[index, place + block.first : end] = block.targets[block.first :]
            ids_BT[index, place:end] = number
            place = end
        ids_BT[index, place:] = len(row)
    return torch.from_numpy(tokens_BT), torch.from_numpy(targets_BT), torch.from_numpy(ids_BT)
