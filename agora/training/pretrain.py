"""From packed shards of a workspace to an exported model. Goes in: names inside the workspace and configurations. Comes out: a Hugging
Face folder in models/NAME with its model card. Killed at any moment, the same call finishes what is left.

    agora train pretrain laptop --name main
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from agora.cluster.layout import Layout
from agora.corpus.deletions import refuse_stale_shards
from agora.corpus.document_files import HELD_OUT
from agora.errors import ConfigError
from agora.log import Progress, silent
from agora.model.config import ModelConfig
from agora.model.hf import refuse_other_content
from agora.settings import Workspace
from agora.tokenizer.bpe import Tokenizer
from agora.tokenizer.shards import MANIFEST_FILE, ShardSet
from agora.training.config import TrainingConfig
from agora.training.evaluate import target_bytes
from agora.training.export import TrainedModel, train_and_export
from agora.training.fit import refuse_what_cannot_fit
from agora.training.source import corpus_source
from agora.training.task import pretraining_task
from agora.training.world import place_among_processes

logger = logging.getLogger(__name__)


def pretrain(
    workspace: Workspace,
    *,
    name: str,
    data: str,
    model_config: ModelConfig,
    training_config: TrainingConfig,
    vocab_size: int | None = None,
    recipe: str = "",
    progress: Progress = silent,
    resume: bool = True,
    command: str = "",
    layout: Layout | None = None,
) -> TrainedModel:
    """Train `runs/NAME` on `shards/DATA` with `tokenizer/DATA`, watched on `shards/DATA-heldout`, and export it to `models/NAME`.

    The model takes the vocabulary of the tokenizer, with a warning when `vocab_size`, what the user asked for, is another one.
    Raises UsageError for a name that cannot be one and for shards packed before posts were deleted, ModelError for other content in
    `models/NAME`, DataError for missing or damaged shards, and as `loop.train` does.
    """
    run_dir, model_dir = workspace.folder("runs", name), workspace.folder("models", name)
    refuse_other_content(model_dir)
    refuse_what_cannot_fit(model_config, training_config, layout or Layout(), recipe=recipe)
    tokenizer_dir = workspace.folder("tokenizer", data)
    tokenizer = Tokenizer.load(tokenizer_dir)
    shards = ShardSet.open(workspace.folder("shards", data), tokenizer=tokenizer, share=place_among_processes())
    refuse_stale_shards(workspace.folder("shards", data), shards.manifest.deletions, workspace.folder("posts"))
    heldout = open_heldout(workspace.folder("shards", f"{data}-{HELD_OUT}"), tokenizer)
    task = pretraining_task(
        model_config=with_vocabulary(model_config, tokenizer.vocab_size, vocab_size), training_config=training_config,
        shards=shards, heldout=heldout, tokenizer_dir=tokenizer_dir, command=command,
        data={"name": data, "tokenizer_hash": tokenizer.hash, "shards_sha256": [shard.sha256 for shard in shards.manifest.shards]},
    )  # fmt: skip
    source = corpus_source(workspace.folder("corpus", data), recipe=recipe, tokenizer_hash=tokenizer.hash)
    task = dataclasses.replace(task, layout=layout or Layout(), source=source, heldout_bytes=target_bytes(task.heldout, tokenizer))
    return train_and_export(run_dir, model_dir, task, progress=progress, resume=resume)


def open_heldout(folder: Path, tokenizer: Tokenizer) -> ShardSet | None:
    """The held-out shards, or None with a warning: a run without them tells only its training loss."""
    if not (folder / MANIFEST_FILE).exists():
        logger.warning("no held-out shards in %s: the run will not tell a held-out loss", folder)
        return None
    shards = ShardSet.open(folder, tokenizer=tokenizer, share=place_among_processes())
    if shards.num_tokens < 2:
        logger.warning("the held-out shards in %s are empty: the run will not tell a held-out loss", folder)
        return None
    return shards


def with_vocabulary(config: ModelConfig, vocab_size: int, asked: int | None = None) -> ModelConfig:
    """`config` for a tokenizer of that size; says so when the user had asked for another. Raises ConfigError for none."""
    if vocab_size < 1:
        raise ConfigError(f"the tokenizer has {vocab_size} tokens")
    if asked is not None and asked != vocab_size:
        logger.warning("model.vocab_size=%d becomes %d, the size of the tokenizer", asked, vocab_size)
    return dataclasses.replace(config, vocab_size=vocab_size)
