"""What cannot fit is refused at once, and what can is not."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import recipes
from agora.cli import app
from agora.cluster.layout import Layout
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.counts import num_parameters
from agora.model.transformer import Transformer
from agora.training.config import TrainingConfig
from agora.training.dryrun import dry_run_stages
from agora.training.fit import memory_here, needed_bytes, refuse_what_cannot_fit
from agora.training.optimizers import OptimizerConfig, build_optimizer

MODEL = ModelConfig(
    vocab_size=256, dim=64, num_layers=4, num_heads=4, num_kv_heads=2, head_dim=16, hidden_dim=128, max_seq_len=64, tie_embeddings=False
)
EXPERTS = {"num_experts": 4, "experts_per_token": 2, "expert_dim": 32}


def training(optimizer: str) -> TrainingConfig:
    return TrainingConfig(
        batch_tokens=8 * 64, micro_batch=1, seq_len=64, optimizer=OptimizerConfig(name=optimizer)  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("more", [{}, {"tie_embeddings": True}, EXPERTS], ids=["two tables", "one table", "experts"])
def test_the_state_is_what_the_optimizer_of_the_run_really_holds(name: str, more: dict[str, object]) -> None:
    model = replace(MODEL, **more)  # type: ignore[arg-type]
    optimizer = build_optimizer(Transformer(model), training(name).optimizer)
    moments = [value for key, value in optimizer.state_dict().items() if key.startswith("optimizer.") and key != "optimizer.step"]
    real = sum(tensor.numel() * tensor.element_size() for tensor in (optimizer.masters, optimizer.gradients.flat, *moments))
    state, total = needed_bytes(model, training(name), Layout())
    assert state == pytest.approx(real, rel=1e-6) and total > state


@pytest.mark.slow
def test_muon_saves_on_a_divided_run_what_a_dry_run_says() -> None:
    layout = Layout(shard=2, pipeline=2)

    def fullest(name: str) -> tuple[float, float]:
        counted, _ = needed_bytes(MODEL, training(name), layout)
        return counted, max(run.record.by_kind["optimizer"] for run in dry_run_stages(MODEL, training(name), layout))

    (adamw, adamw_run), (muon, muon_run) = fullest("adamw"), fullest("muon")
    assert adamw - muon == pytest.approx(adamw_run - muon_run, rel=0.01)


def test_what_muon_can_hold_is_not_refused_by_the_moments_of_adamw() -> None:
    model = replace(MODEL, vocab_size=64, num_layers=8)
    memory = 14.0 * num_parameters(model).total
    refuse_what_cannot_fit(model, training("muon"), Layout(), memory=memory)
    with pytest.raises(ConfigError, match="gradients and optimizer state"):
        refuse_what_cannot_fit(model, training("adamw"), Layout(), memory=memory)


@pytest.mark.parametrize("name", ["gpu8", "h100_10k", "b200_100k"])
def test_a_recipe_for_a_cluster_is_refused_in_one_process_before_anything_is_read(name: str) -> None:
    result = CliRunner().invoke(app, ["train", "pretrain", name])
    assert isinstance(result.exception, ConfigError) and result.exception.exit_code == 2
    number = recipes.load(name).layout.num_accelerators
    for word in ("parameters need", "TiB" if name != "gpu8" else "GiB", "in one process", "are there", f"agora train launch {name}"):
        assert word in str(result.exception), word
    assert f"agora train dryrun {name} --world {number} --rank 0" in str(result.exception)


@pytest.mark.parametrize("name", ["laptop", "demo", "laptop_experts"])
def test_a_recipe_for_this_machine_is_not(name: str, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipes.load(name)
    with caplog.at_level(logging.WARNING):
        refuse_what_cannot_fit(recipe.model, recipe.training, recipe.layout, recipe=name)
    assert not caplog.text and memory_here("cpu") > 1e9


def test_processes_share_the_state_and_activations_only_warn(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipes.load("gpu8")
    monkeypatch.setenv("WORLD_SIZE", "8")
    with caplog.at_level(logging.WARNING):
        refuse_what_cannot_fit(recipe.model, recipe.training, recipe.layout, recipe="gpu8", memory=141e9)
        assert not caplog.text
        refuse_what_cannot_fit(recipe.model, recipe.training, recipe.layout, recipe="gpu8", memory=60e9)
    assert "a step probably needs" in caplog.text and "micro_batch" in caplog.text
    with pytest.raises(ConfigError, match=r"in each of 8 processes, and 37\.3 GiB are there\. Start it on more processes"):
        refuse_what_cannot_fit(recipe.model, recipe.training, recipe.layout, recipe="gpu8", memory=40e9)
