"""Tables: the column-wise Parquet path against its row-wise twin, and broken rows of the text formats."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.errors import SourceError, UsageError
from agora.posts.schema import POST_SCHEMA, posts_table
from agora.posts.sources import json_stream, recognise, table_csv, table_parquet, tables
from agora.posts.sources.files import SourceFile, open_files
from agora.posts.sources.record import Broken

TEXT = st.none() | st.sampled_from(["", " ", "a", "b\0c", "grün", "post", "reply", "nonsense"])
ROW = st.fixed_dictionaries(
    {
        "id": st.none() | st.sampled_from(["", " ", "a\0", "\u00a0"]) | st.integers(0, 99).map(str),
        "author": TEXT,
        "created_at": st.none() | st.sampled_from([0, 10**15, 1_600_000_000_000_000, 9 * 10**17]),
        "text": TEXT,
        "kind": TEXT,
        "ref_id": TEXT,
        "urls": st.none() | st.lists(st.none() | st.sampled_from(["https://a.example", "x", "", "a\0"]), max_size=2),
    }
)
COLUMNS = pa.schema(
    [
        ("id", pa.large_string()), ("author", pa.large_string()), ("created_at", pa.timestamp("us", tz="UTC")), ("text", pa.large_string()),
        ("kind", pa.string()), ("ref_id", pa.string()), ("urls", pa.large_list(pa.large_string())),
    ]
)  # fmt: skip


def read(path: Path, mapping: dict[str, str] | None = None) -> list[Any]:
    with open_files(path) as files:
        return [item for file in files if isinstance(file, SourceFile) for item in tables.read(file, mapping)]


def rows_and_broken(items: list[Any]) -> tuple[list[dict[str, Any]], list[Broken]]:
    rows: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, pa.Table):
            assert item.schema.equals(POST_SCHEMA)
            rows += item.to_pylist()
        elif isinstance(item, dict):
            rows += posts_table([item]).to_pylist()
    return rows, [item for item in items if isinstance(item, Broken)]


@given(rows=st.lists(ROW, min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_parquet_by_columns_equals_row_by_row(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    pq.write_table(table, path)
    fast = rows_and_broken(read(path))
    columns = {name: name for name in COLUMNS.names}
    slow = rows_and_broken(list(table_parquet.by_rows(table.to_batches()[0], columns, 0, range(len(rows)))))
    assert sorted(fast[0], key=str) == sorted(slow[0], key=str)
    assert fast[1] == slow[1]
    assert len(fast[0]) + len(fast[1]) == len(rows)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", [1e18, 2.0, None]), ("author", [True, False, True]), ("author", [datetime(2024, 3, 5, tzinfo=timezone.utc)] * 3),
        ("ref_id", [1.5, None, 2.0]), ("ref_id", [0, None, 7]), ("text", [1, 2, 3]), ("lang", ["", "d\0e", None]), ("lang", [1, 2, 3]),
        ("kind", pa.array(["post", "", None]).dictionary_encode()), ("text", [b"x", b"\xff", None]),
    ],
)  # fmt: skip
def test_columns_of_another_type_are_read_as_their_rows_are(tmp_path: Path, name: str, values: Any) -> None:
    columns = {"id": ["1", "2", "3"], "author": ["a"] * 3, "created_at": ["2020-01-01"] * 3, "text": ["x", "y", "z"], name: values}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    fast = rows_and_broken(read(tmp_path / "t.parquet"))
    batch = pq.read_table(tmp_path / "t.parquet").to_batches()[0]
    slow = rows_and_broken(list(table_parquet.by_rows(batch, {name: name for name in columns}, 0, range(3))))
    assert sorted(fast[0], key=str) == sorted(slow[0], key=str) and fast[1] == slow[1]


def test_one_value_that_does_not_fit_costs_only_its_row(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["1", "2", "3"],
            "author": ["a"] * 3,
            "text": ["x", "y", "z"],
            "created_at": ["2020-01-01T00:00:00Z", "never", "2020-01-02T00:00:00Z"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows, broken = rows_and_broken(read(tmp_path / "t.parquet"))
    assert [row["id"] for row in rows] == ["1", "3"]
    assert [(item.reason, item.place) for item in broken] == [("time not understood", "row 1")]


def test_numbers_as_ids_and_seconds_as_times(tmp_path: Path) -> None:
    table = pa.table({"id": [7], "user_id": [9], "text": ["x"], "timestamp": [1_600_000_000]})
    pq.write_table(table, tmp_path / "t.parquet")
    (row,), _ = rows_and_broken(read(tmp_path / "t.parquet"))
    assert (row["id"], row["author"], row["created_at"]) == ("7", "9", datetime(2020, 9, 13, 12, 26, 40, tzinfo=timezone.utc))


def test_parquet_inside_a_zip(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": ["1"], "author": ["a"], "text": ["x"], "created_at": ["2020-01-01"]}), sink)
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("in/t.parquet", sink.getvalue())
    assert len(rows_and_broken(read(tmp_path / "t.zip"))[0]) == 1


def test_truncated_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": ["1"], "author": ["a"], "text": ["x"], "created_at": ["2020-01-01"]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="not a readable Parquet file"):
        read(path)


def test_missing_column_names_what_there_is_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("number,who,words\n1,a,x\n")
    with pytest.raises(
        SourceError,
        match=r"without a column for id, author, created_at, text; it has number, who, words\. Name them on import: .* --map COLUMN=id",
    ):
        read(tmp_path / "t.csv")


def test_mapping_with_an_unknown_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("number,who,words\n1,a,x\n")
    with pytest.raises(SourceError, match="has no column 'absent'"):
        read(tmp_path / "t.csv", {"absent": "text"})
    with pytest.raises(UsageError, match="'txt' is no field of a post; did you mean 'text'"):
        tables.source_with({"words": "txt"})


def test_mapped_column_that_no_json_record_has_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": 1, "author": "a", "created_at": "2020-01-01", "text": "x"}\n')
    with caplog.at_level(logging.WARNING, "agora"):
        rows, _ = rows_and_broken(read(tmp_path / "t.jsonl", {"absent": "lang", "text": "text"}))
    assert len(rows) == 1 and "no record of t.jsonl has 'absent'" in caplog.text and "'text'" not in caplog.text


def csv_ids(tmp_path: Path, body: bytes) -> tuple[list[str], list[Broken]]:
    (tmp_path / "t.csv").write_bytes(b"id,author,created_at,text\n" + body)
    rows, broken = rows_and_broken(read(tmp_path / "t.csv"))
    return [row["id"] for row in rows], broken


def test_csv_rows_that_are_broken_are_named_by_line(tmp_path: Path) -> None:
    body = b'1,a,2020-01-01,x\n2,a,2020-01-01\n3,a,2020-01-01,"two\nlines"\n4,a,never,x\n5,a,2020-01-01,caf\xe9\n6,a,2020-01-01,z\n'
    ids, broken = csv_ids(tmp_path, body)
    assert ids == ["1", "3", "6"]
    assert [(item.reason, item.place) for item in broken] == [
        ("wrong number of columns", "line 3"), ("time not understood", "line 6"), ("not UTF-8", "line 7"),
    ]  # fmt: skip
    assert broken[2].excerpt == b"5,a,2020-01-01,caf\xe9"


def test_stray_quote_costs_one_line(tmp_path: Path) -> None:
    rows = [f"{n},a,2020-01-01,x\n".encode() for n in range(10)]
    rows[3] = b'3,a,2020-01-01,"x\n'
    rows[8] = b'8,a,2020-01-01,"quoted, fine"\n'
    ids, broken = csv_ids(tmp_path, b"".join(rows))
    assert ids == ["0", "1", "2", "4", "5", "6", "7", "8", "9"]
    assert [item.excerpt for item in broken] == [b'3,a,2020-01-01,"x']


def test_nul_bytes_in_a_cell_are_taken_out_of_text_and_refused_in_an_id(tmp_path: Path) -> None:
    ids, broken = csv_ids(tmp_path, b"1,a,2020-01-01,x\0y\n2\0,a,2020-01-01,z\n")
    assert ids == ["1"] and [item.reason for item in broken] == ["id is not text"]


def test_semicolons_and_tabs_are_delimiters_too(tmp_path: Path) -> None:
    for delimiter in ";\t|":
        path = tmp_path / "t.txt"
        path.write_text(
            delimiter.join(["id", "author", "created_at", "text"]) + "\n" + delimiter.join(["1", "a", "2020-01-01", "x, y"]) + "\n"
        )
        (row,), _ = rows_and_broken(read(path))
        assert row["text"] == "x, y"


def test_json_records_with_changing_keys(tmp_path: Path) -> None:
    records = [
        {"id": 1, "author": "a", "created_at": "2020-01-01", "text": "x"},
        {"text": "y", "post_id": 2, "user": "b", "date": "2020-01-01", "hashtags": "#one two"},
        {"id": 3, "author": "a", "text": "no time"},
        ["not", "a", "record"],
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, records)))
    rows, broken = rows_and_broken(read(tmp_path / "t.jsonl"))
    assert [(row["id"], row["hashtags"]) for row in rows] == [("1", []), ("2", ["one", "two"])]
    assert [(item.reason, item.place) for item in broken] == [("missing column", "line 3"), ("not a record", "line 4")]


def not_utf8() -> pa.Array:
    data = pa.array([b"fine", b"bad \xff\xfe", b"third"])
    return pa.StringArray.from_buffers(3, data.buffers()[1], data.buffers()[2])


@pytest.mark.parametrize("column", ["id", "author", "text", "lang", "urls"])
def test_parquet_row_that_is_not_utf8_costs_only_itself(tmp_path: Path, column: str) -> None:
    values: dict[str, Any] = {"id": ["1", "2", "3"], "author": ["a"] * 3, "created_at": ["2020-01-01"] * 3, "text": ["x", "y", "z"]}
    values[column] = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3]), not_utf8()) if column == "urls" else not_utf8()
    pq.write_table(pa.table(values), tmp_path / "t.parquet")
    rows, broken = rows_and_broken(read(tmp_path / "t.parquet"))
    assert len(rows) == 2
    assert [(item.reason, item.place) for item in broken] == [("not UTF-8", "row 1")]


def test_parquet_bytes_that_are_text_are_read_beside_bytes_that_are_not(tmp_path: Path) -> None:
    values = {"id": ["1", "2"], "author": ["a"] * 2, "created_at": ["2020-01-01"] * 2, "text": [b"fine", b"\xff"]}
    pq.write_table(pa.table(values), tmp_path / "t.parquet")
    rows, broken = rows_and_broken(read(tmp_path / "t.parquet"))
    assert [row["text"] for row in rows] == ["fine"] and [item.reason for item in broken] == ["not UTF-8"]


def test_quote_that_is_never_closed_costs_one_line(tmp_path: Path) -> None:
    ids, broken = csv_ids(tmp_path, b'0,a,2020-01-01,"open quote\n' + b"".join(b"%d,a,2020-01-01,x\n" % n for n in range(1, 49)))
    assert ids == [str(n) for n in range(1, 49)]
    assert [(item.reason, item.place) for item in broken] == [("invalid table row", "line 2")]


def test_line_over_the_limit_is_one_entry_and_forges_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (json_stream, table_csv):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 100)
    start = b"1,a,2020-01-01,"
    long = start + b"y" * (101 - len(start)) + b"evil,victim,2020-01-01,forged\n"
    ids, broken = csv_ids(tmp_path, b"0,a,2020-01-01,x\n" + long + b"2,b,2020-01-01,last\n")
    assert ids == ["0", "2"]
    assert [(item.reason, item.place, item.size_bytes) for item in broken] == [("record too large", "line 3", len(long))]
    ids, broken = csv_ids(tmp_path, b'0,a,2020-01-01,"open\n' + long + b"2,b,2020-01-01,last\n")
    assert ids == ["2"]
    assert [(item.reason, item.place) for item in broken] == [("record too large", "line 2"), ("record too large", "line 3")]


@pytest.mark.parametrize("first", ['{"id": "x", "auth', "\0\0\0", "damaged line"])
def test_broken_first_record_does_not_hide_the_table(tmp_path: Path, first: str) -> None:
    row = '{"id": "%d", "author": "a", "created_at": "2020-01-01", "text": "x"}\n'
    (tmp_path / "t.jsonl").write_text(first + "\n" + row % 1 + row % 2)
    with open_files(tmp_path / "t.jsonl") as files:
        file = next(files)
        assert isinstance(file, SourceFile) and recognise(file.head()) is tables.SOURCE
    rows, broken = rows_and_broken(read(tmp_path / "t.jsonl"))
    assert [row["id"] for row in rows] == ["1", "2"] and len(broken) == 1


def test_lines_that_end_in_a_bare_carriage_return(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,author,created_at,text\r1,a,2020-01-01,x\r2,a,2020-01-01,y\r")
    with open_files(path) as files:
        file = next(files)
        assert isinstance(file, SourceFile) and recognise(file.head()) is tables.SOURCE
    rows, broken = rows_and_broken(read(path))
    assert [row["id"] for row in rows] == ["1", "2"] and not broken


def test_repeated_column_that_is_needed_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,author,created_at,text,text\n1,a,2020-01-01,one,two\n")
    columns = [["1"], ["a"], ["2020-01-01"], ["one"], ["two"]]
    pq.write_table(pa.table(columns, names=["id", "author", "created_at", "text", "text"]), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(SourceError, match="2 columns called 'text'"):
            read(tmp_path / name)


LISTED = {
    "urls": [None, "https://a.example", ""],
    "hashtags": ["#one", None, "two"],
    "mentions": ["@me", None],
    "media": [None, {"kind": "image", "url": None, "alt": None}],
}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_nulls_and_marks_inside_lists_are_left_out(tmp_path: Path, form: str) -> None:
    rows = [{"id": str(number), "author": "a", "created_at": "2024-01-01T00:00:00+00:00", "text": "t", **LISTED} for number in range(2)]
    path = tmp_path / f"posts.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    posts, rejected = rows_and_broken(read(path))
    assert not rejected and len(posts) == 2
    assert posts[0]["urls"] == ["https://a.example"] and posts[0]["hashtags"] == ["one", "two"] and posts[0]["mentions"] == ["me"]
    assert posts[0]["media"] == [{"kind": "image", "url": None, "alt": None}]


def test_list_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    row = {"id": "1", "author": "a", "created_at": "2024-01-01", "text": "t", "urls": [{"url": "https://a.example"}]}
    (tmp_path / "posts.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "urls": [True]}) + "\n")
    assert [item.detail for item in rows_and_broken(read(tmp_path / "posts.jsonl"))[1]] == ["urls holds dict", "urls holds bool"]
