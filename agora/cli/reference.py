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
command line. `agora.toml` lies in the workspace; its sections are `[posts.simulate]`, `[corpus]`, `[tokenizer]`, `[train]`, `[integrity]`,
`[labels]` and `[search]`, and their keys are those of the command's words:

```toml
[corpus]
min_characters = 30

[train]                              # of every recipe
training.steps = 500
training.optimizer.lr = 0.002

[integrity]
q_members = 0.005
```

What the environment may say:

| variable | meaning |
|---|---|
| `AGORA_WORKSPACE` | the workspace, where no --workspace is given |
| `AGORA_LOG` | what is logged: debug, info, warning or error; before a command as `agora --log info ...` |
| `AGORA_API_KEY` | the key that requests to `agora serve` must carry |
| `AGORA_ENDPOINT_KEY` | the key that goes to the server of --endpoint |
| `AGORA_MASTODON_TOKEN` | the token of `agora posts follow mastodon` |
| `AGORA_DATABASE`, `AGORA_LEDGER_URL` | databases of the server and of verdicts, where they are not to lie in the workspace |
| `AGORA_KERNELS` | off: plain operations in the place of compiled ones |
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
    from agora.tokenizer.training import TokenizerConfig
    from agora.training.config import TrainingConfig
    from agora.training.launch import LaunchConfig
    from agora.training.optimizers import OptimizerConfig
    from agora.training.preference_loss import PreferenceConfig
    from agora.training.schedule import ScheduleConfig

    parts = [HEAD]
    for path, command in _commands(typer.main.get_command(app), ()):
        parts.append(f"## agora {' '.join(path)}\n\n{_help(command)}\n\n{_parameters(command)}\n")
    settings = (
        ("Tokenizers (agora tokenizer train)", TokenizerConfig),
        ("training.*, chat.*, preferences.*", TrainingConfig), ("training.schedule.*, ...", ScheduleConfig),
        ("training.optimizer.*, ...", OptimizerConfig), ("dpo.* (agora train preferences)", PreferenceConfig), ("model.*", ModelConfig),
        ("Scans (agora integrity scan)", IntegrityConfig), ("Labels (agora.toml)", LabelConfig), ("Search (agora.toml)", RankingConfig),
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
