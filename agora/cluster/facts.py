"""The numbers of the planner, each with its unit, source and date. Goes in: a table of `data/`. Comes out: facts, also in base units.

Every file of `data/` is TOML; a number is a table {value, unit, source, date, seen}. `seen` says how far to trust it: `tool` was read
in a public page, `memory` recalled, `fit` fitted by us on measurements, `assumption` stated by us.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from agora.errors import ConfigError

_FACTORS = {  # to bytes, seconds, FLOP/s, watts, joules, dollars, kilograms, and what is made of them
    "TFLOP/s": 1e12, "GB": 1e9, "TB/s": 1e12, "GB/s": 1e9, "Gbit/s": 1e9 / 8,
    "us": 1e-6, "ms": 1e-3, "min": 60.0, "h": 3600.0, "W": 1.0, "USD": 1.0,
    "USD/h": 1 / 3600, "USD/kWh": 1 / 3.6e6, "kg/kWh": 1 / 3.6e6, "1/day": 1 / 86400,
    "B/parameter": 1.0, "s": 1.0, "count": 1.0, "share": 1.0, "share of peak": 1.0,
    "factor": 1.0, "tokens": 1.0, "USD/W": 1.0, "years": 365.25 * 86400, "MWh": 3.6e9,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One number with where it comes from. Raises ConfigError for a unit that the planner does not know."""

    name: str
    value: float
    unit: str
    source: str
    date: str
    seen: str

    def __post_init__(self) -> None:
        if self.unit not in _FACTORS:
            raise ConfigError(f"{self.name}: unknown unit {self.unit!r}; known: {', '.join(_FACTORS)}")

    @property
    def base(self) -> float:
        """The value in base units (bytes, seconds, FLOP/s, watts)."""
        return self.value * _FACTORS[self.unit]

    def describe(self) -> str:
        """One line for --explain."""
        return f"{self.name} = {self.value:g} {self.unit} ({self.seen}, {self.date}: {self.source})"


@dataclass(frozen=True, slots=True)
class Table:
    """One named table of a data file: its facts and its plain words."""

    name: str
    facts: Mapping[str, Fact]
    words: Mapping[str, Any]

    def base(self, key: str, default: float | None = None) -> float:
        """The fact `key` in base units. Raises ConfigError when it is missing and there is no default."""
        if key in self.facts:
            return self.facts[key].base
        if default is None:
            raise ConfigError(f"{self.name}: no figure {key!r}; known: {', '.join(self.facts)}")
        return default


def parse_tables(text: str, where: str) -> dict[str, Table]:
    """Read the tables of one file. Raises ConfigError for a number without unit, source or date."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from error
    return {name: _table(f"{where}: {name}" if where else name, name, entries) for name, entries in raw.items()}


_NEEDED = {"value", "unit", "source", "date", "seen"}


def _table(where: str, name: str, entries: Mapping[str, Any]) -> Table:
    facts, words = {}, {}
    for key, entry in entries.items():
        if not isinstance(entry, Mapping) or not _NEEDED & set(entry):
            words[key] = entry
            continue
        missing = _NEEDED - set(entry)
        if missing:
            raise ConfigError(f"{where}.{key} lacks {', '.join(sorted(missing))}; a number needs unit, source, date and seen")
        facts[key] = Fact(name=f"{name}.{key}", **{field: entry[field] for field in ("value", "unit", "source", "date", "seen")})
        words.update({f"{key}.{extra}": entry[extra] for extra in set(entry) - _NEEDED})
    return Table(name, facts, words)


@lru_cache
def load_tables(file: str) -> Mapping[str, Table]:
    """The tables of `data/<file>.toml`, in the order of the file."""
    return parse_tables((resources.files("agora.cluster") / "data" / f"{file}.toml").read_text(encoding="utf-8"), "")


def pick(tables: Mapping[str, Table], name: str, what: str) -> Table:
    """The table `name`, whatever its case. Raises ConfigError naming the nearest that exists."""
    by_key = {key.lower(): key for key in tables}
    for key, table in tables.items():
        for alias in table.words.get("aliases", []):
            by_key.setdefault(alias.lower(), key)
    if name.lower() in by_key:
        return tables[by_key[name.lower()]]
    close = difflib.get_close_matches(name.lower(), by_key, n=1, cutoff=0.3)
    hint = f"the nearest is {by_key[close[0]]!r}; " if close else ""
    raise ConfigError(f"unknown {what} {name!r}; {hint}known: {', '.join(tables)}")
