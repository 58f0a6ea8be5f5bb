"""Recipes: every one loads, fits together, and varies by key=value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import recipes
from agora.cluster.accelerator import hardware
from agora.cluster.columns import stack_layouts
from agora.cluster.layout import Layout
from agora.cluster.memory import memory_bytes
from agora.cluster.step_time import Batch
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.counts import num_parameters
from agora.model.shape import shape_of
from agora.model.transformer import Transformer
from agora.settings import Workspace
from agora.training.config import TrainingConfig
from agora.training.dryrun import dry_run
from agora.training.layout_keys import refuse_planned


@pytest.mark.parametrize("name", recipes.names())
def test_recipe_fits_together(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name and recipe.purpose
    assert recipe.vocab_size == recipe.model.vocab_size
    assert max(recipe.training.seq_len, recipe.chat.seq_len) <= recipe.model.max_seq_len


@pytest.mark.parametrize(("name", "smallest", "largest"), [
    ("laptop", 10e6, 11e6), ("demo", 1e6, 5e6), ("qwen3_0_6b", 595e6, 597e6), ("laptop_experts", 24.6e6, 24.8e6),
    ("gpu8", 30.5e9, 30.6e9), ("h100_10k", 314e9, 316e9), ("h100_100k", 405e9, 406.5e9), ("b200_100k", 1.000e12, 1.005e12),
])  # fmt: skip
def test_recipe_has_the_size_it_says(name: str, smallest: float, largest: float) -> None:
    assert smallest <= num_parameters(recipes.load(name).model).total <= largest


@pytest.mark.parametrize("name", recipes.names())
def test_counts_of_a_recipe_are_those_of_its_network(name: str) -> None:
    model = recipes.load(name).model
    with torch.device("meta"):
        network = Transformer(model)
    total = sum(parameter.numel() for parameter in network.parameters())
    assert num_parameters(model).total == total
    # what a token passes: of every stack of experts only the visited part
    unseen = sum(stack.numel() for name, stack in network.named_parameters() if ".experts." in name)
    visited = unseen * model.experts_per_token // max(1, model.num_experts)
    assert num_parameters(model).active == total - unseen + visited


@pytest.mark.parametrize(
    ("name", "num_accelerators", "active"),
    [
        ("laptop_experts", 1, 10.5e6),
        ("gpu8", 8, 3.35e9),
        ("h100_10k", 10_240, 84e9),
        ("h100_100k", 100_352, 405.9e9),
        ("b200_100k", 100_352, 136e9),
    ],
)
def test_layout_of_a_recipe_is_possible_and_fits_its_machine(name: str, num_accelerators: int, active: float) -> None:
    recipe = recipes.load(name)
    training = recipe.training
    assert recipe.layout.num_accelerators == num_accelerators
    assert num_parameters(recipe.model).active == pytest.approx(active, rel=0.01)
    layout = replace(recipe.layout, micro_batch=training.micro_batch)
    layout.check(recipe.model, seq_len=training.seq_len, global_batch=training.batch_tokens // training.seq_len)


def small(name: str) -> tuple[ModelConfig, TrainingConfig, Layout]:
    """The recipe with as few layers, chunks and passes as its stages need; all else, the division of every layer above all, is its own."""
    recipe = recipes.load(name)
    layout = replace(recipe.layout, micro_batch=recipe.training.micro_batch, virtual=1, schedule="1f1b")
    model = replace(recipe.model, num_layers=max(2, layout.pipeline))
    rows = layout.data * layout.micro_batch * layout.pipeline
    return model, replace(recipe.training, batch_tokens=rows * recipe.training.seq_len), layout


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_a_rank_of_every_recipe_runs_dry_and_holds_its_share(name: str) -> None:
    model, training, layout = small(name)
    run = dry_run(model, training, layout)
    ranks = layout.num_accelerators if layout.sharding == "none" else layout.num_accelerators // layout.replicate
    share = 4 * (num_parameters(model).total + num_parameters(model).embedding * layout.pipeline) / ranks
    assert 0 < run.record.by_kind["weights"] < 1.25 * share  # shards that leave ranks empty give the first one everything
    assert run.record.peak_bytes < run.planned_bytes + run.reserved_bytes  # the planner says nothing fits that does not


@pytest.mark.parametrize("name", [name for name in recipes.names() if recipes.load(name).accelerator])
def test_what_a_recipe_needs_is_there_on_its_accelerator(name: str) -> None:
    recipe = recipes.load(name)
    training, layout = recipe.training, replace(recipe.layout, micro_batch=recipe.training.micro_batch)
    batch = Batch(seq_len=training.seq_len, global_batch=training.batch_tokens // training.seq_len)
    needed = memory_bytes(shape_of(recipe.model), batch, stack_layouts([layout]), documents=training.document_aware).total
    assert float(np.ravel(needed)[0]) < hardware(recipe.accelerator).memory_bytes


def test_shards_that_leave_ranks_without_experts_are_refused_with_the_nearest() -> None:
    recipe = recipes.load("h100_10k")
    layout = replace(recipe.layout, replicate=1, shard=160)
    with pytest.raises(ConfigError, match="others hold everything; the nearest possible is shard=32 with replicate=5"):
        layout.check(recipe.model, seq_len=8192, global_batch=2560)


def test_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no recipe 'laptopp'; did you mean 'laptop'"):
        recipes.load("laptopp")


def test_order_of_strength_is_recipe_then_file_then_words(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path).create()
    workspace.settings_file.write_text("[train]\ntraining = {steps = 7, seed = 5}\n")
    recipe = recipes.configure("laptop", ["laptop", "training.steps=9"], workspace)
    assert (recipe.training.steps, recipe.training.seed) == (9, 5)
    assert recipe.training.seq_len == recipes.load("laptop").training.seq_len


def test_a_wrong_key_in_the_file_names_the_file(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path).create()
    workspace.settings_file.write_text("[train]\ntraining = {stepps = 7}\n")
    with pytest.raises(ConfigError, match=r"agora\.toml \[train\].*did you mean 'steps'"):
        recipes.configure("laptop", [], workspace)


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("layout.micro_batch=4", "training.micro_batch"),
        ("layout.precision=fp8", "training.float8"),
        ("layout.kernels=fused", "training.compile"),
        ("layout={overlap = false}", "always overlaps"),
    ],
)
def test_a_key_of_the_layout_that_training_does_not_read_is_refused_with_the_one_it_does(word: str, instead: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path).create()
    with pytest.raises(ConfigError, match=rf"command line: layout\..* prices a plan .*; in training .*{instead}"):
        recipes.configure("gpu8", ["gpu8", word], workspace)
    assert recipes.configure("gpu8", ["gpu8", "layout.shard=4", "training.micro_batch=4"], workspace).layout.shard == 4
    workspace.settings_file.write_text("[train]\nlayout = {micro_batch = 4}\n")
    with pytest.raises(ConfigError, match=r"\[train\]: layout\.micro_batch"):
        recipes.configure("gpu8", ["gpu8"], workspace)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_says_nothing_in_its_layout_that_training_says(name: str) -> None:
    recipe = recipes.load(name)
    for config in (recipe.training, recipe.chat):
        refuse_planned(recipe.layout, config)
