"""The generated parts of docs/integrity_labels.md: fields of a label, settings of labels. A test compares.

python -m agora.integrity.reference docs/integrity_labels.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from agora.files import write_atomically
from agora.integrity.labels import LABEL_SCHEMA, LabelConfig
from agora.posts.reference import options_table, schema_table


def update_page(text: str) -> str:
    """The page with every part between `<!-- begin NAME -->` and `<!-- end NAME -->` made anew."""
    for name, part in {"label": schema_table(LABEL_SCHEMA), "settings": options_table(LabelConfig)}.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        head, found, rest = text.partition(begin)
        assert found and end in rest, f"the page has no part {name!r}"
        text = f"{head}{begin}\n{part}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    page = Path(sys.argv[1])
    write_atomically(page, update_page(page.read_text(encoding="utf-8")))
