"""What the fact check says of a clause: the statement that it rests on, or why it is blocked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One clause of a text, and the statement that it rests on."""

    field: str
    text: str
    fact: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocked:
    """Why a text may not be shown. `text` is the part at fault."""

    reason: str
    field: str
    text: str


__all__ = ["Blocked", "Claim"]
