"""Who is referred to, by voices."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from agora.errors import DataError
from agora.integrity.voice import Voices
from agora.search.authority import authority, read_authority, write_authority
from agora.search.voice_counts import VoiceCounts


def batch(*pairs: tuple[str, str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"author": author, "ref_author": referred} for author, referred in pairs],
        schema=pa.schema([("author", pa.string()), ("ref_author", pa.string())]),
    )


def test_more_voices_give_more_authority_and_oneself_none() -> None:
    posts = [batch(*((f"a{n}", "known") for n in range(50)), *((f"a{n}", "less") for n in range(5)), ("me", "me"), ("x", None))]
    found = authority(posts, Voices())
    assert 0 < found["less"] < found["known"] <= 1
    assert set(found) == {"less", "known"}


def test_batches_add_up_and_nobody_counts_twice() -> None:
    pairs = [(f"a{n % 70}", f"known{n % 3}") for n in range(600)]
    parts = [batch(*pairs[start : start + 50]) for start in range(0, len(pairs), 50)]
    assert authority(parts, Voices()) == authority([batch(*pairs)], Voices())
    counts = VoiceCounts(Voices({"a1": "c", "a2": "c"}))
    for part in parts:
        counts.add(part["author"], part["ref_author"])
    voices = {
        name: {"c" if one in ("a1", "a2") else one for one, referred in pairs if referred == name} for name in ("known0", "known1", "x")
    }
    assert {name: counts.of_one(name) for name in voices} == {name: len(heard) for name, heard in voices.items()}


def test_a_thousand_accounts_of_a_campaign_make_nobody_important() -> None:
    posts = [batch(*((f"c{n}", "leader") for n in range(1000)), *((f"a{n}", "c1") for n in range(9)))]
    assert authority(posts, Voices({f"c{n}": "c" for n in range(1000)})) == {}
    assert authority([], Voices()) == {}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_authority(tmp_path / "a.parquet") == {}
    write_authority({"ada": 0.5}, tmp_path / "a.parquet")
    assert read_authority(tmp_path / "a.parquet") == {"ada": 0.5}
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="make it anew"):
        read_authority(tmp_path / "a.parquet")
