"""Tuning by preferences: planted ones are learned and hold for questions held out; killed and resumed it computes the same bits."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from agora.cluster.layout import Layout
from agora.errors import ConfigError, DataError, ModelError, OtherRunError
from agora.model.config import ModelConfig
from agora.model.hf import load_hf, save_hf
from agora.model.transformer import Transformer
from agora.settings import Workspace
from agora.tokenizer.bpe import Tokenizer
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.preference_data import encode_pairs
from agora.training.preference_loss import PreferenceConfig
from agora.training.preference_pairs import PairSet, PreferencePair
from agora.training.preference_tuning import PreferenceModel, tune_preferences
from tests.training.conftest import WHEN, WHO, small_posts
from tests.training.doubles import EachStep

SHAPE = ModelConfig(vocab_size=400, dim=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden_dim=64, max_seq_len=128)
TRAINING = TrainingConfig(
    steps=12, batch_tokens=512, micro_batch=4, seq_len=64, dtype="float32", device="cpu", evaluate_every=6, checkpoint_every_s=None,
    checkpoint_every_steps=4, optimizer=OptimizerConfig(name="adamw", lr=3e-3, weight_decay=0.0),
)  # fmt: skip
DPO = PreferenceConfig(epochs=20.0)


def planted(count: int = 120) -> PairSet:
    """The answer that says when is preferred to the one that says who, whatever was asked."""
    pairs = [
        PreferencePair(
            prompt=[{"role": "user", "content": f"{number} {post}"}], chosen=WHEN[number % len(WHEN)], rejected=WHO[number % len(WHO)]
        )
        for number, post in enumerate(small_posts(count, seed=3))
    ]  # fmt: skip
    return PairSet(pairs=pairs)


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast the machine is, and pictures, are not looked at here: most of the time would go there."""
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda *_, **__: 1e10)
    monkeypatch.setattr("agora.training.loop.draw_loss", lambda *_, **__: [])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a model named base: fresh weights and a tokenizer."""
    workspace = Workspace(tmp_path_factory.mktemp("preferences")).create()
    Tokenizer.train(small_posts(800), vocab_size=400).save(workspace.folder("tokenizer", "main"))
    save_hf(Transformer(SHAPE, seed=1), workspace.folder("models", "base"), tokenizer_dir=workspace.folder("tokenizer", "main"))
    return workspace


def tune(place: Workspace, name: str, pairs: PairSet | None = None, action: Any = None, **options: Any) -> PreferenceModel:
    more = {"progress": EachStep(action)} if action else {}
    given: dict[str, Any] = {"base": "base", "training_config": TRAINING, "config": DPO, **more, **options}
    return tune_preferences(place, name=name, pairs=pairs or planted(), origin="a test", **given)


def test_planted_preferences_are_learned_and_hold_for_questions_held_out(place: Workspace) -> None:
    result = tune(place, "learned", training_config=replace(TRAINING, steps=40))
    report = result.report
    assert report["pairs"] + report["heldout"] == 120 and report["heldout"] >= 4
    assert report["win_rate_before"] < 0.8 and report["win_rate_after"] == report["agree_share"] == 1.0
    assert report["margin"] > 1.0
    assert result.trained.summary.loss is not None and result.trained.summary.loss < 0.3 < 0.6931
    run = place.folder("runs", "learned")
    assert not (run / "pairs.jsonl").exists() and json.loads((run / "run.json").read_text())["kind"] == "preferences"


def test_the_tuned_model_opens_in_transformers_and_its_card_says_how_it_was_made(place: Workspace) -> None:
    folder = tune(place, "card", pairs=replace(planted(), left_out={"voices disagree": 3})).trained.model_dir
    assert folder is not None
    card = (folder / "README.md").read_text()
    assert "tuning by preferences (DPO)" in card and "voices disagree 3" in card and "beta 0.1" in card and "nats per pair" in card
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.arange(3, 40)[None]
    ours = load_hf(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(tokens)), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


def weights(place: Workspace, name: str) -> bytes:
    return (place.folder("models", name) / "model.safetensors").read_bytes()


def test_a_run_stopped_and_resumed_equals_the_undisturbed_one_although_feedback_came_meanwhile(place: Workspace) -> None:
    tune(place, "whole")
    stopped = tune(place, "stopped", action=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 6 else None)
    assert stopped.trained.model_dir is None and stopped.trained.summary.step == 6
    reference = place.folder("runs", "stopped") / "training-reference.json"
    before = reference.read_text()
    tune(place, "stopped", pairs=planted(130))
    assert weights(place, "whole") == weights(place, "stopped") and reference.read_text() == before


def test_a_stopped_run_does_not_go_on_with_pairs_that_were_withdrawn(place: Workspace) -> None:
    tune(place, "withdrawn", action=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 3 else None)
    fewer = PairSet(pairs=planted().pairs[2:])
    with pytest.raises(DataError, match=r"2 of the 120 pairs .* --fresh"):
        tune(place, "withdrawn", pairs=fewer)
    tune(place, "withdrawn", pairs=fewer, resume=False)
    tune(place, "anew", pairs=fewer)
    assert weights(place, "withdrawn") == weights(place, "anew")


def test_a_finished_run_is_not_silently_another_one(place: Workspace) -> None:
    tune(place, "finished")
    before = weights(place, "finished")
    tune(place, "finished")
    assert weights(place, "finished") == before
    with pytest.raises(OtherRunError, match=r"data.preferences.beta is 0.1 there and 0.5 here"):
        tune(place, "finished", config=replace(DPO, beta=0.5))
    with pytest.raises(OtherRunError, match="training_sha256"):
        tune(place, "finished", pairs=planted(130))


def test_epochs_and_steps_are_both_limits(place: Workspace) -> None:
    assert tune(place, "one", config=replace(DPO, epochs=0.5)).trained.summary.steps < 12
    assert tune(place, "most").trained.summary.steps == 12


def test_bfloat16_learns_too(place: Workspace) -> None:
    result = tune(place, "bf16", training_config=replace(TRAINING, dtype="bfloat16", steps=40))
    assert result.report["agree_share"] == 1.0


def test_errors_say_what_to_do(place: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pair of answers to learn from: left out 4 bad answer"):
        tune(place, "none", pairs=PairSet(pairs=[], left_out={"bad answer, and none that is better": 4}))
    with pytest.raises(ConfigError, match=r"layout.tensor=2 divides answers"):
        tune(place, "divided", layout=Layout(tensor=2))
    with pytest.raises(ConfigError, match=r"preferences\.micro_batch=3 must be even"):
        tune(place, "odd", training_config=replace(TRAINING, micro_batch=3, batch_tokens=576))
    with pytest.raises(ConfigError, match=r"preferences\.seq_len=256 is above the 128 positions"):
        tune(place, "long", training_config=replace(TRAINING, seq_len=256, batch_tokens=1024))
    with pytest.raises(ConfigError, match="--name base is the model that is tuned"):
        tune(place, "base")
    with pytest.raises(DataError, match=r"longer than preferences.seq_len=64"):
        tune(place, "too-long", pairs=PairSet(pairs=[replace(planted().pairs[0], chosen="today " * 200)]))
    with pytest.raises(DataError, match="wizard"):
        tune(place, "role", pairs=PairSet(pairs=[replace(planted().pairs[0], prompt=[{"role": "wizard", "content": "x"}])]))
    mixed = place.folder("models", "mixed")
    save_hf(Transformer(replace(SHAPE, vocab_size=300), seed=1), mixed, tokenizer_dir=place.folder("tokenizer", "main"))
    with pytest.raises(ModelError, match="the tokenizer has 374 tokens, but the model only 300"):
        tune(place, "mix", base="mixed")
    assert not any(place.folder("runs", name).exists() for name in ("none", "divided", "odd", "long", "too-long", "role", "mix"))


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_what_the_system_says(place: Workspace) -> None:
    tokenizer = Tokenizer.load(place.folder("tokenizer", "main"))
    turns = [{"role": ("user", "assistant")[number % 2], "content": f"the baker opened late {number}"} for number in range(9)]
    pair = PreferencePair(prompt=[{"role": "system", "content": "the mayor"}, *turns], chosen="today", rejected="the band")
    whole = encode_pairs(tokenizer, [pair], max_tokens=1000).pairs[0]
    short = encode_pairs(tokenizer, [pair], max_tokens=60)
    assert short.report["shortened"] == 1 and short.pairs[0].size <= 60
    text = tokenizer.decode(short.pairs[0].prompt)
    assert "the mayor" in text and "late 8" in text and "late 0" not in text and text.endswith("assistant\n")
    assert whole.prompt[-10:] == short.pairs[0].prompt[-10:] and whole.chosen == short.pairs[0].chosen
