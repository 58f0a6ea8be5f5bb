"""How the assistant sounds. Goes in: TOML files, one per persona, of this folder and of an operator's. Comes out: `Persona`s by name.

A persona chooses words around an answer: greetings, an opening line, and the style that a model is told for talk without posts. It changes
no quotation, no source and no warning, and its lines are refused when they hold links, markup or citations.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from agora.chat.shown import safe_text
from agora.config import from_dict, load_config, unknown_value
from agora.errors import ConfigError, UsageError

NEUTRAL: Final = "neutral"
MAX_LINE: Final = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Persona:
    """`about` is for people who choose; `style` for a model. The lists are lines to say, one of them at a time; `opening` stands before an
    answer from posts, `nothing` before the reason why there is none. Empty lists say nothing."""

    title: str
    about: str
    style: str = ""
    greeting: tuple[str, ...] = ()
    thanks: tuple[str, ...] = ()
    farewell: tuple[str, ...] = ()
    wellbeing: tuple[str, ...] = ()
    agreement: tuple[str, ...] = ()
    opening: tuple[str, ...] = ()
    nothing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("greeting", "thanks", "farewell", "wellbeing", "agreement", "opening", "nothing"):
            for line in getattr(self, name):
                if not line.strip() or len(line) > MAX_LINE or "\n" in line or "[" in line or safe_text(line) != line:
                    raise ConfigError(f"persona line {name}={line[:60]!r} must be one line of plain text without links, markup or brackets")

    def line(self, name: str, turn: int) -> str:
        """One of the lines `name`, another one each turn; empty where the persona has none."""
        lines: tuple[str, ...] = getattr(self, name)
        return lines[turn % len(lines)] if lines else ""


class Personas:
    """Personas by name: those that ship, and those of `folder` (NAME.toml), which may replace them."""

    def __init__(self, folder: Path | None = None) -> None:
        """Raises ConfigError for a file that cannot be read or has unknown keys."""
        shipped = resources.files("agora.chat.personas")
        self._known: dict[str, Persona] = {}
        for file in sorted(shipped.iterdir(), key=lambda one: one.name):
            if file.name.endswith(".toml"):
                self._known[file.name.removesuffix(".toml")] = from_dict(
                    Persona, tomllib.loads(file.read_text(encoding="utf-8")), file.name
                )
        for path in sorted(folder.glob("*.toml")) if folder is not None else ():
            self._known[path.stem] = load_config(Persona, path)

    @property
    def all(self) -> Mapping[str, Persona]:
        """Every persona, the neutral one first."""
        return {name: self._known[name] for name in sorted(self._known, key=lambda one: (one != NEUTRAL, one))}

    def get(self, name: str) -> Persona:
        """The persona of this name. Raises UsageError naming the nearest one."""
        if name not in self._known:
            raise UsageError(unknown_value(name, list(self.all), "persona"))
        return self._known[name]


__all__ = ["NEUTRAL", "Persona", "Personas"]
