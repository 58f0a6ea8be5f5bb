"""`agora engine launch` as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import UsageError


def test_command_is_printed_and_can_be_written(tiny_workspace: Path, tmp_path: Path) -> None:
    words = ["engine", "launch", "tiny", "-w", str(tiny_workspace), "--vllm"]
    printed = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert json.loads(printed.stdout)["command"].startswith("vllm serve ")
    script = tmp_path / "serve.sh"
    CliRunner().invoke(app, [*words, "--out", str(script)], catch_exceptions=False)
    assert script.read_text().startswith("#!/bin/sh\nexec vllm serve ")
    with pytest.raises(UsageError, match="exists already"):
        CliRunner().invoke(app, [*words, "--out", str(script)], catch_exceptions=False)


def test_ray_serve_file_is_written(tiny_workspace: Path, tmp_path: Path) -> None:
    words = ["engine", "launch", "tiny", "-w", str(tiny_workspace), "--vllm", "--ray-serve", "--out", str(tmp_path / "serve.yaml")]
    printed = CliRunner().invoke(app, words, catch_exceptions=False)
    assert printed.exit_code == 0 and "build_openai_app" in (tmp_path / "serve.yaml").read_text()


@pytest.mark.parametrize("words", [[], ["--vllm", "--sglang"], ["--vllm", "--ray-serve"]])
def test_unclear_wishes_are_refused(tiny_workspace: Path, words: list[str]) -> None:
    with pytest.raises(UsageError):
        CliRunner().invoke(app, ["engine", "launch", "tiny", "-w", str(tiny_workspace), *words], catch_exceptions=False)
