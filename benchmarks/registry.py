"""What a benchmark is. Each script of this folder defines `BENCHMARK`, and its name is the file's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agora.errors import UsageError

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a benchmark found. `details` holds everything that explains `value` and is kept in the results file."""

    value: float
    holds: bool
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """`run(quick, options)`: `quick` answers within 50 s on 2 cores with smaller work of the same kind. `options` are the
    script's own `--key value` words, and those of `flags`, which take no value. `bound` is the bar as text, e.g. '>= 2.0'."""

    measures: str
    unit: str
    bound: str
    run: Callable[[bool, dict[str, str]], Result]
    options: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def whole_number(options: dict[str, str], name: str, default: int, *, at_least: int) -> int:
    """The option `name` as a number. Raises UsageError naming the value."""
    text = options.get(name, str(default))
    if not text.removeprefix("-").isdecimal() or int(text) < at_least:
        raise UsageError(f"--{name} {text!r} must be a whole number of at least {at_least}")
    return int(text)


def data_folder(options: dict[str, str], *needed: str | Path) -> Path:
    """The folder of --data, or the development data. Raises UsageError when it lacks one of `needed`."""
    folder = Path(options.get("data", SHARED_DATA))
    for name in needed:
        if not (folder / name).exists():
            raise UsageError(f"{folder / name} does not exist; give the folder of the data with --data")
    return folder
