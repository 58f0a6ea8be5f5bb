"""The newest whole checkpoint of a run as a Hugging Face folder, while the run goes on or after it was stopped.

agora model export workspace/runs/main exported/main
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from agora.config import from_dict
from agora.errors import CheckpointError, ModelError
from agora.model.card import CardFacts, model_card
from agora.model.config import ModelConfig
from agora.model.hf import save_hf
from agora.model.transformer import Transformer
from agora.training.checkpoint import load_latest_checkpoint
from agora.training.optimizers import weights_in_state
from agora.training.run_folder import RunFolder
from agora.training.step import DTYPES


def export_checkpoint(run: Path, folder: Path, *, dtype: str = "float32") -> dict[str, Any]:
    """Write `folder` from the float32 master weights of `run`; returns what was written, as plain values.

    Raises ModelError when `run` is no training run, CheckpointError when it has no whole checkpoint.
    """
    record = RunFolder(run).read("run.json")
    if "model" not in record:
        raise ModelError(f"{run} is not a training run: it has no run.json; runs stand in WORKSPACE/runs")
    config = from_dict(ModelConfig, record["model"], f"{run}/run.json: model")
    checkpoint = load_latest_checkpoint(RunFolder(run).checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{run} has no checkpoint yet; wait for the first one (training.checkpoint_every_s)")
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    model.load_state_dict(weights_in_state(checkpoint.state["step"]))
    tokenizer = run / "tokenizer"
    has_tokenizer = (tokenizer / "tokenizer.json").is_file()
    facts = CardFacts(name=folder.name, training={"checkpoint": f"step {checkpoint.step:,} of run {run.name}"})
    save_hf(model, folder, tokenizer_dir=tokenizer if has_tokenizer else None, model_card=model_card(config, facts), dtype=DTYPES[dtype])
    return {"run": str(run), "step": checkpoint.step, "folder": str(folder), "dtype": dtype, "has_tokenizer": has_tokenizer}
