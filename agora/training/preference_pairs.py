"""Preference pairs: a conversation, an answer that people preferred, and one that they did not. Goes in: JSON lines. Comes out: a
`PairSet`, and what was left out under which reason. Feedback that people gave becomes pairs in feedback.py.

    {"prompt": [{"role": "user", "content": "Where is it?"}], "chosen": "In the north.", "rejected": "I am a bird."}

`prompt` may be a text (one question), an answer may be a list with one message of the assistant. `voice`, where it is given, says whose
preference it is: however many a voice has, together they count as one. Without it each line is a voice of its own. `weight`, 1 where it is
not given, is what a line counts; the files that `agora train preferences --out` writes have it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agora.errors import SourceError
from agora.files import write_atomically
from agora.tokenizer.chat import ASSISTANT, ROLES

Message = dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferencePair:
    """`weight`: what the pair counts."""

    prompt: list[Message]
    chosen: str
    rejected: str
    weight: float = 1.0

    @property
    def content(self) -> tuple[str, str, str]:
        """All but the weight."""
        return self.question_sha256, self.chosen, self.rejected

    @property
    def question_sha256(self) -> str:
        """Equal for pairs about the same conversation."""
        return hashlib.sha256(json.dumps(self.prompt, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSet:
    """Pairs that can be learned from, and how many pairs or ratings were left out under which reason."""

    pairs: list[PreferencePair]
    left_out: dict[str, int] = field(default_factory=dict)

    def split(self, heldout_share: float) -> tuple[list[PreferencePair], list[PreferencePair]]:
        """(training, held-out) by a hash of the conversation: all pairs about one fall on the same side."""
        sides: tuple[list[PreferencePair], list[PreferencePair]] = ([], [])
        for pair in self.pairs:
            sides[int(pair.question_sha256[:16], 16) < int(heldout_share * 2**64)].append(pair)
        return sides

    def __add__(self, other: PairSet) -> PairSet:
        return PairSet(pairs=self.pairs + other.pairs, left_out=dict(Counter(self.left_out) + Counter(other.left_out)))


def read_pairs(paths: Sequence[Path]) -> PairSet:
    """Read JSON lines. Raises SourceError for a file that is not there or is no text."""
    found: list[tuple[PreferencePair, str]] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        if not path.is_file():
            raise SourceError(f"preferences {path} are not a file; give JSON lines with prompt, chosen and rejected")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"preferences {path} cannot be read: {error}") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                pair, reason = _pair(line, f"{path.name}:{number}")
                if pair is None:
                    left_out[reason] += 1
                else:
                    found.append(pair)
    return PairSet(pairs=one_voice(found), left_out=dict(left_out))


def write_pairs(path: Path, pairs: Iterable[PreferencePair]) -> None:
    """As JSON lines that `load_pairs` reads back."""
    write_atomically(path, "".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))


def load_pairs(path: Path) -> list[PreferencePair]:
    """What `write_pairs` wrote. Raises SourceError."""
    try:
        return [PreferencePair(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path} is damaged ({error}); start again with --fresh") from error


def one_voice(pairs: Sequence[tuple[PreferencePair, str]]) -> list[PreferencePair]:
    """(pair, voice): the pairs of a voice together count as one; then all weights are scaled to a mean of 1."""
    sizes = Counter(voice for _, voice in pairs)
    return scaled([replace(pair, weight=pair.weight / sizes[voice]) for pair, voice in pairs])


def scaled(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """With weights of mean 1, so that rates and losses mean the same for any number of voices."""
    total = sum(pair.weight for pair in pairs)
    return [replace(pair, weight=pair.weight * len(pairs) / total) for pair in pairs]


def _pair(line: str, source: str) -> tuple[tuple[PreferencePair, str] | None, str]:
    """The pair with its voice, or None and the reason."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, Mapping):
        return None, "not_a_json_object"
    prompt = record.get("prompt")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(messages, list) or not messages:
        return None, "no_prompt"
    if any(not isinstance(one, Mapping) or one.get("role") not in ROLES for one in messages):
        return None, "unknown_role"
    answers = [_content(record.get(name)) for name in ("chosen", "rejected")]
    if not all(isinstance(one.get("content"), str) and one["content"].strip() for one in messages) or not all(answers):
        return None, "empty_content"
    if answers[0] == answers[1]:
        return None, "same_answers"
    weight = record.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        return None, "weight_not_above_0"
    kept = [{"role": one["role"], "content": one["content"]} for one in messages]
    pair = PreferencePair(prompt=kept, chosen=answers[0], rejected=answers[1], weight=float(weight))
    voice = record.get("voice")
    return (pair, source if voice is None else f"voice {voice}"), ""


def _content(answer: Any) -> str:
    """The text of an answer: itself, or that of a list with one message of the assistant; empty for anything else."""
    if isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], Mapping) and answer[0].get("role") == ASSISTANT:
        answer = answer[0].get("content")
    return answer.strip() if isinstance(answer, str) else ""
