"""The cassette reader against PyYAML, where that is installed, and on styles it must refuse."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.posts.sources.cassette import Answer, read_answers, vcr_answers
from agora.posts.sources.record import Broken, Item, Skipped, attempt_each


def cassette(scalar: str) -> bytes:
    return (
        "interactions:\n- request:\n    body: null\n    method: GET\n    uri: http://x/api\n"
        f"  response:\n    body:\n      string: {scalar}\n"
        "    headers: {}\n    status:\n      code: 200\nversion: 1\n"
    ).encode()


@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=300), width=st.sampled_from([20, 80])
)
def test_reads_what_yaml_writes(text: str, width: int) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is the reference; the reader itself does not need it")
    document: Any = {"interactions": [{"request": {"body": "x: y", "method": "GET", "uri": "u"}, "response": {"body": {"string": text}}}]}
    (answer,) = vcr_answers(io.BytesIO(yaml.safe_dump(document, width=width).encode()))
    assert isinstance(answer, Answer) and answer.body == text


def test_method_address_and_place_are_kept() -> None:
    (answer,) = vcr_answers(io.BytesIO(cassette("'it''s'")))
    assert answer == Answer("GET", "http://x/api", "it's", "line 6")


@pytest.mark.parametrize("scalar", ["*alias", "&anchor x", "[1, 2]", "{a: 1}", "!!python/object x", "'never closed", '"never closed'])
def test_other_styles_are_refused_and_not_misread(scalar: str) -> None:
    (answer,) = vcr_answers(io.BytesIO(cassette(scalar)))
    assert isinstance(answer, Broken) and answer.reason in ("recorded answer not understood", "truncated file")


@pytest.mark.shared
def test_real_cassettes_read_as_pyyaml_reads_them(shared_data: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is the reference; the reader itself does not need it")
    for path in sorted((shared_data / "raw" / "mastodon_api").glob("*.yaml")):
        expected = [
            (entry["request"]["method"], entry["request"]["uri"], entry["response"]["body"]["string"])
            for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
        ]
        with path.open("rb") as stream:
            found = [(answer.method, answer.uri, answer.body) for answer in vcr_answers(stream) if isinstance(answer, Answer)]
        assert found == expected, path.name


def test_escape_that_is_no_character_is_refused() -> None:
    (answer,) = vcr_answers(io.BytesIO(cassette('"a\\UFFFFFFFFb"')))
    assert isinstance(answer, Broken) and answer.reason == "recorded answer not understood"


def test_answers_that_are_not_json_or_of_another_shape_are_broken_with_their_place() -> None:
    def expand(value: Any, answer: Answer) -> Iterator[Item]:
        yield from attempt_each(lambda item: Skipped(item["reason"]), value["items"])

    answers = [
        Answer("GET", "u", body, f"line {n}") for n, body in enumerate(['{"items": [{"reason": "r"}, 1]}', "{", '{"items": 1}', "\ud800"])
    ]
    found = list(read_answers(answers, expand))
    assert found[0] == Skipped("r")
    rejected = [(item.place, item.reason) for item in found if isinstance(item, Broken)]
    assert rejected == [
        ("line 0, item 1", "unexpected shape"), ("line 1", "invalid JSON"), ("line 2", "unexpected shape"), ("line 3", "invalid JSON"),
    ]  # fmt: skip
