"""Generation with a key-value cache. Goes in: prompt tokens and a SamplingConfig. Comes out: an iterator of Delta.

    generator = Generator(model, tokenizer)
    for delta in generator.stream(prompt_ids, SamplingConfig(max_tokens=50, seed=1)):
        print(delta.text, end="")

Several threads may stream from one Generator. Each answer has a cache and random numbers of its own; their steps take
turns, one token each, in the order in which they asked.

Legend: B batch, T positions, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from agora.engine.interface import Delta, FinishReason, TokenLogprob, Usage
from agora.engine.queue import FairGate
from agora.engine.sampling import Choice, Sampler, SamplingConfig
from agora.engine.text_stream import TextStream
from agora.errors import ContextLengthError, GenerationError
from agora.model.cache import KVCache
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer

MAX_ACTIVE = 8
MAX_WAITING = 64


class Generator:
    """Draws answers from one model. The model is not changed and must not be trained meanwhile."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, max_active: int = MAX_ACTIVE, max_waiting: int = MAX_WAITING) -> None:
        """`max_active` answers hold a cache at once; `max_waiting` more may wait, then BusyError."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.context_tokens = model.config.max_seq_len
        special = tokenizer.special
        self._end = frozenset({special["<|endoftext|>"], special["<|im_end|>"]})
        # No answer opens a message of its own, so no text of ours can carry a forged role into the next prompt.
        padding = range(tokenizer.vocab_size, model.config.vocab_size)
        self._forbidden = (special["<|im_start|>"], special["<|pad|>"], *padding)
        self._active = FairGate(max_active, max_waiting=max_waiting)
        self._turn = FairGate(1)

    def stream(self, prompt_ids: Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None) -> Iterator[Delta]:
        """The answer after `prompt_ids`, one Delta per token.

        Closing the iterator or setting `cancelled` ends it within one token. Raises ContextLengthError (with the numbers),
        GenerationError and UsageError here, before the first Delta.
        """
        prompt = [int(token) for token in prompt_ids]
        limit = self._answer_limit(prompt, sampling.max_tokens)
        sampler = Sampler(sampling, vocab_size=self.model.config.vocab_size, prompt=prompt, forbidden=self._forbidden)
        return self._run(prompt, limit, sampler, cancelled or threading.Event())

    def _answer_limit(self, prompt: Sequence[int], max_tokens: int | None) -> int:
        if not prompt:
            raise GenerationError("the prompt is empty; give at least one token", param="prompt")
        vocab_size = self.model.config.vocab_size
        wrong = next((token for token in prompt if not 0 <= token < vocab_size), None)
        if wrong is not None:
            known = f"the vocabulary has {vocab_size} tokens (0 to {vocab_size - 1})"
            raise GenerationError(f"the prompt holds token {wrong}, but {known}", param="prompt")
        room = self.context_tokens - len(prompt)
        if room < (max_tokens or 1):
            asked = f"{max_tokens} more for the answer" if max_tokens else "at least 1 more is needed for the answer"
            raise ContextLengthError(
                f"the model's context holds {self.context_tokens} tokens, but the prompt has {len(prompt)} and {asked}; "
                f"shorten the prompt or ask for at most {max(0, room)} (max_tokens)",
                param="max_tokens" if room > 0 else "prompt",
            )
        return max_tokens or room

    def _run(self, prompt: list[int], limit: int, sampler: Sampler, cancelled: threading.Event) -> Iterator[Delta]:
        if not self._active.acquire(cancelled):
            yield _last("", "cancelled", prompt, 0)
            return
        try:
            yield from self._steps(prompt, limit, sampler, cancelled)
        finally:
            self._active.release()

    def _steps(self, prompt: list[int], limit: int, sampler: Sampler, cancelled: threading.Event) -> Iterator[Delta]:
        parameter = next(self.model.parameters())
        cache = KVCache(self.model.config, 1, len(prompt) + limit, parameter.dtype, parameter.device)
        text = TextStream(sampler.config.stop)
        new, drawn = prompt, 0
        reason: FinishReason | None = None
        while reason is None:
            if cancelled.is_set():
                yield _last(text.finish(), "cancelled", prompt, drawn)
                return
            with self._turn:
                choice = sampler.draw(self._next_logits(new, cache))
            drawn, new = drawn + 1, [choice.token]
            ended = choice.token in self._end
            final = "" if ended else text.push(self.tokenizer.token_bytes(choice.token))
            if ended or text.stopped:
                reason = "stop"
            elif drawn == limit:
                reason = "length"
            if reason:
                final += text.finish()
                # The bytes held back may complete a stop string only now.
                reason = "stop" if text.stopped else reason
            usage = Usage(prompt_tokens=len(prompt), completion_tokens=drawn) if reason else None
            yield Delta(text=final, token=choice.token, logprob=self._logprob(choice), finish_reason=reason, usage=usage)

    def _next_logits(self, tokens: list[int], cache: KVCache) -> Tensor:
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            hidden_BTD = self.model(torch.tensor([tokens], dtype=torch.long, device=device), cache=cache)
            logits_V: Tensor = self.model.logits(hidden_BTD[:, -1:])[0, 0].float().cpu()
        return logits_V

    def _logprob(self, choice: Choice) -> TokenLogprob | None:
        if choice.logprob is None:
            return None
        known = self.tokenizer.vocab_size
        top = tuple((self.tokenizer.token_bytes(token), logprob) for token, logprob in choice.top if token < known)
        data = b"" if choice.token in self._end else self.tokenizer.token_bytes(choice.token)
        return TokenLogprob(data=data, logprob=choice.logprob, top=top)


def _last(text: str, reason: FinishReason, prompt: Sequence[int], drawn: int) -> Delta:
    usage = Usage(prompt_tokens=len(prompt), completion_tokens=drawn)
    return Delta(text=text, finish_reason=reason, usage=usage)
