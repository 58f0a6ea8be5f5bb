"""Sentence vectors: what they promise to whoever uses them, and what a folder must be to serve."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from agora.errors import MissingExtraError, ModelError
from agora.text.embeddings import LexicalEmbeddings, ModelEmbeddings, WordCounts, codes, load_embeddings

TEXTS = pa.array(["The water fee ruins small shops", "small shops ruined by the water fees", "my cat sleeps on the radiator", "", None])


def test_vectors_have_unit_length_or_are_zero_where_nothing_is_said() -> None:
    vectors = LexicalEmbeddings(dim=100).vectors(TEXTS)
    assert vectors.shape == (5, 100)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0], atol=1e-5)


def test_texts_with_common_words_are_nearer_than_others() -> None:
    vectors = LexicalEmbeddings().vectors(TEXTS)
    assert vectors[0] @ vectors[1] > 0.4 > vectors[0] @ vectors[2]


def test_a_vector_does_not_depend_on_the_texts_around_it() -> None:
    embeddings = LexicalEmbeddings()
    together = embeddings.vectors(TEXTS)
    alone = np.concatenate([embeddings.vectors(TEXTS.slice(row, 1)) for row in range(len(TEXTS))])
    np.testing.assert_array_equal(together, alone)


def test_rare_words_weigh_more_with_counts() -> None:
    counts = WordCounts.of(pa.array(["my cat"] * 50 + ["my dog"] * 50 + ["my orbix"]))
    pair = pa.array(["my orbix", "my zebra"])
    plain, weighted = LexicalEmbeddings().vectors(pair), LexicalEmbeddings(counts=counts).vectors(pair)
    assert weighted[0] @ weighted[1] < plain[0] @ plain[1]


def test_counts_of_parts_add_up() -> None:
    whole, parts = WordCounts.of(TEXTS), WordCounts.of(TEXTS.slice(0, 2)).joined(WordCounts.of(TEXTS.slice(2)))
    assert whole.num_texts == parts.num_texts
    np.testing.assert_array_equal(whole.counters, parts.counters)


def test_near_vectors_share_codes_and_far_ones_hardly() -> None:
    vectors = LexicalEmbeddings().vectors(pa.array(["the orbix token is great", "the orbix token is great!", "rain all weekend"]))
    near = codes(vectors, 16, 10)
    assert (near[0] == near[1]).all()
    assert (near[0] == near[2]).sum() <= 2


def test_without_a_folder_nothing_is_needed() -> None:
    assert isinstance(load_embeddings(), LexicalEmbeddings)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        ModelEmbeddings(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="safetensors"):
        ModelEmbeddings(tmp_path)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"agora\[embeddings\]"):
        ModelEmbeddings(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", [False, True])
def test_a_local_encoder_gives_unit_vectors_that_padding_does_not_change(tmp_path: Path, first: bool) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "orbix", "token", "is", "great", "rain"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": len(words)}
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path, safe_serialization=True)
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": first}))
    embeddings = load_embeddings(tmp_path)
    vectors = embeddings.vectors(pa.array(["rain", "the orbix token is great rain rain"]))
    assert vectors.shape == (2, embeddings.dim) == (2, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embeddings.vectors(pa.array(["rain"]))[0], vectors[0], atol=1e-5)
