"""Products in float8, with the roundings that torchao emulates on any device; and where they are refused."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from agora.cluster.layout import Layout
from agora.errors import ConfigError, MissingExtraError
from agora.model import fast
from agora.model.config import ModelConfig
from agora.model.transformer import Transformer
from agora.training import float8, parallelize
from agora.training.float8 import use_float8
from agora.training.machine import decide_machine
from agora.training.optimizers import OptimizerConfig
from agora.training.run_folder import RunFolder
from agora.training.sharded_step import ShardedStep
from agora.training.step import Batch, TrainingStep
from tests.training.doubles import TINY_TRAINING

CONFIG = ModelConfig(vocab_size=64, dim=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden_dim=48, max_seq_len=64)
CPU = torch.device("cpu")
needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs the extra float8")
pytestmark = pytest.mark.filterwarnings("ignore")  # torchao's own, about parts built for other devices


def test_a_processor_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ConfigError, match=r"training\.float8=rowwise cannot work here: cpu has no float8 products.*training\.float8=off"):
        decide_machine(RunFolder(tmp_path), dataclasses.replace(TINY_TRAINING, float8="rowwise", device="cpu"), 1.0)


def test_an_old_gpu_is_refused_by_its_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "L40S")
    assert float8.float8_problem("tensorwise", torch.device("cuda")) == ""
    assert "L40S has compute capability 8.9 and rowwise needs 9.0" in float8.float8_problem("rowwise", torch.device("cuda"))


def test_without_torchao_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"agora\[float8\]"):
        use_float8(Transformer(CONFIG), "rowwise", CPU)


@needs_torchao
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise"])
def test_a_product_is_the_plain_one_up_to_the_roundings(recipe: str) -> None:
    model = Transformer(CONFIG)
    assert use_float8(model.layers, recipe, CPU, emulate=True) == 4 * CONFIG.num_layers
    linear = model.layers[0].attention.qkv
    numbers = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(2, 7, width, generator=numbers) for width in (32, linear.weight.shape[0]))
    x.requires_grad_()
    near, exact = linear.product(x, linear.weight), fast.linear(x, linear.weight)
    for one, other in zip(
        (near, *torch.autograd.grad(near, (x, linear.weight), grad)),
        (exact, *torch.autograd.grad(exact, (x, linear.weight), grad)),
        strict=True,
    ):
        # e4m3 keeps 3 bits, so a factor is off by 2^-4 at most and 0.026 on average (root mean square), two factors by 0.037; gradients of
        # tensorwise are e5m2 with 2 bits: 0.052, with the other factor 0.058. Sums keep the ratio; 0.08 leaves a third for chance.
        error = float((one - other).norm() / other.norm())
        assert 1e-3 < error < 0.08, error


@needs_torchao
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise"])
def test_a_divided_step_rounds_as_the_plain_one_and_both_learn(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.training.step.use_float8", lambda *words: use_float8(*words, emulate=True))
    monkeypatch.setattr(parallelize, "use_float8", lambda *words: use_float8(*words, emulate=True))
    tokens = torch.randint(64, (2, 33), generator=torch.Generator().manual_seed(1))
    batch = Batch(tokens[:, :-1], tokens[:, 1:])
    optimizer = OptimizerConfig(name="adamw", lr=0.01)
    plain = TrainingStep(Transformer(CONFIG), optimizer, dtype="float32", float8=recipe)
    exact = TrainingStep(Transformer(CONFIG), optimizer, dtype="float32").run([batch])
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        divided = ShardedStep(
            Transformer(CONFIG), optimizer, Layout(micro_batch=2), seq_len=32, dtype="float32", float8=recipe,
        )  # fmt: skip
        first, other = plain.run([batch]), divided.run([batch])
        # tensorwise scales of a fused matrix are those of the largest of its maps, which are several matrices in the divided step
        assert other.loss == pytest.approx(first.loss, rel=1e-6 if recipe == "rowwise" else 1e-3)
        assert 1e-7 < abs(first.loss / exact.loss - 1) < 0.01
        losses = [step.run([batch]).loss for step in (plain, divided) for _ in range(8)]
    finally:
        dist.destroy_process_group()
    assert losses[7] < 0.9 * first.loss and losses[15] < 0.9 * first.loss
