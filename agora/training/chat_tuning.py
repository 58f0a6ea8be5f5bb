"""Chat tuning: a model that has learned text learns to answer. Goes in: a model folder and conversations. Comes out: a run and an exported
model whose loss was taken on what the assistant says only.

    agora train chat dialogues.parquet --base main --name main-chat
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agora.cluster.layout import Layout
from agora.corpus.deletions import refuse_stale_corpus
from agora.errors import ConfigError, DataError
from agora.log import Progress, silent
from agora.model.find import find_model
from agora.model.hf import load_hf, read_hf_config, refuse_other_content, weight_files
from agora.settings import Workspace
from agora.tokenizer.bpe import PAD, Tokenizer
from agora.tokenizer.chat import ChatTokens
from agora.training.chat_data import ConversationSet, encode, read_conversations, thread_conversations
from agora.training.config import TrainingConfig
from agora.training.data import ChatBatches
from agora.training.export import export_run
from agora.training.fit import refuse_what_cannot_fit
from agora.training.loop import Task, run_task
from agora.training.pretrain import TrainedModel
from agora.training.source import chat_source
from agora.training.world import is_first_process

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
    run_dir, model_dir = workspace.folder("runs", name), workspace.folder("models", name)
    refuse_other_content(model_dir)
    base_dir = find_model(workspace, base)
    if base_dir.resolve() == model_dir.resolve():
        raise ConfigError(f"--name {name} is the model that is tuned; choose another name, e.g. {name}-chat")
    corpus_dir = workspace.folder("corpus", corpus) if corpus else None
    origins = (*(path.name for path in conversations), *([f"threads of corpus {corpus}"] if corpus else []))
    found = read_conversations(conversations, progress=progress) if conversations else ConversationSet(conversations=[])
    if corpus_dir is not None:
        refuse_stale_corpus(corpus_dir, workspace.folder("posts"))
        found += thread_conversations(corpus_dir, progress=progress)
    task, report = _task(base_dir, found, training_config, ", ".join(origins), command, progress)
    source = chat_source(
        base_dir, conversations=origins, report=report, corpus=corpus_dir, licences=licences, recipe=recipe,
        tokenizer_hash=task.data["tokenizer_hash"],
    )  # fmt: skip
    trained = run_task(run_dir, dataclasses.replace(task, source=source, layout=layout or Layout()), progress=progress, resume=resume)
    if trained.summary.state != "finished":
        return TunedModel(trained=TrainedModel(summary=trained.summary, model_dir=None), conversations=report)
    if is_first_process():
        export_run(trained, model_dir, progress=progress)
    return TunedModel(trained=TrainedModel(summary=trained.summary, model_dir=model_dir), conversations=report)


def _task(
    base_dir: Path, found: ConversationSet, config: TrainingConfig, origin: str, command: str, progress: Progress
) -> tuple[Task, dict[str, Any]]:
    """What is to be learned from `found`, and the account of it."""
    if not found.conversations:
        raise DataError(f"no usable conversation: {_reasons(found.skipped)} (in {origin})")
    tokenizer, model_config = Tokenizer.load(base_dir), read_hf_config(base_dir)
    refuse_what_cannot_fit(model_config, config, Layout())
    if config.seq_len > model_config.max_seq_len:
        raise ConfigError(f"chat.seq_len={config.seq_len} is above the {model_config.max_seq_len} positions of {base_dir}")
    learned, kept_back = found.split(HELDOUT_SHARE)
    encoded = encode(tokenizer, learned.conversations, max_tokens=config.seq_len, progress=progress)
    if not encoded.conversations:
        why = {"held_out": len(kept_back.conversations), f"longer than chat.seq_len={config.seq_len} tokens": encoded.report["too_long"]}
        raise DataError(f"no usable conversation: {_reasons({**found.skipped, **why})} (in {origin}); give more, or a larger chat.seq_len")
    heldout = _within(encode(tokenizer, kept_back.conversations, max_tokens=config.seq_len).conversations, config.evaluate_tokens)
    if not heldout:
        logger.warning("none of the %d conversations is held out: the run will not tell a held-out loss", len(found.conversations))
    shape = {
        "seq_len": config.seq_len, "micro_batch": config.micro_batch, "seed": config.seed, "pad_id": tokenizer.special[PAD],
    }  # fmt: skip
    task = Task(
        kind="chat", model=model_config, training=config, batches=ChatBatches(encoded.conversations, **shape),
        heldout=ChatBatches(heldout, **shape).epoch_batches() if heldout else [], make_model=lambda: load_hf(base_dir),
        tokenizer_dir=base_dir, command=command,
        data={
            "base_sha256": files_sha256(weight_files(base_dir)), "tokenizer_hash": tokenizer.hash,
            "conversations": _content(encoded.conversations),
        },
    )  # fmt: skip
    return task, {**encoded.report, "heldout": len(kept_back.conversations), "skipped": found.skipped}


def _reasons(left_out: Mapping[str, int]) -> str:
    counts = [f"{count:,} {reason}" for reason, count in sorted(left_out.items(), key=lambda item: -item[1]) if count]
    return f"left out {', '.join(counts)}" if counts else "there is none"


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


def files_sha256(files: Sequence[Path]) -> str:
    """Of the contents of `files`, in their order."""
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
