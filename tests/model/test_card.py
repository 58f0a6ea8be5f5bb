from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agora.errors import ModelError
from agora.model.card import CardFacts, model_card
from agora.model.config import ModelConfig
from agora.model.counts import num_parameters
from agora.model.hf import save_hf
from agora.model.inspection import describe_counts, inspect_folder
from agora.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=97, dim=48, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=16, hidden_dim=80, max_seq_len=64)


def test_card_says_what_is_not_known() -> None:
    card = model_card(CONFIG, CardFacts(name="tiny"))
    assert card.startswith("---\nlibrary_name: transformers\n")
    for line in ("| tokens | not known |", "| energy | not known |", "Licence of the data: not known.", "## Evaluation\n\nNot known."):
        assert line in card


def test_card_says_what_is_known() -> None:
    facts = CardFacts(
        name="tiny", data={"posts | square": "1,000 posts"}, data_licence="CC BY 4.0", tokens=1_000_000, seq_len=64, seconds=90.0,
        energy_joules=7200.0, energy_is_measured=True, evaluation={"bits per byte": "1.93"}, languages=("en",),
    )  # fmt: skip
    card = model_card(CONFIG, facts)
    lines = (
        "posts \\| square | 1,000 posts", "CC BY 4.0", "| tokens | 1,000,000 |", "2 Wh (measured)", "| bits per byte | 1.93 |", '- "en"',
        f"{num_parameters(CONFIG).total:,}",
    )  # fmt: skip
    assert all(line in card for line in lines)


def test_a_licence_that_is_not_known_stands_in_the_text_and_not_in_the_header() -> None:
    _, header, text = model_card(CONFIG, CardFacts(name="tiny")).split("---\n", 2)
    assert "license" not in header and "Licence of the data: not known. Before you share" in text
    _, header, text = model_card(CONFIG, CardFacts(name="tiny", data_licence="CC0")).split("---\n", 2)
    assert 'license: other\nlicense_name: "CC0"' in header and "Licence of the data: CC0." in text


def test_card_says_what_kind_of_network_it_is() -> None:
    assert "A dense decoder" in model_card(CONFIG, CardFacts(name="tiny"))
    mixture = model_card(replace(CONFIG, num_experts=4, expert_dim=32), CardFacts(name="tiny"))
    assert "mixture of experts" in mixture and "dense" not in mixture


def test_card_needs_a_name() -> None:
    with pytest.raises(ModelError, match="needs a name"):
        model_card(CONFIG, CardFacts(name=" "))


def test_inspection_of_a_folder_agrees_with_counts(tmp_path: Path) -> None:
    save_hf(Transformer(CONFIG), tmp_path / "m", model_card="# m\n")
    facts = inspect_folder(tmp_path / "m")
    assert facts["parameters"] == describe_counts(CONFIG, 64)["parameters"] == num_parameters(CONFIG).total
    assert facts["has_model_card"] and not facts["has_tokenizer"] and facts["weights_that_are_not_finite"] == 0
