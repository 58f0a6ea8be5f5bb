"""Sentence vectors behind one interface. Goes in: texts. Comes out: one unit vector (float32) per text; near vectors, near meanings.

`LexicalEmbeddings` needs no download: hashed words and character n-grams, rare ones weighing more, projected to few dimensions with random
signs (Achlioptas, "Database-friendly random projections", 2003). It knows words, not synonyms. `ModelEmbeddings` reads a local folder
with a transformer encoder, as sentence-transformers saves it: mean of the last hidden states over the text (Reimers and
Gurevych, "Sentence-BERT", 2019), or its first state where the folder's pooling says so.

A folder is read with safetensors only, never fetched, never unpickled, and code in it is never run. Not covered: layers after
pooling.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import MissingExtraError, ModelError
from agora.files import file_sha256
from agora.text.minhash import Hashes, hash_strings, mix
from agora.text.normalise import comparison_key

Vectors = npt.NDArray[np.float32]

EXTRA: Final = "embeddings"
_NGRAM: Final = 4
_NGRAM_WEIGHT: Final = 0.3
"""A word has about five n-grams, which together then weigh as much as the word itself and forgive a typo."""
_BUCKETS: Final = 1 << 20
_MODEL_BATCH: Final = 64
_LEXICAL_BATCH: Final = 4096
_MAX_GRAMS: Final = 40


class Embeddings(Protocol):
    """What turns texts into vectors."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def name(self) -> str:
        """Names what makes the vectors: results of other names are not mixed."""

    def vectors(self, texts: pa.Array) -> Vectors:
        """One row per text: unit length, or all zero where a text has nothing to say."""


@dataclass(frozen=True, slots=True)
class WordCounts:
    """How many texts hold each word, in `_BUCKETS` hashed counters: rare words weigh more. Sums of parts equal the whole."""

    num_texts: int
    counters: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: pa.Array) -> WordCounts:
        """Count the words of texts."""
        row, words = _words(texts)
        pair = np.unique(row * _BUCKETS + _bucket(hash_strings(words)))
        return cls(len(texts), np.bincount(pair % _BUCKETS, minlength=_BUCKETS))

    def joined(self, other: WordCounts) -> WordCounts:
        """The counts of both."""
        return WordCounts(self.num_texts + other.num_texts, self.counters + other.counters)

    def weight(self, words: Hashes) -> npt.NDArray[np.float64]:
        """Inverse document frequency, log((N + 1) / (n + 1)) + 1."""
        return np.asarray(np.log((self.num_texts + 1) / (self.counters[_bucket(words)] + 1)) + 1)


class LexicalEmbeddings:
    """Vectors from words alone. Without `counts` all words weigh the same. The same text has the same vector everywhere."""

    def __init__(self, dim: int = 128, counts: WordCounts | None = None) -> None:
        self._dim, self._counts = dim, counts

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def name(self) -> str:
        """Dimensions, and what was counted."""
        return f"lexical-{self._dim}" + ("" if self._counts is None else f"-{self._counts.num_texts}-{int(self._counts.counters.sum())}")

    def vectors(self, texts: pa.Array) -> Vectors:
        """One unit row per text; zero for a text without words."""
        parts = [self._some(texts.slice(start, _LEXICAL_BATCH)) for start in range(0, len(texts), _LEXICAL_BATCH)]
        return np.concatenate([np.zeros((0, self._dim), np.float32), *parts])

    def _some(self, texts: pa.Array) -> Vectors:
        row, words = _words(texts)
        result = np.zeros((len(texts), self._dim))
        if not len(words):
            return result.astype(np.float32)
        hashes = hash_strings(words)
        weight = np.ones(len(hashes)) if self._counts is None else self._counts.weight(hashes)
        self._add(result, row, hashes, weight)
        lengths = np.asarray(pc.utf8_length(words))
        marked = pc.binary_join_element_wise(_scalar("<"), words, _scalar(">"), _scalar(""))
        for start in range(min(int(lengths.max()), _MAX_GRAMS) + 3 - _NGRAM):
            some = np.flatnonzero(lengths + 2 >= start + _NGRAM)
            grams = pc.utf8_slice_codeunits(marked.take(pa.array(some)), start, start + _NGRAM)
            self._add(result, row[some], mix(hash_strings(grams)), weight[some] * _NGRAM_WEIGHT)
        length = np.linalg.norm(result, axis=1, keepdims=True)
        return np.asarray(np.divide(result, length, out=np.zeros_like(result), where=length > 0), np.float32)

    def _add(self, result: npt.NDArray[np.float64], row: npt.NDArray[np.int64], hashes: Hashes, weight: npt.NDArray[np.float64]) -> None:
        """Add each feature with the signs that its hash gives; `row` is in order."""
        if not len(row):
            return
        blocks = range(-(-self._dim // 64))
        bits = np.stack([mix(mix(hashes + np.uint64(block))) for block in blocks], axis=1).astype("<u8").view(np.uint8)
        signs = np.unpackbits(bits, axis=1)[:, : self._dim] * 2.0 - 1.0
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        result[row[starts]] += np.add.reduceat(signs * weight[:, None], starts)


class ModelEmbeddings:
    """Vectors from a local encoder. Raises MissingExtraError without torch or transformers, ModelError for a folder that cannot serve."""

    def __init__(self, folder: Path) -> None:
        config = _checked(folder)
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtraError(error.name or "transformers", EXTRA, f"the sentence model {folder}") from error
        self._torch: Any = torch
        self._uses_first, self._max_tokens = config
        files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
        self._name = "model-" + hashlib.sha256("".join(file_sha256(file) for file in files).encode()).hexdigest()[:16]
        try:
            with _quiet(transformers.utils.logging):
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                self._model: Any = transformers.AutoModel.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
                ).eval()
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"sentence model {folder} cannot be read: {error}") from error

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._model.config.hidden_size)

    @property
    def name(self) -> str:
        """Hash of the folder's configuration and weights."""
        return self._name

    def vectors(self, texts: pa.Array) -> Vectors:
        """One unit row per text."""
        parts = [np.zeros((0, self.dim), np.float32)]
        listed = texts.to_pylist()
        for start in range(0, len(listed), _MODEL_BATCH):
            parts.append(self._some([text or "" for text in listed[start : start + _MODEL_BATCH]]))
        return np.concatenate(parts)

    def _some(self, texts: list[str]) -> Vectors:
        torch = self._torch
        read = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        with torch.inference_mode():
            states = self._model(**read).last_hidden_state
            if self._uses_first:
                pooled = states[:, 0]
            else:
                mask = read["attention_mask"].unsqueeze(-1).to(states.dtype)
                pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            return np.asarray(torch.nn.functional.normalize(pooled, dim=1).float().numpy(), np.float32)


def load_embeddings(folder: Path | None = None, *, counts: WordCounts | None = None) -> Embeddings:
    """The model in `folder`, or without one the embeddings that need nothing."""
    return LexicalEmbeddings(counts=counts) if folder is None else ModelEmbeddings(folder)


def codes(vectors: Vectors, num_codes: int, bits: int, *, seed: int = 0) -> Hashes:
    """Locality-sensitive codes, `num_codes` per vector: signs of `bits` random projections each (Charikar, "Similarity estimation
    techniques from rounding algorithms", 2002). Vectors at angle t share one with probability (1 - t / pi)^bits."""
    planes = np.random.default_rng(seed).standard_normal((vectors.shape[1], num_codes * bits)).astype(np.float32)
    signs = (vectors @ planes > 0).reshape(len(vectors), num_codes, bits).astype(np.uint64)
    numbers = (signs << np.arange(bits, dtype=np.uint64)).sum(axis=2, dtype=np.uint64)
    return np.asarray(mix(mix(numbers + np.uint64(1)) ^ np.arange(num_codes, dtype=np.uint64)))


def _words(texts: pa.Array) -> tuple[npt.NDArray[np.int64], pa.LargeStringArray]:
    split = pc.split_pattern(comparison_key(pc.fill_null(texts.cast(pa.large_string()), "")), " ")
    row = np.repeat(np.arange(len(texts)), np.diff(np.asarray(split.offsets)))
    words = split.flatten()
    some = np.asarray(pc.binary_length(words)) > 0
    return row[some], words.filter(pa.array(some))


def _scalar(text: str) -> pa.LargeStringScalar:
    return pa.scalar(text, pa.large_string())


def _bucket(hashes: Hashes) -> npt.NDArray[np.int64]:
    return (hashes % np.uint64(_BUCKETS)).astype(np.int64)


@contextmanager
def _quiet(foreign: Any) -> Iterator[None]:
    """Without the library's own progress bars: commands show theirs, and what is piped on stays clean."""
    was_shown = foreign.is_progress_bar_enabled()
    foreign.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            foreign.enable_progress_bar()


def _checked(folder: Path) -> tuple[bool, int]:
    """Whether the first state is the sentence's, and how many tokens are read. Only weights in safetensors will do."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"sentence model {folder} has no config.json; give a folder as sentence-transformers or transformers saves it")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"sentence model {folder} has no .safetensors file; other weight formats can run code and are not read")
    pooling, limits = folder / "1_Pooling" / "config.json", folder / "sentence_bert_config.json"
    try:
        uses_first = bool(json.loads(pooling.read_text()).get("pooling_mode_cls_token")) if pooling.is_file() else False
        max_tokens = int(json.loads(limits.read_text()).get("max_seq_length") or 256) if limits.is_file() else 256
    except (json.JSONDecodeError, ValueError) as error:
        raise ModelError(f"sentence model {folder}: {error}") from error
    return uses_first, max_tokens
