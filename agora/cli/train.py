"""`agora train`: learn from packed shards, tune for chat, look at runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli import train_dryrun, train_preferences
from agora.cli.output import JsonOption, NameOption, WorkspaceOption, emit, next_command, terminal_progress
from agora.cli.train_report import FreshOption, command_line, report
from agora.settings import DEFAULT_NAME, Workspace

if TYPE_CHECKING:
    from agora.training.run_folder import RunStatus

app = typer.Typer(help="Train models, tune them for chat, and look at runs.\n\nExample: agora train pretrain laptop", no_args_is_help=True)
train_dryrun.register(app)
train_preferences.register(app)

DataOption = Annotated[str, typer.Option("--data", help="Name of the shards and tokenizer in the workspace.")]


@app.command()
def pretrain(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="Recipe, then settings.", show_default=False)
    ] = None,
    name: NameOption = DEFAULT_NAME,
    data: DataOption = DEFAULT_NAME,
    fresh: FreshOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a fresh model on packed shards and export it to models/NAME. Stopped or killed, the same command goes on.

    Recipes: laptop (default), demo, laptop_experts, qwen3_0_6b, gpu8, h100_10k, h100_100k, b200_100k.
    Settings: training.steps=500 training.optimizer.lr=0.002 model.dim=384 ...
    Under torchrun the processes share the work: layout.shard=2 layout.tensor=2 layout.pipeline=2 layout.context=2 ...

    Example: agora train pretrain laptop training.steps=500 --name small
    """
    import recipes
    from agora.errors import UsageError
    from agora.training.pretrain import pretrain as run_pretrain
    from agora.training.world import is_first_process

    plain = [word for word in words or [] if "=" not in word]
    if len(plain) > 1:
        raise UsageError(f"{plain[1]!r} is a second recipe; give one, then settings as key=value")
    chosen = plain[0] if plain else recipes.DEFAULT
    recipe = recipes.configure(chosen, words or [], Workspace.find(workspace))
    asked = recipe.model.vocab_size if recipes.sets_vocabulary(chosen, words or [], Workspace.find(workspace)) else None
    result = run_pretrain(
        Workspace.find(workspace), name=name, data=data, model_config=recipe.model, training_config=recipe.training,
        vocab_size=asked, recipe=recipe.name, layout=recipe.layout,
        progress=terminal_progress, resume=not fresh, command=command_line("pretrain", words or [], workspace, name=name, data=data),
    )  # fmt: skip
    if is_first_process():
        report(result.summary, result.model_dir, {}, name, as_json)


@app.command()
def chat(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONVERSATIONS]... [KEY=VALUE]...", help="JSONL or Parquet files or folders, then settings.", show_default=False
        ),
    ] = None,
    corpus: Annotated[str | None, typer.Option("--corpus", help="Also learn from the threads of this corpus of the workspace.")] = None,
    base: Annotated[str, typer.Option("--base", help="Model to tune: a name in the workspace or a model folder.")] = DEFAULT_NAME,
    name: NameOption = "chat",
    recipe: Annotated[str | None, typer.Option("--recipe", help="Recipe whose chat settings are taken.", show_default="laptop")] = None,
    licence: Annotated[list[str] | None, typer.Option("--licence", help="Licence of the conversations, for the model card.")] = None,
    fresh: FreshOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tune a model on conversations; only what the assistant says counts. Stopped or killed, the same command goes on.

    A line or row holds `messages` (a list of role and content), or instruction, input and output. Settings: chat.steps=200 ...

    Example: agora train chat dialogues.parquet --base main --name main-chat chat.steps=200
    """
    import recipes
    from agora.errors import UsageError
    from agora.training.chat_tuning import tune_chat
    from agora.training.world import is_first_process

    paths = [Path(word) for word in words or [] if "=" not in word]
    if not paths and corpus is None:
        raise UsageError("no conversations given; examples: agora train chat dialogues.parquet, agora train chat --corpus main")
    chosen = recipes.configure(recipe or recipes.DEFAULT, words or [], Workspace.find(workspace))
    options: dict[str, Any] = {"corpus": corpus, "base": base, "name": name, "recipe": recipe}
    result = tune_chat(
        Workspace.find(workspace), name=name, base=base, conversations=paths, corpus=corpus, training_config=chosen.chat,
        recipe=chosen.name, layout=chosen.layout,
        licences=licence or (), progress=terminal_progress, resume=not fresh,
        command=command_line("chat", words or [], workspace, **options),
    )  # fmt: skip
    more = {"conversations": result.conversations}
    if is_first_process():
        report(result.trained.summary, result.trained.model_dir, more, name, as_json)


@app.command()
def launch(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="RECIPE [KEY=VALUE]...", help="Recipe, then settings.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; without it the text goes to the screen.")] = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="A batch script for sbatch.")] = False,
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="A JobSet; launch.kind=trainjob: Kubeflow Trainer.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="A Ray Train program.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the file that starts a recipe on a cluster: nodes, restarts and time to save follow from its layout and the machine.

    Settings of the job are launch.accelerator=B200 launch.hours=48 launch.partition=gpu ...; others are those of `agora train pretrain`.

    Example: agora train launch h100_10k --slurm launch.hours=48 --out h100_10k.sbatch
    """
    import recipes
    from agora.config import apply_overrides, parse_assignments
    from agora.errors import UsageError
    from agora.files import write_atomically
    from agora.training.launch import LaunchConfig, Target, make_job, render

    chosen: list[Target] = [target for target, is_wanted in (("slurm", slurm), ("kubernetes", kubernetes), ("ray", ray)) if is_wanted]  # type: ignore[misc]
    plain = [word for word in words or [] if "=" not in word]
    if len(chosen) != 1 or len(plain) != 1:
        raise UsageError(
            "give one recipe and one of --slurm, --kubernetes, --ray; example: agora train launch h100_10k --slurm --out job.sbatch"
        )
    mine = [word for word in words or [] if word.startswith("launch.")]
    others = [word for word in words or [] if "=" in word and word not in mine]
    config = apply_overrides(
        LaunchConfig(), {key.removeprefix("launch."): value for key, value in parse_assignments(mine).items()}, "launch"
    )
    recipe = recipes.configure(plain[0], others, Workspace.find(workspace))
    job = make_job(
        plain[0], recipe.model, recipe.training, recipe.layout, config, words=others, target=chosen[0],
        usual_accelerator=recipe.accelerator, made_by=_made_by(plain[0], chosen[0], mine, others),
    )  # fmt: skip
    text = render(job)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text)
    result = {"recipe": recipe.name, "nodes": job.num_nodes, "processes": job.num_ranks, "restarts": job.restarts, "stop_s": job.stop_s}
    if out is None and not as_json:
        print(text, end="")
        return
    emit({**result, "facts": list(job.facts), "file": str(out) if out else None, **({} if out else {"text": text})}, as_json=as_json)
    if out is not None:
        next_command({"slurm": f"sbatch {out}", "kubernetes": f"kubectl apply -f {out}", "ray": f"python {out}"}[chosen[0]])


def _made_by(recipe: str, target: str, mine: list[str], others: list[str]) -> str:
    """The command that makes the file again, without the place where it is written."""
    import shlex

    return shlex.join(["agora", "train", "launch", recipe, f"--{target}", *others, *mine])


@app.command()
def status(name: NameOption = DEFAULT_NAME, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Tell how a run in another shell stands: state, step, loss, speed, time left.

    Example: agora train status --name main
    """
    from agora.training.run_folder import run_status

    found = run_status(Workspace.find(workspace).folder("runs", name))
    emit(_status(found) if as_json else _readable(_status(found)), as_json=as_json)
    if found.state in ("stopped", "dead", "failed") and found.command:
        next_command(found.command)
    else:
        next_command(f"agora evaluate --model {name}" if found.state == "finished" else f"agora train status --name {name}")


@app.command("list")
def list_all(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the runs of the workspace.

    Example: agora train list
    """
    from agora.training.run_folder import list_runs

    place = Workspace.find(workspace).folder("runs")
    runs = list_runs(place)
    if as_json:
        emit({"runs": [_status(run) for run in runs]}, as_json=True)
        return
    if not runs:
        print(f"no runs in {place}")
    for run in runs:
        if run.state == "damaged":
            print(f"{run.name:<20} {run.state}: {run.message}")
            continue
        loss = f"loss {run.loss:.3f}" if run.loss is not None else ""
        print(f"{run.name:<20} {run.kind:<9} {run.state:<9} step {run.step:,} of {run.steps:,}  {loss}".rstrip())
    next_command(f"agora train status --name {runs[0].name}" if runs else "agora train pretrain")


def _status(found: RunStatus) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)


def _readable(found: dict[str, Any]) -> dict[str, Any]:
    from agora.units import format_seconds

    forms = {
        "loss": "{:.4f}", "heldout_loss": "{:.4f}", "tokens_per_s": "{:,.0f}", "limit_share": "{:.1%}", "joules_per_token": "{:.5f}",
    }  # fmt: skip
    result = {key: forms[key].format(value) if key in forms else value for key, value in found.items() if value not in (None, "")}
    if found["eta_s"] is not None:
        result["eta_s"] = format_seconds(found["eta_s"])
    return result
