"""Texts by a language model: ours, or any OpenAI-compatible endpoint. Goes in: a brief. Comes out: fields that fit, or why there are none.

The model is asked for one field at a time in one line. What is too long is cut after a clause, never inside; what the brief does
not carry is asked for again with the reason, a few times. What it writes is trusted in nothing: every text is checked as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agora.ads.brief import Brief
from agora.ads.copywriting.claims import Blocked, blocked_in
from agora.ads.copywriting.copies import TEXT_FIELDS
from agora.ads.copywriting.language import language_named
from agora.ads.copywriting.shorten import beginnings
from agora.ads.limits import Platform, excess, limits_of
from agora.engine.interface import LanguageModel
from agora.engine.sampling import SamplingConfig

ATTEMPTS: Final = 4
_MAX_TOKENS: Final = 160
_ASKED: Final = {
    "headline": "a short headline", "long_headline": "a long headline", "short_description": "a very short description",
    "description": "a description of one or two sentences", "primary_text": "the text of the post, two or three sentences",
    "call_to_action": "the words on the button", "alt_text": "a description of the picture for people who cannot see it",
}  # fmt: skip


@dataclass(slots=True)
class ModelWriter:
    """Asks one model for one brief in one language."""

    model: LanguageModel
    brief: Brief
    language: str
    topics: tuple[str, ...]
    chosen: Sequence[Platform]
    temperature: float = 0.9

    def texts(self, seed: int) -> dict[str, str] | Blocked:
        """All fields, or the reason of the first field for which no attempt passed."""
        found: dict[str, str] = {}
        for number, name in enumerate(TEXT_FIELDS):
            text = self._field(name, seed * 1_000 + number * 10, found)
            if isinstance(text, Blocked):
                return text
            found[name] = text
        return found

    def _field(self, name: str, seed: int, before: dict[str, str]) -> str | Blocked:
        said: str | Blocked = Blocked(reason="the model wrote nothing", field=name, text="")
        reason = ""
        for attempt in range(ATTEMPTS):
            said = self._accepted(self._asked(name, seed + attempt, reason, before), name)
            if isinstance(said, str):
                return said
            reason = said.reason
        return said

    def _accepted(self, line: str, name: str) -> str | Blocked:
        if not line:
            return Blocked(reason="the model wrote nothing", field=name, text="")
        fitting = [text for text in beginnings(line, language_named(self.language)) if excess(text, name, self.chosen) is None]
        if not fitting:
            over = excess(line, name, self.chosen)
            assert over is not None
            return Blocked(reason=f"too long or not allowed: {over.reason}", field=name, text=line)
        problem = blocked_in(fitting[0], self.brief.statements(self.language), self.language, topics=self.topics, field=name)
        return fitting[0] if problem is None else problem

    def _asked(self, name: str, seed: int, reason: str, before: dict[str, str]) -> str:
        sampling = SamplingConfig(max_tokens=_MAX_TOKENS, temperature=self.temperature, top_p=0.95, seed=seed)
        answer = "".join(delta.text for delta in self.model.chat(self._messages(name, reason, before), sampling))
        lines = [line.strip().strip("\"'“”*`").strip() for line in answer.splitlines()]
        return next((" ".join(line.split()) for line in lines if line), "")

    def _messages(self, name: str, reason: str, before: dict[str, str]) -> list[dict[str, str]]:
        limit = min((limit.max for limit in limits_of(name, self.chosen)), default=200)
        facts = "\n".join(f"- {one.text}" for one in self.brief.statements(self.language))
        rules = (
            f"You write advertisements in the language {self.language!r}. Say only what the list of facts says, in its words. "
            "No number, name, praise or promise that is not in it. Join no two facts in one sentence. Nothing about the reader. "
            "Answer with one line: the text alone."
        )
        wanted = f"Facts:\n{facts}\n\nReaders care for: {', '.join(self.topics) or 'anything'}\nTone: {self.brief.tone}\n"
        if before:
            wanted += "Already written, do not repeat: " + " / ".join(before.values()) + "\n"
        wanted += f"Write {_ASKED[name]}, at most {limit} characters (Chinese and Japanese characters and emoji count two)."
        if reason:
            wanted += f"\nThe last try was refused: {reason}."
        return [{"role": "system", "content": rules}, {"role": "user", "content": wanted}]


__all__ = ["ATTEMPTS", "ModelWriter"]
