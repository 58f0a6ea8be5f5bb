"""`agora evaluate`."""

from __future__ import annotations


def evaluate() -> None:
    """Filled by the owner of the area."""
