"""Chat tuning: a model that has learned text learns to answer. Goes in: a model folder and conversations. Comes out: a run and an exported
model whose loss was taken on what the assistant says only.

    agora train chat dialogues.parquet --base main --name main-chat
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agora.cluster.layout import Layout
from agora.corpus.deletions import refuse_stale_corpus
from agora.errors import DataError
from agora.log import Progress, silent
from agora.model.hf import load_hf
from agora.settings import Workspace
from agora.tokenizer.bpe import PAD
from agora.tokenizer.chat import ChatTokens
from agora.training.chat_data import ConversationSet, encode, read_conversations, thread_conversations
from agora.training.config import TrainingConfig
from agora.training.data import ChatBatches
from agora.training.export import TrainedModel, train_and_export
from agora.training.fit import refuse_what_cannot_fit
from agora.training.source import chat_source
from agora.training.task import Task
from agora.training.tuning import Base, find_base, left_out

HELDOUT_SHARE: Final = 0.03
NOTHING: Final = "there is none"

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
    conversations: Sequence[Path] = (),
    corpus: str | None = None,
    training_config: TrainingConfig,
    recipe: str = "",
    licences: Sequence[str] = (),
    progress: Progress = silent,
    resume: bool = True,
    command: str = "",
    layout: Layout | None = None,
) -> TunedModel:
    """Tune `base` (a model of the workspace or a model folder) into `models/NAME`, on files of conversations and on the threads of
    `corpus/CORPUS`. Raises ModelError for a base that cannot be used, DataError without a usable conversation, and as `loop.train` does.
    """
    start = find_base(workspace, name, base, example="chat")
    corpus_dir = workspace.folder("corpus", corpus) if corpus else None
    origins = (*(path.name for path in conversations), *([f"threads of corpus {corpus}"] if corpus else []))
    found = read_conversations(conversations, progress=progress) if conversations else ConversationSet(conversations=[])
    if corpus_dir is not None:
        refuse_stale_corpus(corpus_dir, workspace.folder("posts"))
        found += thread_conversations(corpus_dir, progress=progress)
    task, report = _task(start, found, training_config, ", ".join(origins), command, progress)
    source = chat_source(
        start.folder, conversations=origins, report=report, corpus=corpus_dir, licences=licences, recipe=recipe,
        tokenizer_hash=task.data["tokenizer_hash"],
    )  # fmt: skip
    task = dataclasses.replace(task, source=source, layout=layout or Layout())
    run_dir, model_dir = workspace.folder("runs", name), workspace.folder("models", name)
    trained = train_and_export(run_dir, model_dir, task, progress=progress, resume=resume)
    return TunedModel(trained=trained, conversations=report)


def _task(
    base: Base, found: ConversationSet, config: TrainingConfig, origin: str, command: str, progress: Progress
) -> tuple[Task, dict[str, Any]]:
    """What is to be learned from `found`, and the account of it."""
    if not found.conversations:
        raise DataError(f"no usable conversation: {left_out(found.skipped, nothing=NOTHING)} (in {origin})")
    tokenizer = base.tokenizer
    refuse_what_cannot_fit(base.config, config, Layout())
    base.refuse_longer("chat.seq_len", config.seq_len)
    learned, kept_back = found.split(HELDOUT_SHARE)
    encoded = encode(tokenizer, learned.conversations, max_tokens=config.seq_len, progress=progress)
    if not encoded.conversations:
        why = {"held_out": len(kept_back.conversations), f"longer than chat.seq_len={config.seq_len} tokens": encoded.report["too_long"]}
        told = left_out({**found.skipped, **why}, nothing=NOTHING)
        raise DataError(f"no usable conversation: {told} (in {origin}); give more, or a larger chat.seq_len")
    heldout = _within(encode(tokenizer, kept_back.conversations, max_tokens=config.seq_len).conversations, config.evaluate_tokens)
    if not heldout:
        logger.warning("none of the %d conversations is held out: the run will not tell a held-out loss", len(found.conversations))
    shape = {
        "seq_len": config.seq_len, "micro_batch": config.micro_batch, "seed": config.seed, "pad_id": tokenizer.special[PAD],
    }  # fmt: skip
    task = Task(
        kind="chat", model=base.config, training=config, batches=ChatBatches(encoded.conversations, **shape),
        heldout=ChatBatches(heldout, **shape).epoch_batches() if heldout else [], make_model=lambda: load_hf(base.folder),
        tokenizer_dir=base.folder, command=command,
        data={
            "base_sha256": base.sha256(), "tokenizer_hash": tokenizer.hash,
            "conversations": _content(encoded.conversations),
        },
    )  # fmt: skip
    return task, {**encoded.report, "heldout": len(kept_back.conversations), "skipped": found.skipped}


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


def _content(conversations: Sequence[ChatTokens]) -> str:
    digest = hashlib.sha256()
    for conversation in conversations:
        digest.update(repr(conversation.ids).encode())
    return digest.hexdigest()
