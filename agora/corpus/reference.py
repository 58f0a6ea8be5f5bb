"""The generated parts of docs/corpus.md: a test compares them with the page, so that it cannot fall behind.

python -m agora.corpus.reference docs/corpus.md      writes them into the page
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from agora.corpus.config import CorpusConfig
from agora.corpus.steps import STEPS
from agora.files import write_atomically
from agora.posts.reference import fill


def filters() -> str:
    """The table of steps in their order."""
    lines = ["| # | reason | why |", "|---|---|---|", *(f"| {n} | `{step.name}` | {step.why} |" for n, step in enumerate(STEPS, start=1))]
    return "\n".join(lines)


def settings() -> str:
    """The table of settings with their defaults."""
    fields = dataclasses.fields(CorpusConfig)
    rows = (f"| `{field.name}` | `{json.dumps(field.default)}` |" for field in fields)
    return "\n".join(["| setting | default |", "|---|---|", *rows])


def update_page(page: str) -> str:
    """The page with its tables made anew."""
    return fill(page, {"filters": filters(), "settings": settings()})


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_atomically(path, update_page(path.read_text(encoding="utf-8")))
