"""What a model is made from, and what its card makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agora.config import from_dict, to_dict
from agora.errors import DataError
from agora.training.card import training_card
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.run_folder import Machine
from agora.training.source import ModelSource, chat_source, corpus_source, merged
from agora.training.summary import Standing, summarise
from tests.training.doubles import TINY_MODEL


def corpus(folder: Path, licence: str = "not stated") -> Path:
    card = {
        "posts_in": 1200, "texts_in": 3, "kept": 900, "documents": 700, "authors": 40, "heldout_authors": 2, "heldout_documents": 9,
        "dropped": {"too_short": 303, "spam": 0}, "first_post": "2020-01-01", "last_post": None, "sources": {"x": 900},
        "languages": {"en": 890, "nl": 9, "und": 1}, "content_hash": "abc", "licence": licence, "files": [],
    }  # fmt: skip
    folder.mkdir()
    (folder / "data_card.json").write_text(json.dumps(card))
    return folder


def card(source: ModelSource, **optimizer: Any) -> str:
    training = TrainingConfig(optimizer=OptimizerConfig(**optimizer))
    machine = Machine(device="cpu", dtype="float32", compile=False, limit_flops_per_s=1e12, has_kernels=False, num_threads=1)
    standing = Standing(num_done=500, loss=3.0, heldout_loss=3.1, heldout_bits_per_byte=1.75, elapsed_s=60.0, joules=7200.0)
    return training_card("m", summarise(Path("runs/main"), TINY_MODEL, training, machine, standing), TINY_MODEL, training, source)


def test_a_corpus_comes_with_its_rows_licence_and_languages(tmp_path: Path) -> None:
    source = corpus_source(corpus(tmp_path / "main", "CC BY 4.0"), recipe="laptop", tokenizer_hash="ff")
    text = card(source)
    for words in (
        "| corpus | main |",
        "1,200 posts, 3 texts",
        "too_short 303",
        'license_name: "CC BY 4.0"',
        '- "en"',
        "| recipe | laptop |",
    ):
        assert words in text, words
    assert "spam" not in text and source.languages == ("en", "nl")


def test_a_licence_not_stated_is_no_licence(tmp_path: Path) -> None:
    source = corpus_source(corpus(tmp_path / "main"))
    assert source.licence is None and "license" not in card(source) and "Licence of the data: not known." in card(source)


def test_one_part_without_a_licence_leaves_the_whole_without(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text('---\nlicense: other\nlicense_name: "not stated"\n---\n')
    report = {"conversations": 60, "skipped": {}}
    half = chat_source(base, conversations=["talk.jsonl"], report=report, licences=["CC0"])
    assert half.licence is None
    assert "| licence of the conversations | CC0 |" in card(half) and "| licence of the base model | not known |" in card(half)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert chat_source(base, conversations=["talk.jsonl"], report=report, licences=["CC0"]).licence == "apache-2.0; CC0"


def test_card_names_the_rate_of_each_optimizer_and_the_bits_per_byte() -> None:
    text = card(ModelSource(), name="muon", lr=0.004, muon_lr=0.03)
    assert "Muon for hidden matrices, AdamW for" in text and "0.03 of Muon, 0.004 of AdamW" in text
    assert "| held-out bits per byte | 1.7500" in text
    assert "Muon" not in card(ModelSource(), name="adamw")


def test_source_survives_the_run_folder() -> None:
    source = ModelSource(recipe="r", data={"a": "b"}, licences={"corpus": "CC0"}, languages=("en",))
    assert from_dict(ModelSource, json.loads(json.dumps(to_dict(source))), "run.json") == source


def test_what_a_resumed_run_no_longer_finds_is_kept_and_what_it_is_told_is_taken() -> None:
    saved = {"corpus": "main", "data": {"kept": "9"}, "licences": {"conversations": "", "corpus": "CC0"}, "languages": ["en"]}
    asked = {"corpus": "main", "data": {}, "licences": {"conversations": "MIT", "corpus": ""}, "languages": [], "base": ""}
    assert merged(saved, asked) == {**saved, "licences": {"conversations": "MIT", "corpus": "CC0"}, "base": ""}


def test_a_damaged_data_card_is_named(tmp_path: Path) -> None:
    (corpus(tmp_path / "main") / "data_card.json").write_text("{")
    with pytest.raises(DataError, match=r"data_card\.json"):
        corpus_source(tmp_path / "main")
