"""The CPU kernel computes what the network computes, and a row's numbers depend on nothing beside it."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agora.engine import native
from agora.engine.native import GROUP, PRECISIONS, WIDTH, NativeNetwork, Precision, pack, quantize
from agora.engine.plain import PlainNetwork
from agora.engine.step import Network, StepRows
from agora.errors import UsageError
from agora.model import ModelConfig, kernels
from agora.model.transformer import Transformer

pytestmark = pytest.mark.skipif(native.library() is None, reason="needs a C compiler on Linux: the kernel is built here")

# vocabulary and heads that fill no panel; 3 query heads to a key head, head_dim not a multiple of 16
ODD = ModelConfig(
    vocab_size=203, dim=96, num_layers=3, num_heads=12, num_kv_heads=4, head_dim=24, hidden_dim=160, max_seq_len=128, init_std=0.3,
    tie_embeddings=False,
)  # fmt: skip
WIDE = ModelConfig(vocab_size=300, dim=64, num_layers=2, num_heads=6, num_kv_heads=1, head_dim=80, hidden_dim=96, max_seq_len=128)
# of the spread of the logits: float32 sums in another order; bfloat16 rounds weights and activations to 8 bits; bytes to 7 and a sign
TOLERANCE: dict[Precision, float] = {"float32": 2e-5, "bfloat16": 0.15, "int8": 0.3}


def tokens(rows: int, length: int) -> Tensor:
    return torch.randint(0, 200, (rows, length), generator=torch.Generator().manual_seed(0))


def network(model: Transformer, precision: Precision, threads: int = 1) -> NativeNetwork:
    return NativeNetwork(model, precision=precision, num_pages=24, max_rows=128, threads=threads)


def whole(made: Network, tokens_BT: Tensor, tables: Tensor) -> Tensor:
    """Logits of every position of every row, in one step."""
    rows, length = tokens_BT.shape
    all_rows = [(int(tokens_BT[row, t]), t, row) for row in range(rows) for t in range(length)]
    step = StepRows([r[0] for r in all_rows], [r[1] for r in all_rows], [r[2] for r in all_rows], tables, list(range(len(all_rows))))
    return made.run(step).view(rows, length, -1).clone()


def tables(rows: int) -> Tensor:
    return torch.randperm(24, generator=torch.Generator().manual_seed(4))[: rows * 3].view(rows, 3).contiguous()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("config", [ODD, WIDE], ids=["odd", "wide"])
def test_logits_are_those_of_the_network(config: ModelConfig, precision: Precision) -> None:
    model = Transformer(config, seed=1).eval()
    tokens_BT = tokens(3, 40)
    with torch.no_grad():
        expected = model.logits(model(tokens_BT))
    error = (whole(network(model, precision), tokens_BT, tables(3)) - expected).abs().max()
    assert error < TOLERANCE[precision] * expected.std()


def test_plain_network_gives_the_logits_of_the_network() -> None:
    model = Transformer(ODD, seed=1).eval()
    tokens_BT = tokens(3, 40)
    with torch.no_grad():
        expected = model.logits(model(tokens_BT))
    got = whole(PlainNetwork(model, num_pages=24, max_rows=128), tokens_BT, tables(3))
    assert (got - expected).abs().max() < 2e-5 * expected.std()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_is_bit_equal_alone_and_in_company(precision: Precision, threads: int) -> None:
    model = Transformer(ODD, seed=1).eval()
    tokens_BT = tokens(3, 40)
    together = whole(network(model, precision, threads), tokens_BT, tables(3))
    alone = network(model, precision)
    table = torch.tensor([[7, 3, 21]])
    for begin, end in ((0, 7), (7, 8), (8, 30), (30, 40)):  # a prompt in parts, and single tokens
        part = tokens_BT[1, begin:end].tolist()
        got = alone.run(StepRows(part, list(range(begin, end)), [0] * len(part), table, list(range(len(part)))))
        assert torch.equal(got, together[1, begin:end])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_a_page_held_before_does_not_matter(precision: Precision) -> None:
    made, tokens_BT = network(Transformer(ODD, seed=1).eval(), precision), tokens(2, 20)
    expected = whole(made, tokens_BT, tables(2))
    for kept in (made._keys, made._values):
        kept.fill_(torch.nan)
    assert torch.equal(whole(made, tokens_BT, tables(2)), expected)


def drawn(kernel: ctypes.CDLL | None) -> list[int]:
    """What a build of draw.c draws: the most likely tokens, and others."""
    assert kernel is not None
    logits = torch.randn(9, 1000, generator=torch.Generator().manual_seed(2))
    forbidden, temperatures, points = torch.tensor([7, 8]), torch.tensor([0.0, 0.5, 2.0] * 3), torch.linspace(0, 0.99, 9).double()
    found = torch.zeros(9, dtype=torch.long)
    sizes = [ctypes.c_int64(9), ctypes.c_int64(1000)]
    kernel.draw_rows(
        ctypes.c_void_p(logits.data_ptr()), *sizes, ctypes.c_void_p(forbidden.data_ptr()), ctypes.c_int64(2),
        *(ctypes.c_void_p(one.data_ptr()) for one in (temperatures, points, found)),
    )  # fmt: skip
    return found.tolist()


@pytest.mark.parametrize(
    ("flag", "needs"),
    [("-march=cascadelake", "avx512_vnni"), ("-march=haswell", "avx2"), ("-DAGORA_PLAIN", "")],
    ids=["AVX-512 without bfloat16", "AVX2", "any processor"],
)
def test_products_for_other_processors_agree(flag: str, needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if needs and needs not in kernels._processor().split():
        pytest.skip(f"this processor has no {needs}")
    model, tokens_BT = Transformer(ODD, seed=1).eval(), tokens(3, 20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "FLAGS", (*kernels.FLAGS, flag))
    other = kernels.load(native.SOURCES)
    assert other is not None
    assert drawn(other) == drawn(native.library())
    for precision in PRECISIONS:
        made = network(model, precision)
        expected = whole(made, tokens_BT, tables(3))
        made._kernel = ctypes.CDLL(other._name)
        got = whole(made, tokens_BT, tables(3))
        # norms summed in another order shift a rounding to 8 bits here and there, and all that follows from it
        error = (got - expected).abs()
        assert error.median() < (2e-2 if precision == "int8" else 1e-5) * expected.std() and error.max() < 0.1 * expected.std()
        for row in range(3):  # and there too a row depends on nothing beside it
            assert torch.equal(whole(made, tokens_BT[row : row + 1], tables(3)[row : row + 1])[0], got[row])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_not_a_number_shows_in_the_logits_of_its_row_alone(precision: Precision) -> None:
    model, tokens_BT = Transformer(ODD, seed=1).eval(), tokens(2, 20)
    with torch.no_grad():
        model.embedding[201, 5] = torch.nan
    expected = whole(network(model, precision), tokens_BT, tables(2))
    tokens_BT[1, 7] = 201
    got = whole(network(model, precision), tokens_BT, tables(2))
    assert got[1, 7:].isnan().all() and torch.equal(got[0], expected[0]) and torch.equal(got[1, :7], expected[1, :7])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_number_of_rows_gives_the_same_bits(precision: Precision) -> None:
    """Rows are cut into tiles by their number: no tile may read or sum differently."""
    made, first = network(Transformer(ODD, seed=1).eval(), precision), tokens(1, 48)[0].tolist()
    table = torch.tensor([[7, 3, 21]])
    expected = made.run(StepRows(first, list(range(48)), [0] * 48, table, list(range(48)))).clone()
    for count in range(1, 48):
        got = made.run(StepRows(first[:count], list(range(count)), [0] * count, table, list(range(count))))
        assert torch.equal(got, expected[:count])


def test_rounded_weights_are_within_half_a_step_and_never_cut_off() -> None:
    weight_OI = torch.randn(40, 96, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 3, 40)[:, None]
    weight_OI[3] = 0
    levels, scales = quantize(weight_OI)
    step = scales.float().repeat_interleave(GROUP, 1)
    assert ((levels.float() * step - weight_OI).abs() <= step * 0.5001).all()
    assert levels.abs().max() == 127


def test_packed_panels_hold_each_weight_once() -> None:
    weight_OI = torch.arange(40 * 8, dtype=torch.float32).view(40, 8)
    packed = pack(weight_OI, "bfloat16").panels.float()
    assert packed.shape == (2, 4, WIDTH, 2)
    assert packed[1, 3, 5, 1] == weight_OI.bfloat16()[WIDTH + 5, 7]
    assert (packed[1, :, 8:] == 0).all()


def test_large_pages_hold_what_was_put_there_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "BLOCK_BYTES", 4096)
    room, numbers = native._LargePages(), torch.Generator().manual_seed(0)
    given = [torch.randn(size, generator=numbers).to(dtype) for size in (3, 700, 5, 5000, 1) for dtype in (torch.float32, torch.bfloat16)]
    held = [room.copy(one) for one in given]
    assert all(torch.equal(one, other) for one, other in zip(held, given, strict=True))
    assert all(one.data_ptr() % 64 == 0 for one in held)
    spans = sorted((one.data_ptr(), one.data_ptr() + one.nbytes) for one in held)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_networks_that_the_kernel_cannot_run_are_refused() -> None:
    experts = ModelConfig(vocab_size=64, dim=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden_dim=64, num_experts=4)
    assert not native.is_possible(experts, "int8")
    with pytest.raises(UsageError, match="cannot run this network as int8"):
        NativeNetwork(Transformer(experts), precision="int8", num_pages=4, max_rows=4)
