"""What is printed reads as the same tree, for any tree and any text."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import QuerySyntaxError
from agora.search.query import syntax
from agora.search.query.dates import DateError, parse_date, parse_length, show_date, show_length
from agora.search.query.parse import MAX_CHARACTERS, parse
from agora.search.query.printing import to_text
from agora.text.words import words

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
NASTY = st.sampled_from(
    [
        "OR",
        "AND",
        "NOT",
        "-",
        "#",
        "@",
        "$",
        ":",
        '"',
        "“",
        "(",
        ")",
        "\\",
        " ",
        "\n",
        "from:",
        "http://",
        "www.",
        "x:",
        "京",
        "é",
        "a",
        "🔥",
        "＃",
        ".",
    ]
)
texts = st.one_of(
    st.lists(NASTY, min_size=1, max_size=6).map("".join), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
)
spoken = texts.filter(lambda text: bool(words(text)))
values = texts.map(str.strip).filter(syntax.is_value)
times = st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1), timezones=st.just(timezone.utc))


def built(kind: type, inner: st.SearchStrategy[object]) -> st.SearchStrategy[syntax.Node]:
    """Nodes of a kind, of those values that it accepts."""

    def build(value: object) -> object:
        try:
            return kind(value)
        except ValueError:
            return None

    return inner.map(build).filter(lambda node: node is not None)  # type: ignore[return-value]


def written(pattern: re.Pattern[str]) -> st.SearchStrategy[str]:
    """All that a pattern accepts."""
    return st.from_regex(pattern, fullmatch=True)


leaves = st.one_of(
    spoken.map(syntax.Word), spoken.map(syntax.Phrase),
    built(syntax.From, values), built(syntax.To, values), built(syntax.Conversation, values), built(syntax.Url, values),
    built(syntax.Hashtag, written(syntax.TAG)), built(syntax.Mention, written(syntax.MENTIONED)),
    built(syntax.Cashtag, written(syntax.CASHTAG)), built(syntax.Lang, written(syntax.LANGUAGE)),
    times.map(syntax.Since), times.map(syntax.Until), st.integers(1, syntax.MAX_SECONDS).map(syntax.WithinTime),
    st.sampled_from(syntax.FILTERS).map(syntax.Has),
    st.builds(syntax.AtLeast, st.sampled_from(syntax.COUNTED), st.integers(0, syntax.MAX_COUNT)),
    st.just(syntax.Labelled()),
)  # fmt: skip
trees: st.SearchStrategy[syntax.Node] = st.recursive(
    leaves,
    lambda below: st.one_of(
        below.map(syntax.Not),
        st.lists(below, min_size=2, max_size=4).map(lambda nodes: syntax.And(tuple(nodes))),
        st.lists(below, min_size=2, max_size=4).map(lambda nodes: syntax.Or(tuple(nodes))),
    ),
    max_leaves=12,
)


@given(trees)
def test_a_printed_tree_reads_as_itself(tree: syntax.Node) -> None:
    query = parse(to_text(tree), now=NOW)
    assert query.root == tree
    assert query.warnings == ()


@given(st.one_of(st.text(max_size=60), st.lists(st.one_of(NASTY, texts), max_size=20).map("".join)))
def test_any_text_is_read_or_refused_at_a_place_inside_it_and_prints_again(text: str) -> None:
    try:
        query = parse(text, now=NOW)
    except QuerySyntaxError as error:
        assert 0 <= error.position <= len(text)
        message, shown, caret = str(error).split("\n")
        assert f"character {error.position + 1}:" in message
        assert shown.isprintable() and caret.strip() == "^"
        return
    assert all(0 <= warning.position < len(text) for warning in query.warnings)
    if query.root is not None:
        assert parse(to_text(query.root), now=NOW).root == query.root


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    for coding, errors in (("utf-8", "surrogateescape"), ("latin-1", "strict"), ("utf-16", "replace")):
        with suppress(QuerySyntaxError):
            parse(data.decode(coding, errors))


@given(times)
def test_a_shown_date_reads_as_itself(at: datetime) -> None:
    assert parse_date(show_date(at), NOW) == at


@given(st.integers(1, syntax.MAX_SECONDS))
def test_a_shown_length_reads_as_itself(seconds: int) -> None:
    assert parse_length(show_length(seconds)) == seconds


@given(st.text(max_size=30), times)
def test_any_text_is_a_date_or_an_error(text: str, now: datetime) -> None:
    try:
        assert parse_date(text, now).tzinfo is timezone.utc
    except DateError as error:
        assert str(error)


def test_the_longest_query_is_read_and_one_more_character_is_refused() -> None:
    assert parse("a" * MAX_CHARACTERS).root == syntax.Word("a" * MAX_CHARACTERS)
    with pytest.raises(QuerySyntaxError, match="at most 4,096"):
        parse("a" * (MAX_CHARACTERS + 1))
