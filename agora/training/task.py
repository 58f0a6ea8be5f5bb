"""What a run is asked to learn, and what it gives back. The loop carries a Task out whatever its kind: pre-training, chat, preferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agora.cluster.layout import Layout
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.transformer import Transformer
from agora.training.config import TrainingConfig
from agora.training.data import Batches, ShardBatches, TokenShards, heldout_batches
from agora.training.run_folder import RunFolder
from agora.training.sharded_step import ShardedStep
from agora.training.source import ModelSource
from agora.training.step import Batch, TrainingStep
from agora.training.summary import TrainingSummary
from agora.training.world import World

Prepare = Callable[[TrainingStep | ShardedStep, RunFolder, World, Callable[[], None]], None]
"""Step, the first process's run folder, the processes; the last one is to be called while it works, so that nobody takes it for dead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One thing to learn. `data` identifies what `batches` read: a resumed run must find the same. `make_model` gives the weights
    that training starts from. `source` is what model cards say; `heldout_bytes` the text that the targets of `heldout` stand for,
    where bits per byte mean something. `command` is what a person types to go on. `layout` says how several processes share the work.
    Weights of `fresh_seed` are fresh ones, of which each of several processes draws its own part; `make_model` is then for one alone.
    `prepare` gets the step with the weights that training starts from, each time a process begins, before any checkpoint is read."""

    kind: Literal["pretrain", "chat", "preferences"]
    model: ModelConfig
    training: TrainingConfig
    batches: Batches
    heldout: Sequence[Batch]
    make_model: Callable[[], Transformer]
    tokenizer_dir: Path
    data: Mapping[str, Any] = field(default_factory=dict)
    source: ModelSource = field(default_factory=ModelSource)
    heldout_bytes: int | None = None
    command: str = ""
    layout: Layout = field(default_factory=Layout)
    fresh_seed: int | None = None
    prepare: Prepare | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """A summary and the weights it speaks of; those of a divided run are in its last checkpoint only."""

    summary: TrainingSummary
    model: Transformer | None


def pretraining_task(
    *,
    model_config: ModelConfig,
    training_config: TrainingConfig,
    shards: TokenShards,
    heldout: TokenShards | None,
    tokenizer_dir: Path,
    data: Mapping[str, Any],
    command: str,
) -> Task:
    """The task of learning `shards` from fresh weights."""
    c = training_config
    if c.seq_len > model_config.max_seq_len:
        raise ConfigError(f"training.seq_len={c.seq_len} is above model.max_seq_len={model_config.max_seq_len}")
    shape: dict[str, Any] = {"seq_len": c.seq_len, "micro_batch": c.micro_batch, "document_aware": c.document_aware}
    return Task(
        kind="pretrain", model=model_config, training=c,
        batches=ShardBatches(shards, seed=c.seed, **shape),
        heldout=heldout_batches(heldout, max_tokens=c.evaluate_tokens, **shape) if heldout is not None else [],
        make_model=lambda: Transformer(model_config, seed=c.seed), fresh_seed=c.seed,
        tokenizer_dir=tokenizer_dir, data={"tokens": int(shards.num_tokens), **data}, command=command,
    )  # fmt: skip
