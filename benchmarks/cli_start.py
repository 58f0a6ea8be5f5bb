"""How fast `agora --help` answers, and whether the command line keeps its promises.

    python -m benchmarks cli_start

Holds when the median of 20 runs is under the bound, nothing slow is imported, every command has an example, and every
command that takes settings refuses an unknown key and names the nearest one.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.registry import REPOSITORY, Benchmark, Result

BOUND_S = 0.5
RUNS = 20
SLOW_IMPORTS = ("torch", "daft", "lancedb", "transformers", "fastapi", "matplotlib", "pyarrow", "numpy", "tokenizers")
UNKNOWN_KEY = "sede=1"
SETTINGS = "key=value"


def run(quick: bool, options: dict[str, str]) -> Result:
    """`quick` does the same: it is quick."""
    times_s = [_time_help_s() for _ in range(RUNS)]
    slow = _slow_imports()
    commands = dict(_commands())
    without_example = [" ".join(path) for path, command in commands.items() if not re.search(r"Example: agora \S", command.help or "")]
    refusals = {" ".join(path): _refusal(path) for path, command in commands.items() if _takes_settings(command)}
    median_s = statistics.median(times_s)
    accepted = [path for path, line in refusals.items() if not re.search("unknown key .*(did you mean|known keys)", line)]
    details = {
        "runs": RUNS, "fastest_s": min(times_s), "slowest_s": max(times_s), "first_s": times_s[0], "slow_imports": slow,
        "commands": len(commands), "commands_without_example": without_example,
        "settings_refused": refusals, "settings_accepted_though_unknown": accepted,
    }  # fmt: skip
    return Result(value=median_s, holds=median_s < BOUND_S and not slow and not without_example and not accepted, details=details)


def _agora(*words: str, python: tuple[str, ...] = (), workspace: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "AGORA_WORKSPACE": workspace}
    command = [sys.executable, *python, "-m", "agora", *words]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def _time_help_s() -> float:
    started = time.perf_counter()
    done = _agora("--help")
    elapsed_s = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    return elapsed_s


def _slow_imports() -> list[str]:
    done = _agora("--help", python=("-X", "importtime"))
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if line.startswith("import time:")}
    return sorted(modules & set(SLOW_IMPORTS))


def _commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    import typer

    from agora.cli import app

    def walk(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        children = getattr(node, "commands", None)
        if children is None:
            yield path, node
            return
        for name, child in children.items():
            yield from walk(child, (*path, name))

    yield from walk(typer.main.get_command(app), ())


def _takes_settings(command: Any) -> bool:
    words = [f"{parameter.help} {parameter.metavar}".lower() for parameter in command.params if parameter.param_type_name == "argument"]
    return any(SETTINGS in word for word in words)


def _refusal(path: tuple[str, ...]) -> str:
    """What the command says to a key that no configuration has, in an empty workspace. Some take a file before the settings."""
    said = ""
    for words in ((UNKNOWN_KEY,), (__file__, UNKNOWN_KEY)):
        with tempfile.TemporaryDirectory() as folder:
            done = _agora(*path, *words, workspace=folder)
        said = (done.stderr.strip().splitlines() or [""])[-1]
        if done.returncode == 2 and "unknown key" in said:
            return said
    return said


BENCHMARK = Benchmark(
    measures="bar 6: agora --help, median of 20 runs; no torch; examples; unknown keys refused",
    unit="s",
    bound=f"< {BOUND_S}",
    run=run,
)
