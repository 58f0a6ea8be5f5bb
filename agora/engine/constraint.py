"""Answers that are JSON of a given schema. Goes in: a schema and the tokens drawn so far. Comes out: which tokens may come next.

The grammar is llguidance's (MIT; no dependencies), chosen because it takes the tokenizer as a plain list of bytes. Keywords of JSON Schema
that it does not know are refused with its message, never ignored.
"""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any, Final

import torch
from jaxtyping import Bool
from torch import Tensor

from agora.errors import GenerationError, MissingExtraError
from agora.tokenizer import Tokenizer

# No white space between the parts: a model that likes blanks could otherwise go on with them for ever.
_FORM: Final = {"whitespace_flexible": False}
_vocabularies: weakref.WeakKeyDictionary[Tokenizer, Any] = weakref.WeakKeyDictionary()


class Constraint:
    """The grammar of one answer."""

    def __init__(self, tokenizer: Tokenizer, schema: str) -> None:
        """Raises GenerationError for a schema that cannot be followed, MissingExtraError without llguidance."""
        try:
            import llguidance
        except ModuleNotFoundError as error:
            raise MissingExtraError("llguidance", "structured", "an answer that follows a JSON schema") from error
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_FORM)
        except ValueError as error:
            raise GenerationError(f"the JSON schema cannot be read: {error}", param="response_format") from error
        vocabulary = _vocabulary(tokenizer)
        self._matcher = llguidance.LLMatcher(vocabulary, grammar, log_level=0)
        self._raise_if_broken()
        for warning in self._matcher.get_grammar_warnings():
            raise GenerationError(f"the JSON schema cannot be followed wholly: {warning}", param="response_format")
        self._words = torch.zeros((vocabulary.vocab_size + 31) // 32, dtype=torch.int32)

    def allowed(self, vocab_size: int) -> Bool[Tensor, " V"]:
        """True where a token may come next; the end of the answer is one of them once the JSON is whole."""
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
        if self._matcher.is_error():
            reason = self._matcher.get_error().splitlines()[0]
            raise GenerationError(f"the JSON schema cannot be followed: {reason}", param="response_format")


def _vocabulary(tokenizer: Tokenizer) -> Any:
    """The tokenizer as llguidance wants it; made once for each."""
    if tokenizer not in _vocabularies:
        import llguidance

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
