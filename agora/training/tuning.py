"""What chat tuning and tuning by preferences share: the model that is tuned, and the account of what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agora.errors import ConfigError, ModelError
from agora.model.config import ModelConfig
from agora.model.find import find_model
from agora.model.hf import read_hf_config, refuse_other_content, weight_files
from agora.settings import Workspace
from agora.tokenizer.bpe import Tokenizer


@dataclass(frozen=True, slots=True)
class Base:
    """The model that tuning starts from."""

    folder: Path
    tokenizer: Tokenizer
    config: ModelConfig

    def sha256(self) -> str:
        """Of its weights, file by file."""
        digest = hashlib.sha256()
        for path in weight_files(self.folder):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def refuse_longer(self, key: str, seq_len: int) -> None:
        """Raises ConfigError when rows of `seq_len`, as the setting `key` asks, are longer than the model can read."""
        if seq_len > self.config.max_seq_len:
            raise ConfigError(f"{key}={seq_len} is above the {self.config.max_seq_len} positions of {self.folder}")


def find_base(workspace: Workspace, name: str, base: str, *, example: str) -> Base:
    """`base` is a model of the workspace or a model folder; `name` what it will be tuned into, like `example`.

    Raises ModelError for a base that cannot be used and for other content in `models/NAME`, ConfigError when both are the same.
    """
    model_dir = workspace.folder("models", name)
    refuse_other_content(model_dir)
    folder = find_model(workspace, base)
    if folder.resolve() == model_dir.resolve():
        raise ConfigError(f"--name {name} is the model that is tuned; choose another name, e.g. {name}-{example}")
    tokenizer, config = Tokenizer.load(folder), read_hf_config(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, but the model only {config.vocab_size}; "
            "the folder mixes two models, export it again"
        )
    return Base(folder, tokenizer, config)


def left_out(counts: Mapping[str, int], *, nothing: str) -> str:
    """Why nothing is left to learn from, the most frequent reason first; `nothing` where nothing was given."""
    reasons = [f"{count:,} {reason}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]) if count]
    return f"left out {', '.join(reasons)}" if reasons else nothing
