"""Small real things for tests of training: shards in memory-mapped files, a tokenizer folder, a tiny model."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig

END = 0  # <|endoftext|> of these shards

TINY_MODEL = ModelConfig(vocab_size=64, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, hidden_dim=32, max_seq_len=32)
TINY_TRAINING = TrainingConfig(
    steps=12, batch_tokens=64, micro_batch=2, seq_len=16, dtype="float32", compile="off", evaluate_every=4, evaluate_tokens=128,
    checkpoint_every_steps=4, checkpoint_every_s=None, keep=3, seed=7,
)  # fmt: skip


class FileShards:
    """Documents of the given lengths in a memory-mapped file; each ends with END, and other tokens are drawn from `seed`."""

    def __init__(self, path: Path, lengths: list[int], *, vocab_size: int = 64, seed: int = 0) -> None:
        tokens = np.random.default_rng(seed).integers(1, vocab_size, size=sum(lengths), dtype=np.uint16)
        self.document_starts: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        tokens[np.cumsum(lengths) - 1] = END
        tokens.tofile(path)
        self._map = np.memmap(path, dtype=np.uint16, mode="r")

    @property
    def num_tokens(self) -> int:
        return len(self._map)

    def tokens(self, start: int, stop: int) -> npt.NDArray[np.uint16]:
        return np.asarray(self._map[start:stop])


def some_shards(folder: Path, *, num_documents: int = 60, seed: int = 1) -> FileShards:
    """Documents of 2 to 24 tokens."""
    lengths = np.random.default_rng(seed).integers(2, 25, size=num_documents).tolist()
    return FileShards(folder / f"tokens-{seed}.bin", lengths, seed=seed)


def tokenizer_folder(folder: Path) -> Path:
    """A folder with a tokenizer.json, as far as the loop looks into it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def full_after(num_bytes: int) -> Callable[[int, bytes], int]:
    """An os.write that takes `num_bytes` in all, and then says what the system says when a file may grow no more."""
    left, write = [num_bytes], os.write

    def limited(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        written = write(descriptor, data[: left[0]])
        left[0] -= written
        return written

    return limited


class EachStep:
    """A progress that calls `action(number of steps done)` after every step."""

    def __init__(self, action: Any) -> None:
        self._action = action

    @contextmanager
    def step(self, title: str, *, total: int | None = None, unit: str = "") -> Iterator[EachStep]:
        self._done = 0
        yield self

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        self._action(self._done)

    def note(self, text: str) -> None:
        pass
