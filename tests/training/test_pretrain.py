"""From shards to a model folder, and from there to a chat model: through the library and through the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import ConfigError, DataError, UsageError
from agora.model.hf import WEIGHTS, load_hf
from agora.settings import Workspace
from agora.tokenizer.bpe import Tokenizer
from agora.training.chat_tuning import tune_chat
from agora.training.evaluate import bits_per_byte
from agora.training.export_checkpoint import export_checkpoint
from agora.training.pretrain import TrainedModel, pretrain
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep

TRAINING = dataclasses.replace(TINY_TRAINING, steps=8)
MODEL = dataclasses.replace(TINY_MODEL, max_seq_len=64)
CHAT = dataclasses.replace(TINY_TRAINING, steps=4, seq_len=64, micro_batch=2, batch_tokens=128)


@pytest.fixture(autouse=True)
def _known_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1e12)


def train(workspace: Workspace, **more: Any) -> TrainedModel:
    return pretrain(workspace, name="main", data="main", model_config=MODEL, training_config=TRAINING, **more)


def conversations(path: Path, count: int = 60) -> Path:
    lines = [
        {"messages": [{"role": "user", "content": f"what did the baker do on day {n}?"}, {"role": "assistant", "content": "opened late"}]}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_trained_model_is_exported_with_tokenizer_and_card(workspace: Workspace) -> None:
    result = train(workspace, recipe="laptop")
    assert result.model_dir == workspace.folder("models", "main")
    model = load_hf(result.model_dir)
    assert model.config.vocab_size == json.loads((workspace.folder("shards", "main") / "manifest.json").read_text())["vocab_size"]
    assert (result.model_dir / "tokenizer.json").exists()
    assert result.summary.heldout_loss is not None
    card = (result.model_dir / "README.md").read_text()
    for word in ("laptop", "parameters", "FLOP", "energy", "held-out loss", "Licence of the data"):
        assert word in card, word


def test_an_exported_checkpoint_gets_the_card_of_the_run_also_without_the_corpus(workspace: Workspace, tmp_path: Path) -> None:
    folder = train(workspace, recipe="laptop").model_dir
    assert folder is not None
    shutil.rmtree(workspace.folder("corpus", "main"))
    export_checkpoint(workspace.folder("runs", "main"), tmp_path / "main")
    card = (tmp_path / "main" / "README.md").read_text()
    assert card == (folder / "README.md").read_text() and "step 8 of run main" in card and "| recipe | laptop |" in card


def test_a_stopped_run_is_exported_with_the_numbers_of_its_checkpoint(workspace: Workspace, tmp_path: Path) -> None:
    train(workspace, progress=EachStep(lambda done: os.kill(os.getpid(), signal.SIGINT) if done == 4 else None))
    export_checkpoint(workspace.folder("runs", "main"), tmp_path / "half")
    card = (tmp_path / "half" / "README.md").read_text()
    assert "| tokens | 256 |" in card and "4 of 8, 64 tokens each" in card and "(estimated)" in card
    assert re.search(r"held-out bits per byte \| \d\.\d{4}", card) and "not known |" not in card


def test_bits_per_byte_of_the_run_are_those_of_an_evaluation(workspace: Workspace) -> None:
    """Rows as long as all held-out text: nothing is cut, so both see the same contexts."""
    training = dataclasses.replace(TRAINING, seq_len=4096, micro_batch=1, batch_tokens=4096, steps=1)
    model = dataclasses.replace(MODEL, max_seq_len=4096)
    result = pretrain(workspace, name="main", data="main", model_config=model, training_config=training)
    assert result.model_dir is not None and result.summary.heldout_bits_per_byte is not None
    texts = [row["text"] for row in heldout_rows(workspace)]
    asked = bits_per_byte(load_hf(result.model_dir), Tokenizer.load(result.model_dir), texts, compressors=False)
    assert result.summary.heldout_bits_per_byte == pytest.approx(asked.bits_per_byte, rel=5e-3)  # all but the first token of the text


def heldout_rows(workspace: Workspace) -> list[dict[str, str]]:
    table = pq.read_table(workspace.folder("corpus", "main") / "documents" / "documents-00000.parquet")
    return [row for row in table.to_pylist() if row["split"] == "heldout"]


def test_a_name_that_cannot_be_one_is_refused_before_anything_is_read(workspace: Workspace, tmp_path: Path) -> None:
    shutil.rmtree(workspace.folder("tokenizer", "main"))
    with pytest.raises(UsageError, match="must be a plain folder name"):
        pretrain(workspace, name="a/b", data="main", model_config=MODEL, training_config=TRAINING)
    with pytest.raises(UsageError, match="must be a plain folder name"):
        tune_chat(workspace, name="a/b", base="main", conversations=[tmp_path / "none.jsonl"], training_config=CHAT)


@pytest.mark.parametrize(
    ("words", "toml", "warned"),
    [([], "", False), (["model.vocab_size=999"], "", True), ([], "[train]\nmodel = {vocab_size = 999}\n", True)],
)
def test_only_a_vocabulary_that_the_user_asked_for_is_missed(
    workspace: Workspace, words: list[str], toml: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.settings_file.write_text("version = 1\n" + toml)
    result = CliRunner().invoke(app, ["train", "pretrain", "laptop", *SETTINGS, *words, "--workspace", str(workspace.root)])
    assert result.exit_code == 0, result.output
    assert ("model.vocab_size=999 becomes" in caplog.text) is warned and ("vocab_size" in caplog.text) is warned


def test_a_valid_export_is_not_written_again_and_a_lost_or_changed_one_is(workspace: Workspace) -> None:
    folder = train(workspace).model_dir
    assert folder is not None
    first = (folder / WEIGHTS).read_bytes()
    (folder / "README.md").write_text("edited by a person")
    train(workspace)
    assert (folder / "README.md").read_text() == "edited by a person"
    (folder / WEIGHTS).write_bytes(first[:-4])
    train(workspace)
    assert (folder / WEIGHTS).read_bytes() == first
    shutil.rmtree(folder)
    train(workspace)
    assert (folder / WEIGHTS).read_bytes() == first


def test_shards_of_another_tokenizer_are_refused(workspace: Workspace) -> None:
    Tokenizer.train(["other words entirely"] * 9, vocab_size=280).save(workspace.folder("tokenizer", "main"))
    with pytest.raises(DataError, match="was packed by tokenizer"):
        train(workspace)


def test_missing_shards_name_the_command_that_makes_them(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder("shards", "main"))
    with pytest.raises(DataError, match="agora tokenizer pack"):
        train(workspace)


def test_chat_tuning_starts_from_the_base_and_exports(workspace: Workspace, tmp_path: Path) -> None:
    train(workspace)
    path = conversations(tmp_path / "talk.jsonl")
    result = tune_chat(workspace, name="talk", base="main", conversations=[path], training_config=CHAT, licences=["CC0"])
    assert result.conversations["conversations"] + result.conversations["heldout"] == 60
    assert result.trained.model_dir is not None
    tuned, base = load_hf(result.trained.model_dir), load_hf(workspace.folder("models", "main"))
    assert tuned.config == base.config and not tuned.embedding.equal(base.embedding)
    assert (tuned.embedding - base.embedding).abs().max() < 0.5
    card = (result.trained.model_dir / "README.md").read_text()
    assert "talk.jsonl" in card and "CC0" in card


def test_chat_tuning_refuses_what_cannot_work(workspace: Workspace, tmp_path: Path) -> None:
    path = conversations(tmp_path / "talk.jsonl")
    with pytest.raises(UsageError, match="no model 'main'"):
        tune_chat(workspace, name="talk", base="main", conversations=[path], training_config=CHAT)
    train(workspace)
    with pytest.raises(ConfigError, match="choose another name"):
        tune_chat(workspace, name="main", base="main", conversations=[path], training_config=CHAT)
    with pytest.raises(ConfigError, match=r"^chat\.seq_len=128 is above the 64 positions"):
        long = dataclasses.replace(CHAT, seq_len=128, batch_tokens=256)
        tune_chat(workspace, name="talk", base="main", conversations=[path], training_config=long)
    with pytest.raises(DataError, match=r"^no usable conversation: left out \d+ longer than chat\.seq_len=8 tokens"):
        short = dataclasses.replace(CHAT, seq_len=8, batch_tokens=128)
        tune_chat(workspace, name="talk", base="main", conversations=[path], training_config=short)
    path.write_text("{}\n{}\n3\n")
    with pytest.raises(DataError, match=r"^no usable conversation: left out 2 no_messages, 1 not_a_json_object \(in talk\.jsonl\)"):
        long = dataclasses.replace(CHAT, seq_len=128, batch_tokens=256)
        tune_chat(workspace, name="talk", base="main", conversations=[path], training_config=long)


SETTINGS = [
    "model.dim=16",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.num_kv_heads=1",
    "model.head_dim=8",
    "model.hidden_dim=32",
    "model.max_seq_len=64",
    "training.steps=6",
    "training.seq_len=16",
    "training.micro_batch=2",
    "training.batch_tokens=64",
    "training.dtype=float32",
    "training.evaluate_every=3",
]


def test_command_line_trains_and_tells_how_the_run_stands(workspace: Workspace) -> None:
    place = ["--workspace", str(workspace.root), "--json"]
    result = CliRunner().invoke(app, ["train", "pretrain", "laptop", *SETTINGS, *place])
    assert result.exit_code == 0, result.output
    trained = json.loads(result.stdout)
    assert trained["state"] == "finished" and trained["step"] == 6 and "agora evaluate --model main" in result.stderr
    status = json.loads(CliRunner().invoke(app, ["train", "status", *place]).stdout)
    assert status["state"] == "finished" and status["heldout_loss"] == trained["heldout_loss"]
    runs = json.loads(CliRunner().invoke(app, ["train", "list", *place]).stdout)
    assert [run["name"] for run in runs["runs"]] == ["main"]
    text = CliRunner().invoke(app, ["train", "status", "--workspace", str(workspace.root)]).stdout
    assert "finished" in text and "eta_s" not in text


def test_a_run_that_is_not_there_is_a_usage_error(workspace: Workspace) -> None:
    result = CliRunner().invoke(app, ["train", "status", "--name", "none", "--workspace", str(workspace.root)])
    assert isinstance(result.exception, UsageError) and "there is no run in" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "laptp"], "did you mean 'laptop'"),
        (["pretrain", "steps=3"], r"did you mean 'training\.steps'"),
        (["pretrain", "training.stepps=3"], "did you mean 'steps'"),
        (["pretrain", "laptop", "demo"], "second recipe"),
        (["pretrain", "training.batch_tokens=100"], "must be a multiple"),
        (["chat", "chat.steps=3"], "no conversations given"),
    ],
)
def test_command_line_refuses_with_a_suggestion(workspace: Workspace, words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["train", *words, "--workspace", str(workspace.root)])
    assert isinstance(result.exception, ConfigError) or result.exception is not None
    with pytest.raises(type(result.exception), match=message):
        raise result.exception
    assert getattr(result.exception, "exit_code", 1) == 2
