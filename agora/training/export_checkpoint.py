"""The newest whole checkpoint of a run as a Hugging Face folder, while the run goes on or after it was stopped.

agora model export workspace/runs/main exported/main
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agora.config import from_dict
from agora.errors import CheckpointError, UsageError
from agora.model.card import CardFacts, model_card
from agora.model.config import ModelConfig
from agora.model.hf import Place, save_hf_weights
from agora.model.transformer import Transformer
from agora.training.card import run_card
from agora.training.checkpoint import Checkpoint, open_latest_checkpoint
from agora.training.config import TrainingConfig
from agora.training.run_folder import RunFolder
from agora.training.sharded_checkpoint import StoredTensors
from agora.training.step import DTYPES
from agora.training.summary import Standing, summarise


def export_checkpoint(run: Path, folder: Path, *, dtype: str = "float32") -> dict[str, Any]:
    """Write `folder` from the float32 master weights of `run`; returns what was written, as plain values.

    Raises UsageError when `run` is no training run, CheckpointError when it has no whole checkpoint.
    """
    run_folder = RunFolder(run)
    record = run_folder.read("run.json")
    if "model" not in record:
        raise UsageError(f"{run} is not a training run: it has no run.json; runs stand in WORKSPACE/runs")
    config = from_dict(ModelConfig, record["model"], f"{run}/run.json: model")
    tokenizer = run / "tokenizer"
    has_tokenizer = (tokenizer / "tokenizer.json").is_file()
    opened = open_latest_checkpoint(checkpoint_place(run_folder, record))
    if opened is None:
        raise CheckpointError(f"{run} has no checkpoint yet; wait for the first one (training.checkpoint_every_s)")
    checkpoint, stored = opened
    card = _card(folder.name, run_folder, record, config, checkpoint)
    write_model(stored, config, folder, dtype=DTYPES[dtype], tokenizer_dir=tokenizer if has_tokenizer else None, card=card)
    return {"run": str(run), "step": checkpoint.step, "folder": str(folder), "dtype": dtype, "has_tokenizer": has_tokenizer}


def checkpoint_place(folder: RunFolder, record: Mapping[str, Any]) -> Path | str:
    """Where the checkpoints of a run lie, by its run.json."""
    return folder.checkpoint_place((record.get("training") or {}).get("checkpoint_url"))


def write_model(
    stored: StoredTensors, config: ModelConfig, folder: Path, *, dtype: torch.dtype, tokenizer_dir: Path | None, card: str
) -> None:
    """The weights of a checkpoint as a model folder, tensor by tensor: however large the model, one tensor is in memory. Raises
    CheckpointError for numbers that are not finite and for tensors of another model."""
    with torch.device("meta"):
        model = Transformer(config)

    def weight_of(place: Place) -> Tensor:
        name = f"/step/weight.{place.parameter}"
        if name not in stored:
            raise CheckpointError(f"the checkpoint lacks weight {place.parameter}; it is of another model")
        first, count = (place.first_row, place.shape[0]) if place.expert is None else (place.expert, 1)
        rows = stored.rows(name, first, count)
        weight = rows if place.expert is None else rows[0]
        if not bool(weight.isfinite().all()):
            raise CheckpointError(f"weight {place.parameter} of the checkpoint holds numbers that are not finite")
        return weight

    with stored:
        save_hf_weights(model, weight_of, folder, dtype=dtype, tokenizer_dir=tokenizer_dir, model_card=card)


def _card(name: str, folder: RunFolder, record: dict[str, Any], config: ModelConfig, checkpoint: Checkpoint) -> str:
    """The card that the finished run would get, with the numbers of `checkpoint`; a short one where the run says nothing of itself."""
    if not {"training", "machine"} <= record.keys() or "progress" not in checkpoint.state:
        facts = CardFacts(name=name, training={"checkpoint": f"step {checkpoint.step:,} of run {folder.path.name}"})
        return model_card(config, facts)
    training, standing = from_dict(TrainingConfig, record["training"], "training"), Standing.from_state(checkpoint.state["progress"])
    return run_card(name, folder, record, summarise(folder.path, config, training, folder.machine(record), standing))
