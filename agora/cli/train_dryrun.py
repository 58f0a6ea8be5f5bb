"""`agora train dryrun`: what any rank of any world would hold, send and compute. The area's file registers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command, terminal_progress
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.training.dryrun import DryRun


def register(app: typer.Typer) -> None:
    """Give `app` the command."""
    app.command()(dryrun)


def dryrun(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="Recipe, then settings.", show_default=False)
    ] = None,
    world: Annotated[
        int | None, typer.Option("--world", help="Number of processes (default: that of the recipe's layout).", show_default=False)
    ] = None,
    rank: Annotated[int, typer.Option("--rank", help="Which of them.")] = 0,
    all_stages: Annotated[bool, typer.Option("--all-stages", help="One rank for each pipeline stage, at the place of --rank.")] = False,
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", help="Warn when its memory is too small: H100, B200 ...", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one training step as any rank of any world, without a GPU: memory by kind, every collective, FLOPs.

    It is the program that trains, on tensors that have a shape and no memory; a minute of one processor core stands for 100,000 GPUs.

    Example: agora train dryrun h100_100k --world 100352 --rank 50000 --accelerator H100
    """
    import recipes
    from agora.errors import UsageError
    from agora.training.dryrun import NOT_COUNTED, dry_run, dry_run_stages, memory_of, warnings_for

    plain = [word for word in words or [] if "=" not in word]
    if len(plain) > 1:
        raise UsageError(f"{plain[1]!r} is a second recipe; give one, then settings as key=value")
    recipe = recipes.configure(plain[0] if plain else recipes.DEFAULT, words or [], Workspace.find(workspace))
    if accelerator is not None:
        memory_of(accelerator)  # an unknown one is refused before the work
    task: dict[str, Any] = {"world": world, "rank": rank, "progress": terminal_progress}
    arguments = (recipe.model, recipe.training, recipe.layout)
    runs = list(dry_run_stages(*arguments, **task)) if all_stages else [dry_run(*arguments, **task)]
    problems = [problem for run in runs for problem in warnings_for(run, accelerator)] if accelerator else []
    if as_json:
        found = {"recipe": recipe.name, "ranks": [_as_json(run) for run in runs], "warnings": problems, "not_counted": NOT_COUNTED}
        emit(found, as_json=True)
        return
    for run in runs:
        emit(_as_table(run), as_json=False, title=f"rank {run.rank:,} of {run.world:,}, stage {run.stage}", keys_are_data=True)
    for problem in problems:
        typer.echo(f"warning: {problem}", err=True)
    print(NOT_COUNTED)
    next_command("agora cluster plan --help" if problems else "agora train pretrain --help")


def _as_json(run: DryRun) -> dict[str, Any]:
    from dataclasses import asdict

    from agora.training.dryrun import smallest_that_holds

    result = asdict(run)
    record = result.pop("record")
    collectives = [{**asdict(c), "sent_bytes": c.sent_bytes} for c in run.record.collectives]
    result |= {**record, "collectives": collectives, "needed_bytes": run.needed_bytes, "fits": smallest_that_holds(run.needed_bytes)}
    return result


def _as_table(run: DryRun) -> dict[str, Any]:
    from agora.training.dryrun import as_rows, smallest_that_holds
    from agora.units import format_si

    def gigabytes(num_bytes: float) -> str:
        return f"{num_bytes / 1e9:,.3f} GB"

    recorded = run.num_micro_batches in run.recorded_micro_batches
    passes = f"{run.num_micro_batches}" + ("" if recorded else f", from steps of {' and '.join(map(str, run.recorded_micro_batches))}")
    return {
        "layout": run.layout.describe(),
        "micro-batches of a step": passes,
        "parameters of the rank's stage": run.num_parameters,
        "peak memory": gigabytes(run.record.peak_bytes),
        "of which": {kind: gigabytes(num_bytes) for kind, num_bytes in run.record.by_kind.items()},
        "margin": gigabytes(run.reserved_bytes),
        "needs": f"{gigabytes(run.needed_bytes)}; smallest accelerator listed: {smallest_that_holds(run.needed_bytes) or 'none'}",
        "planner says of the fullest rank": gigabytes(run.planned_bytes),
        "FLOPs of the step": f"{format_si(run.record.flops, 'FLOP')}, recomputed ones included; mean of ranks without: "
        f"{format_si(run.model_flops, 'FLOP')}",
        "collectives": {str(number): row for number, row in enumerate(as_rows(run.record.collectives, gigabytes), 1)},
    }
