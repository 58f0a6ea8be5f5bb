"""`agora serve`."""

from __future__ import annotations


def serve() -> None:
    """Filled by the owner of the area."""
