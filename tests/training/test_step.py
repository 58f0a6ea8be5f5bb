from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from agora.errors import CheckpointError, ConfigError, TrainingError
from agora.model.config import ModelConfig
from agora.model.experts import routers
from agora.model.transformer import Transformer
from agora.training.muon import StackedMuon
from agora.training.optimizers import OptimizerConfig
from agora.training.step import Batch, TrainingStep

CONFIG = ModelConfig(vocab_size=97, dim=48, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=16, hidden_dim=80, max_seq_len=64)
UNTIED = dataclasses.replace(CONFIG, tie_embeddings=False)
EXPERTS = dataclasses.replace(CONFIG, num_experts=4, expert_dim=24, dense_layers=(0,), balance_bias_rate=0.01)


def make_step(name: str = "adamw", config: ModelConfig = CONFIG, **options: Any) -> TrainingStep:
    return TrainingStep(Transformer(config), OptimizerConfig(name=name), **options)  # type: ignore[arg-type]


def make_batches(count: int, *, rows: int = 4, documents: bool = False) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(count):
        tokens = torch.randint(0, 97, (rows, 33), generator=generator)
        ids = torch.arange(32).div(9, rounding_mode="floor").expand(rows, -1).to(torch.int32) if documents else None
        batches.append(Batch(tokens[:, :-1], tokens[:, 1:], ids))
    return batches


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("config", [CONFIG, UNTIED, EXPERTS])
def test_resumed_steps_equal_uninterrupted_ones_bit_for_bit(tmp_path: Path, name: str, dtype: str, config: ModelConfig) -> None:
    batches = make_batches(6, documents=True)
    whole = make_step(name, config, dtype=dtype)
    expected = [whole.run([batch], 1 / (1 + i)) for i, batch in enumerate(batches)]
    first = make_step(name, config, dtype=dtype)
    found = [first.run([batch], 1 / (1 + i)) for i, batch in enumerate(batches[:3])]
    save_file({key: value.contiguous() for key, value in first.state_dict().items()}, tmp_path / "state")
    second = make_step(name, config, dtype=dtype)
    second.load_state_dict(load_file(tmp_path / "state"))
    found += [second.run([batch], 1 / (4 + i)) for i, batch in enumerate(batches[3:])]
    assert found == expected
    one, other = whole.state_dict(), second.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("config", [CONFIG, EXPERTS])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_it_learns_a_batch_by_heart(name: str, config: ModelConfig) -> None:
    step, batch = make_step(name, config), make_batches(1)
    losses = [step.run(batch).loss for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_micro_batches_equal_one_batch() -> None:
    (batch,) = make_batches(1)
    targets = batch.targets_BT.clone()
    targets[0, :20] = -100  # micro-batches with different numbers of targets
    parts = [Batch(batch.tokens_BT[rows], targets[rows]) for rows in (slice(0, 1), slice(1, 4))]
    whole, split = make_step(dtype="float32"), make_step(dtype="float32")
    one, other = whole.run([Batch(batch.tokens_BT, targets)]), split.run(parts)
    assert one.num_tokens == other.num_tokens == 4 * 32 - 20
    assert abs(one.loss - other.loss) < 1e-5 and abs(one.grad_norm - other.grad_norm) < 1e-5


def test_float32_step_equals_plain_torch() -> None:
    batches = make_batches(4)
    step = make_step(dtype="float32", config=UNTIED)
    model = Transformer(UNTIED)
    c = OptimizerConfig(name="adamw")
    kinds = [[p for p in model.parameters() if p.ndim == 2], [p for p in model.parameters() if p.ndim == 1]]
    groups = [{"params": kinds[0], "weight_decay": c.weight_decay}, {"params": kinds[1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=c.lr, betas=(0.9, 0.95), eps=c.eps)
    for batch in batches:
        step.run([batch])
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model.logits(model(batch.tokens_BT)).flatten(0, 1), batch.targets_BT.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    masters = step.optimizer.master_weights()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(masters[name], parameter.detach(), atol=2e-5, rtol=1e-4)


def test_muon_takes_each_map_of_a_fused_matrix_by_itself() -> None:
    step = make_step("muon", dtype="float32")
    before = step.optimizer.master_weights()["layers.0.attention.qkv.weight"].clone()
    step.run(make_batches(1))
    update = step.optimizer.master_weights()["layers.0.attention.qkv.weight"] - before
    for part in update.split([96, 32, 32]):
        values = torch.linalg.svdvals(part)[: min(part.shape)]
        # Newton-Schulz leaves singular values between about 0.7 and 1.2 (Jordan et al. 2024); weight decay adds a little
        assert float(values.max() / values.min()) < 2.5


def test_muon_on_a_stack_equals_muon_on_each_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in [(5, 24, 48), (5, 48, 24), (3, 16, 16)]:
        start = torch.randn(shape, generator=generator)
        stack, matrices = torch.nn.Parameter(start.clone()), [torch.nn.Parameter(matrix.clone()) for matrix in start]
        settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
        one = StackedMuon([stack], **settings)
        other = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **settings)
        for _ in range(3):
            stack.grad = torch.randn(shape, generator=generator)
            for matrix, gradient in zip(matrices, stack.grad, strict=True):
                matrix.grad = gradient.clone()
            one.step()
            other.step()
        # five iterations in bfloat16 multiply roundings of 2^-9; one update moves a weight by 0.02 * 0.2
        torch.testing.assert_close(stack.detach(), torch.stack([matrix.detach() for matrix in matrices]), atol=3 * 0.004 * 2**-5, rtol=0)


def test_muon_takes_each_expert_by_itself() -> None:
    step = make_step("muon", EXPERTS, dtype="float32")
    name = "layers.1.feed_forward.experts.up"
    before = step.optimizer.master_weights()[name].clone()
    step.run(make_batches(1))
    updates = step.optimizer.master_weights()[name] - before
    # AdamW's RMS times the rate, for every expert, however many tokens it got (weight decay adds a little)
    for update in updates:
        assert 0.7 < float(update.square().mean().sqrt()) / (0.02 * 0.2) < 1.3


def test_biases_follow_the_loads_of_all_micro_batches_of_a_step() -> None:
    step = make_step(config=EXPERTS, dtype="float32")
    loads = []
    step.run(make_batches(2))
    for router in routers(step.model):
        loads.append(router.load_E.clone())
        assert int(router.load_E.sum()) == 2 * 4 * 32 * EXPERTS.experts_per_token
        assert router.bias_E is not None
        assert torch.equal(router.bias_E, 0.01 * torch.sign(router.load_E.float().mean() - router.load_E))
    step.run(make_batches(2))
    assert all(int(router.load_E.sum()) == int(load.sum()) for router, load in zip(routers(step.model), loads, strict=True))


def test_working_weights_are_the_rounded_masters() -> None:
    step = make_step()
    step.run(make_batches(1))
    masters = step.optimizer.master_weights()
    for name, parameter in step.model.named_parameters():
        assert parameter.dtype == torch.bfloat16 and torch.equal(parameter.detach(), masters[name].bfloat16())
    assert all(torch.equal(p, masters[name]) for name, p in step.float32_model().named_parameters())


def test_small_updates_are_not_lost_to_bfloat16() -> None:
    step = make_step()
    before = step.optimizer.masters.clone()
    step.run(make_batches(1), lr_scale=1e-5)
    assert not torch.equal(before, step.optimizer.masters)


def test_step_that_is_not_a_number_changes_nothing() -> None:
    step = make_step()
    step.run(make_batches(1))
    with torch.no_grad():
        step.optimizer.working[0] = float("nan")
    before = {key: value.clone() for key, value in step.state_dict().items()}
    result = step.run(make_batches(1))
    assert not result.is_applied and result.loss != result.loss
    assert all(torch.equal(value, before[key]) for key, value in step.state_dict().items())


@pytest.mark.parametrize("num_micro_batches", [1, 2])
def test_gradients_are_clipped(num_micro_batches: int) -> None:
    step = make_step(grad_clip=1e-3)
    assert step.run(make_batches(num_micro_batches)).grad_norm > 1e-3
    means = [value.flatten() for key, value in step.state_dict().items() if key.startswith("optimizer.exp_avg.")]
    # after one step the first moment is (1 - 0.9) of the clipped gradient
    torch.testing.assert_close(float(torch.cat(means).norm()), 1e-4, rtol=1e-4, atol=0)


def test_held_gradients_give_the_step_of_torch() -> None:
    """The kernel against torch's fused AdamW on the same gradients; both round float32 differently in the last of 24 bits."""
    held, copied = make_step(config=UNTIED, grad_clip=0.1), make_step(config=UNTIED, grad_clip=0.1)
    copied.optimizer.gradients._can_hold = False
    for i, batch in enumerate(make_batches(5)):
        one, other = held.run([batch], 1 / (1 + i)), copied.run([batch], 1 / (1 + i))
        assert abs(one.grad_norm / other.grad_norm - 1) < 1e-6
        for key, value in copied.state_dict().items():
            torch.testing.assert_close(held.state_dict()[key], value, rtol=1e-5, atol=1e-7)
        copied.load_state_dict({key: value.clone() for key, value in held.state_dict().items()})


def test_batch_without_targets_is_refused() -> None:
    (batch,) = make_batches(1)
    with pytest.raises(TrainingError, match="no token to learn from"):
        make_step().run([Batch(batch.tokens_BT, torch.full_like(batch.targets_BT, -100))])


def test_state_of_another_model_or_optimizer_is_refused() -> None:
    step = make_step()
    step.run(make_batches(1))
    with pytest.raises(CheckpointError, match="weight head is missing"):
        make_step(config=UNTIED).load_state_dict(step.state_dict())
    with pytest.raises(CheckpointError, match="does not belong to optimizer 'muon'"):
        make_step("muon").load_state_dict(step.state_dict())
    narrow = dataclasses.replace(CONFIG, hidden_dim=64)
    with pytest.raises(CheckpointError, match=r"of shape \[160, 48\], but the model needs \[128, 48\]"):
        make_step(config=narrow).load_state_dict(step.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "lr=0.0"),
        ({"betas": (0.9,)}, "betas"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig(**change)
    with pytest.raises(ConfigError, match="'float16' is not one of bfloat16, float32"):
        make_step(dtype="float16")
