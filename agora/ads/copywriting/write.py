"""Variants for an audience. Goes in: a brief, an audience, a writer (None: the grammar; or a language model). Comes out: checked copies.

    write_copies(brief, audience, writer=None, num_variants=3, seed=1)

Equal seeds give equal texts; with a model, as far as the model does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from agora.ads.brief import Brief
from agora.ads.copywriting.copies import Copy, Written, checked
from agora.ads.copywriting.grammar import grammar_for
from agora.ads.copywriting.language import language_named
from agora.ads.copywriting.verdicts import Blocked
from agora.ads.limits import Platform, platforms_named

if TYPE_CHECKING:
    from agora.engine.interface import LanguageModel

MAX_TOPICS = 2


class Readers(Protocol):
    """Whom a text is for; an Audience is one."""

    @property
    def terms(self) -> Sequence[str]:
        """Words that describe the audience, the most telling first."""

    @property
    def language(self) -> str:
        """The language of these words, or 'und'."""


def write_copies(
    brief: Brief, audience: Readers | None, *, writer: LanguageModel | None = None, num_variants: int = 3, seed: int = 0
) -> list[Copy]:
    """The variants that pass, in all languages of the brief. What was blocked: see `write_variants`."""
    return write_variants(brief, audience, writer=writer, num_variants=num_variants, seed=seed).copies


def write_variants(
    brief: Brief, audience: Readers | None, *, writer: LanguageModel | None = None, num_variants: int = 3, seed: int = 0
) -> Written:
    """`num_variants` per language of the brief, those that pass and those that are blocked with the reason.

    Raises ConfigError when the brief has nothing that fits, UsageError for an unknown platform.
    """
    chosen = platforms_named(brief.platforms)
    written = Written()
    for language in brief.languages:
        topics = topics_for(audience, language)
        interests = audience.terms if audience is not None and audience.language in (language, "und") else ()
        grammar = grammar_for(brief, language, topics, chosen, seed, interests=interests)
        author = None
        if writer is not None:
            from agora.ads.copywriting.model_writer import ModelWriter  # loads torch

            author = ModelWriter(writer, brief, language, topics, chosen)
        for number in range(num_variants):
            made = grammar.texts() if author is None else author.texts(seed * 100 + number)
            _take(made, brief, language, topics, chosen, "grammar" if writer is None else writer.name, written)
    return written


def _take(
    made: dict[str, str] | Blocked,
    brief: Brief,
    language: str,
    topics: Sequence[str],
    chosen: Sequence[Platform],
    by: str,
    written: Written,
) -> None:
    result = made if isinstance(made, Blocked) else checked(made, brief, language, topics=topics, chosen=chosen, by=by)
    if isinstance(result, Blocked):
        written.blocked.append(result)
    else:
        written.copies.append(result)


def topics_for(audience: Readers | None, language: str) -> tuple[str, ...]:
    """Terms of an audience that may stand in a text of this language: plain words that claim nothing."""
    if audience is None or audience.language not in (language, "und"):
        return ()
    spoken = language_named(language)
    marks = spoken.negations | spoken.qualifiers | spoken.number_words
    return tuple(
        term for term in audience.terms if term.replace(" ", "").isalpha() and term not in marks and not spoken.is_superlative(term)
    )[:MAX_TOPICS]


__all__ = ["MAX_TOPICS", "Readers", "topics_for", "write_copies", "write_variants"]
