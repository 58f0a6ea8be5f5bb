"""From a finished run to a model folder for everything else: weights, tokenizer, model card. What is exported already stays as it is.

Goes in: a `Trained` run. Comes out: models/NAME, whole or absent, and RUN/export.json that says what it holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agora.config import from_dict, to_dict
from agora.errors import CheckpointError, ModelError
from agora.files import file_sha256
from agora.log import Progress, silent
from agora.model.config import ModelConfig
from agora.model.hf import save_hf, weight_files
from agora.training.card import run_card
from agora.training.checkpoint import open_latest_checkpoint
from agora.training.export_checkpoint import checkpoint_place, write_model
from agora.training.loop import run_task
from agora.training.run_folder import RunFolder
from agora.training.sharded_checkpoint import StoredTensors
from agora.training.summary import TrainingSummary
from agora.training.task import Task, Trained
from agora.training.world import is_first_process

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """How the run ended and where its model is; `model_dir` is None when it was stopped before its end."""

    summary: TrainingSummary
    model_dir: Path | None


def train_and_export(run_dir: Path, model_dir: Path, task: Task, *, progress: Progress, resume: bool) -> TrainedModel:
    """Carry `task` out in `run_dir`; a finished run becomes `model_dir`. Raises as `loop.train` does."""
    trained = run_task(run_dir, task, progress=progress, resume=resume)
    if trained.summary.state != "finished":
        return TrainedModel(summary=trained.summary, model_dir=None)
    if is_first_process():
        export_run(trained, model_dir, progress=progress)
    return TrainedModel(summary=trained.summary, model_dir=model_dir)


def export_run(trained: Trained, model_dir: Path, *, progress: Progress = silent) -> bool:
    """Write `model_dir` unless it already holds exactly this run. Returns whether it wrote. Raises TrainingError for a damaged run.json."""
    folder = RunFolder(trained.summary.run_dir)
    run, known = folder.read("run.json"), folder.read("export.json")
    config = from_dict(ModelConfig, run["model"], f"{folder.path}/run.json: model")
    stored = None if trained.model is not None else _stored(folder, run)
    source = hashlib.sha256(json.dumps(run.get("source"), sort_keys=True).encode()).hexdigest()
    weights_sha256 = stored.sha256 if stored is not None else _weights_sha256(trained)
    key = {"step": trained.summary.step, "weights_sha256": weights_sha256, "source_sha256": source}
    if known.get("run") == key and known.get("exported_sha256") == _exported_sha256(model_dir):
        logger.info("%s already holds this run", model_dir)
        return False
    with progress.step("export the model", total=1, unit="models") as step:
        card, tokenizer_dir = run_card(model_dir.name, folder, run, trained.summary), folder.path / "tokenizer"
        if stored is not None:
            write_model(stored, config, model_dir, dtype=torch.float32, tokenizer_dir=tokenizer_dir, card=card)
        else:
            assert trained.model is not None
            save_hf(trained.model, model_dir, tokenizer_dir=tokenizer_dir, model_card=card)
        record = {"run": key, "model_dir": str(model_dir), "exported_sha256": _exported_sha256(model_dir)}
        folder.write("export.json", {**record, "summary": to_dict(trained.summary)})
        step.advance()
    return True


def _stored(folder: RunFolder, run: dict[str, Any]) -> StoredTensors:
    """The last checkpoint of a divided run: nobody has its whole model in memory."""
    opened = open_latest_checkpoint(checkpoint_place(folder, run))
    if opened is None:
        raise CheckpointError(f"{folder.path} has no checkpoint; run the same command again")
    return opened[1]


def _exported_sha256(model_dir: Path) -> str | None:
    """The sums of the weights in a model folder; None when it has none."""
    try:
        return ",".join(file_sha256(path) for path in weight_files(model_dir))
    except (ModelError, OSError):
        return None


def _weights_sha256(trained: Trained) -> str:
    assert trained.model is not None
    digest = hashlib.sha256()
    for name, tensor in trained.model.state_dict().items():
        digest.update(name.encode())
        digest.update(memoryview(tensor.contiguous().numpy()).cast("B"))
    return digest.hexdigest()
