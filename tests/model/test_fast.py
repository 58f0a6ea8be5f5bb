"""The kernels against their plain twins, both judged by float32. Skipped, saying so, where there is no C compiler."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch

from agora.errors import UsageError
from agora.model import fast, kernels, operations
from agora.model.config import ModelConfig
from agora.model.transformer import Transformer

pytestmark = pytest.mark.skipif(kernels.library() is None, reason="needs a C compiler on Linux: the fused kernels are built here")

# a bfloat16 has 8 bits: one rounding is off by up to 2^-9, and an operation rounds a few times
TOLERANCE = 2e-2


def distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm().clamp(min=1e-3))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def compare(fast_one: Callable[..., object], plain: Callable[..., object], *inputs: torch.Tensor) -> None:
    """Outputs and gradients of `fast_one` in bfloat16 against those of `plain` in float32 on the same (rounded) inputs."""
    results = []
    for function, dtype in ((fast_one, torch.bfloat16), (plain, torch.float32)):
        leaves = [x.bfloat16().to(dtype).requires_grad_() for x in inputs]
        out = function(*leaves)
        outputs = list(out) if isinstance(out, tuple) else [out]
        weights = [draw(*o.shape, seed=9 + i).bfloat16().to(dtype) for i, o in enumerate(outputs)]
        torch.autograd.backward(outputs, weights)
        results.append([o.detach() for o in outputs] + [leaf.grad for leaf in leaves])
    for found, exact in zip(*results, strict=True):
        assert distance(found, exact) < TOLERANCE


@pytest.mark.parametrize("dim", [1, 33, 256])
def test_norm_and_addition_agree(dim: int) -> None:
    arguments = (draw(3, 5, dim), draw(3, 5, dim, seed=1), 1 + 0.1 * draw(dim, seed=2))
    compare(lambda x, d, w: fast.add_rms_norm(x, d, w, 1e-6), lambda x, d, w: operations.add_rms_norm(x, d, w, 1e-6), *arguments)
    compare(
        lambda x, w: fast.add_rms_norm(x, None, w, 1e-6)[1], lambda x, w: operations.add_rms_norm(x, None, w, 1e-6)[1],
        arguments[0], arguments[2],
    )  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_swiglu_agrees(scale: float) -> None:
    compare(fast.swiglu, operations.swiglu, scale * draw(4, 7, 66))


@pytest.mark.parametrize("length", [1, 100, 128, 300])
@pytest.mark.parametrize("heads", [(4, 2), (3, 3), (6, 1)])
@pytest.mark.parametrize("has_documents", [False, True])
def test_attention_agrees(length: int, heads: tuple[int, int], has_documents: bool) -> None:
    (num_heads, num_kv_heads), head_dim = heads, 16
    qkv = draw(2, length, (num_heads + 2 * num_kv_heads) * head_dim)
    norms = (1 + 0.1 * draw(head_dim, seed=1), 1 + 0.1 * draw(head_dim, seed=2))
    cos, sin = (table[None] for table in operations.rotary_tables(head_dim, 10_000.0, length, torch.device("cpu")))
    ids = torch.arange(length).div(37, rounding_mode="floor").expand(2, -1)
    documents = operations.Documents(operations.document_starts(ids)) if has_documents else None
    sizes = {"num_heads": num_heads, "num_kv_heads": num_kv_heads, "eps": 1e-6}
    compare(
        lambda x, q, k: fast.causal_attention(x, q, k, cos, sin, documents, **sizes),
        lambda x, q, k: operations.causal_attention(x, q, k, cos, sin, documents, **sizes),
        qkv, *norms,
    )  # fmt: skip


def test_embedding_sums_a_frequent_token_exactly() -> None:
    weight = draw(5, 8).bfloat16().requires_grad_()
    fast.embedding(torch.zeros(2, 2048, dtype=torch.int64), weight).backward(torch.ones(2, 2048, 8, dtype=torch.bfloat16))
    assert weight.grad is not None and torch.equal(weight.grad[0], torch.full((8,), 4096, dtype=torch.bfloat16))


def test_softmax_loss_agrees() -> None:
    targets = torch.tensor([3, -100, 0, 40])
    logits = (8 * draw(4, 41)).bfloat16()
    loss, gradient = fast.softmax_loss(logits.clone(), targets, 0.25, True)
    expected, expected_gradient = operations.softmax_loss(logits.float(), targets, 0.25, True)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    assert distance(gradient, expected_gradient) < TOLERANCE


def test_not_a_number_comes_through() -> None:
    bad = torch.full((2, 64), float("nan"), dtype=torch.bfloat16)
    assert fast.swiglu(bad).isnan().all()
    assert fast.softmax_loss(bad.clone(), torch.tensor([0, 1]), 1.0, True)[0].isnan()
    assert fast.add_rms_norm(bad, bad, torch.ones(64, dtype=torch.bfloat16), 1e-6)[1].isnan().all()


@pytest.mark.parametrize("has_documents", [False, True])
def test_whole_model_is_no_further_from_float32_than_the_plain_one(has_documents: bool) -> None:
    config = ModelConfig(vocab_size=211, dim=64, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=16, hidden_dim=96, max_seq_len=256)
    tokens = torch.randint(0, 211, (3, 200), generator=torch.Generator().manual_seed(0))
    targets = tokens.roll(-1, 1)
    ids = torch.arange(200).div(37, rounding_mode="floor").expand(3, -1) if has_documents else None

    def gradients(dtype: torch.dtype) -> dict[str, torch.Tensor]:
        model = Transformer(config).to(dtype)
        model.loss(tokens, targets, ids).backward()
        return {name: parameter.grad.float() for name, parameter in model.named_parameters() if parameter.grad is not None}

    exact, ours = gradients(torch.float32), gradients(torch.bfloat16)
    with fast.plain_operations():
        plain = gradients(torch.bfloat16)
    for name, expected in exact.items():
        # both are off by chance; in short vectors such as the norms of heads one may be luckier than the other
        assert distance(ours[name], expected) < 2 * distance(plain[name], expected), name


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_two_threads_give_the_same_bits_every_time() -> None:
    model = Transformer(
        ModelConfig(vocab_size=211, dim=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, hidden_dim=96)
    ).bfloat16()
    tokens = torch.randint(0, 211, (3, 200), generator=torch.Generator().manual_seed(0))
    runs = []
    for _ in range(2):
        model.zero_grad()
        model.loss(tokens, tokens).backward()
        runs.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_shapes_that_the_kernels_do_not_take_go_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(vocab_size=211, dim=64, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=16, hidden_dim=96, max_seq_len=64)
    tokens = torch.randint(0, 211, (2, 64), generator=torch.Generator().manual_seed(0))
    model = Transformer(dataclasses.replace(config)).bfloat16()
    usual = float(model.loss(tokens, tokens).detach())
    monkeypatch.setattr(fast, "MAX_POSITIONS", 32)
    monkeypatch.setattr(fast, "MAX_VOCABULARY", 100)
    assert abs(float(model.loss(tokens, tokens).detach()) - usual) < 1e-2


def test_wrong_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGORA_KERNELS", "maybe")
    with pytest.raises(UsageError, match="AGORA_KERNELS='maybe' must be on or off"):
        kernels.library.__wrapped__()


def test_no_compiler_means_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert kernels.library.__wrapped__() is None


def test_kernels_are_left_alone_when_one_input_is_not_bfloat16() -> None:
    x, weight = draw(3, 64).bfloat16(), 1 + 0.1 * draw(64, seed=1)
    assert distance(fast.add_rms_norm(x, x, weight, 1e-6)[1], operations.add_rms_norm(x.float(), x.float(), weight, 1e-6)[1]) < TOLERANCE
    logits, targets = draw(4, 32).bfloat16(), torch.tensor([1, 2, -100, 3])
    losses = [float(fast.softmax_loss(logits.clone(), wanted, 1.0, False)[0]) for wanted in (targets, targets.int())]
    assert losses[0] == losses[1]


def test_float32_model_under_autocast_gives_its_own_logits() -> None:
    config = ModelConfig(vocab_size=64, dim=64, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32, hidden_dim=96, max_seq_len=32)
    model, tokens = Transformer(config), torch.arange(32)[None]
    exact = model.logits(model(tokens)).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.logits(model(tokens)).detach()
    assert distance(found, exact) < 2 * TOLERANCE
