"""A model of this machine as a LanguageModel. Goes in: an exported model folder (Hugging Face form with its tokenizer).

model = load_local_model(Path("workspace/models/main"))
for delta in model.chat([{"role": "user", "content": "hello"}], SamplingConfig()):
    print(delta.text, end="")
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from agora.engine import native
from agora.engine.batched import MAX_ACTIVE, MAX_WAITING, BatchEngine
from agora.engine.generate import Generator
from agora.engine.interface import Delta
from agora.engine.native import NativeNetwork
from agora.engine.pages import PAGE_TOKENS, num_pages_for
from agora.engine.plain import PlainNetwork
from agora.engine.sampling import SamplingConfig
from agora.engine.step import Network
from agora.errors import ModelError, UsageError
from agora.model.counts import kv_bytes_per_token
from agora.model.hf import load_hf
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer, render_chat

PRECISIONS: Final = ("auto", "int8", "bfloat16", "float16", "float32")
CPU_CACHE_BYTES: Final = 1 << 30
GPU_CACHE_SHARE: Final = 0.8
"""Of the memory that is free once the weights are there."""
CPU_ROWS, GPU_ROWS = 256, 2048
"""Tokens of one step at most: on a GPU many more pass in the time in which the weights are read."""


class LocalModel:
    """Chat and completion on one engine (or on the slow reference, a Generator)."""

    def __init__(self, name: str, generator: BatchEngine | Generator, *, created: int = 0) -> None:
        self.name = name
        self.created = created
        self.generator = generator

    @property
    def context_tokens(self) -> int:
        return self.generator.context_tokens

    def chat(
        self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """The assistant's answer. Contents are plain text: no text in them becomes a role or another special token."""
        prompt = render_chat(self.generator.tokenizer, [dict(message) for message in messages], add_generation_prompt=True)
        return self.generator.stream(prompt.ids, sampling, cancelled=cancelled)

    def complete(
        self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """What follows `prompt`. Text begins a document, so <|endoftext|> goes before it; tokens are taken as they are."""
        tokenizer = self.generator.tokenizer
        tokens = [tokenizer.special["<|endoftext|>"], *tokenizer.encode(prompt)] if isinstance(prompt, str) else prompt
        return self.generator.stream(tokens, sampling, cancelled=cancelled)


def load_model_folder(folder: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Transformer, Tokenizer]:
    """Network and tokenizer of an exported folder. Raises ModelError when they do not belong together."""
    model, tokenizer = load_hf(folder, dtype=dtype).to(device), Tokenizer.load(folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, but the model only {model.config.vocab_size}; "
            "the folder mixes two models, export it again"
        )
    return model.eval(), tokenizer


def load_local_model(
    folder: Path,
    *,
    name: str | None = None,
    precision: str = "auto",
    device: str = "cpu",
    max_active: int = MAX_ACTIVE,
    max_waiting: int = MAX_WAITING,
    cache_bytes: int | None = None,
) -> LocalModel:
    """Open an exported model folder; `name` is the folder's name unless given. Raises ModelError, UsageError.

    `precision`: auto, int8 (weights; CPU only), bfloat16, float16, float32. `cache_bytes`: memory of keys and values.
    """
    started = device == "cpu"
    model, tokenizer = load_model_folder(folder, dtype=torch.float32 if started else _dtype(precision, device), device=device)
    network = make_network(model, precision=precision, max_active=max_active, cache_bytes=cache_bytes)
    engine = BatchEngine(network, tokenizer, max_active=max_active, max_waiting=max_waiting)
    return LocalModel(name or folder.resolve().name, engine, created=int((folder / "config.json").stat().st_mtime))


def make_network(model: Transformer, *, precision: str = "auto", max_active: int = MAX_ACTIVE, cache_bytes: int | None = None) -> Network:
    """The fastest network for where `model` lies: native.py on a CPU (with its own copy of the weights), plain.py elsewhere.

    On a CPU `auto` is int8, or float32 where the kernel cannot run; on a GPU bfloat16. Raises UsageError for int8 where it cannot be.
    """
    device = model.embedding.device
    if device.type == "cpu":
        chosen = native.AUTO if precision == "auto" and native.is_possible(model.config, native.AUTO) else precision
        for known in native.PRECISIONS:
            if chosen == known and native.is_possible(model.config, known):
                num_pages = _num_pages(model, native.CACHE_BYTES[known], max_active, cache_bytes or CPU_CACHE_BYTES)
                return NativeNetwork(model, precision=known, num_pages=num_pages, max_rows=max(CPU_ROWS, max_active))
    if precision == "int8":
        raise UsageError(f"precision int8 runs on CPUs with a C compiler, for dense networks; not here ({device}); take bfloat16 or auto")
    model = model.to(_dtype(precision, device.type))
    free = cache_bytes or CPU_CACHE_BYTES
    if device.type == "cuda" and cache_bytes is None:
        free = int(torch.cuda.mem_get_info(device)[0] * GPU_CACHE_SHARE)
    num_pages = _num_pages(model, model.embedding.dtype.itemsize, max_active, free)
    return PlainNetwork(model, num_pages=num_pages, max_rows=max(CPU_ROWS if device.type == "cpu" else GPU_ROWS, max_active))


def _num_pages(model: Transformer, number_bytes: int, max_active: int, cache_bytes: int) -> int:
    """Pages that fit into `cache_bytes`, no more than all sequences could fill."""
    page_bytes = kv_bytes_per_token(model.config, number_bytes) * PAGE_TOKENS
    return int(max(2, min(cache_bytes // page_bytes, num_pages_for(model.config.max_seq_len) * max_active)))


def _dtype(precision: str, device: str) -> torch.dtype:
    if precision == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    return parse_dtype(precision)


def parse_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16`. Raises UsageError for another word."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise UsageError(f"--dtype {name!r} is not one of {', '.join(known)}")
    return known[name]


def parse_precision(name: str) -> str:
    """`auto`, `int8`, `bfloat16`, `float16` or `float32`. Raises UsageError for another word."""
    if name not in PRECISIONS:
        raise UsageError(f"--dtype {name!r} is not one of {', '.join(PRECISIONS)}")
    return name


def parse_device(name: str) -> str:
    """`cpu`, `cuda`, `cuda:1` or `mps`. Raises UsageError when this machine has no such device."""
    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if name not in present:
        raise UsageError(f"--device {name!r} is not here; present: {', '.join(present)}")
    return name
