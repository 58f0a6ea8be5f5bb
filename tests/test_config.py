"""Configuration: order of strength, refusal of unknown keys and wrong types."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from agora.config import apply_overrides, from_dict, load_config, parse_assignments, save_config, to_dict
from agora.errors import ConfigError
from agora.settings import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    dim: int = 8
    rate: float = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    name: str = "x"
    inner: Inner = field(default_factory=Inner)
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    path: Path | None = None


def test_assignments_reach_nested_fields() -> None:
    changed = apply_overrides(
        Outer(), parse_assignments(["inner.dim=16", "kind=b", "sizes=[3,4]", "path=/a/b", "inner.rate=1"]), "command line"
    )
    assert changed == Outer(inner=Inner(dim=16, rate=1.0), kind="b", sizes=(3, 4), path=Path("/a/b"))


def test_nested_table_and_dotted_key_mean_the_same() -> None:
    assert apply_overrides(Outer(), {"inner": {"dim": 3}}, "f") == apply_overrides(Outer(), {"inner.dim": 3}, "f")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("inner.dmi=1", "did you mean 'dim'"),
        ("nmae=1", "did you mean 'name'"),
        ("inner.dim=1.5", "must be a whole number"),
        ("inner.dim=true", "must be a whole number"),
        ("inner.dim=wide", "'wide' is text"),
        ("kind=c", "not one of 'a', 'b'"),
        ("inner=3", "must be a table"),
        ("name.x=3", "has no keys of its own"),
        ("sizes=[1,'b']", r"sizes\[1\]"),
    ],
)
def test_wrong_words_are_refused_with_a_reason(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides(Outer(), parse_assignments([word]), "command line")


def test_dates_and_times_are_text_in_words_and_in_files() -> None:
    words = parse_assignments(["name=2026-03-02T00:00:00+00:00"])
    assert words == {"name": "2026-03-02T00:00:00+00:00"}
    assert apply_overrides(Outer(), words, "command line").name == "2026-03-02T00:00:00+00:00"
    assert apply_overrides(Outer(), tomllib.loads("name = 2026-03-02T00:00:00Z"), "file").name == "2026-03-02T00:00:00+00:00"
    with pytest.raises(ConfigError, match="must be a whole number"):
        apply_overrides(Outer(), parse_assignments(["inner.dim=2026-03-02"]), "command line")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[corpsu]\nmin_characters = 3", "unknown key 'corpsu'.*did you mean 'corpus'"),
        ("min_characters = 3", "unknown key 'min_characters'"),
        ("[posts]\nsimulat = {seed = 3}", "unknown key 'simulat' in .posts.; did you mean 'simulate'"),
    ],
)
def test_unknown_sections_of_a_workspace_are_refused(tmp_path: Path, settings: str, message: str) -> None:
    (tmp_path / "agora.toml").write_text(settings)
    with pytest.raises(ConfigError, match=message):
        Workspace(tmp_path).defaults("posts")


def test_word_without_equals_sign_is_refused() -> None:
    with pytest.raises(ConfigError, match="key=value"):
        parse_assignments(["dim"])


def test_saved_configuration_round_trips(tmp_path: Path) -> None:
    config = Outer(path=Path("p"), inner=Inner(dim=2))
    save_config(config, tmp_path / "c.json")
    assert load_config(Outer, tmp_path / "c.json") == config
    assert from_dict(Outer, to_dict(config), "dict") == config


def test_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("a = [")
    with pytest.raises(ConfigError, match=r"c\.toml is not valid toml"):
        load_config(Outer, tmp_path / "c.toml")
