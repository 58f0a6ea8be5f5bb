from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from agora.errors import ConfigError, ModelError
from agora.model import operations
from agora.model.cache import KVCache
from agora.model.config import ModelConfig
from agora.model.experts import MixtureOfExperts, balance_loss, begin_step, end_step, routers, take_rows
from agora.model.grouped import grouped_linear
from agora.model.hf import load_hf, save_hf
from agora.model.hf_config import config_from_hf, config_to_hf
from agora.model.transformer import FeedForward, Transformer

CONFIG = ModelConfig(
    vocab_size=97, dim=48, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=12, hidden_dim=80, max_seq_len=64, num_experts=5,
    experts_per_token=2, expert_dim=24, dense_layers=(1,), tie_embeddings=False,
)  # fmt: skip
TOKENS = torch.randint(0, 97, (2, 40), generator=torch.Generator().manual_seed(0))
# counts of rows per expert: some of each, one expert idle, one expert takes all, no row at all
COUNTS = [(3, 2, 4), (5, 0, 4), (0, 9, 0), (0, 0, 0)]


def a_block(**changes: Any) -> MixtureOfExperts:
    """With weights large enough for the experts to differ."""
    block = MixtureOfExperts(dataclasses.replace(CONFIG, **changes)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return block


def some_rows(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def slow_block(block: MixtureOfExperts, x_NC: Tensor, scores_NE: Tensor | None = None) -> Tensor:
    """Token by token, expert by expert."""
    config = block.router.config
    scores_NE = torch.softmax(x_NC @ block.router.weight.T, -1) if scores_NE is None else scores_NE
    bias_E = 0.0 if block.router.bias_E is None else block.router.bias_E
    results = []
    for x_C, scores_E in zip(x_NC, scores_NE, strict=True):
        chosen = (scores_E.detach() + bias_E).topk(config.experts_per_token).indices
        weights = scores_E[chosen] / (scores_E[chosen].sum() if config.norm_topk_prob else 1.0)
        outputs = [
            block.experts.down[e] @ (torch.nn.functional.silu(gate) * up)
            for e in chosen
            for gate, up in [(block.experts.gate[e] @ x_C, block.experts.up[e] @ x_C)]
        ]
        results.append(sum(weight * output for weight, output in zip(weights, outputs, strict=True)))
    return torch.stack([torch.as_tensor(result) for result in results])


def gradients(outputs: Tensor, block: MixtureOfExperts, x: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    return list(torch.autograd.grad((outputs * weights).sum(), [x, *block.parameters()]))


@pytest.mark.parametrize("counts", COUNTS)
def test_grouped_products_equal_products_one_by_one(counts: tuple[int, ...]) -> None:
    x, weight, counts_E = some_rows(sum(counts), 6).requires_grad_(), some_rows(3, 4, 6).requires_grad_(), torch.tensor(counts)
    fast, slow = grouped_linear(x, weight, counts_E), operations.grouped_linear(x, weight, counts_E)
    torch.testing.assert_close(fast, slow)
    for one, other in zip(*(torch.autograd.grad((y * y).sum(), [x, weight]) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(one, other)
    if sum(counts):
        assert torch.autograd.gradcheck(lambda a, b: grouped_linear(a, b, counts_E), (x, weight))


def test_grouped_products_in_bfloat16_round_once() -> None:
    x, weight, counts_E = some_rows(200, 64), some_rows(3, 32, 64), torch.tensor([120, 0, 80])
    narrow = [value.bfloat16().requires_grad_() for value in (x, weight)]
    wide = [value.detach().double().requires_grad_() for value in narrow]
    fast, slow = grouped_linear(*narrow, counts_E), operations.grouped_linear(*wide, counts_E)
    grads = [torch.autograd.grad(y, values, torch.ones_like(y)) for y, values in ((fast, narrow), (slow, wide))]
    for one, other in [(fast, slow), *zip(*grads, strict=True)]:
        # half a unit of 8 bits, and the rounding of float32 sums where terms cancel
        torch.testing.assert_close(one.double(), other, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("counts", COUNTS[:3])
def test_the_grouped_kernel_gets_the_right_operands(counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU form of the call that CUDA gets."""
    if not hasattr(torch.nn.functional, "grouped_mm"):
        pytest.skip("torch before 2.10")
    x, weight, counts_E = some_rows(9, 16).float(), some_rows(3, 8, 16).float(), torch.tensor(counts)
    operands = x.requires_grad_(), weight.requires_grad_()
    slow = grouped_linear(*operands, counts_E)
    expected = torch.autograd.grad((slow * slow).sum(), operands)
    monkeypatch.setattr("agora.model.grouped.has_grouped_kernel", lambda x, weight: True)
    fast = grouped_linear(*operands, counts_E)
    for one, other in [(fast, slow), *zip(torch.autograd.grad((fast * fast).sum(), operands), expected, strict=True)]:
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_block_compiles_without_a_break() -> None:
    """In a process of its own: the compiler cannot trace the shape checks of tests. aot_eager traces as inductor does."""
    code = (
        "import torch; from agora.model.config import ModelConfig; from agora.model.transformer import Transformer\n"
        "config = ModelConfig(vocab_size=97, dim=32, num_layers=1, num_experts=4, expert_dim=16, balance_bias_rate=0.1)\n"
        "block = Transformer(config).layers[0].feed_forward\n"
        "compiled = torch.compile(block, backend='aot_eager', fullgraph=True)\n"
        "for length in (9, 12):\n"
        "    x = torch.randn(1, length, 32, requires_grad=True)\n"
        "    grads = [torch.autograd.grad((f(x) ** 2).sum(), [x, *block.parameters()]) for f in (compiled, block)]\n"
        "    for one, other in zip(*grads): torch.testing.assert_close(one, other)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_taking_rows_has_the_gradient_of_indexing() -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    x = some_rows(3, 4).requires_grad_()
    assert torch.equal(take_rows(x, order, order.argsort()), x[order // 2])
    assert torch.autograd.gradcheck(lambda rows: take_rows(rows, order, order.argsort()), (x,))


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_block_equals_its_slow_twin(norm: bool, rate: float) -> None:
    block = a_block(norm_topk_prob=norm, balance_bias_rate=rate, balance_loss_weight=0.0)
    if block.router.bias_E is not None:
        block.router.bias_E.copy_(torch.tensor([0.5, -0.5, 0.2, 0.0, -0.1]))
    x = some_rows(1, 9, 48).requires_grad_()
    fast, slow = block(x), slow_block(block, x[0])[None]
    torch.testing.assert_close(fast, slow)
    for one, other in zip(gradients(fast, block, x), gradients(slow, block, x), strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_of_the_balance_loss_is_added_as_if_it_were_in_the_loss() -> None:
    block = a_block(balance_loss_weight=0.6)
    block.router.share = 0.25
    x = some_rows(1, 9, 48).requires_grad_()
    found = gradients(block(x), block, x)
    scores = torch.softmax(x[0] @ block.router.weight.T, -1)
    counts = block.router(x[0]).counts_E
    expected = gradients(slow_block(block, x[0]), block, x)
    # two sparse layers share the weight
    more = torch.autograd.grad(0.6 / 2 * 0.25 * balance_loss(scores, counts), [x, block.router.weight])
    torch.testing.assert_close(found[0], expected[0] + more[0])
    torch.testing.assert_close(found[1], expected[1] + more[1])


def test_balance_loss_equals_that_of_transformers() -> None:
    modeling = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    logits = some_rows(30, 5).float()
    scores = torch.softmax(logits, -1)
    counts = torch.bincount(scores.topk(2).indices.flatten(), minlength=5)
    torch.testing.assert_close(balance_loss(scores, counts), modeling.load_balancing_loss_func((logits,), 5, 2))


def test_every_token_visits_its_experts_and_none_is_dropped() -> None:
    block = a_block()
    x = some_rows(9, 48)
    routes = block.router(x)
    visits = block.dispatch(x, routes)
    assert int(routes.counts_E.sum()) == 9 * 2 and torch.equal(visits.counts_E, routes.counts_E)
    assert sorted(visits.order_M.tolist()) == list(range(18))
    experts = torch.arange(5).repeat_interleave(visits.counts_E)
    assert torch.equal(routes.chosen_NK.flatten()[visits.order_M], experts)
    assert torch.equal(visits.rows_MC, x[visits.order_M // 2])
    torch.testing.assert_close(block.combine(visits.rows_MC, routes, visits), x)  # experts that do nothing: weights sum to 1


def test_bias_pulls_loads_together_and_moves_no_weight() -> None:
    config = dataclasses.replace(CONFIG, balance_bias_rate=0.01, balance_loss_weight=0.0)
    model = Transformer(config).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for router in routers(model):
            router.weight.normal_(std=0.2, generator=generator)  # as after some training: fresh scores are almost equal
    imbalances = []
    for _ in range(60):
        begin_step(model, 1)
        model(TOKENS)
        imbalances.append([float(router.load_E.max() / router.load_E.float().mean()) for router in routers(model)])
        end_step(model)
    for before, after in zip(imbalances[0], imbalances[-1], strict=True):
        assert after < 1.25 < 1.5 < before


def test_loads_are_counted_only_where_gradients_are() -> None:
    model = Transformer(CONFIG).train()
    begin_step(model, 1)
    with torch.no_grad():
        model(TOKENS)
    model.eval()(TOKENS)
    assert all(int(router.load_E.sum()) == 0 for router in routers(model))
    model.train()(TOKENS)
    assert all(int(router.load_E.sum()) == TOKENS.numel() * 2 for router in routers(model))


def test_the_same_step_gives_the_same_bits() -> None:
    def step() -> list[Tensor]:
        model = Transformer(CONFIG).train()
        model.loss(TOKENS, TOKENS).backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    assert all(torch.equal(one, other) for one, other in zip(step(), step(), strict=True))


@torch.no_grad()
def test_cache_gives_what_the_whole_row_gives() -> None:
    model = Transformer(CONFIG).eval()
    cache = KVCache(CONFIG, 2, 40)
    parts = [model(part, cache=cache) for part in (TOKENS[:, :17], *TOKENS[:, 17:].split(1, dim=1))]
    torch.testing.assert_close(torch.cat(parts, 1), model(TOKENS), atol=1e-5, rtol=1e-5)


def test_fake_tensors_train_without_a_number() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):  # rotary tables are kept from call to call
        model = Transformer(CONFIG)
        tokens = torch.zeros(2, 8, dtype=torch.int64)
        hidden = model(tokens)
        hidden.sum().backward()
    assert hidden.shape == (2, 8, 48)
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if name != "head")


def test_dense_layers_stand_where_the_configuration_says() -> None:
    for changes, sparse in [({}, [0, 2]), ({"sparse_step": 2, "dense_layers": ()}, [1]), ({"num_experts": 0}, [])]:
        config = dataclasses.replace(CONFIG, **changes)
        layers = Transformer(config).layers
        assert [index for index, layer in enumerate(layers) if not isinstance(layer.feed_forward, FeedForward)] == sparse
        assert config.num_expert_layers == len(sparse)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts_per_token": 6}, "experts_per_token=6 must be at most model.num_experts=5"),
        ({"dense_layers": (3,)}, "dense_layers names layer 3, but layers are 0 to 2"),
        ({"dense_layers": (0, 1, 2)}, "no layer has experts"),
        ({"sparse_step": 4}, "no layer has experts"),
        ({"sparse_step": 0}, "sparse_step=0 must be above 0"),
        ({"balance_loss_weight": -1.0}, "balance_loss_weight=-1.0 must be 0 or more"),
        ({"num_experts": -1}, "num_experts=-1 must be 0 or more"),
    ],
)
def test_impossible_mixtures_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **changes)


def transformers_model(**changes: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = {
        "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
        "intermediate_size": 80, "moe_intermediate_size": 24, "num_experts": 5, "num_experts_per_tok": 2, "max_position_embeddings": 64,
        "tie_word_embeddings": False, "initializer_range": 0.2, "norm_topk_prob": True,
    }  # fmt: skip
    model = transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**{**settings, **changes})).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("gate.weight"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def assert_same_logits(ours: Transformer, theirs: Any) -> None:
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(TOKENS)), theirs(TOKENS).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [{}, {"mlp_only_layers": [1], "norm_topk_prob": False}, {"decoder_sparse_step": 2, "tie_word_embeddings": True}],
)
def test_logits_equal_those_of_transformers_both_ways(tmp_path: Path, changes: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers_model(**changes)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_hf(tmp_path / "theirs")
    assert ours.config.num_experts == 5
    assert_same_logits(ours, theirs)
    save_hf(ours, tmp_path / "ours")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(back).__name__ == "Qwen3MoeForCausalLM"
    assert_same_logits(ours, back)


@pytest.mark.parametrize("changes", [{}, {"balance_bias_rate": 0.01}, {"sparse_step": 3, "dense_layers": (), "norm_topk_prob": False}])
def test_configuration_and_weights_come_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    assert config_from_hf(config_to_hf(config)) == config
    model = Transformer(config)
    for router in routers(model):
        if router.bias_E is not None:
            router.bias_E.uniform_()
    for dtype in (torch.float32, torch.bfloat16):
        save_hf(model, tmp_path / "m", dtype=dtype)
        loaded = load_hf(tmp_path / "m", dtype=dtype).state_dict()
        for name, value in model.state_dict().items():
            assert torch.equal(loaded[name], value if name.endswith("bias_E") else value.to(dtype)), name


def test_the_form_that_real_folders_have_is_read() -> None:
    table = config_to_hf(CONFIG)
    del table["norm_topk_prob"], table["decoder_sparse_step"], table["router_aux_loss_coef"]
    config = config_from_hf({**table, "num_local_experts": table.pop("num_experts")})
    assert config == dataclasses.replace(CONFIG, norm_topk_prob=False)


def test_transformers_refuses_a_model_with_biases_instead_of_leaving_them_out(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    save_hf(Transformer(dataclasses.replace(CONFIG, balance_bias_rate=0.01)), tmp_path / "m")
    with pytest.raises(ValueError, match="agora_moe"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen3"}, "num_experts=5 does not go with model_type='qwen3'"),
        ({"moe_intermediate_size": None}, "missing moe_intermediate_size"),
        ({"norm_topk_prob": 1}, "norm_topk_prob=1 must be true or false"),
        ({"mlp_only_layers": 3}, "mlp_only_layers=3 must be a list"),
        ({"mlp_only_layers": ["a"]}, "mlp_only_layers='a' must be a whole number"),
        ({"num_experts_per_tok": 9}, "experts_per_token=9 must be at most"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config_from_hf({**config_to_hf(CONFIG), **change})
