"""What the commands that train have in common: how a run that ended is told, and the command that goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli.output import emit, next_command

if TYPE_CHECKING:
    from agora.training.summary import TrainingSummary

FreshOption = Annotated[bool, typer.Option("--fresh", help="Start again from nothing, throwing away what the run of that name has.")]
EXIT_STOPPED = 130  # as a shell reports a command ended by SIGINT: scripts must not go on as if training were done


def report(summary: TrainingSummary, model_dir: Path | None, more: dict[str, Any], name: str, as_json: bool) -> None:
    """Say how a run ended, and which command comes next. A stopped one ends the process with EXIT_STOPPED."""
    from agora.units import format_joules, format_seconds, format_si

    result: dict[str, Any] = {
        "state": summary.state, "step": summary.step, "steps": summary.steps, "loss": summary.loss, "heldout_loss": summary.heldout_loss,
        "heldout_bits_per_byte": summary.heldout_bits_per_byte,
        "tokens": summary.tokens, "tokens_per_s": round(summary.tokens_per_s, 1), "limit_share": round(summary.limit_share, 4),
        "elapsed_s": round(summary.elapsed_s, 1), "flops": summary.flops, "joules": round(summary.joules, 1),
        "energy": summary.energy_source, "device": summary.device, "dtype": summary.dtype, "compiled": summary.compiled, **more,
        "pictures": [str(path) for path in summary.pictures], "model": str(model_dir) if model_dir else None,
    }  # fmt: skip
    if not as_json:
        result |= {
            "limit_share": f"{summary.limit_share:.1%} of the machine's measured matmul limit", "flops": format_si(summary.flops, "FLOP"),
            "elapsed_s": format_seconds(summary.elapsed_s), "joules": format_joules(summary.joules),
            "pictures": ", ".join(str(path) for path in summary.pictures),
        }  # fmt: skip
    emit(result, as_json=as_json)
    if summary.state == "stopped":
        next_command(_resume_command(summary))
        raise typer.Exit(EXIT_STOPPED)
    next_command(f"agora evaluate --model {name}")


def _resume_command(summary: TrainingSummary) -> str:
    from agora.training.run_folder import RunFolder

    return str(RunFolder(summary.run_dir).read("run.json").get("command", ""))


def command_line(verb: str, words: list[str], workspace: Path | None, **options: str | None) -> str:
    """The command line that goes on with this run (without --fresh)."""
    import shlex

    given = [part for key, value in options.items() if value is not None for part in (f"--{key}", value)]
    place = ["--workspace", str(workspace)] if workspace else []
    return shlex.join(["agora", "train", verb, *words, *given, *place])
