from __future__ import annotations

import dataclasses

import pytest
import torch

from agora.errors import ConfigError, GenerationError, ModelError
from agora.model.cache import KVCache
from agora.model.config import ModelConfig
from agora.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=97, dim=48, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=16, hidden_dim=80, max_seq_len=64)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer(CONFIG)


def some_tokens(batch: int = 2, length: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, CONFIG.vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, same, other = Transformer(CONFIG, seed=1), Transformer(CONFIG, seed=1), Transformer(CONFIG, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.embedding, other.embedding)


def test_fresh_model_knows_nothing(model: Transformer) -> None:
    tokens = some_tokens()
    expected = torch.tensor(float(CONFIG.vocab_size)).log()
    assert abs(float(model.loss(tokens, some_tokens(seed=1)).detach()) - float(expected)) < 0.1


@torch.no_grad()
def test_no_position_sees_a_later_one(model: Transformer) -> None:
    tokens = some_tokens()
    changed = tokens.clone()
    changed[:, 20:] = some_tokens(length=20, seed=1)
    assert torch.equal(model(tokens)[:, :20], model(changed)[:, :20])


@torch.no_grad()
def test_documents_in_one_row_equal_documents_alone(model: Transformer) -> None:
    first, second = some_tokens(1, 17), some_tokens(1, 23, seed=1)
    ids = torch.tensor([[0] * 17 + [1] * 23])
    packed = model(torch.cat([first, second], 1), document_ids_BT=ids)
    # rotary angles are relative, so the second document's later positions change rounding only
    torch.testing.assert_close(packed[:, :17], model(first), atol=1e-5, rtol=0)
    torch.testing.assert_close(packed[:, 17:], model(second), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_document_id_that_comes_back_is_a_new_document(model: Transformer) -> None:
    tokens = some_tokens(1, 30)
    back, fresh = torch.tensor([[0] * 10 + [1] * 10 + [0] * 10]), torch.tensor([[0] * 10 + [1] * 10 + [2] * 10])
    assert torch.equal(model(tokens, document_ids_BT=back), model(tokens, document_ids_BT=fresh))


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[1] * 12, [5, 1, 6], [12]])
def test_cache_agrees_with_the_whole_row(model: Transformer, cuts: list[int]) -> None:
    tokens = some_tokens(length=12)
    cache = KVCache(CONFIG, batch=2, max_len=12)
    pieces = [model(piece, cache=cache) for piece in tokens.split(cuts, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(tokens), atol=1e-5, rtol=0)
    assert cache.length == 12


@torch.no_grad()
def test_given_positions_equal_counted_ones(model: Transformer) -> None:
    tokens = some_tokens()
    positions = torch.arange(40).expand(2, -1)
    torch.testing.assert_close(model(tokens, positions_BT=positions), model(tokens), atol=1e-5, rtol=0)


def test_overfull_cache_is_refused(model: Transformer) -> None:
    cache = KVCache(CONFIG, batch=2, max_len=8)
    with pytest.raises(GenerationError, match="9 positions do not fit a cache of 8"):
        model(some_tokens(length=9), cache=cache)


def test_too_long_text_and_too_long_cache_are_refused(model: Transformer) -> None:
    with pytest.raises(ModelError, match=r"65 positions are more than model.max_seq_len=64"):
        model(some_tokens(length=65))
    with pytest.raises(GenerationError, match="max_seq_len=64"):
        KVCache(CONFIG, batch=1, max_len=65)


def test_documents_and_cache_together_are_refused(model: Transformer) -> None:
    with pytest.raises(ModelError, match="document_ids and a cache"):
        model(some_tokens(length=4), document_ids_BT=torch.zeros(2, 4, dtype=torch.int64), cache=KVCache(CONFIG, batch=2, max_len=8))


def test_wrong_shape_is_caught_in_tests(model: Transformer) -> None:
    with pytest.raises(Exception, match="Type-check error"):
        model(some_tokens()[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 6, "num_kv_heads": 4}, r"model.num_heads=6 must be a multiple of model.num_kv_heads=4; try model.num_kv_heads=3"),
        ({"head_dim": 15}, r"model.head_dim=15 must be even"),
        ({"vocab_size": 0}, r"model.vocab_size=0 must be above 0"),
        ({"num_kv_heads": 0}, r"model.num_kv_heads=0 must be above 0"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_training_goes_on_where_the_tables_were_first_made_for_inference() -> None:
    config = ModelConfig(vocab_size=31, dim=16, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=16, hidden_dim=16, max_seq_len=77)
    model, tokens = Transformer(config), torch.arange(12)[None]
    with torch.inference_mode():
        model(tokens)
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()  # type: ignore[no-untyped-call]
    assert model.embedding.grad is not None and model.embedding.grad.any()
