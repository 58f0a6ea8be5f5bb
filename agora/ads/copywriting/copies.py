"""What the studio writes: one Copy per variant, with the fact behind every clause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from agora.ads.brief import Brief
from agora.ads.copywriting.claims import trace
from agora.ads.copywriting.verdicts import Blocked, Claim
from agora.ads.limits import Platform, excess

TEXT_FIELDS: Final = ("headline", "long_headline", "short_description", "description", "primary_text", "call_to_action", "alt_text")


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """All texts of one variant. Each fits every chosen platform; which field goes where stands in data/platforms.toml."""

    language: str
    headline: str
    long_headline: str
    short_description: str
    description: str
    primary_text: str
    call_to_action: str
    alt_text: str
    claims: tuple[Claim, ...] = ()
    written_by: str = "grammar"
    topics: tuple[str, ...] = ()

    def texts(self) -> dict[str, str]:
        """The texts by field."""
        return {name: getattr(self, name) for name in TEXT_FIELDS}

    def record(self) -> dict[str, Any]:
        """As JSON."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("claims", "topics")}
        claims = [{"field": one.field, "text": one.text, "fact": one.fact, "source": one.source} for one in self.claims]
        return {**plain, "topics": list(self.topics), "claims": claims}


@dataclass(slots=True)
class Written:
    """Variants that may be shown, and what was blocked with its reason."""

    copies: list[Copy] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)


def checked(
    texts: dict[str, str], brief: Brief, language: str, *, topics: Sequence[str], chosen: Sequence[Platform], by: str
) -> Copy | Blocked:
    """The Copy that `texts` make, or the first reason why it may not be shown: too long somewhere, or a claim without a fact."""
    statements = brief.statements(language)
    claims: list[Claim] = []
    for name in TEXT_FIELDS:
        if over := excess(texts[name], name, chosen):
            return Blocked(reason=f"too long or not allowed: {over.reason}", field=name, text=texts[name])
        for one in trace(texts[name], statements, language, topics=topics, field=name):
            if isinstance(one, Blocked):
                return one
            claims.append(one)
    return Copy(language=language, claims=tuple(claims), written_by=by, topics=tuple(topics), **texts)


__all__ = ["TEXT_FIELDS", "Copy", "Written", "checked"]
