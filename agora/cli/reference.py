"""docs/commands.md: every command and every training setting, out of the code; a test compares.

python -m agora.cli.reference docs/commands.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

HEAD = """# Commands and settings

Made by `python -m agora.cli.reference docs/commands.md`. The settings of a corpus stand in [corpus.md](corpus.md), those of the
simulated square in [posts.md](posts.md). A setting is a word `key=value`; the order of strength is default, recipe, `agora.toml`,
command line.
"""


def page() -> str:
    """The whole page."""
    from agora.cli import app
    from agora.cluster.layout import Layout
    from agora.cluster.plan import PlanRequest
    from agora.integrity.config import IntegrityConfig
    from agora.integrity.labels import LabelConfig
    from agora.model.config import ModelConfig
    from agora.posts.reference import options_table
    from agora.search.ranking import RankingConfig
    from agora.training.config import TrainingConfig
    from agora.training.launch import LaunchConfig
    from agora.training.optimizers import OptimizerConfig
    from agora.training.schedule import ScheduleConfig

    parts = [HEAD]
    for path, command in _commands(typer.main.get_command(app), ()):
        parts.append(f"## agora {' '.join(path)}\n\n{_help(command)}\n\n{_parameters(command)}\n")
    settings = (
        ("training.*, chat.*", TrainingConfig), ("training.schedule.*, chat.schedule.*", ScheduleConfig),
        ("training.optimizer.*, chat.optimizer.*", OptimizerConfig), ("model.*", ModelConfig),
        ("integrity.*", IntegrityConfig), ("labels.*", LabelConfig), ("search.*", RankingConfig),
        ("Plans (agora cluster)", PlanRequest), ("layout.*", Layout), ("launch.*", LaunchConfig),
    )  # fmt: skip
    parts += [f"## {title}\n\n{options_table(config)}\n" for title, config in settings]
    return "\n".join(parts)


def _commands(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(node, "commands", None)
    if children is None:
        yield path, node
        return
    for name, child in children.items():
        yield from _commands(child, (*path, name))


def _help(command: Any) -> str:
    text, _, example = command.help.partition("Example: ")
    return f"{text.strip()}\n\n```sh\n{example.strip()}\n```"


def _parameters(command: Any) -> str:
    rows = ["| word | meaning |", "|---|---|"]
    for parameter in command.params:
        is_option = parameter.param_type_name == "option"
        shown = ", ".join(parameter.opts) if is_option else (parameter.metavar or parameter.name.upper())
        rows.append(f"| `{shown.replace('|', '/')}` | {(getattr(parameter, 'help', '') or '').replace('|', '/')} |")
    return "\n".join(rows)


if __name__ == "__main__":
    from agora.files import write_atomically

    write_atomically(Path(sys.argv[1]), page())
