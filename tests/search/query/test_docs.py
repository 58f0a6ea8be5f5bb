"""The page of the query language says what the code does."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from agora.errors import QuerySyntaxError
from agora.search.query.dates import parse_date, parse_length
from agora.search.query.parse import MAX_CHARACTERS, MAX_DEPTH, parse
from agora.search.query.syntax import OPERATORS, Operator

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "search_query.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
def test_each_operator_has_its_row_and_an_example_that_is_read_as_it(operator: Operator) -> None:
    assert f"| `{operator.form}` | `{operator.example}` | {operator.meaning} |\n" in PAGE
    query = parse(operator.example)
    assert query.root is not None and not query.warnings


def test_the_page_has_no_other_operators() -> None:
    rows = PAGE.split("| operator | example | finds posts |\n|---|---|---|\n")[1].split("\n\n")[0]
    assert [row.split(":")[0].strip("| `") for row in rows.split("\n")] == [operator.name for operator in OPERATORS]


def test_queries_of_the_page_are_read_without_a_warning() -> None:
    rows = PAGE.split("| written | finds posts |\n|---|---|\n")[1].split("\n\n")[0]
    for query in [row.split("`")[1] for row in rows.split("\n")] + [PAGE.split("```\n")[1]]:
        assert parse(query).warnings == (), query


def test_times_of_the_page_are_read() -> None:
    times, lengths = PAGE.split("## Times")[1].split("## What goes wrong")[0].split("Lengths of")
    rows = times.split("|---|---|\n")[1].strip().split("\n")
    written = [text for row in rows for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(written) > 15
    for text in written:
        parse_date(text, NOW)
    for text in re.findall(r"`([^`]+)`", lengths.split(" are ")[1]):
        parse_length(text.strip('"'))


def test_the_error_of_the_page_is_the_error_of_the_code() -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse("flood since:yesteday")
    assert f"```\nerror: {caught.value}\n```" in PAGE


def test_limits_of_the_page_are_those_of_the_code() -> None:
    assert f"at most {MAX_CHARACTERS:,} characters and {MAX_DEPTH} parentheses" in PAGE


@pytest.mark.parametrize("name", ["search_query.md", "search_trends.md"])
def test_links_and_files_of_the_pages_are_there(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (DOCS / target).exists(), target
    for target in re.findall(r"`(agora/[\w/]+\.py)`", text):
        assert (DOCS.parent / target).exists(), target
