"""What a platform's sheet looks like: columns and limits, read from data/exports/NAME.toml, each file with source and date."""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from agora.ads.limits import Counting, counted
from agora.config import unknown_value
from agora.errors import UsageError

Kind = Literal["text", "url", "file", "button", "json_list"]
FORMULA_STARTS: Final = tuple("=+-@\t\r\n|%")
"""What a spreadsheet may run (OWASP, CSV injection), and DDE starts that some still take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column, or `repeat` columns with numbers behind the name. `source`: a field of Ad; or `value`, the same in every row.
    `refused`: marks that the platform does not take here. `hint`: what to do where a required cell is empty."""

    name: str
    source: str = ""
    value: str = ""
    kind: Kind = "text"
    required: bool = False
    min: int = 0
    max: int = 0
    repeat: int = 0
    at_least: int = 0
    unique: bool = False
    refused: str = ""
    hint: str = ""
    one_of: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Headers: 'Headline 1' to 'Headline 15', or the name alone."""
        return tuple(f"{self.name} {number}" for number in range(1, self.repeat + 1)) if self.repeat else (self.name,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A platform's sheet. `assets_once`: ads of a group with the same assets in another order are one ad to the platform.
    `picture`: the placement whose picture it takes."""

    name: str
    title: str
    source: str
    date: str
    note: str
    counting: Counting
    encoding: str
    max_rows: int
    columns: tuple[Column, ...]
    group_key: tuple[str, ...] = ()
    link_width: int = 0
    unique_rows: bool = False
    assets_once: bool = False
    picture: str = ""

    @property
    def header(self) -> tuple[str, ...]:
        """All headers in order."""
        return tuple(name for column in self.columns for name in column.names)

    def assets(self, row: Mapping[str, str]) -> tuple[frozenset[str], ...]:
        """What one ad is made of, whatever the order: the texts of each repeated column, its group and its links."""
        repeated = [frozenset(row.get(name, "").casefold() for name in column.names) - {""} for column in self.columns if column.repeat]
        single = [frozenset([row.get(name, "")]) for name in (*self.group_key, *(one.name for one in self.columns if one.kind == "url"))]
        return (*repeated, *single)

    def width(self, text: str) -> int:
        """How long a text is for this platform."""
        return counted(text, self.counting, self.link_width)


def sheet_names() -> list[str]:
    """All sheets that there are."""
    folder = files("agora.ads").joinpath("data/exports")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _column(table: dict[str, Any]) -> Column:
    named: dict[str, Any] = {
        "source" if key == "from" else key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    return Column(**named)


@cache
def sheet_named(name: str) -> Sheet:
    """A sheet by name. Raises UsageError with the nearest name."""
    if name not in sheet_names():
        raise UsageError(unknown_value(name, sheet_names(), "sheet"))
    table = tomllib.loads(files("agora.ads").joinpath(f"data/exports/{name}.toml").read_text(encoding="utf-8"))
    columns = tuple(_column(column) for column in table.pop("column"))
    table["group_key"] = tuple(table.get("group_key", ()))
    return Sheet(name=name, columns=columns, **table)


def safe_cell(text: str) -> str:
    """A text that no spreadsheet runs: an apostrophe before what could start a formula, control characters out (OWASP, CSV injection)."""
    plain = "".join(one for one in text if one in "\n\t" or unicodedata.category(one) != "Cc")
    bare = plain[next((at for at, one in enumerate(plain) if not _is_blank(one)), len(plain)) :]
    first = unicodedata.normalize("NFKC", bare[:1])
    return f"'{plain}" if first.startswith(FORMULA_STARTS) or plain.startswith(FORMULA_STARTS) else plain


def _is_blank(character: str) -> bool:
    """Blanks of every width, and marks that nobody sees."""
    return character not in "\t\n" and unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cf")


def is_safe_cell(text: str) -> bool:
    """Whether `safe_cell` would leave it as it is."""
    return safe_cell(text) == text


def without_guard(text: str) -> str:
    """The text behind the apostrophe that `safe_cell` put before it."""
    return text[1:] if text.startswith("'") and safe_cell(text[1:]) == text else text
