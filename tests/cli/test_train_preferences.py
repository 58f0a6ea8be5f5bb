"""`agora train preferences` from the feedback of a workspace, and from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agora.cli.train import app
from agora.errors import ConfigError, DataError, SourceError
from agora.model.hf import save_hf
from agora.server.accounts import Accounts
from agora.server.conversations import Conversations
from agora.server.tables import open_database
from agora.settings import Workspace

runner = CliRunner()
SMALL = (
    "preferences.seq_len=64", "preferences.batch_tokens=256", "preferences.micro_batch=4", "preferences.dtype=float32", "dpo.epochs=2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda *_, **__: 1e10)
    monkeypatch.setattr("agora.training.loop.draw_loss", lambda *_, **__: [])


@pytest.fixture
def place(tmp_path: Path, tiny_parts: Any, tiny_workspace: Path) -> Workspace:
    workspace = Workspace(tmp_path).create()
    save_hf(tiny_parts[0], workspace.folder("models", "chat"), tokenizer_dir=tiny_workspace / "tokenizer" / "tiny")
    return workspace


def run(place: Workspace, *words: str) -> dict[str, Any]:
    result = runner.invoke(app, ["preferences", *words, "--workspace", str(place.root), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    table: dict[str, Any] = json.loads(result.stdout)
    return table


def rate(place: Workspace, count: int) -> None:
    database = open_database(place)
    talks, account = Conversations(database), Accounts(database).ensure("ada", scopes=["member"]).account
    for number in range(count):
        talk = talks.begin(account, "talk")
        talks.add(account, talk, "user", f"Is it {number}?")
        answer = talks.add(account, talk, "assistant", "No bread.")
        talks.give_feedback(account, answer, "edit" if number else "down", "Rain again." if number else "")
    database.close()


def test_feedback_is_learned_and_told(place: Workspace) -> None:
    with pytest.raises(DataError, match="no pair of answers to learn from: there is no feedback"):
        run(place)
    rate(place, 12)
    told = run(place, *SMALL, "--name", "tuned")
    assert told["state"] == "finished" and told["model"] == str(place.folder("models", "tuned"))
    assert told["pairs"]["pairs"] + told["pairs"]["heldout"] == 11
    assert told["pairs"]["left_out"] == {"bad answer, and none that is better": 1}
    assert (place.folder("models", "tuned") / "model.safetensors").is_file()


def test_pairs_are_written_and_read_back(place: Workspace, tmp_path: Path) -> None:
    rate(place, 5)
    file = tmp_path / "out" / "pairs.jsonl"
    assert run(place, "--out", str(file))["pairs"] == 4
    told = run(place, str(file), *SMALL)
    assert told["pairs"]["pairs"] + told["pairs"]["heldout"] == 4
    with pytest.raises(SourceError, match="not a file"):
        run(place, str(tmp_path / "none.jsonl"))


def test_unknown_settings_are_refused_with_the_nearest(place: Workspace) -> None:
    for word, meant in (("dpo.betta=1", "beta"), ("preferences.step=1", "steps")):
        with pytest.raises(ConfigError, match=f"did you mean '(dpo.|preferences.)?{meant}'"):
            run(place, word)
