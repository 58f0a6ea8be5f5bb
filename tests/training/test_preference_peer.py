"""The loss and its gradients against trl's DPOTrainer, where that is installed: pip install trl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from agora.model.hf import load_hf, save_hf
from agora.model.transformer import Transformer
from agora.training.optimizers import OptimizerConfig
from agora.training.preference_data import EncodedPair, PreferenceBatches
from agora.training.preference_loss import PreferenceConfig
from agora.training.preference_tuning import of_pairs
from agora.training.step import TrainingStep
from tests.conftest import TINY_TEXTS


@pytest.mark.filterwarnings("ignore")
def test_loss_and_gradients_are_those_of_trl(tmp_path: Path, tiny_parts: Any, tiny_workspace: Path) -> None:
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config, places = tiny_parts[0].config, [tmp_path / "model", tmp_path / "reference"]
    for seed, place in enumerate(places):
        save_hf(Transformer(config, seed=seed), place, tokenizer_dir=tiny_workspace / "tokenizer" / "tiny")
    model, reference = (AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32) for place in places)
    rows = [
        {"prompt": [{"role": "user", "content": text[:12]}]}
        | {name: [{"role": "assistant", "content": text[cut : cut + 18]}] for name, cut in (("chosen", 12), ("rejected", 30))}
        for text in TINY_TEXTS[:4]
    ]  # fmt: skip
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"), beta=0.3, per_device_train_batch_size=4, use_cpu=True, bf16=False, report_to=[],
        gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model, ref_model=reference, args=arguments, train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(places[0]),
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(model.eval(), inputs)
    theirs.backward()
    pairs = [_pair(inputs, row, row + 4) for row in range(4)]
    batches = PreferenceBatches(
        pairs, PreferenceConfig(beta=0.3), seq_len=120, micro_batch=4, seed=0, pad_id=0
    )  # fmt: skip
    batches.reference_N2[:] = of_pairs(batches, TrainingStep(load_hf(places[1]), OptimizerConfig(), dtype="float32").log_probabilities)
    step = TrainingStep(load_hf(places[0]), OptimizerConfig(name="adamw"), dtype="float32", grad_clip=None)
    ours = step.run([batches.batch(some) for some in batches.epoch()], 1.0, lambda loss, norm: False)
    assert ours.loss == pytest.approx(float(theirs.detach()), abs=1e-5) and abs(ours.loss - 0.6931) > 0.01
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]).norm()
    assert ours.grad_norm == pytest.approx(float(norm), rel=1e-4)
    down = model.model.layers[1].mlp.down_proj.weight.grad
    torch.testing.assert_close(step.optimizer.gradients.views["layers.1.feed_forward.down.weight"], down, rtol=1e-3, atol=1e-6)


def _pair(inputs: Any, chosen: int, rejected: int) -> EncodedPair:
    """The tokens that trl's collator made: prompts and answers."""
    rows = []
    for row in (chosen, rejected):
        is_token = inputs["attention_mask"][row] == 1
        rows.append((inputs["input_ids"][row][is_token].tolist(), inputs["completion_mask"][row][is_token].tolist()))
    sides = [([ids[n] for n in range(len(ids)) if not mask[n]], [ids[n] for n in range(len(ids)) if mask[n]]) for ids, mask in rows]
    assert sides[0][0] == sides[1][0]
    return EncodedPair(sides[0][0], sides[0][1], sides[1][1])
