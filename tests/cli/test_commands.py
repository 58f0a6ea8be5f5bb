"""The command line as a whole: every command is explained, has an example, and answers --help without loading anything slow."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from agora.cli import app

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SLOW = ("torch", "daft", "lancedb", "transformers", "fastapi", "matplotlib", "pyarrow", "numpy", "tokenizers")


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command with the words that reach it."""
    children = getattr(group, "commands", None)
    if children is None:
        yield path, group
        return
    for name, child in children.items():
        yield from commands(child, (*path, name))


ROOT = typer.main.get_command(app)
COMMANDS = dict(commands(ROOT))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_and_gives_an_example_of_itself(path: tuple[str, ...]) -> None:
    text = COMMANDS[path].help or ""  # type: ignore[attr-defined]
    assert len(text.splitlines()[0].strip()) >= 10, "the first line says what the command does"
    example = re.search(r"^\s*Example: (agora .+)$", text, re.MULTILINE)
    assert example, "the help has a line 'Example: agora ...'"
    assert shlex.split(example[1])[1 : 1 + len(path)] == list(path)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_is_explained_and_json_is_offered(path: tuple[str, ...]) -> None:
    parameters = COMMANDS[path].params  # type: ignore[attr-defined]
    assert all(getattr(parameter, "help", None) for parameter in parameters if parameter.name != "help"), "every option has a help text"
    assert any("--json" in parameter.opts for parameter in parameters)


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS.items()], ids=" ".join)
def test_every_example_is_understood(path: tuple[str, ...]) -> None:
    """The options of the example exist (arguments are not tried)."""
    command = COMMANDS[path]
    example = re.search(r"Example: agora (.+)", command.help or "")  # type: ignore[attr-defined]
    assert example
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}  # type: ignore[attr-defined]
    given = {word.partition("=")[0] for word in shlex.split(example[1]) if word.startswith("--")}
    assert given <= known


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_arguments_have_a_name_in_capitals(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    usage = " ".join(result.stdout.partition("\n\n")[0].split())
    assert "{" not in usage and re.fullmatch(r"[^a-z]*", usage.partition("[OPTIONS]")[2]), usage


def test_areas_are_explained() -> None:
    for name, group in ROOT.commands.items():  # type: ignore[attr-defined]
        assert group.help or not getattr(group, "commands", True), f"agora {name} has no help text"


def test_no_help_page_loads_anything_slow() -> None:
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from agora.cli import app\n"
        f"for path in {[list(path) for path in COMMANDS]!r} + [[]]:\n"
        "    result = CliRunner().invoke(app, [*path, '--help'])\n"
        "    assert result.exit_code == 0, (path, result.output)\n"
        f"print(sorted(set({SLOW!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_that_is_named_anywhere_exists() -> None:
    """In errors, help, lines that name the next command, and pages."""
    named = re.compile(rf"\bagora ({'|'.join(ROOT.commands)})\b(?: ([a-z][a-z-]*))?([^`\n\"')]*)")  # type: ignore[attr-defined]
    wrong = []
    for path in [*REPOSITORY.glob("agora/**/*.py"), *REPOSITORY.glob("docs/**/*.md"), REPOSITORY / "README.md"]:
        for area, verb, rest in named.findall(path.read_text(encoding="utf-8")):
            command = COMMANDS.get((area,)) or COMMANDS.get((area, verb))
            if command is None and not verb:
                continue  # an area as a whole
            known = {option for parameter in command.params for option in parameter.opts} if command else set()  # type: ignore[attr-defined]
            if not set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)) <= known | {"--help"} or command is None:
                wrong.append(f"{path.relative_to(REPOSITORY)}: agora {area} {verb}{rest}")
    assert not wrong


def test_the_next_command_is_for_the_same_workspace(tmp_path: Path) -> None:
    place = str(tmp_path / "my posts")
    assert CliRunner().invoke(app, ["train", "list", "--workspace", place]).stderr == f"next: agora train pretrain --workspace '{place}'\n"
    assert CliRunner().invoke(app, ["train", "list"], env={"AGORA_WORKSPACE": place}).stderr == "next: agora train pretrain\n"


def test_an_interrupted_command_says_that_it_may_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*words: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agora.cli.posts.emit", interrupted)
    result = CliRunner().invoke(app, ["posts", "sources"])
    assert (result.exit_code, result.stdout) == (130, "") and "the same command goes on" in result.stderr
