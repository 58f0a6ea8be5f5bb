"""Tuning by preferences on several processes gives the numbers of one. The file is also what its ranks run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agora.cluster.layout import Layout
from agora.model.config import ModelConfig
from agora.model.hf import load_hf, save_hf
from agora.model.transformer import Transformer
from agora.settings import Workspace
from agora.tokenizer.bpe import Tokenizer
from agora.training.config import TrainingConfig
from agora.training.metrics import read_metrics
from agora.training.optimizers import OptimizerConfig
from agora.training.preference_loss import PreferenceConfig
from agora.training.preference_pairs import PairSet, PreferencePair
from agora.training.preference_tuning import tune_preferences
from tests.training.conftest import WHEN, WHO, small_posts
from tests.training.parity.ranks import EPSILON, MODEL, Ranks

TRAINING = TrainingConfig(
    steps=6, batch_tokens=512, micro_batch=2, seq_len=64, dtype="float32", device="cpu", evaluate_every=3, checkpoint_every_s=None,
    optimizer=OptimizerConfig(name="adamw", lr=1e-3, eps=EPSILON),
)  # fmt: skip


def tune(case: dict[str, Any]) -> dict[str, Any]:
    """The run case["name"] in this world: its losses, and the number of pairs whose reference is known."""
    place = Workspace(Path(case["folder"]))
    posts = small_posts(40, seed=3)
    pairs = [
        PreferencePair(
            prompt=[{"role": "user", "content": post}], chosen=WHEN[number % len(WHEN)], rejected=WHO[number % len(WHO)],
            weight=0.5 + number % 3,
        )
        for number, post in enumerate(posts)
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agora.training.machine.measure_matmul_limit", lambda *_, **__: 1e10)
        patch.setattr("agora.training.loop.draw_loss", lambda *_, **__: [])
        result = tune_preferences(
            place, name=case["name"], base="base", pairs=PairSet(pairs=pairs), origin="a test", training_config=TRAINING,
            config=PreferenceConfig(epochs=50.0), layout=Layout(**case.get("layout", {})),
        )  # fmt: skip
    summary = result.trained.summary
    return {"state": summary.state, "heldout": summary.heldout_loss, "rank": os.environ.get("RANK", "alone")}


@pytest.mark.parity
@pytest.mark.parametrize("layout", [{"shard": 2}, {"replicate": 2}])
def test_two_processes_compute_what_one_computes(tmp_path: Path, two_ranks: Ranks, layout: dict[str, int]) -> None:
    place = Workspace(tmp_path).create()
    Tokenizer.train(small_posts(400), vocab_size=400).save(place.folder("tokenizer", "main"))
    shape = replace(ModelConfig(**MODEL), vocab_size=400)
    save_hf(Transformer(shape, seed=1), place.folder("models", "base"), tokenizer_dir=place.folder("tokenizer", "main"))
    case = {"task": f"{__name__}:tune", "folder": str(tmp_path)}
    alone = tune({**case, "name": "alone"})
    together = two_ranks.run({**case, "name": "together", "layout": layout})
    assert alone["state"] == "finished" and [one["state"] for one in together] == ["finished"] * 2
    assert together[0]["heldout"] == pytest.approx(alone["heldout"], abs=1e-5)
    losses = [[line["loss"] for line in read_metrics(place.folder("runs", name) / "metrics.jsonl")] for name in ("alone", "together")]
    assert len(losses[0]) == 6 and losses[1] == pytest.approx(losses[0], abs=1e-5)
    one, other = (load_hf(place.folder("models", name)).state_dict() for name in ("alone", "together"))
    for name, weight in one.items():  # sums are added up in another order; steps of AdamW are of size 1e-3
        torch.testing.assert_close(other[name], weight, rtol=0, atol=1e-5)
