"""Calls in a model's text: what the grammar lets through, and how it is read back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.engine.constraint import Constraint, schema_problem
from agora.engine.tools import CallPiece, CallReader, Tool, ToolUse, call_text, grammar, guided, read_calls, with_tools
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer

pytest.importorskip("llguidance", reason="needs the extra 'structured'")
Parts = tuple[Transformer, Tokenizer]
POINT = json.dumps({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False})
MOVE, STOP = Tool(name="move", parameters=POINT), Tool(name="stop")
CALL, OTHER = call_text([("move", '{"x":3}')]), call_text([("stop", "{}")])


def passes(tokenizer: Tokenizer, rules: str, text: str) -> bool:
    """Whether an answer may be `text`, and end there."""
    constraint = Constraint(tokenizer, grammar=rules)
    for token in tokenizer.encode(text):
        if not constraint.allowed(tokenizer.vocab_size)[token]:
            return False
        constraint.advance(token)
    return bool(constraint.allowed(tokenizer.vocab_size)[tokenizer.special["<|im_end|>"]])


@pytest.mark.parametrize(
    ("settings", "allowed", "refused"),
    [
        ({}, ["", "words", "a < b", f"words {CALL}", CALL, f"{CALL}\n{OTHER}"], [f"{CALL} more", CALL.replace("move", "jump"), CALL[:-3]]),
        ({"choice": "required"}, [CALL, OTHER, f"{CALL}\n{CALL}"], ["", "words", f"words {CALL}", CALL.replace("3", '"3"')]),
        ({"choice": "stop"}, [OTHER], [CALL, "", "words"]),
        ({"choice": "required", "is_parallel": False}, [CALL], [f"{CALL}\n{OTHER}"]),
    ],
)
def test_grammar_lets_through_what_the_choice_allows(
    tiny_parts: Parts, settings: dict[str, Any], allowed: list[str], refused: list[str]
) -> None:
    rules = grammar(ToolUse(tools=(MOVE, STOP), **settings))
    assert [text for text in allowed if not passes(tiny_parts[1], rules, text)] == []
    assert [text for text in refused if passes(tiny_parts[1], rules, text)] == []


def test_words_beside_calls_can_be_held_to_a_schema(tiny_parts: Parts) -> None:
    rules = grammar(ToolUse(tools=(MOVE,)), json_schema='{"type": "object"}')
    assert [passes(tiny_parts[1], rules, text) for text in ("{}", CALL, "words", "")] == [True, True, False, False]


names = st.text("abc_-9", min_size=1, max_size=8)
values = st.recursive(st.none() | st.integers() | st.text(max_size=6), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
calls = st.lists(st.tuples(names, st.dictionaries(st.text(max_size=4), values, max_size=3).map(json.dumps)), max_size=3)
words = st.text("<tool_cal> \n{}x", max_size=20).filter(lambda text: "<tool_call>" not in text)


@given(words, calls, st.lists(st.integers(1, 9), max_size=30))
def test_what_was_written_is_read_back_however_it_is_cut(said: str, made: list[tuple[str, str]], cuts: list[int]) -> None:
    text = said + call_text(made)
    reader, read_words, read_names, arguments = CallReader(), "", list[str](), dict[int, str]()
    start = 0
    pieces: list[str | CallPiece] = []
    for length in [*cuts, len(text)]:
        pieces += reader.push(text[start : start + length])
        start += length
    for piece in [*pieces, reader.finish()]:
        if isinstance(piece, str):
            read_words += piece
        elif piece.name is not None:
            assert piece.id and piece.index == len(read_names)
            read_names.append(piece.name)
        else:
            arguments[piece.index] = arguments.get(piece.index, "") + piece.arguments
    assert (read_words, list(zip(read_names, arguments.values(), strict=True))) == (said, made)
    whole = read_calls(text)
    assert (whole[0], [(one.name, one.arguments) for one in whole[1]]) == (said, made)


def test_a_call_that_is_cut_off_keeps_what_was_said_of_it() -> None:
    assert read_calls(CALL[:12]) == ("", [])
    _, (one,) = read_calls(f"hm {CALL}"[:-15])
    assert (one.name, one.arguments) == ("move", '{"x":3')


def test_functions_are_told_within_the_first_instructions() -> None:
    use = ToolUse(tools=(MOVE, STOP))
    told = with_tools([{"role": "system", "content": "Be short."}, {"role": "user", "content": "go"}], use)
    assert [one["role"] for one in told] == ["system", "user"] and told[0]["content"].startswith("Be short.\n\n")
    assert [one["role"] for one in with_tools([{"role": "user", "content": "go"}], use)] == ["system", "user"]
    listed = told[0]["content"].split("<tools>\n")[1].split("\n</tools>")[0].splitlines()
    assert [json.loads(line)["name"] for line in listed] == ["move", "stop"]


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}, "properties.tags"),
        ({"anyOf": [{"type": "null"}, {"type": "string", "pattern": "(?=a)b"}]}, "anyOf.1"),
        ({"$defs": {"T": {"not": {}}}, "items": {"$ref": "#/$defs/T"}}, "$defs.T"),
        ({"properties": {"n": {"oneOf": [{"type": "number"}, {"type": "integer"}]}}}, "properties.n"),
        ({"type": "nonsense"}, ""),
        ({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}}, "properties.a"),
        ({"type": "object", "properties": {"a": {"$ref": "file:///etc/hostname"}}}, "properties.a"),
    ],
)
def test_the_place_in_a_schema_that_cannot_be_followed_is_named(schema: dict[str, Any], place: str) -> None:
    problem = schema_problem(schema)
    assert problem is not None and problem[0] == place and problem[1]


def test_choices_that_exclude_each_other_may_stand_in_one_of() -> None:
    kinds = [{"type": "object", "properties": {"kind": {"const": name}}, "required": ["kind"]} for name in ("cat", "dog")]
    named = {"oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], "discriminator": {"propertyName": "kind"}}
    assert schema_problem({"oneOf": kinds}) is None
    assert schema_problem({"$defs": {"Cat": kinds[0], "Dog": kinds[1]}, "properties": {"pet": named}}) is None


def test_only_strict_functions_are_held_to_what_a_grammar_cannot_express() -> None:
    schema = json.dumps({"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}}})
    assert schema_problem(guided(Tool(name="f", parameters=schema))) is None
    assert schema_problem(guided(Tool(name="f", parameters=schema, is_strict=True))) is not None
