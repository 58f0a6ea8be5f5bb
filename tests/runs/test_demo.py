"""`make demo`: stops when it is stopped, and does again what is out of date."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from agora.errors import AgoraError
from agora.model.hf import WEIGHTS
from agora.settings import Workspace
from agora.tokenizer.bpe import Tokenizer
from agora.tokenizer.shards import pack_shards
from runs import demo
from runs.demo_report import _shown
from tests.training.conftest import make_workspace
from tests.training.doubles import EachStep
from tests.training.test_pretrain import SETTINGS, conversations

CHAT = ["--recipe", "laptop", "chat.steps=2", "chat.seq_len=64", "chat.micro_batch=2", "chat.batch_tokens=128", "chat.dtype=float32"]


@pytest.fixture(autouse=True)
def _known_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1e12)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "workspace")


def test_an_interrupt_in_training_stops_the_demo(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = EachStep(lambda done: os.kill(os.getpid(), signal.SIGINT) if done == 2 else None)
    monkeypatch.setattr("agora.cli.train.terminal_progress", stopping)
    monkeypatch.setattr(demo, "run", lambda posts, serve: demo.agora(place, "train", "pretrain", "laptop", *SETTINGS))
    monkeypatch.setattr(sys, "argv", ["demo"])
    assert demo.main() == 130
    assert "interrupted; the same `make demo`" in capsys.readouterr().err


def test_a_command_that_ends_with_another_code_stops_the_demo(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.cli.app", lambda words, standalone_mode: print("{}") or 3)
    with pytest.raises(AgoraError, match="agora train pretrain ended with code 3"):
        demo.agora(place, "train", "pretrain")


def test_what_a_command_found_in_rows_is_not_poured_onto_the_screen(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"labelled_accounts": 95, "labels": [{"account": "ada"}] * 95}
    monkeypatch.setattr("agora.cli.app", lambda words, standalone_mode: print(json.dumps(answer)))
    assert demo.agora(place, "integrity", "scan") == answer
    shown = capsys.readouterr().out
    assert "labelled accounts  95" in shown and "ada" not in shown


def test_runs_that_learned_other_shards_are_done_again(place: Workspace, tmp_path: Path) -> None:
    talk = str(conversations(tmp_path / "talk.jsonl"))

    def learn() -> tuple[dict[str, Any], dict[str, Any], bytes]:
        base = demo.train(place, "pretrain", "laptop", *SETTINGS)
        tuned = demo.train(place, "chat", talk, *CHAT)
        return base, tuned, (place.folder("models", "main") / WEIGHTS).read_bytes()

    *_, before = learn()
    documents = place.folder("corpus", "main") / "documents"
    demo_documents = tmp_path / "fewer"
    demo_documents.mkdir()
    table = pq.read_table(documents / "documents-00000.parquet")
    pq.write_table(table.slice(50), demo_documents / "documents-00000.parquet")
    pack_shards(demo_documents, Tokenizer.load(place.folder("tokenizer", "main")), place.folder("shards", "main"))
    base, tuned, after = learn()
    assert (base["state"], tuned["state"]) == ("finished", "finished") and after != before
    assert learn()[2] == after  # and that stays


def test_a_server_with_older_models_is_not_taken_for_one_of_these(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    stopped: list[int] = []
    model = place.folder("models", "main")
    model.mkdir(parents=True)
    (model / WEIGHTS).write_bytes(b"1")
    record = {"pid": 1, "address": "http://here", "workspace": str(place.root.resolve()), "models": demo._models(place)}
    (tmp_path / "server.json").write_text(json.dumps(record))
    monkeypatch.setattr(demo, "_running", lambda path: record)

    def stop() -> str:
        stopped.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "stop_server", stop)
    assert demo.start_server(place) == "http://here"
    os.utime(model / WEIGHTS, ns=(1, 1))
    with pytest.raises(KeyboardInterrupt):
        demo.start_server(place)
    assert stopped


def test_the_report_shows_reasons_as_they_are() -> None:
    assert _shown({"too_short": 2, "none": 0}) == "too_short 2"
