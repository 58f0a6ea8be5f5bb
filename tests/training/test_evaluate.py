"""Bits per byte: agrees with the obvious twin, known answers for known models, the same bytes for everyone."""

from __future__ import annotations

import json
import lzma
import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from agora.errors import DataError, UsageError
from agora.model import buffers
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer
from agora.training.evaluate import bits_per_byte, compressed_bits_per_byte, document_bits, evenly_spaced, file_texts, heldout_texts

Parts = tuple[Transformer, Tokenizer]
TEXTS = ["Rain again.", "", "Did anyone see the match? 🎉\nWhat a goal!", "x" * 70, "The harvest festival begins at noon."]


def slow_nats(model: Transformer, tokenizer: Tokenizer, text: str, block: int) -> float:
    """The obvious twin: one document and one window at a time, half of a window is context."""
    end = tokenizer.special["<|endoftext|>"]
    inputs, targets = [end, *tokenizer.encode(text)], [*tokenizer.encode(text), end]
    total = 0.0
    for place, target in enumerate(targets):
        window = place // block if place < block else 1 + (place - block) // (block - block // 2)
        start = 0 if window == 0 else block + (window - 1) * (block - block // 2) - block // 2
        with torch.no_grad():
            logits_V = model.logits(model(torch.tensor([inputs[start : place + 1]])))[0, -1]
        total -= float(torch.log_softmax(logits_V, dim=-1)[target])
    return total


@pytest.mark.parametrize("block", [128, 16])
def test_batched_score_equals_the_slow_twin(tiny_parts: Parts, block: int) -> None:
    model, tokenizer = tiny_parts
    result = bits_per_byte(model, tokenizer, TEXTS, block_tokens=block, batch_tokens=64, compressors=False)
    expected = sum(slow_nats(model, tokenizer, text, block) for text in TEXTS) / math.log(2)
    # float32: other shapes of the same sums; measured difference 1e-7.
    assert result.bits_per_byte * result.num_bytes == pytest.approx(expected, rel=1e-5)


def test_uniform_model_costs_the_logarithm_of_its_vocabulary(tiny_parts: Parts) -> None:
    model, tokenizer = tiny_parts
    uniform = Transformer(model.config, seed=0)
    torch.nn.init.zeros_(uniform.embedding)
    result = bits_per_byte(uniform, tokenizer, TEXTS, compressors=False)
    assert result.num_tokens == sum(len(tokenizer.encode(text)) + 1 for text in TEXTS)
    assert result.bits_per_token == pytest.approx(math.log2(tokenizer.vocab_size), rel=1e-6)
    assert result.bits_per_byte == pytest.approx(math.log2(tokenizer.vocab_size) * result.num_tokens / result.num_bytes, rel=1e-6)


def test_bytes_are_those_of_the_joined_text(tiny_parts: Parts) -> None:
    result = bits_per_byte(*tiny_parts, TEXTS)
    joined = "".join(text + "\n" for text in TEXTS).encode()
    assert result.num_bytes == len(joined) and result.num_documents == len(TEXTS)
    assert (result.xz_bits_per_byte, result.zstd_bits_per_byte) == compressed_bits_per_byte(joined)
    assert result.below_xz == pytest.approx(1 - result.bits_per_byte / result.xz_bits_per_byte)


def test_documents_do_not_see_each_other_and_order_does_not_matter(tiny_parts: Parts) -> None:
    forward = bits_per_byte(*tiny_parts, TEXTS, compressors=False)
    alone = [bits_per_byte(*tiny_parts, [text], compressors=False) for text in reversed(TEXTS)]
    total = sum(one.bits_per_byte * one.num_bytes for one in alone)
    assert forward.bits_per_byte * forward.num_bytes == pytest.approx(total, rel=1e-5)


def test_bfloat16_weights_give_nearly_the_same(tiny_parts: Parts) -> None:
    model, tokenizer = tiny_parts
    half = Transformer(model.config, seed=3).to(torch.bfloat16).eval()
    # bfloat16 keeps 8 bits; measured difference 0.2%.
    expected = bits_per_byte(model, tokenizer, TEXTS, compressors=False).bits_per_byte
    assert bits_per_byte(half, tokenizer, TEXTS, compressors=False).bits_per_byte == pytest.approx(expected, rel=0.01)


def test_training_mode_is_left_as_it_was(tiny_parts: Parts) -> None:
    model = Transformer(replace(tiny_parts[0].config, num_layers=1), seed=1).train()
    bits_per_byte(model, tiny_parts[1], ["a"], compressors=False)
    assert model.training


def test_no_text_is_an_error(tiny_parts: Parts) -> None:
    with pytest.raises(DataError, match="no text"):
        bits_per_byte(*tiny_parts, [])


@pytest.mark.skipif(shutil.which("xz") is None, reason="needs the xz tool")
def test_xz_is_what_the_tool_gives() -> None:
    data = " ".join(str(number * number) for number in range(3000)).encode()
    tool = subprocess.run(["xz", "-9e", "-c"], input=data, capture_output=True, check=True).stdout
    assert 8 * len(tool) / len(data) == compressed_bits_per_byte(data)[0]
    assert lzma.decompress(tool) == data


def write_corpus(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    (folder / "documents").mkdir(parents=True)
    table = pa.table({"text": [text for text, _ in rows], "split": [split for _, split in rows]})
    pq.write_table(table, folder / "documents" / "part-0.parquet")
    (folder / "data_card.json").write_text(json.dumps({"files": [{"name": "part-0.parquet", "sha256": ""}]}))


def test_held_out_documents_are_read_and_no_others(tmp_path: Path) -> None:
    write_corpus(tmp_path, [("a", "train"), ("b", "heldout"), ("c", "train"), ("d", "heldout")])
    assert heldout_texts(tmp_path) == ["b", "d"]


def test_corpus_without_held_out_authors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="agora corpus build"):
        heldout_texts(tmp_path / "absent")
    write_corpus(tmp_path, [("a", "train")])
    with pytest.raises(DataError, match="no held-out authors"):
        heldout_texts(tmp_path)


def test_file_is_one_document_or_one_for_each_line(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"eins\r\nzwei\n\ndrei\n")
    assert file_texts([path]) == ["eins\r\nzwei\n\ndrei"]
    assert file_texts([path], lines=True) == ["eins\r", "zwei", "", "drei"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        file_texts([path])


def test_evenly_spaced_documents() -> None:
    texts = [str(number) for number in range(10)]
    assert evenly_spaced(texts, 3) == ["0", "3", "6"]
    assert evenly_spaced(texts, None) == evenly_spaced(texts, 99) == texts


def test_memory_kept_for_reuse_is_given_back(tiny_parts: Parts) -> None:
    buffers.empty((1 << 20,), torch.float32)
    bits_per_byte(*tiny_parts, TEXTS, compressors=False)
    assert buffers.release_buffers() == 0


def test_bits_of_documents_add_up_to_bits_per_byte(tiny_parts: Any) -> None:
    model, tokenizer = tiny_parts
    texts = ["Rain again.", "The trains are late, and nobody at the station knows why. " * 8, "x"]
    whole = bits_per_byte(model, tokenizer, texts, compressors=False)
    assert document_bits(model, tokenizer, texts).sum() / whole.num_bytes == pytest.approx(whole.bits_per_byte, rel=1e-5)
