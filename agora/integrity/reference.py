"""The generated parts of docs/integrity_labels.md: fields of a label, settings of labels. A test compares.

python -m agora.integrity.reference docs/integrity_labels.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from agora.files import write_atomically
from agora.integrity.labels import LABEL_SCHEMA, LabelConfig
from agora.posts.reference import fill, options_table, schema_table


def update_page(page: str) -> str:
    """The page with its tables made anew."""
    return fill(page, {"label": schema_table(LABEL_SCHEMA), "settings": options_table(LabelConfig)})


if __name__ == "__main__":
    page = Path(sys.argv[1])
    write_atomically(page, update_page(page.read_text(encoding="utf-8")))
