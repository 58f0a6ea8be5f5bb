"""The vectorised cutting agrees with the regular expression it stands for."""

from __future__ import annotations

import itertools

import pyarrow as pa
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from agora.tokenizer.pretokens import PATTERN, find_pretokens

TWIN = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
TRICKY = st.text(alphabet="ab éßж今नि \t\n\r\u00a0\u200b\u200d\u3000.,!?#@'\"-_()$€👍🏽🇺🇸09\x00\x7f٣½", max_size=30)


def cut(texts: list[str]) -> list[list[str]]:
    pretokens, rows = find_pretokens(pa.array(texts, type=pa.large_string()))
    flat = pretokens.to_pylist()
    return [flat[a:b] for a, b in itertools.pairwise(rows)]


def test_examples_read_as_documented() -> None:
    assert cut(["don't #tag (a) 2026!!  x"]) == [["don", "'t", " #", "tag", " (", "a", ")", " 20", "26", "!!", "  ", "x"]]


@given(st.lists(TRICKY | st.text(max_size=20), max_size=6))
def test_cuts_like_the_regular_expression_row_by_row(texts: list[str]) -> None:
    assert cut(texts) == [[piece for piece, _ in TWIN.pre_tokenize_str(text)] for text in texts]


def test_a_sliced_column_cuts_like_a_fresh_one() -> None:
    column = pa.array(["zero 0", "one 1é", "", "three 333"], type=pa.large_string())
    pretokens, rows = find_pretokens(column.slice(1, 3))
    assert pretokens.to_pylist() == [" ".join(["one"]), " 1", "é", "three", " 33", "3"]
    assert rows.tolist() == [0, 3, 3, 6]
