from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from agora.cli.model import app
from agora.config import to_dict
from agora.errors import CheckpointError, ConfigError, ModelError, UsageError
from agora.model.config import ModelConfig
from agora.model.counts import num_parameters
from agora.model.hf import load_hf, save_hf
from agora.model.transformer import Transformer
from agora.training.checkpoint import save_checkpoint
from agora.training.optimizers import OptimizerConfig
from agora.training.run_folder import RunFolder
from agora.training.step import Batch, TrainingStep

CONFIG = ModelConfig(vocab_size=97, dim=48, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=16, hidden_dim=80, max_seq_len=64)
runner = CliRunner()


def answer(*words: str) -> dict[str, object]:
    result = runner.invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    table = json.loads(result.stdout)
    assert isinstance(table, dict)
    return table


def test_counts_take_settings() -> None:
    table = answer("counts", "dim=512", "tie_embeddings=false", "--seq-len", "2048")
    assert table["parameters"] == num_parameters(ModelConfig(dim=512, tie_embeddings=False)).total and table["seq_len"] == 2048


def test_unknown_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'num_layers'"):
        runner.invoke(app, ["counts", "num_layer=3"], catch_exceptions=False)


def test_inspect_shows_a_folder(tmp_path: Path) -> None:
    save_hf(Transformer(CONFIG), tmp_path / "m")
    assert answer("inspect", str(tmp_path / "m"))["parameters"] == num_parameters(CONFIG).total


def test_inspect_says_what_a_folder_is_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    cases = {"run": "is a training run; write its model with: agora model export", "run/run.json": "is a file", "none": "does not exist"}
    for name, message in cases.items():
        with pytest.raises(ModelError, match=message):
            runner.invoke(app, ["inspect", str(tmp_path / name)], catch_exceptions=False)


def test_export_writes_the_masters_of_the_newest_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match=r"is not a training run"):
        runner.invoke(app, ["export", str(folder.path), str(tmp_path / "out")], catch_exceptions=False)
    folder.path.mkdir()
    folder.write("run.json", {"model": to_dict(CONFIG)})
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        runner.invoke(app, ["export", str(folder.path), str(tmp_path / "out")], catch_exceptions=False)
    step = TrainingStep(Transformer(CONFIG), OptimizerConfig())
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    for number in (1, 2):
        step.run([Batch(tokens, tokens)])
        save_checkpoint(folder.checkpoints, number, {"step": step.state_dict()})
    assert answer("export", str(folder.path), str(tmp_path / "out"))["step"] == 2
    exported = dict(load_hf(tmp_path / "out").named_parameters())
    assert all(torch.equal(exported[name], value) for name, value in step.optimizer.master_weights().items())
    assert (tmp_path / "out" / "README.md").read_text().count("step 2 of run run") == 1
