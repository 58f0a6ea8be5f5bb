"""One answer as it grows. Goes in: drawn tokens. Comes out: Deltas, with the reason for the end. Shared by generate.py and batched.py."""

from __future__ import annotations

from collections.abc import Sequence

from agora.engine.interface import Delta, FinishReason, TokenLogprob, Usage
from agora.engine.sampling import Choice, SamplingConfig
from agora.engine.text_stream import TextStream
from agora.errors import ContextLengthError, GenerationError
from agora.tokenizer import Tokenizer


def end_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """Tokens that end an answer."""
    return frozenset({tokenizer.special["<|endoftext|>"], tokenizer.special["<|im_end|>"]})


def forbidden_tokens(tokenizer: Tokenizer, vocab_size: int) -> tuple[int, ...]:
    """Tokens that no answer holds: it opens no message of its own, so no text of ours can carry a forged role into the next prompt."""
    return (tokenizer.special["<|im_start|>"], tokenizer.special["<|pad|>"], *range(tokenizer.vocab_size, vocab_size))


def answer_limit(prompt: Sequence[int], max_tokens: int | None, *, vocab_size: int, context_tokens: int) -> int:
    """How many tokens the answer may have. Raises GenerationError for a prompt that cannot be, ContextLengthError (with the numbers)."""
    if not prompt:
        raise GenerationError("the prompt is empty; give at least one token", param="prompt")
    wrong = next((token for token in prompt if not 0 <= token < vocab_size), None)
    if wrong is not None:
        known = f"the vocabulary has {vocab_size} tokens (0 to {vocab_size - 1})"
        raise GenerationError(f"the prompt holds token {wrong}, but {known}", param="prompt")
    room = context_tokens - len(prompt)
    if room < (max_tokens or 1):
        asked = f"{max_tokens} more for the answer" if max_tokens else "at least 1 more is needed for the answer"
        raise ContextLengthError(
            f"the model's context holds {context_tokens} tokens, but the prompt has {len(prompt)} and {asked}; "
            f"shorten the prompt or ask for at most {max(0, room)} (max_tokens)",
            param="max_tokens" if room > 0 else "prompt",
        )
    return max_tokens or room


class Answer:
    """Text, log-probabilities and end of one answer."""

    def __init__(self, tokenizer: Tokenizer, sampling: SamplingConfig, *, prompt_tokens: int, limit: int) -> None:
        self._tokenizer = tokenizer
        self._end = end_tokens(tokenizer)
        self._text = TextStream(sampling.stop)
        self._prompt_tokens, self._limit = prompt_tokens, limit
        self.num_drawn = 0

    def push(self, choice: Choice) -> Delta:
        """What one more token adds; the last Delta has a finish_reason."""
        self.num_drawn += 1
        reason: FinishReason | None = None
        ended = choice.token in self._end
        text = "" if ended else self._text.push(self._tokenizer.token_bytes(choice.token))
        if ended or self._text.stopped:
            reason = "stop"
        elif self.num_drawn == self._limit:
            reason = "length"
        if reason:
            text += self._text.finish()
            # The bytes held back may complete a stop string only now.
            reason = "stop" if self._text.stopped else reason
        usage = self._usage() if reason else None
        return Delta(text=text, token=choice.token, logprob=self._logprob(choice), finish_reason=reason, usage=usage)

    def cancel(self) -> Delta:
        """The last Delta of an answer that is not wanted any more."""
        return Delta(text=self._text.finish(), finish_reason="cancelled", usage=self._usage())

    def _usage(self) -> Usage:
        return Usage(prompt_tokens=self._prompt_tokens, completion_tokens=self.num_drawn)

    def _logprob(self, choice: Choice) -> TokenLogprob | None:
        if choice.logprob is None:
            return None
        known = self._tokenizer.vocab_size
        top = tuple((self._tokenizer.token_bytes(token), logprob) for token, logprob in choice.top if token < known)
        data = b"" if choice.token in self._end else self._tokenizer.token_bytes(choice.token)
        return TokenLogprob(data=data, logprob=choice.logprob, top=top)
