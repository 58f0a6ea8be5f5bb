"""Shapes of known models by name. Goes in: a name. Comes out: a ModelShape; an unknown name is refused with the nearest."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from agora.cluster.facts import load_tables, pick
from agora.model.shape import ModelShape


@lru_cache
def _names() -> dict[str, str]:
    tables = load_tables("models")
    return {alias.lower(): key for key, table in tables.items() for alias in (key, *table.words.get("aliases", []))}


def known_shape(name: str) -> ModelShape | None:
    """The shape of a model that `data/models.toml` names, or None."""
    key = _names().get(name.lower())
    return None if key is None else _build(key, load_tables("models")[key].words)


def model_shape(name: str) -> ModelShape:
    """The shape of a known model. Raises ConfigError naming the nearest that exists."""
    table = pick(load_tables("models"), name, "model")
    return _build(table.name, table.words)


def model_names() -> list[str]:
    """All known models."""
    return list(load_tables("models"))


def _build(key: str, words: Any) -> ModelShape:
    return ModelShape(name=key, **{name: value for name, value in words.items() if name != "aliases"})
