"""Texts by a language model: ours, or any OpenAI-compatible endpoint. Goes in: a brief. Comes out: fields that fit, or why there are none.

The model is asked for one field at a time in one line, held by constrained decoding (JSON schema) to the shortest limit. What is
still too long is cut after a clause, never inside; what the brief does not carry is asked for again with the reason, a few times;
the last try may only put whole statements of the brief together. A server that knows no schema is asked without.
What it writes is trusted in nothing: every text is checked as any other.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from agora.ads.brief import Brief
from agora.ads.copywriting.claims import blocked_in
from agora.ads.copywriting.copies import TEXT_FIELDS
from agora.ads.copywriting.language import language_named
from agora.ads.copywriting.shorten import beginnings
from agora.ads.copywriting.verdicts import Blocked
from agora.ads.limits import Platform, excess, limits_of
from agora.engine.interface import LanguageModel
from agora.engine.sampling import SamplingConfig
from agora.errors import GenerationError, MissingExtraError

_log = logging.getLogger(__name__)
ATTEMPTS: Final = 4
_MAX_TOKENS: Final = 200
_NO_LIMIT: Final = 300
"""Characters of a field that no chosen platform limits."""
_MOST_PIECES: Final = 6
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
    is_constrained: bool = True

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
            schema = self._pieces(name) if attempt == ATTEMPTS - 1 else self._within_limit(name)
            said = self._accepted(self._asked(name, seed + attempt, reason, before, schema), name)
            if isinstance(said, str):
                return said
            reason = said.reason
        return said

    def _within_limit(self, name: str) -> str:
        """The JSON schema of a text that is short enough in characters (those that count two are measured afterwards)."""
        limit = min((limit.max for limit in limits_of(name, self.chosen)), default=_NO_LIMIT)
        return _schema({"type": "string", "minLength": 1, "maxLength": limit})

    def _pieces(self, name: str) -> str:
        """The JSON schema of the last try: whole statements of the brief, alone or two of them, as far as they fit and are carried."""
        statements = self.brief.statements(self.language)
        said = list(dict.fromkeys(one.text for one in statements))
        end = language_named(self.language).sentence_end
        pairs = [f"{one}{end} {other}{end}" for one, other in itertools.permutations(said[:_MOST_PIECES], 2)]
        fitting = [
            text for text in [*said, *pairs]
            if excess(text, name, self.chosen) is None and blocked_in(text, statements, self.language, topics=self.topics) is None
        ]  # fmt: skip
        return _schema({"type": "string", "enum": fitting}) if fitting else self._within_limit(name)

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

    def _asked(self, name: str, seed: int, reason: str, before: dict[str, str], schema: str) -> str:
        messages = self._messages(name, reason, before)
        sampling = SamplingConfig(max_tokens=_MAX_TOKENS, temperature=self.temperature, top_p=0.95, seed=seed)
        if self.is_constrained:
            try:
                answer = _text_of("".join(delta.text for delta in self.model.chat(messages, replace(sampling, json_schema=schema))))
            except (MissingExtraError, GenerationError) as error:
                _log.warning("%s cannot be held to a form (%s); its texts are checked all the same", self.model.name, error)
                self.is_constrained = False
        if not self.is_constrained:
            answer = "".join(delta.text for delta in self.model.chat(messages, sampling))
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


def _schema(text: dict[str, object]) -> str:
    table = {"type": "object", "properties": {"text": text}, "required": ["text"], "additionalProperties": False}
    return json.dumps(table, ensure_ascii=False)


def _text_of(answer: str) -> str:
    """The text inside a JSON answer; the answer itself where a server ignored the schema."""
    try:
        table = json.loads(answer)
    except ValueError:
        return answer
    return str(table["text"]) if isinstance(table, dict) and "text" in table else answer


__all__ = ["ATTEMPTS", "ModelWriter"]
