"""From logits to one token. Goes in: the logits of one position and what was said so far. Comes out: a token and its log-probability.

Order: bias, JSON schema and penalties -> (temperature 0: the largest logit) -> temperature -> top_k, top_p, min_p -> draw. The last three
look at the same distribution; a token must pass all of them. The draw goes through the tokens left in the order of the vocabulary.
Reported log-probabilities are of the model's own distribution, before any of these.

This is the plain twin of batch_sampling.py, which draws for many answers at once.

Legend: V vocabulary.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from agora.engine.constraint import Constraint
from agora.errors import GenerationError, UsageError
from agora.tokenizer import Tokenizer

MAX_SEED = 2**63 - 1
MAX_STOP_STRINGS = 16
NOT_A_NUMBER = "the model's output is not a number (NaN); its weights are damaged or its training diverged"


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How to choose tokens. The defaults sample from the model's distribution until it ends its answer or the context is full."""

    max_tokens: int | None = None
    """Tokens of the answer at most; None = as many as the context still holds."""
    temperature: float = 1.0
    """0 = always the most likely token."""
    top_p: float = 1.0
    """Keep the smallest set of most likely tokens whose probabilities reach this sum."""
    top_k: int | None = None
    """Keep this many most likely tokens; None = all."""
    min_p: float = 0.0
    """Keep tokens at least this share as likely as the most likely one."""
    seed: int | None = None
    """Equal seeds give equal answers; None draws a fresh seed."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these strings."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens in prompt or answer (CTRL, arXiv:1909.05858, section 4.1)."""
    presence_penalty: float = 0.0
    """Subtracted once from the logit of each token already in the answer."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time the answer holds it."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to single tokens' logits."""
    logprobs: int | None = None
    """Report the token's log-probability and those of this many most likely tokens; None = report nothing."""
    json_schema: str | None = None
    """The answer is JSON of this schema (itself JSON; "{}" = any JSON), as far as max_tokens lets it end."""
    grammar: str | None = None
    """The answer follows this grammar (Lark, as llguidance reads it) in the same way; not together with `json_schema`."""

    def __post_init__(self) -> None:
        _require(self.max_tokens is None or self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _require(math.isfinite(self.temperature) and 0 <= self.temperature <= 100, "temperature", self.temperature, "from 0 to 100")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _require(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "at least 1")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 to 1")
        _require(self.seed is None or abs(self.seed) <= MAX_SEED, "seed", self.seed, "a 64-bit integer")
        _require(len(self.stop) <= MAX_STOP_STRINGS and all(self.stop), "stop", self.stop, f"up to {MAX_STOP_STRINGS} non-empty strings")
        _require(0 < self.repetition_penalty <= 10, "repetition_penalty", self.repetition_penalty, "above 0 and at most 10")
        _require(-2 <= self.presence_penalty <= 2, "presence_penalty", self.presence_penalty, "from -2 to 2")
        _require(-2 <= self.frequency_penalty <= 2, "frequency_penalty", self.frequency_penalty, "from -2 to 2")
        _require(all(-100 <= bias <= 100 for bias in self.logit_bias.values()), "logit_bias", dict(self.logit_bias), "from -100 to 100")
        _require(self.logprobs is None or 0 <= self.logprobs <= 20, "logprobs", self.logprobs, "from 0 to 20")
        _require(self.json_schema is None or _is_schema(self.json_schema), "json_schema", self.json_schema, "a JSON object as text")
        _require(self.grammar is None or self.json_schema is None, "grammar", self.grammar, "left out beside json_schema")


def _is_schema(text: str) -> bool:
    try:
        return isinstance(json.loads(text), (dict, bool))
    except ValueError:
        return False


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise UsageError(f"{name}={value!r} must be {expected}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One drawn token, with natural-log probabilities when they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Draws the tokens of one answer. Holds that answer's random numbers and counts, nothing shared with other answers."""

    def __init__(
        self,
        config: SamplingConfig,
        *,
        vocab_size: int,
        prompt: Sequence[int] = (),
        forbidden: Sequence[int] = (),
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """`forbidden` tokens are never drawn; `tokenizer` is needed for a JSON schema or a grammar.

        Raises GenerationError for a bias on a token that does not exist, or a schema that cannot be followed.
        """
        self.config = config
        self._points: list[float] = []
        self._numbers = torch.Generator().manual_seed(config.seed if config.seed is not None else secrets.randbits(63))
        self.constraint: Constraint | None = None
        if config.json_schema is not None or config.grammar is not None:
            assert tokenizer is not None
            self.constraint = Constraint(tokenizer, config.json_schema, grammar=config.grammar)
        self.has_penalties = config.repetition_penalty != 1 or bool(config.presence_penalty or config.frequency_penalty)
        self.is_plain = not (self.has_penalties or self.constraint or config.logit_bias)
        """Whether logits go to the draw as they are, but for forbidden tokens, and nothing needs to be remembered."""
        self._counts_V = torch.zeros(vocab_size if self.has_penalties else 0)
        self._seen_V = torch.zeros(len(self._counts_V), dtype=torch.bool)
        if self.has_penalties:
            self._seen_V[torch.tensor(list(prompt), dtype=torch.long)] = True
        self._forbidden = torch.tensor(list(forbidden), dtype=torch.long)
        self._biased = torch.tensor(list(config.logit_bias), dtype=torch.long)
        self._bias = torch.tensor(list(config.logit_bias.values()), dtype=torch.float32)
        for token in config.logit_bias:
            if not 0 <= token < vocab_size:
                known = f"the vocabulary has {vocab_size} tokens (0 to {vocab_size - 1})"
                raise GenerationError(f"logit_bias names token {token}, but {known}", param="logit_bias")

    def draw(self, logits_V: Float[Tensor, " V"]) -> Choice:
        """The next token, from the logits of one position; remembers it for the penalties.

        Raises GenerationError for logits that are not numbers: the model is broken.
        """
        raw_V = logits_V.float()
        if bool(torch.isnan(raw_V).any()):
            raise GenerationError(NOT_A_NUMBER)
        token = self._pick(self.adjusted(raw_V))
        self.remember(token)
        if self.config.logprobs is None:
            return Choice(token=token)
        logprobs_V = torch.log_softmax(raw_V, dim=-1)
        values, indices = torch.topk(logprobs_V, min(self.config.logprobs, len(logprobs_V)))
        return Choice(token=token, logprob=float(logprobs_V[token]), top=tuple(zip(indices.tolist(), values.tolist(), strict=True)))

    def remember(self, token: int) -> None:
        """That token was drawn."""
        if self.has_penalties:
            self._counts_V[token] += 1
            self._seen_V[token] = True
        if self.constraint:
            self.constraint.advance(token)

    def adjusted(self, raw_V: Float[Tensor, " V"]) -> Float[Tensor, " V"]:
        """Logits (on the CPU) after bias, schema and penalties."""
        config = self.config
        logits_V = raw_V.index_add(0, self._biased, self._bias) if len(self._biased) else raw_V.clone()
        logits_V[self._forbidden] = -torch.inf
        if self.constraint:
            logits_V.masked_fill_(~self.constraint.allowed(len(logits_V)), -torch.inf)
        if config.repetition_penalty != 1:
            penalized_V = torch.where(logits_V > 0, logits_V / config.repetition_penalty, logits_V * config.repetition_penalty)
            logits_V = torch.where(self._seen_V, penalized_V, logits_V)
        if config.presence_penalty or config.frequency_penalty:
            logits_V = logits_V - config.presence_penalty * (self._counts_V > 0) - config.frequency_penalty * self._counts_V
        return logits_V

    def next_point(self) -> float:
        """The next random number of this answer, from 0 to 1 (not 1 itself)."""
        if not self._points:  # some at once: the same numbers for less work
            self._points = torch.rand(32, generator=self._numbers, dtype=torch.float64).tolist()[::-1]
        return self._points.pop()

    def _pick(self, logits_V: Tensor) -> int:
        config = self.config
        if config.temperature == 0:
            return int(torch.argmax(logits_V))
        # float64: a temperature of 0.01 multiplies the logits by 100.
        order_V = torch.argsort(logits_V, descending=True, stable=True)
        probabilities_V = torch.softmax(logits_V[order_V].double() / config.temperature, dim=-1)
        keep_V = torch.ones_like(probabilities_V, dtype=torch.bool)
        if config.top_k is not None:
            keep_V[config.top_k :] = False
        if config.top_p < 1:
            keep_V &= torch.cumsum(probabilities_V, dim=-1) - probabilities_V < config.top_p
        if config.min_p > 0:
            keep_V &= probabilities_V >= config.min_p * probabilities_V[0]
        kept_V = torch.zeros_like(probabilities_V)
        kept_V[order_V] = torch.where(keep_V, probabilities_V, 0.0)
        mass_V = torch.cumsum(kept_V, dim=-1)
        position = int(torch.searchsorted(mass_V, self.next_point() * mass_V[-1], right=True))
        return min(position, int(kept_V.nonzero()[-1]))
