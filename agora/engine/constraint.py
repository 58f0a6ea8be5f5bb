"""Answers that follow a JSON schema or a grammar. Goes in: either, and the tokens drawn so far. Comes out: which tokens may come next.

The grammar is llguidance's (MIT; no dependencies), chosen because it takes the tokenizer as a plain list of bytes. Keywords of JSON Schema
that it does not know are refused with its message and their place (`schema_problem`), never ignored. Nothing is fetched for a `$ref`.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Final

import torch
from jaxtyping import Bool
from torch import Tensor

from agora.errors import GenerationError, MissingExtraError
from agora.tokenizer import Tokenizer

# No white space between the parts: a model that likes blanks could otherwise go on with them for ever.
_FORM: Final = {"whitespace_flexible": False}
_MOST_LOOKS: Final = 400
"""Parts of a wrong schema that are tried to find the place at fault; after that its outer place is named."""
MAX_KEPT: Final = 32
_mutex = threading.Lock()
_matchers: weakref.WeakKeyDictionary[Tokenizer, OrderedDict[tuple[str | None, str | None], Any]] = weakref.WeakKeyDictionary()
_vocabularies: weakref.WeakKeyDictionary[Tokenizer, Any] = weakref.WeakKeyDictionary()


class Constraint:
    """The grammar of one answer."""

    def __init__(self, tokenizer: Tokenizer, schema: str | None = None, *, grammar: str | None = None) -> None:
        """`schema` is JSON, `grammar` Lark in llguidance's dialect; give one of them.

        Raises GenerationError for one that cannot be followed, MissingExtraError without llguidance.
        """
        assert (schema is None) != (grammar is None)
        vocabulary = _vocabulary(tokenizer)
        self._matcher = _compiled(tokenizer, vocabulary, schema, grammar).deep_copy()
        self._words = torch.zeros((vocabulary.vocab_size + 31) // 32, dtype=torch.int32)

    def allowed(self, vocab_size: int) -> Bool[Tensor, " V"]:
        """True where a token may come next; the end of the answer is one of them once it is whole."""
        self._matcher.unsafe_compute_mask_ptr(self._words.data_ptr(), self._words.numel() * 4)
        self._raise_if_broken()
        bits = (self._words[:, None] >> torch.arange(32, dtype=torch.int32)) & 1
        allowed_V = torch.zeros(vocab_size, dtype=torch.bool)
        known = min(vocab_size, bits.numel())
        allowed_V[:known] = bits.flatten()[:known].bool()
        return allowed_V

    def advance(self, token: int) -> None:
        """That token was drawn."""
        self._matcher.consume_token(token)
        self._raise_if_broken()

    def _raise_if_broken(self) -> None:
        _raise_if_broken(self._matcher)


def _compiled(tokenizer: Tokenizer, vocabulary: Any, schema: str | None, grammar: str | None) -> Any:
    """The matcher at its beginning. Those used last are kept: answers of one request, and most requests of a client, share theirs."""
    key = (schema, grammar)
    with _mutex:
        kept = _matchers.setdefault(tokenizer, OrderedDict())
        if key in kept:
            kept.move_to_end(key)
            return kept[key]
    library = _library().LLMatcher
    try:
        rules = library.grammar_from_lark(grammar) if schema is None else library.grammar_from_json_schema(schema, overrides=_FORM)
    except ValueError as error:
        raise GenerationError(f"the JSON schema cannot be read: {error}", param="response_format") from error
    matcher = library(vocabulary, rules, log_level=0)
    _raise_if_broken(matcher)
    if schema is not None and (warnings := matcher.get_grammar_warnings()):
        raise GenerationError(f"the JSON schema cannot be followed wholly: {warnings[0]}", param="response_format")
    with _mutex:
        kept[key] = matcher
        if len(kept) > MAX_KEPT:
            kept.popitem(last=False)
    return matcher


def _raise_if_broken(matcher: Any) -> None:
    if matcher.is_error():
        reason = _in_our_words(matcher.get_error().splitlines()[0])
        if reason == "NoExtensionBias":  # the library's word for no token that leads on
            reason = "no JSON has its form, as where it holds itself without an end"
        raise GenerationError(f"the JSON schema cannot be followed: {reason}", param="response_format")


def schema_problem(schema: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why no answer can be held to `schema`: the place in it (`properties.age`, "" for all of it) and the reason. None when it can be.

    Raises MissingExtraError without llguidance.
    """
    reason = _refusal(schema)
    if reason is None:
        return None
    shared = {name: schema[name] for name in ("$defs", "definitions", "x-guidance") if name in schema}
    here: Mapping[str, Any] = schema
    place: list[str] = []
    looks = 0
    is_deeper = True
    while is_deeper:
        is_deeper = False
        for path, part in _parts(here):
            looks += 1
            if looks > _MOST_LOOKS:
                break
            if (deeper := _refusal({**shared, **part})) is not None:
                place, here, reason, is_deeper = [*place, *path], part, deeper, True
                break
    return ".".join(place), reason


def _parts(schema: Mapping[str, Any]) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """The schemas inside a schema, definitions first: what refers to a wrong one is wrong as well."""
    for name in ("$defs", "definitions", "properties", "patternProperties"):
        for key, part in _items(schema.get(name)):
            yield [name, key], part
    for name in ("items", "additionalProperties", "anyOf", "allOf", "oneOf", "prefixItems"):
        found = schema.get(name)
        for key, part in _items(dict(enumerate(found)) if isinstance(found, list) else None):
            yield [name, key], part
        if isinstance(found, dict):
            yield [name], found


def _items(found: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, part in found.items() if isinstance(found, dict) else ():
        if isinstance(part, dict):
            yield str(key), part


def _refusal(schema: Mapping[str, Any]) -> str | None:
    matcher = _library().LLMatcher
    try:
        rules = matcher.grammar_from_json_schema(json.dumps(schema), overrides=None if "x-guidance" in schema else _FORM)
        is_error, said = matcher.validate_grammar_with_warnings(rules, None)
    except ValueError as error:
        return _in_our_words(str(error))
    guidance = schema.get("x-guidance")
    is_lenient = isinstance(guidance, Mapping) and bool(guidance.get("lenient"))
    return _in_our_words(said[0]) if said and (is_error or not is_lenient) else None


def _in_our_words(reason: str) -> str:
    if "coerce_one_of" in reason:  # an option of the library that no caller of ours has
        return "the choices of oneOf are not seen to exclude each other; use anyOf, or name what tells them apart (discriminator)"
    return " ".join(reason.split())


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise MissingExtraError("llguidance", "structured", "an answer that follows a JSON schema") from error
    return llguidance


def _vocabulary(tokenizer: Tokenizer) -> Any:
    """The tokenizer as llguidance wants it; made once for each."""
    if tokenizer not in _vocabularies:
        llguidance = _library()
        special = sorted(tokenizer.special.values())
        described = SimpleNamespace(
            eos_token_id=tokenizer.special["<|im_end|>"], bos_token_id=None, special_token_ids=special,
            tokens=[tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)],
        )  # fmt: skip
        wrapper = llguidance.TokenizerWrapper(_Callable(described, tokenizer))
        _vocabularies[tokenizer] = llguidance.LLTokenizer(wrapper, slices=llguidance.LLTokenizer.json_slices())
    return _vocabularies[tokenizer]


class _Callable:
    """`described`, and a call encodes bytes."""

    def __init__(self, described: SimpleNamespace, tokenizer: Tokenizer) -> None:
        self.__dict__.update(vars(described))
        # The vocabulary outlives no tokenizer: a strong reference from it would keep the key of the dictionary alive.
        self._tokenizer = weakref.ref(tokenizer)

    def __call__(self, data: bytes) -> list[int]:
        tokenizer = self._tokenizer()
        return [] if tokenizer is None else tokenizer.encode_bytes(data)
