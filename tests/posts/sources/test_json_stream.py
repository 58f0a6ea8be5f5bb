"""The streaming splitter against `json.loads` of the whole, and under damage of every kind."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.posts.sources import json_stream
from agora.posts.sources.json_stream import JsonArrays, JsonLines, layout, open_values
from agora.posts.sources.record import Broken

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
RECORDS = st.lists(st.fixed_dictionaries({"id": st.integers(0, 10**9), "x": VALUES}), max_size=12)


def is_record(value: Any) -> bool:
    return isinstance(value, dict) and "id" in value


def arrays(data: bytes) -> list[Any]:
    return list(JsonArrays(io.BytesIO(data), is_record=is_record))


class Trickle(io.RawIOBase):
    """Gives at most `size` bytes per read, so that every boundary falls everywhere."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size

    def read(self, size: int = -1) -> bytes:
        piece, self.data = self.data[: self.size], self.data[self.size :]
        return piece


@given(records=RECORDS, indent=st.sampled_from([None, 1, 4]), ascii_only=st.booleans(), size=st.integers(1, 50))
@settings(max_examples=120, deadline=None)
def test_array_equals_json_loads_wherever_the_chunks_end(records: list[Any], indent: int | None, ascii_only: bool, size: int) -> None:
    text = "window.YTD.tweets.part0 = " + json.dumps(records, indent=indent, ensure_ascii=ascii_only)
    stream: BinaryIO = Trickle(text.encode("utf-8", "surrogatepass"), size)  # type: ignore[assignment]
    assert list(JsonArrays(stream, is_record=is_record)) == records


@given(records=RECORDS.filter(lambda found: len(found) > 2), data=st.data())
@settings(max_examples=120, deadline=None)
def test_damage_in_one_element_loses_no_element_before_it_and_none_two_after(records: list[Any], data: Any) -> None:
    parts = [json.dumps({"id": n, "x": record["x"]}) for n, record in enumerate(records)]
    index = data.draw(st.integers(0, len(parts) - 1))
    at = data.draw(st.integers(0, len(parts[index]) - 1))
    parts[index] = parts[index][:at] + parts[index][at + 1 :]
    found = arrays(("[" + ",\n".join(parts) + "]").encode())
    ids = [value["id"] for value in found if isinstance(value, dict) and isinstance(value.get("id"), int)]
    missing = set(range(len(parts))) - set(ids)
    assert ids[:index] == list(range(index))
    assert missing <= {index, index + 1}
    still_parses = any("id" not in value for value in found if isinstance(value, dict)) or len(ids) == len(parts)  # its key, or its number
    assert not missing or still_parses or any(isinstance(value, Broken) for value in found)


@given(data=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_without_an_exception(data: bytes) -> None:
    for start in (b"", b"[", b'[{"id":1},'):
        assert isinstance(arrays(start + data), list)
        assert isinstance(list(JsonLines(io.BytesIO(start + data))), list)


def test_place_and_excerpt_name_the_broken_element() -> None:
    data = '[{"id": 1, "x": "äöü"},\n {"id": 2, "x": nul},\n {"id": 3}]'.encode()
    first, broken, third = arrays(data)
    assert (first["id"], third["id"]) == (1, 3)
    assert broken.place == f"byte {data.index(b'{' + bytes([34]) + b'id' + bytes([34]) + b': 2')}"
    assert broken.excerpt == b'{"id": 2, "x": nul}' and broken.sha256 == hashlib.sha256(broken.excerpt).hexdigest()


def test_missing_closing_brace_costs_only_that_element() -> None:
    found = arrays(b'[{"id": 1}, {"id": 2, "in": {"a": 1}, {"id": 3}, {"id": 4}]')
    assert [value["id"] for value in found if isinstance(value, dict)] == [1, 3, 4]


def test_a_bracket_that_damage_sets_free_does_not_end_the_list() -> None:
    found = arrays(b'[{id": 0, "x": [["\\""]]},\n{"id": 1},\n{"id": 2}]')
    assert [value["id"] for value in found if isinstance(value, dict)] == [1, 2]


def test_missing_quote_costs_only_that_element() -> None:
    found = arrays(b'[{"id": 1}, {"id": 2, "x: "b"}, {"id": 3, "x": "c"}, {"id": 4}]')
    assert [value["id"] for value in found if isinstance(value, dict)] == [1, 3, 4]


def test_nested_objects_are_not_taken_for_records_after_damage() -> None:
    found = arrays(b'[{"id": 2, "list": [{"a": 1}, {"b": 2}], "x": oops}, {"id": 3}]')
    assert [value for value in found if isinstance(value, dict)] == [{"id": 3}]


def test_truncated_array_keeps_what_was_whole() -> None:
    first, broken = arrays(b'[{"id": 1}, {"id": 2, "te')
    assert first == {"id": 1} and broken.reason == "truncated file"
    only, ended = arrays(b'[{"id": 1}')
    assert only == {"id": 1} and ended.reason == "truncated file"


def test_bytes_that_are_not_utf8_break_only_their_record() -> None:
    found = arrays('[{"id": 1, "x": "é"}, '.encode() + '{"id": 2, "x": "é"}'.encode("latin-1") + b', {"id": 3}]')
    assert [value if isinstance(value, dict) else value.reason for value in found] == [{"id": 1, "x": "é"}, "not UTF-8", {"id": 3}]
    lines = list(JsonLines(io.BytesIO('{"id": "é"}\n'.encode("latin-1") + b'{"id": 2}\n')))
    assert lines[0].reason == "not UTF-8" and lines[1] == {"id": 2}


def test_deep_nesting_is_refused_and_passed_over() -> None:
    deep = b'{"id": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    broken, good = arrays(b"[" + deep + b', {"id": 2}]')
    assert broken.reason == "nested too deeply" and good == {"id": 2}
    broken, good = JsonLines(io.BytesIO(deep + b'\n{"id": 2}\n'))
    assert broken.reason == "nested too deeply" and good == {"id": 2}


def test_numbers_of_thousands_of_digits_are_refused() -> None:
    broken, good = JsonLines(io.BytesIO(b'{"id": ' + b"9" * 10_000 + b'}\n{"id": 2}\n'))
    assert broken.reason == "invalid JSON" and good == {"id": 2}


def test_line_of_nul_bytes_is_named() -> None:
    broken, good = JsonLines(io.BytesIO(b"\0" * 512 + b'\n{"id": 2}\n'))
    assert broken.reason == "NUL bytes" and good == {"id": 2}


class LongLine(io.RawIOBase):
    """A 50 MB line and a good one, made on the fly."""

    def __init__(self) -> None:
        self.left, self.tail = 50 * 2**20, b'"}\n{"id": 2}\n'

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.left) or min(len(buffer), len(self.tail))
        if self.left:
            buffer[:size] = b"a" * size
            self.left -= size
        else:
            buffer[:size], self.tail = self.tail[:size], self.tail[size:]
        return size


def test_line_of_50_megabytes_is_passed_over_in_bounded_memory() -> None:
    tracemalloc.start()
    broken, good = JsonLines(io.BufferedReader(LongLine(), 2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert good == {"id": 2}
    assert (broken.reason, broken.size_bytes, broken.place) == ("record too large", 50 * 2**20 + 3, "line 1")
    assert broken.sha256 == hashlib.sha256(b"a" * 50 * 2**20 + b'"}\n').hexdigest()
    assert peak < 3 * json_stream.MAX_RECORD_BYTES


class Endless(io.RawIOBase):
    """`count` records of an array, made on the fly."""

    def __init__(self, count: int) -> None:
        self.number, self.count = 0, count

    def read(self, size: int = -1) -> bytes:
        if self.number > self.count:
            return b""
        rows = range(self.number, min(self.number + size // 200 + 1, self.count))
        self.number = rows.stop if rows.stop < self.count else self.count + 1
        text = "".join(f'{{"id": {n}, "text": "{"words " * 30}"}},\n' for n in rows)
        return (("[" if rows.start == 0 else "") + text + ("]" if self.number > self.count else "")).encode()


def peak_of_reading(count: int) -> int:
    stream: BinaryIO = Endless(count)  # type: ignore[assignment]
    tracemalloc.start()
    assert sum(1 for _ in JsonArrays(stream, is_record=is_record)) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_file() -> None:
    small, large = peak_of_reading(20_000), peak_of_reading(120_000)
    assert large < 1.2 * small, "24 MB against 4 MB of JSON"


def test_lists_that_are_members_of_an_object() -> None:
    data = b'{"@context": ["x"], "items": [], "n": {"items": [9]}, "items": [{"id": 1}, {"id": 2}], "z": 1}'
    stream = JsonArrays(io.BytesIO(data), members=frozenset(["items"]), is_record=is_record)
    assert list(stream) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ('[{"a": 1}]', "array"), ("Grailbird.data.tweets_2013_05 = \n [ {", "array"), ("var x = {", "array"),
        ('{"a": 1}\n{"a": 2}', "lines"),
        ('{"a": 1}', "lines"), ('{\n  "a": 1\n}', "document"), ('{"a": \n{"a": 1}\n', "lines"), ('{"a": tru}\n{"a": 1}\n', "lines"),
    ],
)  # fmt: skip
def test_layout(head: str, kind: str) -> None:
    assert layout(head) == kind


def test_document_that_is_not_json_is_one_broken_record() -> None:
    text = '{\n "a": \n'
    (broken,) = open_values(io.BytesIO(text.encode()), text, is_record=is_record)
    assert broken.reason == "invalid JSON"
