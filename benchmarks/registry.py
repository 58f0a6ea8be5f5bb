"""What a benchmark is. Each script of this folder defines `BENCHMARK`, and its name is the file's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    script's own `--key value` words. `bound` is the bar as text, e.g. '>= 2.0'."""

    measures: str
    unit: str
    bound: str
    run: Callable[[bool, dict[str, str]], Result]
    options: tuple[str, ...] = ()
