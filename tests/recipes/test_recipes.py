"""Recipes: every one loads, fits together, and varies by key=value."""

from __future__ import annotations

from pathlib import Path

import pytest

import recipes
from agora.errors import ConfigError
from agora.model.counts import num_parameters
from agora.settings import Workspace


@pytest.mark.parametrize("name", recipes.names())
def test_recipe_fits_together(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name and recipe.purpose
    assert recipe.vocab_size == recipe.model.vocab_size
    assert max(recipe.training.seq_len, recipe.chat.seq_len) <= recipe.model.max_seq_len


@pytest.mark.parametrize(("name", "smallest", "largest"), [("laptop", 10e6, 11e6), ("demo", 1e6, 5e6), ("qwen3_0_6b", 595e6, 597e6)])
def test_recipe_has_the_size_it_says(name: str, smallest: float, largest: float) -> None:
    assert smallest <= num_parameters(recipes.load(name).model).total <= largest


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
