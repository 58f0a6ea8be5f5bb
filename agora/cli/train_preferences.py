"""`agora train preferences`: tune a model by what people said about its answers. The area's file registers it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli.output import JsonOption, NameOption, WorkspaceOption, emit, next_command, terminal_progress
from agora.cli.train_report import FreshOption, command_line, report
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.training.preference_pairs import PairSet


def register(app: typer.Typer) -> None:
    """Give `app` the command."""
    app.command()(preferences)


def preferences(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[PAIRS]... [KEY=VALUE]...", help="JSONL files, then settings.", show_default=False)
    ] = None,
    base: Annotated[str, typer.Option("--base", help="Model to tune: a name in the workspace or a model folder.")] = "chat",
    name: NameOption = "preferences",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the pairs to this file and stop: to look at them, or for several processes.")
    ] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Recipe whose settings are taken.", show_default="laptop")] = None,
    licence: Annotated[list[str] | None, typer.Option("--licence", help="Licence of the preferences, for the model card.")] = None,
    fresh: FreshOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tune a model by preferences (DPO): from what members said about answers, or from files. Stopped or killed, the same command goes on.

    Without a file the feedback of the server's database is taken: thumbs, edits, "not supported"; one voice counts once.
    A line of a file holds prompt, chosen and rejected. Settings: dpo.beta=0.2 dpo.epochs=1 preferences.optimizer.lr=1e-5 ...

    Example: agora train preferences --base chat --name chat-2
    """
    import recipes
    from agora.training.preference_tuning import tune_preferences
    from agora.training.world import is_first_process

    place = Workspace.find(workspace)
    chosen = recipes.configure(recipe or recipes.DEFAULT, words or [], place)
    paths = [Path(word) for word in words or [] if "=" not in word]
    pairs = _pairs(place, paths)
    if out is not None:
        _write(out, pairs, name, base, as_json)
        return
    options: dict[str, Any] = {"base": base, "name": name, "recipe": recipe}
    result = tune_preferences(
        place, name=name, base=base, pairs=pairs, origin=", ".join(path.name for path in paths) or "feedback of members",
        training_config=chosen.preferences, config=chosen.dpo, recipe=chosen.name, layout=chosen.layout, licences=licence or (),
        progress=terminal_progress, resume=not fresh, command=command_line("preferences", words or [], workspace, **options),
    )  # fmt: skip
    if is_first_process():
        report(result.trained.summary, result.trained.model_dir, {"pairs": result.report}, name, as_json)


def _pairs(place: Workspace, paths: list[Path]) -> PairSet:
    from agora.training.preference_pairs import read_pairs

    if paths:
        return read_pairs(paths)
    from agora.errors import MissingExtraError

    try:
        from agora.server.feedback import feedback_pairs
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "sqlalchemy", "serve", "feedback of members") from error
    return feedback_pairs(place)


def _write(out: Path, pairs: PairSet, name: str, base: str, as_json: bool) -> None:
    from agora.training.preference_pairs import write_pairs

    out.parent.mkdir(parents=True, exist_ok=True)
    write_pairs(out, pairs.pairs)
    emit({"pairs": len(pairs.pairs), "left_out": pairs.left_out, "file": str(out)}, as_json=as_json)
    next_command(f"agora train preferences {out} --base {base} --name {name}")
