"""Answers under a JSON schema are JSON of that schema, whatever the network would rather say."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from agora.engine import BatchEngine, Generator, SamplingConfig
from agora.engine.constraint import MAX_KEPT, Constraint, _matchers
from agora.engine.plain import PlainNetwork
from agora.errors import GenerationError, UsageError
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer

pytest.importorskip("llguidance", reason="needs the extra 'structured'")
Parts = tuple[Transformer, Tokenizer]
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["question", "answer"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
    },
    "required": ["kind", "score", "tags"],
    "additionalProperties": False,
}


def text_of(generator: Generator | BatchEngine, sampling: SamplingConfig) -> str:
    return "".join(delta.text for delta in generator.stream([5, 6], sampling))


def settings(schema: Any, **more: Any) -> SamplingConfig:
    return SamplingConfig(json_schema=json.dumps(schema), **more)


@pytest.fixture(scope="module")
def engine(tiny_parts: Parts) -> BatchEngine:
    return BatchEngine(PlainNetwork(tiny_parts[0], num_pages=64, max_rows=48), tiny_parts[1])


@pytest.mark.parametrize("more", [{"temperature": 0}, {"seed": 1}, {"seed": 2, "top_p": 0.9, "frequency_penalty": 0.5}])
def test_answer_is_json_of_the_schema_and_the_references(tiny_parts: Parts, engine: BatchEngine, more: dict[str, Any]) -> None:
    text = text_of(engine, settings(SCHEMA, **more))
    jsonschema.validate(json.loads(text), SCHEMA)
    assert text == text_of(Generator(*tiny_parts), settings(SCHEMA, **more))


def test_answers_with_and_without_schema_go_together(engine: BatchEngine) -> None:
    alone = [text_of(engine, SamplingConfig(seed=3, max_tokens=30)), text_of(engine, settings(SCHEMA, seed=4))]
    streams = [engine.stream([5, 6], SamplingConfig(seed=3, max_tokens=30)), engine.stream([5, 6], settings(SCHEMA, seed=4))]
    assert ["".join(delta.text for delta in stream) for stream in streams] == alone


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"type": "object", "minProperties": "two"}])
def test_schema_that_cannot_be_followed_is_refused_before_the_first_delta(engine: BatchEngine, schema: Any) -> None:
    with pytest.raises(GenerationError, match="JSON schema"):
        engine.stream([5], settings(schema))


@pytest.mark.parametrize("text", ["", "[1]", "{", "3"])
def test_what_is_no_schema_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="json_schema="):
        SamplingConfig(json_schema=text)


def test_answers_under_one_schema_do_not_touch_each_other(tiny_parts: Parts) -> None:
    tokenizer, schema = tiny_parts[1], '{"enum": ["ab", "cd"]}'
    one, other = Constraint(tokenizer, schema), Constraint(tokenizer, schema)
    for left, right in zip(tokenizer.encode('"ab"'), tokenizer.encode('"cd"'), strict=True):
        assert one.allowed(tokenizer.vocab_size)[left] and other.allowed(tokenizer.vocab_size)[right]
        one.advance(left)
        other.advance(right)
    fresh = Constraint(tokenizer, schema).allowed(tokenizer.vocab_size)
    assert fresh[tokenizer.encode('"')[0]] and not fresh[tokenizer.special["<|im_end|>"]]


def test_schemas_used_long_ago_are_forgotten(tiny_parts: Parts) -> None:
    for number in range(MAX_KEPT + 5):
        Constraint(tiny_parts[1], json.dumps({"const": number}))
    assert len(_matchers[tiny_parts[1]]) == MAX_KEPT


def test_a_schema_that_holds_itself_without_an_end_is_refused_in_words(tiny_parts: Parts) -> None:
    with pytest.raises(GenerationError, match="no JSON has its form"):
        text_of(Generator(*tiny_parts), settings({"$ref": "#"}, max_tokens=4))
