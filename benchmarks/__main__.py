"""`python -m benchmarks NAME [--quick]` runs one benchmark; its last line is JSON {name, value, unit, bound, holds}.

`python -m benchmarks --list` shows all with the bar they measure. Details go to benchmarks/results/NAME.json.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import benchmarks
from agora.errors import AgoraError, UsageError
from benchmarks.registry import REPOSITORY, Benchmark


def names() -> list[str]:
    """Every module of this folder that defines BENCHMARK (found without importing it)."""
    found = []
    for module in pkgutil.iter_modules(benchmarks.__path__):
        source = Path(benchmarks.__path__[0], f"{module.name}.py")
        if source.exists() and "\nBENCHMARK = " in source.read_text(encoding="utf-8"):
            found.append(module.name)
    return sorted(found)


def load(name: str) -> Benchmark:
    """Import one benchmark by name; exits with 2 and the nearest name when there is none."""
    if name not in names():
        import difflib

        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see python -m benchmarks --list"
        print(f"error: no benchmark {name!r}; {hint}", file=sys.stderr)
        sys.exit(2)
    benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    assert isinstance(benchmark, Benchmark)
    return benchmark


def parse_options(words: list[str], allowed: tuple[str, ...], flags: tuple[str, ...] = ()) -> dict[str, str]:
    """`["--data", "x"]` -> `{"data": "x"}`; several words after one option are joined by newlines; a flag has none. Raises
    UsageError."""
    options: dict[str, list[str]] = {}
    current: list[str] | None = None
    for word in words:
        if word.startswith("--"):
            if word[2:] not in (*allowed, *flags):
                known = ", ".join("--" + name for name in (*allowed, *flags))
                raise UsageError(f"unknown option {word}; this benchmark takes {known or 'none'}")
            current = options.setdefault(word[2:], [])
            if word[2:] in flags:
                current = None
        elif current is None:
            raise UsageError(f"unexpected word {word!r}")
        else:
            current.append(word)
    empty = next((name for name, values in options.items() if not values and name not in flags), None)
    if empty is not None:
        raise UsageError(f"--{empty} needs a value")
    return {key: "\n".join(values) for key, values in options.items()}


def main(arguments: list[str]) -> int:
    """Run what the command line names; exit 0 when the bar holds, 1 when it does not, 2 when the work could not be done."""
    if not arguments or arguments[0] in ("--list", "--help", "-h"):
        print(__doc__ if arguments[:1] in (["--help"], ["-h"]) else "", end="")
        for name in names():
            benchmark = load(name)
            print(f"{name}: {benchmark.unit} {benchmark.bound}\n    {benchmark.measures}")
        return 0
    name, rest = arguments[0], arguments[1:]
    benchmark = load(name)
    quick = "--quick" in rest
    started = time.perf_counter()
    try:
        options = parse_options([word for word in rest if word != "--quick"], benchmark.options, benchmark.flags)
        result = benchmark.run(quick, options)
    except AgoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    line = {"name": name, "value": round(result.value, 4), "unit": benchmark.unit, "bound": benchmark.bound, "holds": result.holds}
    record = {
        **line, "quick": quick, "seconds": round(time.perf_counter() - started, 1),
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(), "machine": platform.machine(), "details": result.details,
    }  # fmt: skip
    folder = REPOSITORY / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}{'.quick' if quick else ''}.json").write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    print(json.dumps(result.details, indent=2, default=str))
    print(json.dumps(line))
    return 0 if result.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
