"""`agora chat`."""

from __future__ import annotations


def chat() -> None:
    """Filled by the owner of the area."""
