"""The mark on every picture that says what it is. Goes in: a language. Comes out: the words of data/disclosure.toml, English by default."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


def disclosure_in(language: str) -> str:
    """The mark in a language (ISO 639, with or without a region)."""
    known = _table()
    return known.get(language.replace("_", "-").split("-")[0].lower(), known["en"])


@cache
def _table() -> dict[str, str]:
    return tomllib.loads(files("agora.ads").joinpath("data/disclosure.toml").read_text(encoding="utf-8"))


__all__ = ["disclosure_in"]
