"""The generated parts of docs/corpus.md: a test compares them with the page, so that it cannot fall behind.

python -m agora.corpus.reference docs/corpus.md      writes them into the page
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from agora.corpus.atomic import write_atomically
from agora.corpus.config import CorpusConfig
from agora.corpus.steps import STEPS


def filters() -> str:
    """The table of steps in their order."""
    lines = ["| # | reason | why |", "|---|---|---|", *(f"| {n} | `{step.name}` | {step.why} |" for n, step in enumerate(STEPS, start=1))]
    return "\n".join(lines)


def settings() -> str:
    """The table of settings with their defaults."""
    fields = dataclasses.fields(CorpusConfig)
    rows = (f"| `{field.name}` | `{json.dumps(field.default)}` |" for field in fields)
    return "\n".join(["| setting | default |", "|---|---|", *rows])


def filled(page: str) -> str:
    """`page` with everything between its markers made anew."""
    for name, made in (("filters", filters()), ("settings", settings())):
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        head, rest = page.split(begin)
        page = head + begin + made + end + rest.split(end)[1]
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_atomically(path, filled(path.read_text(encoding="utf-8")).encode())
