"""Full configurations as Python functions, one file per machine. `load("laptop")` gives a `Recipe`; vary it with dataclasses.replace.

agora train pretrain laptop training.steps=200
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Final

from agora.cluster.layout import Layout
from agora.config import apply_overrides, parse_assignments
from agora.corpus.config import CorpusConfig
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.settings import Workspace
from agora.training.config import TrainingConfig
from agora.training.layout_keys import refuse_planned_keys
from agora.training.optimizers import OptimizerConfig
from agora.training.preference_loss import PreferenceConfig
from agora.training.schedule import ScheduleConfig

DEFAULT: Final = "laptop"


def gentle() -> TrainingConfig:
    """For tuning by preferences: small steps and small batches, since there are few pairs; `steps` is a limit that epochs seldom reach."""
    return TrainingConfig(
        steps=1000, batch_tokens=4096, micro_batch=8, seq_len=512, schedule=ScheduleConfig(warmup=0.1, decay=0.9),
        optimizer=OptimizerConfig(name="adamw", lr=5e-5, weight_decay=0.0), evaluate_every=20,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything from posts to a chat model. `vocab_size` is what the tokenizer is asked for; the model takes what it got. `layout` says
    how the training lies over accelerators; one process needs none. `accelerator` names those it is meant for (agora/cluster/data). `dpo`
    and `preferences` are for `agora train preferences`."""

    name: str
    purpose: str
    vocab_size: int
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig
    layout: Layout = field(default_factory=Layout)
    accelerator: str = ""
    training: TrainingConfig
    chat: TrainingConfig
    preferences: TrainingConfig = field(default_factory=gentle)
    dpo: PreferenceConfig = field(default_factory=PreferenceConfig)


def names() -> list[str]:
    """Every recipe, found without importing one."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Recipe:
    """The recipe of that name. Raises ConfigError with the nearest name when there is none."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names())}"
        raise ConfigError(f"no recipe {name!r}; {hint}")
    recipe = getattr(importlib.import_module(f"recipes.{name}"), name)()
    assert isinstance(recipe, Recipe)
    return recipe


def configure(name: str, words: Iterable[str], workspace: Workspace) -> Recipe:
    """The recipe `name` with the workspace's [train] defaults, then the `key=value` words among `words`. Raises ConfigError."""
    return _configured(load(name), words, workspace)


def sets_vocabulary(name: str, words: Iterable[str], workspace: Workspace) -> bool:
    """Whether the workspace or `words` say model.vocab_size, in any of the forms a setting has."""
    recipe = load(name)
    other = replace(recipe, model=replace(recipe.model, vocab_size=recipe.model.vocab_size + 1))
    one, two = (_configured(base, words, workspace).model.vocab_size for base in (recipe, other))
    return one == two


def _configured(recipe: Recipe, words: Iterable[str], workspace: Workspace) -> Recipe:
    defaults, where = workspace.defaults("train"), f"{workspace.settings_file} [train]"
    refuse_planned_keys(defaults, where)
    recipe = apply_overrides(recipe, defaults, where)
    return override(recipe, [word for word in words if "=" in word])


def override(recipe: Recipe, words: Iterable[str]) -> Recipe:
    """`recipe` with `key=value` words applied, e.g. training.steps=200. Raises ConfigError for a key that does not exist, and says
    where a key of that name does."""
    assignments = parse_assignments(words)
    for key in assignments:
        if key.partition(".")[0] not in {item.name for item in fields(Recipe)}:
            homes = [area for area in ("training", "model", "corpus") if key.partition(".")[0] in _field_names(getattr(recipe, area))]
            if homes:
                raise ConfigError(f"command line: unknown key {key!r}; did you mean {' or '.join(f'{area}.{key}' for area in homes)!r}?")
    refuse_planned_keys(assignments, "command line")
    return apply_overrides(recipe, assignments, "command line")


def _field_names(config: ModelConfig | TrainingConfig | CorpusConfig) -> set[str]:
    return {item.name for item in fields(config)}
