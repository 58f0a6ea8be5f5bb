"""The collections that the search benchmarks read, and how they score."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agora.errors import UsageError
from benchmarks.search_collection import average_precision, indexed, read_collection


def write(folder: Path) -> Path:
    """A collection with numbers as ids, a repeat, no titles and no splits."""
    pq.write_table(
        pa.table({"doc_id": [1, 2, 3], "text": ["a ship sank", "a ship sank!", "bread"], "dup_of": [1, 1, 3]}), folder / "corpus.parquet"
    )
    pq.write_table(pa.table({"query_id": [7, 8], "text": ["ship?", "nobody judged this"]}), folder / "queries.parquet")
    pq.write_table(pa.table({"query_id": [7], "doc_id": [2]}), folder / "qrels.parquet")
    return folder


def test_any_collection_of_the_form_is_read_and_repeats_are_one(tmp_path: Path) -> None:
    collection = read_collection({"data": str(write(tmp_path))})
    assert collection.queries == {"test": [("7", "ship?")]}
    assert collection.right == {"7": frozenset({"1"})}
    assert collection.repeats(frozenset({"1"})) == {"1", "2"}
    with indexed(collection, None) as index:
        assert set(index.find_text(["ship"], None, 5).ids) == {"1", "2"}


def test_average_precision_counts_repeats_once_and_looks_at_five() -> None:
    first = {name: name for name in "abcdefg"} | {"a2": "a"}
    assert average_precision(["b", "a2", "a"], frozenset("a"), first) == pytest.approx(1 / 2)
    assert average_precision(["a", "a2", "b"], frozenset("ab"), first) == pytest.approx(1)
    assert average_precision(list("bcdefa"), frozenset("a"), first) == 0


def test_a_folder_without_the_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus.parquet does not exist"):
        read_collection({"data": str(tmp_path)})


def test_a_missing_column_and_a_broken_file_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"doc_id": [1], "body": ["a ship sank"]}), write(tmp_path) / "corpus.parquet")
    with pytest.raises(UsageError, match=r"corpus.parquet has no column 'text', only doc_id, body"):
        read_collection({"data": str(tmp_path)})
    (tmp_path / "corpus.parquet").write_text("no table")
    with pytest.raises(UsageError, match=r"corpus.parquet cannot be read as Parquet"):
        read_collection({"data": str(tmp_path)})
