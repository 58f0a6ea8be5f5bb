"""Packed shards: conservation, determinism, resume, and damage that is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agora.errors import DataError, UsageError
from agora.tokenizer import ShardSet, Tokenizer, pack_shards
from agora.tokenizer import shards as shards_module

TEXTS = [f"Document {number}: the bread is gone by {number % 12}, площади {number}" for number in range(90)]


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    for part in range(3):
        texts = TEXTS[part * 30 : part * 30 + 30]
        split = ["heldout" if index % 5 == 0 else "train" for index in range(30)]
        pq.write_table(pa.table({"text": texts, "split": split}), folder / f"part-{part}.parquet")
    return folder


def train_texts() -> list[str]:
    return [text for index, text in enumerate(TEXTS) if index % 5]


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_document_comes_back_whole_and_ends_with_end_of_text(documents: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    pack_shards(documents, tokenizer, tmp_path / "shards")
    shards = ShardSet.open(tmp_path / "shards", tokenizer=tokenizer)
    starts = shards.document_starts[:]
    ends = [*starts[1:], shards.num_tokens]
    decoded = [tokenizer.decode(shards.tokens(int(a), int(b))) for a, b in zip(starts, ends, strict=True)]
    assert decoded == [text + "<|endoftext|>" for text in train_texts()]


def test_tokens_in_are_tokens_out_plus_dropped(documents: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    manifest = pack_shards(documents, tokenizer, tmp_path / "shards", max_document_tokens=9)
    assert manifest.tokens_in == sum(len(tokenizer.encode(text)) + 1 for text in train_texts())
    assert manifest.dropped > 0
    assert manifest.tokens_in == manifest.tokens_out + manifest.dropped
    assert manifest.text_bytes == sum(len(text.encode()) for text in train_texts())
    shards = ShardSet.open(tmp_path / "shards")
    starts = shards.document_starts[:]
    lengths = np.diff([*starts, shards.num_tokens])
    assert lengths.max() == 9
    assert (shards.tokens(0, shards.num_tokens)[starts[1:] - 1] == tokenizer.special["<|endoftext|>"]).all()


def test_any_range_equals_the_slice_of_the_whole(documents: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    pack_shards(documents, tokenizer, tmp_path / "shards")
    shards = ShardSet.open(tmp_path / "shards")
    whole = shards.tokens(0, shards.num_tokens)
    assert whole.dtype == np.uint16
    for start in range(0, shards.num_tokens, 101):
        for length in (0, 1, 57, 700, 10_000_000):
            assert np.array_equal(shards.tokens(start, start + length), whole[start : start + length])
    with pytest.raises(IndexError):
        shards.tokens(-1, 3)


def test_shards_do_not_depend_on_threads_or_batches(
    documents: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_shards(documents, tokenizer, tmp_path / "one", num_threads=1)
    monkeypatch.setattr(shards_module, "BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(shards_module, "BATCH_BYTES", 150)
    pack_shards(documents, tokenizer, tmp_path / "two", num_threads=2)
    assert file_bytes(tmp_path / "one") == file_bytes(tmp_path / "two")


def test_a_killed_pack_goes_on_without_redoing_finished_shards(
    documents: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_shards(documents, tokenizer, tmp_path / "whole")
    written: list[str] = []
    write = shards_module._Packer._write

    def dies_at_second(self: shards_module._Packer, name: str, *rest: object) -> object:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(name)
        return write(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(shards_module._Packer, "_write", dies_at_second)
    with pytest.raises(KeyboardInterrupt):
        pack_shards(documents, tokenizer, tmp_path / "killed")
    with pytest.raises(DataError, match="manifest"):
        ShardSet.open(tmp_path / "killed")
    first = (tmp_path / "killed" / f"{written[0]}.tokens").stat().st_mtime_ns
    monkeypatch.setattr(shards_module._Packer, "_write", write)
    pack_shards(documents, tokenizer, tmp_path / "killed")
    assert (tmp_path / "killed" / f"{written[0]}.tokens").stat().st_mtime_ns == first
    assert file_bytes(tmp_path / "killed") == file_bytes(tmp_path / "whole")


def test_packing_again_writes_nothing_new_and_another_split_replaces_the_old(documents: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    pack_shards(documents, tokenizer, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*")}
    pack_shards(documents, tokenizer, out)
    assert before == {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*")}
    manifest = pack_shards(documents, tokenizer, out, split="heldout")
    assert {path.name.split(".")[0] for path in out.glob("shard-*")} == {shard.name for shard in manifest.shards}
    assert ShardSet.open(out).manifest.num_documents == 18


@pytest.mark.parametrize("suffix", [".tokens", ".starts.npy"])
def test_packing_again_replaces_a_shard_with_other_bytes(documents: Path, tokenizer: Tokenizer, tmp_path: Path, suffix: str) -> None:
    manifest = pack_shards(documents, tokenizer, tmp_path)
    victim = tmp_path / f"{manifest.shards[1].name}{suffix}"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    pack_shards(documents, tokenizer, tmp_path)
    assert victim.read_bytes() == whole


def test_a_corrupt_file_is_named(documents: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    manifest = pack_shards(documents, tokenizer, tmp_path)
    victim = tmp_path / f"{manifest.shards[1].name}.tokens"
    data = bytearray(victim.read_bytes())
    data[10] ^= 1
    victim.write_bytes(data)
    with pytest.raises(DataError, match=victim.name):
        ShardSet.open(tmp_path)
    victim.write_bytes(data[:-2])
    with pytest.raises(DataError, match="the manifest says"):
        ShardSet.open(tmp_path, verify=False)
    victim.unlink()
    with pytest.raises(DataError, match="missing"):
        ShardSet.open(tmp_path, verify=False)


def test_processes_share_the_reading_of_a_corpus(
    documents: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is compared with its sum once, however many open the folder; whoever reads the damaged one says so."""
    manifest = pack_shards(documents, tokenizer, tmp_path)
    read: list[str] = []
    sha256 = shards_module.file_sha256
    monkeypatch.setattr(shards_module, "file_sha256", lambda path: (read.append(path.name), sha256(path))[1])
    for rank in range(3):
        assert ShardSet.open(tmp_path, share=(rank, 3)).num_tokens == manifest.tokens_out
    assert sorted(read) == sorted(f"{shard.name}.{kind}" for shard in manifest.shards for kind in ("tokens", "starts.npy"))
    victim = tmp_path / f"{manifest.shards[1].name}.tokens"
    victim.write_bytes(victim.read_bytes()[:-2] + b"\xff\xff")
    ShardSet.open(tmp_path, share=(0, 3))
    with pytest.raises(DataError, match=victim.name):
        ShardSet.open(tmp_path, share=(1, 3))


def test_a_manifest_that_does_not_add_up_is_refused(documents: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    pack_shards(documents, tokenizer, tmp_path)
    table = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**table, "tokens_out": table["tokens_out"] + 1}))
    with pytest.raises(DataError, match="do not add up"):
        ShardSet.open(tmp_path)


def test_another_tokenizers_shards_are_refused(documents: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    pack_shards(documents, tokenizer, tmp_path)
    with pytest.raises(DataError, match="packed by tokenizer"):
        ShardSet.open(tmp_path, tokenizer=Tokenizer.train(TEXTS, vocab_size=300))


def test_large_vocabularies_take_four_bytes_a_token(
    documents: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "_SMALL_VOCAB", 500)
    assert pack_shards(documents, tokenizer, tmp_path).dtype == "uint32"
    shards = ShardSet.open(tmp_path)
    assert shards.tokens(0, 5).dtype == np.uint32


def test_wrong_arguments_and_missing_documents_are_refused(documents: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="split='test'"):
        pack_shards(documents, tokenizer, tmp_path, split="test")
    with pytest.raises(UsageError, match="max_document_tokens=1"):
        pack_shards(documents, tokenizer, tmp_path, max_document_tokens=1)
    with pytest.raises(DataError, match="holds no documents"):
        pack_shards(tmp_path / "nowhere", tokenizer, tmp_path / "out")


def test_packing_a_corpus_that_is_not_there_makes_no_folder(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError):
        pack_shards(tmp_path / "absent", tokenizer, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
