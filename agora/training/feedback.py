"""From what people said about answers to preference pairs. Goes in: ratings, in the order in which they were given. Comes out: a `PairSet`.

The rules, for the answers to one question (the same conversation before it):

1. An edited answer beats the original, whatever else was said of that.
2. Of two answers one voice called good and bad (thumb down, or unsupported by the posts it cites), the good one beats the bad one.
3. An answer called bad loses against the one that the same person took in its place and did not call bad.
4. Where several voices rated answers to a question, the one that most voices call good beats the one that most call bad.
5. A rating that meets no other answer makes no pair; it is counted under `left_out`.

One voice: the pairs of one voice (an account, or accounts that act as one) together count no more than one, however many it makes; on an
answer it has one opinion, the latest. A pair of rule 4 counts no more than either side's voices have left for it. Voices that want the
opposite of each other take their weights off each other.

Not covered: several people behind one account, or one behind accounts that no label joins.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from agora.training.preference_pairs import Message, PairSet, PreferencePair, scaled

RatingKind = Literal["up", "down", "edit", "unsupported"]
NO_OTHER: Final = {
    "up": "good answer, and none that is worse", "down": "bad answer, and none that is better",
    "unsupported": "unsupported answer, and none that is better", "edit": "edit that changes nothing",
}  # fmt: skip
DISAGREE: Final = "voices disagree"
_LEAST: Final = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Rating:
    """What a voice said of an answer. `text`: the answer as it should have been (edit). `instead`: the answer that the same person took in
    its place, if there is one. Texts are without white space around them."""

    question: list[Message]
    answer: str
    kind: RatingKind
    voice: str
    text: str = ""
    instead: str = ""


@dataclass(slots=True)
class _Stance:
    """What one voice thinks of the answers to one question: 1 good, -1 bad; and its ratings."""

    of: dict[str, int] = field(default_factory=dict)
    ratings: list[Rating] = field(default_factory=list)

    def pairs(self) -> list[tuple[str, str]]:
        good, bad = ([answer for answer, side in self.of.items() if side == wanted] for wanted in (1, -1))
        return [(one, other) for one in good for other in bad]


@dataclass(frozen=True, slots=True)
class _Vote:
    """Voices that together say `better` is better than `worse`: any of `good` on the one side, any of `bad` on the other."""

    better: str
    worse: str
    good: tuple[str, ...]
    bad: tuple[str, ...]


def pairs_of(ratings: Iterable[Rating]) -> PairSet:
    """The pairs that the rules above make."""
    questions: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        questions[json.dumps(rating.question, sort_keys=True)].append(rating)
    left_out: Counter[str] = Counter()
    votes = {question: _votes(some, left_out) for question, some in questions.items()}
    sizes = Counter(voice for group in votes.values() for vote in group for voice in {*vote.good, *vote.bad})
    pairs: list[PreferencePair] = []
    for question, group in votes.items():
        for (better, worse), weight in _weights(group, sizes).items():
            if weight > _LEAST:
                pairs.append(PreferencePair(prompt=questions[question][0].question, chosen=better, rejected=worse, weight=weight))
            else:
                left_out[DISAGREE] += 1
    return PairSet(pairs=scaled(pairs), left_out=dict(left_out))


def _votes(ratings: Sequence[Rating], left_out: Counter[str]) -> list[_Vote]:
    """What each voice says by itself, and what they say together."""
    stances: dict[str, _Stance] = defaultdict(_Stance)
    for rating in ratings:
        _take(stances[rating.voice], rating)
    votes = [_Vote(*pair, (voice,), (voice,)) for voice, stance in stances.items() for pair in stance.pairs()]
    together = _together(stances)
    if together is not None and not any({vote.better, vote.worse} == {together.better, together.worse} for vote in votes):
        votes.append(together)
    used = {
        (voice, answer) for vote in votes for voices in (vote.good, vote.bad) for voice in voices for answer in (vote.better, vote.worse)
    }
    for voice, stance in stances.items():
        left_out.update(NO_OTHER[one.kind] for one in stance.ratings if (voice, one.answer) not in used)
    return votes


def _take(stance: _Stance, rating: Rating) -> None:
    stance.ratings.append(rating)
    if rating.kind == "edit":
        if rating.text != rating.answer:
            stance.of[rating.answer], stance.of[rating.text] = -1, 1
        return
    is_edited = any(one.kind == "edit" and one.answer == rating.answer for one in stance.ratings)
    if not is_edited:
        stance.of[rating.answer] = 1 if rating.kind == "up" else -1
    if rating.kind != "up" and rating.instead and rating.instead != rating.answer:
        stance.of.setdefault(rating.instead, 1)


def _together(stances: Mapping[str, _Stance]) -> _Vote | None:
    sums: Counter[str] = Counter()
    for stance in stances.values():
        sums.update(stance.of)
    ranked = sorted(sums, key=lambda answer: (-sums[answer], answer))
    if len(stances) < 2 or sums[ranked[0]] <= 0 or sums[ranked[-1]] >= 0:
        return None
    sides = (tuple(voice for voice, one in stances.items() if one.of.get(ranked[place]) == side) for place, side in ((0, 1), (-1, -1)))
    return _Vote(ranked[0], ranked[-1], *sides)


def _weights(votes: Sequence[_Vote], sizes: Mapping[str, int]) -> dict[tuple[str, str], float]:
    """What the votes about one question give each pair; where both directions were voted for, one of them gets the difference."""
    weights: dict[tuple[str, str], float] = defaultdict(float)
    for vote in votes:
        weights[vote.better, vote.worse] += min(sum(1 / sizes[voice] for voice in side) for side in (vote.good, vote.bad))
    return {
        (better, worse): weight - weights.get((worse, better), 0.0) for (better, worse), weight in weights.items()
        if (worse, better) not in weights or weight > weights[worse, better] or (weight == weights[worse, better] and better < worse)
    }  # fmt: skip
