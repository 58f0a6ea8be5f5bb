"""`agora model`: look at model folders, count a shape, export a run's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agora.cli import model_promote
from agora.cli.output import JsonOption, Overrides, emit, next_command

app = typer.Typer(
    help="Look at models, count shapes, export checkpoints, promote.\n\nExample: agora model inspect workspace/models/main",
    no_args_is_help=True,
)
model_promote.register(app)


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Hugging Face model folder.")], as_json: JsonOption = False
) -> None:
    """Show what a model folder holds: shape, parameters, files; checks that every weight is there and fits.

    Example: agora model inspect workspace/models/main
    """
    from agora.model.inspection import inspect_folder

    emit(inspect_folder(folder), as_json=as_json, title=str(folder))
    next_command(f"agora serve --model {folder}")


@app.command()
def counts(
    settings: Overrides = None,
    seq_len: Annotated[int, typer.Option("--seq-len", help="Tokens per row, for the FLOPs of attention.", min=1)] = 1024,
    as_json: JsonOption = False,
) -> None:
    """Count parameters, FLOPs and cache bytes of a shape given as key=value (defaults for the rest).

    Example: agora model counts dim=512 num_layers=12 hidden_dim=1536
    """
    from agora.config import apply_overrides, parse_assignments
    from agora.model.config import ModelConfig
    from agora.model.inspection import describe_counts

    config = apply_overrides(ModelConfig(), parse_assignments(settings or []), "command line")
    emit(describe_counts(config, seq_len), as_json=as_json, title="counts")
    next_command("agora train pretrain laptop " + " ".join(f"model.{word}" for word in settings or []))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run, finished or not.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Hugging Face folder to write.")],
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Number format of the weights.")] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Write the newest whole checkpoint of a run as a Hugging Face folder (float32 master weights).

    Example: agora model export workspace/runs/main exported/main
    """
    from agora.training.export_checkpoint import export_checkpoint

    emit(export_checkpoint(run, folder, dtype=dtype), as_json=as_json, title=str(folder))
    next_command(f"agora model inspect {folder}")
