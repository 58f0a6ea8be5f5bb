"""The newest whole checkpoint of a run as a Hugging Face folder, while the run goes on or after it was stopped.

agora model export workspace/runs/main exported/main
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from agora.config import from_dict
from agora.errors import CheckpointError, UsageError
from agora.model.card import CardFacts, model_card
from agora.model.config import ModelConfig
from agora.model.hf import save_hf
from agora.model.transformer import Transformer
from agora.training.card import run_card
from agora.training.checkpoint import Checkpoint, load_latest_checkpoint
from agora.training.config import TrainingConfig
from agora.training.optimizers import weights_in_state
from agora.training.run_folder import RunFolder
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
    checkpoint = load_latest_checkpoint(run_folder.checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{run} has no checkpoint yet; wait for the first one (training.checkpoint_every_s)")
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    model.load_state_dict(weights_in_state(checkpoint.state["step"]))
    tokenizer = run / "tokenizer"
    has_tokenizer = (tokenizer / "tokenizer.json").is_file()
    card = _card(folder.name, run_folder, record, config, checkpoint)
    save_hf(model, folder, tokenizer_dir=tokenizer if has_tokenizer else None, model_card=card, dtype=DTYPES[dtype])
    return {"run": str(run), "step": checkpoint.step, "folder": str(folder), "dtype": dtype, "has_tokenizer": has_tokenizer}


def _card(name: str, folder: RunFolder, record: dict[str, Any], config: ModelConfig, checkpoint: Checkpoint) -> str:
    """The card that the finished run would get, with the numbers of `checkpoint`; a short one where the run says nothing of itself."""
    if not {"training", "machine"} <= record.keys() or "progress" not in checkpoint.state:
        facts = CardFacts(name=name, training={"checkpoint": f"step {checkpoint.step:,} of run {folder.path.name}"})
        return model_card(config, facts)
    training, standing = from_dict(TrainingConfig, record["training"], "training"), Standing.from_state(checkpoint.state["progress"])
    return run_card(name, folder, record, summarise(folder.path, config, training, folder.machine(record), standing))
