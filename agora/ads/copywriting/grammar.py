"""Texts without a model. Goes in: a brief and an audience's topics. Comes out: fields made of whole facts and connecting words.

Every pattern of data/LANGUAGE.toml is filled with facts, those that share words with the audience first; of what fits all limits, the first
in an order drawn from the seed is taken that no earlier variant has. Facts are used whole, or to the end of a clause (shorten.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import regex

from agora.ads.brief import Brief, Fact
from agora.ads.copywriting.language import Language, language_named
from agora.ads.copywriting.shorten import beginnings, without_emoji
from agora.ads.copywriting.words import same_word
from agora.ads.limits import Platform, excess, limits_of
from agora.ads.limits import platforms as all_platforms
from agora.errors import ConfigError

_SLOT: Final = regex.compile(r"\{(\w+)\}")
_WORD: Final = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_END: Final = tuple(".!?。！？…")
_MAX_FACTS: Final = 12
"""Facts tried per pattern; the nearest to the audience."""


@dataclass(slots=True)
class Grammar:
    """Writes for one brief in one language. `used` remembers what earlier variants said."""

    brief: Brief
    language: Language
    topics: tuple[str, ...]
    chosen: Sequence[Platform]
    random: random.Random
    used: set[tuple[str, str]]
    interests: tuple[str, ...] = ()
    """What the readers care for: facts that name it come first. Only `topics` stand in texts by themselves."""

    def texts(self) -> dict[str, str]:
        """All fields of one variant. Raises ConfigError when nothing fits a field, naming what the brief lacks."""
        found = {name: self._field(name) for name in ("headline", "long_headline", "short_description", "description")}
        found["primary_text"] = self._primary_text()
        found["call_to_action"] = self._call_to_action()
        found["alt_text"] = self._alt_text(found["headline"])
        return found

    def _field(self, name: str) -> str:
        fitting = (text for text in self._candidates(name) if self.fits(text, name))
        first = ""
        for text in fitting:
            first = first or text
            if (name, text) not in self.used:
                first = text
                break
        first = first or self._fallback(name)
        self.used.add((name, first))
        return first

    def fits(self, text: str, name: str) -> bool:
        """Whether a text fits a field everywhere."""
        return bool(text) and excess(text, name, self.chosen) is None

    def _candidates(self, name: str) -> Iterator[str]:
        """Filled patterns: those that name a topic first where there is one, then as the seed has it; near facts before far ones."""
        patterns = list(self.language.patterns(name, self.brief.tone))
        self.random.shuffle(patterns)
        facts = self._facts()
        if self.topics:
            patterns.sort(key=lambda pattern: "{topic" not in pattern and "{fact" not in pattern)
        tries = [
            (number + 2 * rank, pattern, fact)
            for number, pattern in enumerate(patterns)
            for rank, fact in enumerate(self._for(pattern, facts))
        ]
        for _, pattern, fact in sorted(tries, key=lambda one: one[0]):
            yield from self._filled(pattern, fact, facts, name)

    def _for(self, pattern: str, facts: Sequence[Fact]) -> Sequence[Fact | None]:
        return facts if "{fact" in pattern else (None,)

    def _filled(self, pattern: str, fact: Fact | None, facts: Sequence[Fact], name: str) -> Iterator[str]:
        slots = _SLOT.findall(pattern)
        others = [one for one in facts if one is not fact]
        choices: list[list[str]] = []
        for slot in slots:
            plain, is_sentence = slot.removesuffix("_s"), slot.endswith("_s")
            options = self._options(plain, fact, others, name)
            choices.append([self._sentence(one) for one in options] if is_sentence else options)
        for some in product(*choices):
            if self._repeats(slots, some):
                continue
            fill = iter(some)
            text = _SLOT.sub(lambda match, fill=fill: next(fill), pattern)  # type: ignore[misc]
            yield _sentence_case(" ".join(text.split()))

    def _repeats(self, slots: Sequence[str], filled: Sequence[str]) -> bool:
        """Whether a topic that leads in is said by what follows anyway."""
        topics = [text for slot, text in zip(slots, filled, strict=True) if slot.startswith("topic")]
        others = [text for slot, text in zip(slots, filled, strict=True) if not slot.startswith("topic")]
        return any(relevance(other, [topic], self.language) for topic in topics for other in others)

    def _options(self, slot: str, fact: Fact | None, others: Sequence[Fact], name: str) -> list[str]:
        """What may stand in a slot, best first; empty when the brief has nothing for it."""
        offer = self.brief.offer_in(self.language.code)
        if slot == "product":
            return self._clean([one for one in (self.brief.product, self.brief.short_name) if one], name)
        if slot == "brand":
            return self._clean([self.brief.brand.name], name)
        if slot == "offer":
            return self._clean(beginnings(offer.text, self.language) if offer else [], name)
        if slot in ("topic", "topic2"):
            at = ("topic", "topic2").index(slot)
            return [self.topics[at]] if at < len(self.topics) else []
        chosen = fact if slot == "fact" else (others[0] if others else None)
        return self._clean(beginnings(chosen.text, self.language) if chosen else [], name)

    def _clean(self, texts: Sequence[str], name: str) -> list[str]:
        """Without emoji where a platform of the field refuses them."""
        refuses = any(not all_platforms()[limit.platform].emoji for limit in limits_of(name, self.chosen))
        plain = [without_emoji(text) if refuses else text for text in texts]
        return [text for text in plain if any(character.isalnum() for character in text)]

    def _facts(self) -> list[Fact]:
        """The facts of this language, near ones first; ties in the seed's order."""
        facts = list(self.brief.facts_in(self.language.code))
        self.random.shuffle(facts)
        return sorted(facts, key=lambda fact: -relevance(fact.text, self.interests or self.topics, self.language))[:_MAX_FACTS]

    def _sentence(self, text: str) -> str:
        if self.language.is_unspaced:
            text = text.rstrip(".")  # no blank follows, and ".5" would be a number
        return _capitalised(text) + ("" if text.endswith(_END) else self.language.sentence_end)

    def _fallback(self, name: str) -> str:
        options = [*self.language.patterns("fallback", self.brief.tone), *self.brief.call_to_action.values()]
        self.random.shuffle(options)
        fitting = [text for text in options if self.fits(text, name)]
        if not fitting:
            raise ConfigError(
                f"nothing of the brief fits the field {name} in language {self.language.code!r}; give a shorter short_name or fact, "
                f'or call_to_action = {{ {self.language.code} = "..." }}'
            )
        return next((text for text in fitting if (name, text) not in self.used), fitting[0])

    def _primary_text(self) -> str:
        """Sentences, as many as fit: an opening, facts, the offer, a closing."""
        name = "primary_text"
        facts = self._facts()
        middle = [self._sentences("{fact_s}", fact, name) for fact in facts[: self.random.choice((2, 3))]]
        opening = self._patterns("opening", facts, name)
        closing = self._patterns("closing", facts, name)
        parts = [
            opening,
            *middle,
            self._sentences("{offer_s}", None, name),
            *[self._sentences("{fact_s}", fact, name) for fact in facts[2:4]],
            closing,
        ]
        text = ""
        for options in parts:
            blank = "" if self.language.is_unspaced else " "
            longer = (f"{text}{blank}{option}".strip() for option in options if option not in text)
            text = next((one for one in longer if self.fits(one, name)), text)
        return text if text else self._fallback(name)

    def _sentences(self, pattern: str, fact: Fact | None, name: str) -> list[str]:
        return list(self._filled(pattern, fact, (), name))

    def _patterns(self, kind: str, facts: Sequence[Fact], name: str) -> list[str]:
        patterns = list(self.language.patterns(kind, self.brief.tone))
        self.random.shuffle(patterns)
        if self.topics and kind == "opening":
            patterns.sort(key=lambda pattern: -len(set(_SLOT.findall(pattern)) & {"topic", "topic2"}))
        return [text for pattern in patterns for text in self._filled(pattern, None, facts, name)]

    def _call_to_action(self) -> str:
        name, given = "call_to_action", self.brief.call_to_action.get(self.language.code)
        if given is not None:
            if over := excess(given, name, self.chosen):
                raise ConfigError(
                    f"{self.brief.sources.get(name, 'brief')}: call_to_action={given!r} is too long ({over.reason}); shorten it"
                )
            return given
        patterns = [text for text in self.language.patterns(name, self.brief.tone) if self.fits(text, name)]
        if not patterns:
            raise ConfigError(
                f'no call to action is known in language {self.language.code!r}; write call_to_action = {{ {self.language.code} = "..." }}'
            )
        return self.random.choice(patterns)

    def _alt_text(self, headline: str) -> str:
        mark, name = self.language.advertisement, "alt_text"
        colon = "：" if self.language.is_unspaced else ": "
        brand, said = self.brief.brand.name, headline.casefold()
        names = [name for name in (self.brief.product, self.brief.short_name) if name]
        fresh = [name for name in names if brand.casefold() not in said or brand.casefold() not in name.casefold()]  # once is enough
        tail = f" – {fresh[0]}" if fresh and not any(name.casefold() in said for name in names) else ""
        names_brand = brand.casefold() in f"{said}{tail.casefold()}"
        head = f"{mark}{colon}" if mark else ""
        with_brand = head if names_brand else f"{head}{brand}{colon}"
        tries = [
            f"{with_brand}{headline}{tail}",
            f"{with_brand}{headline}",
            f"{head}{headline}",
            f"{head}{self.brief.short_name}",
            headline,
        ]
        return next((text for text in tries if self.fits(text, name)), "") or self._fallback(name)


def grammar_for(
    brief: Brief, language: str, topics: Sequence[str], chosen: Sequence[Platform], seed: int, *, interests: Sequence[str] = ()
) -> Grammar:
    """A grammar for one brief and language; equal seeds write equal texts."""
    drawn = random.Random(f"{seed}|{language}|{'|'.join(topics)}|{brief.product}")
    return Grammar(brief, language_named(language), tuple(topics), chosen, drawn, set(), tuple(interests))


def relevance(text: str, topics: Sequence[str], language: Language) -> int:
    """How many of the topics a text names."""
    plain = text.casefold()
    if language.is_unspaced:
        return sum(topic in plain for topic in topics)
    words = _WORD.findall(plain)
    return sum(any(same_word(topic, word, language) for word in words) for topic in topics)


def _sentence_case(text: str) -> str:
    """With a capital at the beginning, and behind a question or exclamation mark."""
    parts = regex.split(r"(?<=[?!])(\s+)", text)
    return "".join(_capitalised(part) for part in parts)


def _capitalised(text: str) -> str:
    """With a capital where a sentence begins; a word that has capitals of its own stays ("iPhone")."""
    match = _WORD.search(text)
    if match is None or match.group() != match.group().lower():
        return text
    place = match.start()
    upper = text[place].upper()
    return text if len(upper) != 1 else text[:place] + upper + text[place + 1 :]


__all__ = ["Grammar", "grammar_for", "relevance"]
