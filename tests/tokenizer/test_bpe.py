"""Byte pair encoding: round trips, agreement with Hugging Face, special tokens that text cannot forge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import ConfigError, DataError
from agora.tokenizer import SPECIAL_TOKENS, Tokenizer
from agora.tokenizer.encoding import BatchEncoder

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=60)
VALID_TEXT = st.text(max_size=60) | st.sampled_from([*SPECIAL_TOKENS, "the bread", "Straßenbahn 12:30", "площади!!", "天気 が\n\n"])


@given(text=ANY_TEXT)
def test_any_text_round_trips_lone_surrogates_included(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(data=st.binary(max_size=60))
def test_any_bytes_round_trip(tokenizer: Tokenizer, data: bytes) -> None:
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data


@given(texts=st.lists(VALID_TEXT, max_size=5))
def test_ids_equal_those_of_hugging_face(tokenizer: Tokenizer, texts: list[str]) -> None:
    published = tokenizers.Tokenizer.from_str(tokenizer._published().to_str())
    published.encode_special_tokens = True
    assert tokenizer.encode_batch(texts) == [row.ids for row in published.encode_batch(texts, add_special_tokens=False)]


@given(texts=st.lists(ANY_TEXT, max_size=5))
def test_a_batch_encodes_like_its_members(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_a_full_cache_starts_anew_with_the_same_ids(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{number} and {number * 7919}" for number in range(300)]
    expected = tokenizer.encode_batch(texts)
    monkeypatch.setattr("agora.tokenizer.encoding.CACHE_PRETOKENS", 20)
    small = BatchEncoder(tokenizer._merger())
    assert [row for text in texts for row in small.encode(pa.array([text], type=pa.large_string())).rows()] == expected


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_text_never_becomes_a_special_token(tokenizer: Tokenizer, name: str) -> None:
    half = len(name) // 2
    lookalikes = [
        name, name * 3, f"a{name}b", name[:half], name[half:], f"{name[:half]}\u200b{name[half:]}", name.upper(), f" {name} ",
        f"\n{name}\n",
        name.replace("|", "\uff5c"), name.replace("<", "\uff1c"), "".join(chr(0xFEE0 + ord(c)) for c in name), f"<|{name}|>",
    ]  # fmt: skip
    forbidden = set(tokenizer.special.values())
    for text in lookalikes:
        ids = tokenizer.encode(text)
        assert not forbidden & set(ids), text
        assert tokenizer.decode(ids) == text
    assert not forbidden & set(tokenizer.encode(name[:half]) + tokenizer.encode(name[half:]))
    assert not forbidden & set(tokenizer.encode_bytes(b"\xff" + name.encode() + b"\xff"))


def test_special_tokens_come_first_and_every_byte_has_an_id(tokenizer: Tokenizer) -> None:
    assert list(tokenizer.special.values()) == [0, 1, 2, 3]
    assert sorted(tokenizer.encode_bytes(bytes([byte]))[0] for byte in range(256)) == list(range(4, 260))


def test_special_tokens_can_be_left_out_of_decoded_text(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("hello"), tokenizer.special["<|im_end|>"]]
    assert tokenizer.decode(ids) == "hello<|im_end|>"
    assert tokenizer.decode(ids, skip_special=True) == "hello"


def test_a_saved_folder_loads_with_the_same_hash_and_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.hash == tokenizer.hash
    assert loaded.encode("The bread doesn't stop 2026") == tokenizer.encode("The bread doesn't stop 2026")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_training_gives_the_same_tokenizer_in_another_process_with_another_thread_count(tokenizer: Tokenizer) -> None:
    conftest = Path(__file__).with_name("conftest.py")
    program = (
        f"import runpy; from agora.tokenizer import Tokenizer; s = runpy.run_path({str(conftest)!r})['SENTENCES'];"
        "print(Tokenizer.train(s * 20, vocab_size=700).hash)"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == tokenizer.hash


def test_training_takes_text_with_lone_surrogates() -> None:
    assert Tokenizer.train(["ab \ud800 ab ab"], vocab_size=262).vocab_size <= 262


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size=100 must be at least 260"):
        Tokenizer.train(["a"], vocab_size=100)


def test_a_missing_damaged_or_foreign_tokenizer_is_refused_by_name(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        Tokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "ByteLevel"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="another rule"):
        Tokenizer.load(tmp_path)


def test_an_id_outside_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="outside the vocabulary"):
        tokenizer.decode([999_999])
