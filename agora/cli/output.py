"""What commands share: the options --workspace and --json, printing a result, progress bars, the line naming the next command."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from agora.errors import UsageError
from agora.log import Progress, Step

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Workspace folder (default: AGORA_WORKSPACE or ./workspace).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NameOption = Annotated[str, typer.Option("--name", help="Name inside the workspace.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings as key=value.", show_default=False)]


INTERRUPTED = "interrupted; nothing is left half written: the same command goes on, or begins anew"
_running: ContextVar[Any] = ContextVar("_running", default=None)
"""What Typer knows of the command that runs now."""


class PlainCommand(TyperCommand):
    """A command whose usage line names arguments as help pages do (`PATH`, `[KEY=VALUE]...`); Typer puts braces around them."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; `next_command` knows of it meanwhile. Of Ctrl-C Typer makes exit code 130 without a word."""
        before = _running.set(ctx)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print(INTERRUPTED, file=sys.stderr)
            raise
        finally:
            _running.reset(before)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line after the command."""
        pieces = [self.options_metavar] if self.options_metavar else []
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                name = getattr(parameter, "metavar", None) or str(parameter.name).upper()
                pieces.append(name if parameter.required or name.startswith("[") else f"[{name}]")
        return pieces


def emit(result: Mapping[str, Any], *, as_json: bool, title: str = "", keys_are_data: bool = False) -> None:
    """Print `result` to stdout: JSON on one line, or an aligned list of keys and values.

    Its keys are shown with blanks for `_`, unless they are data; keys further inside may be (reasons, sources) and stay as they are.
    """
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=str))
        return
    if title:
        print(title)
    shown = result if keys_are_data else {str(key).replace("_", " "): value for key, value in result.items()}
    _emit_lines(shown, indent=2 if title else 0)


def _emit_lines(result: Mapping[str, Any], indent: int) -> None:
    width = max((len(str(name)) for name in result), default=0)
    for name, value in result.items():
        if isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            print(f"{' ' * indent}{name}:" + ("" if value else " none"))
            _emit_lines(value, indent + 2)
        else:
            print(f"{' ' * indent}{name:<{width}}  {_shown(value)}")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:,.4g}"
    return ", ".join(map(_shown, value)) or "none" if isinstance(value, (list, tuple)) else str(value) or "none"


def check_targets(*files: Path | None) -> None:
    """Raise UsageError for a file to be written whose folder does not exist: before the work, not after it."""
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise UsageError(f"{file} cannot be written: there is no folder {file.absolute().parent}; make it first")


def visible(text: str) -> str:
    """Text of posts on one line. Control characters could drive the terminal, so they are shown as U+FFFD."""
    joined = " ".join(text.split())
    return "".join(character if character.isprintable() else "\ufffd" for character in joined)


def next_command(command: str) -> None:
    """Tell on stderr which command comes next; where this one was given a workspace, in the same."""
    print(f"next: {command}{_same_workspace(command)}", file=sys.stderr)


def _same_workspace(command: str) -> str:
    """` --workspace FOLDER`, where the running command was given one and `command` takes one and names none."""
    context, words = _running.get(), command.split()
    place = context.params.get("workspace") if context is not None else None
    if place is None or words[:1] != ["agora"] or "--workspace" in words:
        return ""
    node = context.find_root().command
    for word in words[1:]:
        node = getattr(node, "commands", {}).get(word, node)
    takes_one = any(parameter.name == "workspace" for parameter in node.params)
    return f" --workspace {shlex.quote(str(place))}" if takes_one else ""


class TerminalProgress:
    """Progress bars on stderr through rich; plain lines where stderr is no terminal."""

    @contextmanager
    def step(self, title: str, *, total: int | None = None, unit: str = "") -> Iterator[Step]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        if not console.is_terminal:
            yield from _plain_step(title, total, unit)
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with RichProgress(*columns, console=console, transient=False) as bars:
            task = bars.add_task(title, total=total, note="")

            class Bar:
                def advance(self, amount: int = 1) -> None:
                    bars.advance(task, amount)

                def note(self, text: str) -> None:
                    bars.update(task, note=text)

            yield Bar()


def _plain_step(title: str, total: int | None, unit: str) -> Iterator[Step]:
    import time

    class Lines:
        done, text, shown_at = 0, "", time.monotonic()

        def advance(self, amount: int = 1) -> None:
            self.done += amount
            if time.monotonic() - self.shown_at > 5:
                self.show()

        def note(self, text: str) -> None:
            self.text = text

        def show(self) -> None:
            self.shown_at = time.monotonic()
            of = f" of {total:,}" if total else ""
            count = f"{self.done:,}{of} {unit} " if self.done or total else ""
            print(f"{title}: {count}{self.text}".rstrip(": "), file=sys.stderr, flush=True)

    lines = Lines()
    try:
        yield lines
    finally:
        lines.show()


terminal_progress: Progress = TerminalProgress()
