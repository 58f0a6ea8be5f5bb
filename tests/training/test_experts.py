"""A mixture of experts on the whole road: recipe, training, signals, resume, export, chat, generation."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from agora.cli import app
from agora.engine import Generator, SamplingConfig
from agora.model.counts import num_parameters
from agora.model.experts import MixtureOfExperts
from agora.model.hf import load_hf
from agora.settings import Workspace
from agora.tokenizer.bpe import Tokenizer
from agora.training.checkpoint import load_latest_checkpoint
from agora.training.loop import train
from agora.training.metrics import read_metrics
from agora.training.summary import TrainingSummary
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep, some_shards, tokenizer_folder
from tests.training.test_pretrain import CHAT, SETTINGS, conversations

MODEL = dataclasses.replace(TINY_MODEL, num_experts=4, experts_per_token=2, expert_dim=16, balance_bias_rate=0.01)


@pytest.fixture(autouse=True)
def _known_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1e12)


def run(folder: Path, name: str, *, action: Any = lambda done: None, **changes: Any) -> TrainingSummary:
    return train(
        folder / name, model_config=MODEL, training_config=dataclasses.replace(TINY_TRAINING, **changes), shards=some_shards(folder),
        tokenizer_dir=tokenizer_folder(folder / "tokenizer"), progress=EachStep(action),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, dtype: str) -> None:
    stopped = run(tmp_path, "run", dtype=dtype, action=lambda done: os.kill(os.getpid(), signal.SIGINT) if done == 5 else None)
    assert stopped.state == "stopped" and stopped.step == 5
    assert run(tmp_path, "run", dtype=dtype).state == run(tmp_path, "whole", dtype=dtype).state == "finished"
    one, other = (load_latest_checkpoint(tmp_path / name / "checkpoints") for name in ("run", "whole"))
    assert one is not None and other is not None
    first, second = one.state["step"], other.state["step"]
    assert first.keys() == second.keys() and all(tensor.equal(second[name]) for name, tensor in first.items())
    assert "weight.layers.0.feed_forward.router.bias_E" in first
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert 1.0 <= last["imbalance"] <= MODEL.num_experts
    losses = [[line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("run", "whole")]
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]


def test_a_run_from_before_there_were_experts_goes_on(tmp_path: Path) -> None:
    def dense() -> TrainingSummary:
        return train(
            tmp_path / "run", model_config=TINY_MODEL, training_config=TINY_TRAINING, shards=some_shards(tmp_path),
            tokenizer_dir=tokenizer_folder(tmp_path / "tokenizer"),
        )  # fmt: skip

    dense()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["model"] = {key: value for key, value in record["model"].items() if "expert" not in key and "balance" not in key}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert dense().state == "finished"


@pytest.mark.parametrize("words", [[], ["model.balance_bias_rate=0.01", "model.dense_layers=[0]"]])
def test_recipe_with_experts_goes_from_shards_to_chat(workspace: Workspace, tmp_path: Path, words: list[str]) -> None:
    place = ["--workspace", str(workspace.root), "--json"]
    tiny = [*(word for word in SETTINGS if "num_layers" not in word), "model.num_layers=2", "model.expert_dim=16", "model.num_experts=4"]
    result = CliRunner().invoke(app, ["train", "pretrain", "laptop_experts", *tiny, *words, *place])
    assert result.exit_code == 0, result.output
    folder = workspace.folder("models", "main")
    model, tokenizer = load_hf(folder), Tokenizer.load(folder)
    assert isinstance(model.layers[1].feed_forward, MixtureOfExperts) and model.config.num_experts == 4
    assert "4 of width 16" in (folder / "README.md").read_text()
    facts = json.loads(CliRunner().invoke(app, ["model", "inspect", str(folder), "--json"]).stdout)
    counts = num_parameters(model.config)
    assert (facts["parameters"], facts["active_parameters"]) == (counts.total, counts.active) and counts.active < counts.total
    exported = CliRunner().invoke(app, ["model", "export", str(workspace.folder("runs", "main")), str(tmp_path / "exported"), "--json"])
    assert exported.exit_code == 0, exported.output
    again = load_hf(tmp_path / "exported").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    talks = conversations(tmp_path / "talk.jsonl")
    settings = [f"chat.{key}={getattr(CHAT, key)}" for key in ("steps", "seq_len", "micro_batch", "batch_tokens")]
    tuned = CliRunner().invoke(app, ["train", "chat", str(talks), "--base", "main", "--name", "talk", *settings, *place])
    assert tuned.exit_code == 0, tuned.output
    deltas = list(Generator(load_hf(workspace.folder("models", "talk")), tokenizer).stream([1, 2, 3], SamplingConfig(max_tokens=5)))
    assert deltas[-1].finish_reason is not None


def test_counts_are_printed_for_a_shape_with_experts() -> None:
    result = CliRunner().invoke(app, ["model", "counts", "num_experts=8", "experts_per_token=2", "expert_dim=384", "--json"])
    facts = json.loads(result.stdout)
    assert facts["active_parameters"] < facts["parameters"] and facts["model"]["num_experts"] == 8
