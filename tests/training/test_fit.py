"""What cannot fit is refused at once, and what can is not."""

from __future__ import annotations

import logging

import pytest
from typer.testing import CliRunner

import recipes
from agora.cli import app
from agora.errors import ConfigError
from agora.training.fit import memory_here, refuse_what_cannot_fit


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
        refuse_what_cannot_fit(recipe.model, recipe.training, recipe.layout, recipe="gpu8", memory=80e9)
    assert "a step probably needs" in caplog.text and "micro_batch" in caplog.text
    with pytest.raises(ConfigError, match=r"in each of 8 processes, and 37\.3 GiB are there\. Start it on more processes"):
        refuse_what_cannot_fit(recipe.model, recipe.training, recipe.layout, recipe="gpu8", memory=40e9)
