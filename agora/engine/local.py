"""A model of this machine as a LanguageModel. Goes in: an exported model folder (Hugging Face form with its tokenizer).

model = load_local_model(Path("workspace/models/main"))
for delta in model.chat([{"role": "user", "content": "hello"}], SamplingConfig()):
    print(delta.text, end="")
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from agora.engine.generate import MAX_ACTIVE, MAX_WAITING, Generator
from agora.engine.interface import Delta
from agora.engine.sampling import SamplingConfig
from agora.errors import ModelError, UsageError
from agora.model.hf import load_hf
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer, render_chat


class LocalModel:
    """Chat and completion on one Generator."""

    def __init__(self, name: str, generator: Generator, *, created: int = 0) -> None:
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
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    max_active: int = MAX_ACTIVE,
    max_waiting: int = MAX_WAITING,
) -> LocalModel:
    """Open an exported model folder; `name` is the folder's name unless given. Raises ModelError."""
    model, tokenizer = load_model_folder(folder, dtype=dtype, device=device)
    generator = Generator(model, tokenizer, max_active=max_active, max_waiting=max_waiting)
    return LocalModel(name or folder.resolve().name, generator, created=int((folder / "config.json").stat().st_mtime))


def parse_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16`. Raises UsageError for another word."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise UsageError(f"--dtype {name!r} is not one of {', '.join(known)}")
    return known[name]


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
