"""The package's description of itself: what an extra asks for exists, and constraints name all of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def _asked() -> list[str]:
    return [*PROJECT["dependencies"], *(one for needs in EXTRAS.values() for one in needs)]


def test_an_extra_that_another_asks_for_exists() -> None:
    """pip only warns of an unknown extra, and leaves out what it would have brought."""
    named = {extra for one in _asked() if (found := re.match(r"agora\[(.+)\]", one)) for extra in found[1].split(",")}
    assert named and named <= EXTRAS.keys()


def test_every_requirement_of_the_tests_is_pinned_by_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_plain(line.split("==")[0]) for line in lines if "==" in line}
    elsewhere = {_name(one) for extra in ("gpu", "minilm", "ray") for one in EXTRAS[extra]}
    assert {_name(one) for one in _asked()} - elsewhere - {"agora"} <= pinned


def _name(requirement: str) -> str:
    return _plain(re.split(r"[\[<>=;]", requirement)[0])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
