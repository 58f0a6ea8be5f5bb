"""`agora corpus` and `agora tokenizer` from posts to shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from agora import cli
from agora.cli import app
from agora.corpus.deletions import refuse_stale_shards
from agora.errors import ConfigError, DataError, StoreError, UsageError
from agora.integrity.labels import LABEL_SCHEMA, write_labels
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.settings import Workspace
from agora.tokenizer import ShardSet, Tokenizer
from agora.tokenizer.shards import read_manifest

WORDS = ["harbour", "bakery", "library", "tram", "council", "garden", "window", "market", "bridge", "evening", "weather", "ticket"]


def posts() -> pa.Table:
    texts = [
        f"The {WORDS[n % 12]} and the {WORDS[n * 7 % 11]} were open at {n} today, said {WORDS[n * 5 % 12]} number {n * 3}"
        for n in range(80)
    ]
    return posts_table(
        {"id": str(n), "author": f"a{n % 9}", "created_at": 1_772_000_000_000_000 + n, "text": text, "kind": "post", "source": "test"}
        for n, text in enumerate(texts)
    )


def agora(workspace: Path, *words: str) -> Any:
    """Run a command with --json; raises what it raises."""
    result = CliRunner().invoke(app, [*words, "--workspace", str(workspace), "--json"], catch_exceptions=False, standalone_mode=False)
    assert result.exception is None
    return json.loads(result.stdout.strip().splitlines()[-1])


def test_posts_of_the_store_become_shards(tmp_path: Path) -> None:
    PostStore.open(tmp_path / "posts", create=True).append(posts())
    built = agora(tmp_path, "corpus", "build", "heldout_share=0.2", "near_duplicates=false")
    assert built["kept"] == 80
    assert agora(tmp_path, "corpus", "card")["content_hash"].startswith(built["content_hash"])
    trained = agora(tmp_path, "tokenizer", "train", "vocab_size=400")
    assert trained["vocabulary"] <= 400
    packed = agora(tmp_path, "tokenizer", "pack")
    assert packed["train"]["documents"] + packed["heldout"]["documents"] == 80
    assert ShardSet.open(tmp_path / "shards" / "main").num_tokens == packed["train"]["tokens"]
    encoded = agora(tmp_path, "tokenizer", "encode", "the tram <|im_end|>")
    assert "".join(encoded["tokens"]) == "the tram <|im_end|>"
    stamp = (tmp_path / "tokenizer" / "main" / "tokenizer.json").stat().st_mtime_ns
    assert agora(tmp_path, "tokenizer", "train", "vocab_size=400") == trained
    assert (tmp_path / "tokenizer" / "main" / "tokenizer.json").stat().st_mtime_ns == stamp


def test_posts_and_texts_may_come_from_files_and_settings_from_agora_toml(tmp_path: Path) -> None:
    pq.write_table(posts(), tmp_path / "posts.parquet")
    pq.write_table(pa.table({"text": ["A whole book about the harbour. " * 50]}), tmp_path / "book.parquet")
    lengths = sorted(len(text) for text in posts()["text"].to_pylist())
    (tmp_path / "agora.toml").write_text(f"[corpus]\nmin_characters = {lengths[40]}\nheldout_share = 0.0\n")
    words = ["--posts", str(tmp_path / "posts.parquet"), "--text", str(tmp_path / "book.parquet")]
    built = agora(tmp_path, "corpus", "build", "near_duplicates=false", *words)
    assert built["texts_in"] == 1
    assert built["heldout_authors"] == 0
    assert built["dropped"]["too_short"] == sum(length < lengths[40] for length in lengths) > 0


def test_unknown_settings_and_missing_inputs_are_explained(tmp_path: Path) -> None:
    pq.write_table(posts(), tmp_path / "posts.parquet")
    with pytest.raises(ConfigError, match="did you mean 'min_characters'"):
        agora(tmp_path, "corpus", "build", "min_charcters=3", "--posts", str(tmp_path / "posts.parquet"))
    with pytest.raises(DataError, match="agora corpus build"):
        agora(tmp_path, "corpus", "card")
    with pytest.raises(DataError, match="agora corpus build"):
        agora(tmp_path, "tokenizer", "train")
    with pytest.raises(DataError, match="agora tokenizer train"):
        agora(tmp_path, "tokenizer", "encode", "x")


def test_deletions_of_the_store_hold_for_posts_from_a_file(tmp_path: Path) -> None:
    pq.write_table(posts(), tmp_path / "posts.parquet")
    PostStore.open(tmp_path / "posts", create=True).delete_authors(["a3"])
    built = agora(tmp_path, "corpus", "build", "near_duplicates=false", "--posts", str(tmp_path / "posts.parquet"))
    assert built["dropped"]["deleted_author"] == sum(author == "a3" for author in posts()["author"].to_pylist()) > 0


def test_labels_of_the_workspace_are_heeded_and_named(tmp_path: Path) -> None:
    PostStore.open(tmp_path / "posts", create=True).append(posts())
    words = ["corpus", "build", "heldout_share=0", "near_duplicates=false", "--workspace", str(tmp_path), "--json"]
    plain = CliRunner().invoke(app, words)
    assert "labels in effect" not in plain.stderr
    label = {"kind": "account", "campaign": "c1", "state": "synchronised", "is_automatic": True, "reason": "", "evidence": ""}
    label |= {"confidence": 0.99, "appeal": "none"}
    ends = ["2999-01-01T00:00:00Z"] * 3 + ["2001-01-01T00:00:00Z"]
    rows = [{**label, "id": f"a{n}", "account": f"a{n}", "expires_at": end} for n, end in enumerate(ends)]
    write_labels(pa.Table.from_pylist(rows, schema=LABEL_SCHEMA), tmp_path / "integrity")
    labelled = CliRunner().invoke(app, words)
    assert "labels in effect: accounts 3, campaigns 1, posts 0; coordinated=one_voice" in labelled.stderr
    built = json.loads(labelled.stdout.strip().splitlines()[-1])
    assert built["dropped"] == {"one_voice": 18}  # 27 posts of three accounts leave nine
    assert built["coordination"]["accounts"] == 3
    left_out = json.loads(CliRunner().invoke(app, [*words, "coordinated=leave_out"]).stdout.strip().splitlines()[-1])
    assert left_out["dropped"] == {"coordinated": 27}
    (tmp_path / "integrity" / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as labels"):
        agora(tmp_path, "corpus", "build")


def test_what_was_made_before_a_deletion_is_refused_until_it_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PostStore.open(tmp_path / "posts", create=True).append(posts())
    build = ("corpus", "build", "heldout_share=0.2", "near_duplicates=false")
    agora(tmp_path, *build)
    agora(tmp_path, "tokenizer", "train", "vocab_size=400")
    agora(tmp_path, "tokenizer", "pack")
    assert "deletion" not in caplog.text
    agora(tmp_path, "posts", "delete", "--author", "a1")
    for words in (("corpus", "card"), ("tokenizer", "train", "vocab_size=400")):
        caplog.clear()
        agora(tmp_path, *words)
        assert "a later deletion took back; build it again: agora corpus build" in caplog.text
    with pytest.raises(UsageError, match="agora corpus build"):
        agora(tmp_path, "tokenizer", "pack")
    with pytest.raises(UsageError, match="agora corpus build, agora tokenizer train, agora tokenizer pack"):
        agora(tmp_path, "train", "pretrain")
    agora(tmp_path, *build)
    with pytest.raises(UsageError, match="agora tokenizer pack"):
        agora(tmp_path, "train", "pretrain")
    agora(tmp_path, "tokenizer", "pack")
    with pytest.raises(ConfigError, match="batch_tokens"):  # past the shards, to the next mistake
        agora(tmp_path, "train", "pretrain", "training.batch_tokens=100")
    refuse_stale_shards(tmp_path / "shards" / "main", read_manifest(tmp_path / "shards" / "main").deletions, tmp_path / "posts")


def test_a_build_that_keeps_nothing_ends_with_an_error_each_time(tmp_path: Path) -> None:
    PostStore.open(tmp_path / "posts", create=True).append(posts())
    for _ in range(2):  # built, and found unchanged
        with pytest.raises(DataError, match="keeps none of 80 posts and texts: dropped 80 as too_short"):
            agora(tmp_path, "corpus", "build", "min_characters=5000")
    assert agora(tmp_path, "corpus", "card")["kept"] == 0


def test_a_card_that_does_not_say_what_it_heeded_is_made_again(tmp_path: Path) -> None:
    store = PostStore.open(tmp_path / "posts", create=True)
    store.append(posts())
    store.delete_posts(["1"])
    agora(tmp_path, "corpus", "build", "near_duplicates=false")
    file = tmp_path / "corpus" / "main" / "data_card.json"
    older = json.loads(file.read_text())
    del older["deletions"]
    file.write_text(json.dumps(older))
    with pytest.raises(UsageError, match="agora corpus build"):
        agora(tmp_path, "tokenizer", "pack")
    agora(tmp_path, "corpus", "build", "near_duplicates=false")
    assert json.loads(file.read_text())["deletions"] == 1


def test_tokens_are_shown_without_doubled_backslashes_and_with_the_next_command(tmp_path: Path) -> None:
    Tokenizer.train(["plain words only"] * 9, vocab_size=270).save(tmp_path / "tokenizer" / "main")
    result = CliRunner().invoke(app, ["tokenizer", "encode", "\u00e9a", "--workspace", str(tmp_path)])
    assert "'\\xc3' '\\xa9' 'a'" in result.stdout
    assert "next: agora tokenizer pack" in result.stderr


def test_plain_mistakes_are_one_line_and_leave_nothing_behind(tmp_path: Path) -> None:
    pq.write_table(posts(), tmp_path / "posts.parquet")
    (tmp_path / "good.jsonl").write_text('{"text": "hello"}\n')
    (tmp_path / "truncated.parquet").write_bytes((tmp_path / "posts.parquet").read_bytes()[:500])
    new = tmp_path / "new"
    for name, reason in (
        ("good.jsonl", "cannot be read as Parquet.*agora posts import"),
        ("truncated.parquet", "cannot be read as Parquet"),
        (".", "is a folder"),
    ):
        with pytest.raises(DataError, match=reason):
            agora(new, "corpus", "build", "--posts", str(tmp_path / name))
    with pytest.raises(DataError, match="does not exist"):
        agora(new, "corpus", "build", "--posts", str(tmp_path / "posts.parquet"), "--text", str(tmp_path / "missing.parquet"))
    with pytest.raises(StoreError, match="agora posts import"):
        agora(new, "corpus", "build")
    with pytest.raises(UsageError, match="is a file"):
        agora(tmp_path / "good.jsonl" / "b", "corpus", "build", "--posts", str(tmp_path / "posts.parquet"))
    assert not new.exists()
    with pytest.raises(UsageError, match="cannot be written"):
        Workspace(Path("/proc/x")).create()


def test_an_error_of_the_system_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said == "error: /some/file: Permission denied; allow this user to write there and run the same command again\n"
