"""Chat tuning: a model that has learned text learns to answer. Goes in: a model folder and conversations. Comes out: a run and an exported
model whose loss was taken on what the assistant says only.

    agora train chat dialogues.parquet --base main --name main-chat
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agora.errors import ConfigError, DataError, ModelError
from agora.log import Progress, silent
from agora.model.hf import load_hf, read_hf_config, weight_files
from agora.settings import Workspace
from agora.tokenizer.bpe import PAD, Tokenizer
from agora.tokenizer.chat import ChatTokens
from agora.training.card import ModelSource
from agora.training.chat_data import encode, read_conversations
from agora.training.config import TrainingConfig
from agora.training.data import ChatBatches
from agora.training.export import export_run
from agora.training.loop import Task, run_task
from agora.training.pretrain import TrainedModel

HELDOUT_SHARE = 0.03

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedModel:
    """The tuned model, and what became of the conversations: read, left out by reason, truncated, tokens."""

    trained: TrainedModel
    conversations: dict[str, Any]


def tune_chat(
    workspace: Workspace,
    *,
    name: str,
    base: str,
    conversations: Sequence[Path],
    training_config: TrainingConfig,
    recipe: str = "",
    licences: Sequence[str] = (),
    progress: Progress = silent,
    resume: bool = True,
    command: str = "",
) -> TunedModel:
    """Tune `base` (a model of the workspace, a run with one, or a model folder) into `models/NAME`.

    Raises ModelError for a base that cannot be used, DataError without a usable conversation, and as `loop.train` does.
    """
    base_dir = find_model(workspace, base)
    if base_dir.resolve() == workspace.folder("models", name).resolve():
        raise ConfigError(f"--name {name} is the model that is tuned; choose another name, e.g. {name}-chat")
    tokenizer = Tokenizer.load(base_dir)
    model_config = read_hf_config(base_dir)
    c = training_config
    if c.seq_len > model_config.max_seq_len:
        raise ConfigError(f"training.seq_len={c.seq_len} is above the {model_config.max_seq_len} positions of {base_dir}")
    found = read_conversations(conversations, progress=progress)
    learned, kept_back = found.split(HELDOUT_SHARE)
    encoded = encode(tokenizer, learned.conversations, max_tokens=c.seq_len, progress=progress)
    if not encoded.conversations:
        raise DataError(
            f"no conversation in {', '.join(map(str, conversations))} can be trained on: left out {found.skipped or encoded.report}"
        )
    heldout = encode(tokenizer, kept_back.conversations, max_tokens=c.seq_len)
    shape = {"seq_len": c.seq_len, "micro_batch": c.micro_batch, "seed": c.seed, "pad_id": tokenizer.special[PAD]}
    if not heldout.conversations:
        logger.warning("none of the %d conversations is held out: the run will not tell a held-out loss", len(found.conversations))
    report = {**encoded.report, "heldout": heldout.report["conversations"], "skipped": found.skipped}
    task = Task(
        kind="chat", model=model_config, training=c,
        batches=ChatBatches(encoded.conversations, **shape),
        heldout=ChatBatches(_within(heldout.conversations, c.evaluate_tokens), **shape).epoch_batches() if heldout.conversations else [],
        make_model=lambda: load_hf(base_dir), tokenizer_dir=base_dir, command=command,
        data={
            "base_sha256": _sha256(weight_files(base_dir)), "tokenizer_hash": tokenizer.hash,
            "conversations": _content(encoded.conversations),
        },
    )  # fmt: skip
    trained = run_task(workspace.folder("runs", name), task, progress=progress, resume=resume)
    if trained.summary.state != "finished":
        return TunedModel(trained=TrainedModel(summary=trained.summary, model_dir=None), conversations=report)
    source = ModelSource(
        recipe=recipe, base=base_dir, conversations=tuple(path.name for path in conversations), conversation_report=report,
        licences=tuple(licences),
    )  # fmt: skip
    model_dir = workspace.folder("models", name)
    export_run(trained, model_dir, source, training_config=c, progress=progress)
    return TunedModel(trained=TrainedModel(summary=trained.summary, model_dir=model_dir), conversations=report)


def find_model(workspace: Workspace, base: str) -> Path:
    """A model folder by name in the workspace or by path. Raises ModelError."""
    if Path(base).name == base and (workspace.folder("models", base) / "config.json").exists():
        return workspace.folder("models", base)
    if (Path(base) / "config.json").exists():
        return Path(base)
    models = workspace.folder("models")
    known = sorted(path.name for path in models.iterdir() if (path / "config.json").exists()) if models.is_dir() else []
    raise ModelError(
        f"no model {base!r} in {models} (there: {', '.join(known) or 'none'}) nor a model folder of that path; see agora train list"
    )


def _within(conversations: Sequence[ChatTokens], max_tokens: int) -> list[ChatTokens]:
    """The first conversations, together at most `max_tokens`, and one at least."""
    chosen: list[ChatTokens] = []
    num_tokens = 0
    for conversation in conversations:
        num_tokens += len(conversation.ids)
        if chosen and num_tokens > max_tokens:
            break
        chosen.append(conversation)
    return chosen


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _content(conversations: Sequence[ChatTokens]) -> str:
    digest = hashlib.sha256()
    for conversation in conversations:
        digest.update(repr(conversation.ids).encode())
    return digest.hexdigest()
