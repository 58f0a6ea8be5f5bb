"""Fixtures with random damage: a reader may refuse or quarantine, and nothing else; what is stored always fits the schema."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agora.errors import AgoraError
from agora.posts.importing import import_posts
from agora.posts.schema import POST_SCHEMA
from agora.posts.sources import SOURCES
from agora.posts.store import AppendResult

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "posts"
FILES = sorted(path for path in FIXTURES.rglob("*") if path.is_file())
LISTS = [name for name in POST_SCHEMA.names if pa.types.is_list(POST_SCHEMA.field(name).type)]
VALUE = re.compile(rb'("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|null|true|false|\[\]|\{\})(?=\s*[,}\]])')
TOKENS = [
    b"null", b"[]", b"{}", b'""', b"0", b"-1", b"1e999", b"NaN", b"true", b"\xff", b"\0", b'"\\ud800"', b"[[", b'{"a":', b'"\\UFFFFFFFF"',
    b"99999999999999999999", b"\r", b"\n", b",", b":", b"\t", b'"',
]  # fmt: skip
NUM_MUTATIONS = 12


class CheckingStore:
    """Keeps nothing, checks everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def append(self, posts: pa.Table) -> AppendResult:
        assert posts.schema.equals(POST_SCHEMA)
        posts.validate(full=True)
        for field in POST_SCHEMA:
            assert field.nullable or posts[field.name].null_count == 0, field.name
        for name in LISTS:
            assert pa.concat_arrays(posts[name].chunks).flatten().null_count == 0, name
        assert "None" not in posts["id"].to_pylist()
        return AppendResult(len(posts), 0, 0)

    def delete_posts(self, ids: Sequence[str]) -> int:
        return len(pa.array(ids, pa.string())) * 0

    def delete_authors(self, authors: Sequence[str]) -> int:
        return len(pa.array(authors, pa.string())) * 0


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` after a few cuts, insertions, changed bytes or exchanged values."""
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        place, kind = rng.randrange(len(data) + 1), rng.randrange(7)
        values = list(VALUE.finditer(data)) if kind >= 4 else []
        if values:
            match = rng.choice(values)
            data = data[: match.start()] + rng.choice(TOKENS) + data[match.end() :]
        elif kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + data[place + rng.randrange(1, 40) :]
        elif kind == 2:
            data = data[:place] + rng.choice(TOKENS) + data[place:]
        else:
            data = data[:place] + rng.randbytes(rng.randrange(1, 20)) + data[place + rng.randrange(20) :]
    return data


def parquet() -> bytes:
    columns: dict[str, Any] = {
        "id": ["1", "2"], "author": ["a", "b"], "created_at": [1_600_000_000, 1_600_000_001], "text": ["x", "y"], "urls": [["u"], None],
    }  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("path", [*FILES, Path("posts.parquet")], ids=lambda path: "-".join(path.parts[-2:]))
def test_damage_is_refused_or_quarantined(path: Path, tmp_path: Path) -> None:
    rng = random.Random(str(path.name))
    data = path.read_bytes() if path.exists() else parquet()
    for number in range(NUM_MUTATIONS):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / path.name).write_bytes(damaged(data, rng))
        source = rng.choice([None, None, None, *(source.name for source in SOURCES)])
        try:
            summary = import_posts(folder / path.name, CheckingStore(folder / "store"), source=source, quarantine=folder / "quarantine")
        except AgoraError:
            continue
        assert summary.accounted == summary.records
