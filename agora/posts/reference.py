"""The generated parts of docs/posts.md: fields of a Post, options of the square. They cannot fall behind: a test compares.

python -m agora.posts.reference docs/posts.md
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from agora.files import write_atomically
from agora.posts.schema import DELETIONS_SCHEMA, POST_SCHEMA
from agora.posts.simulate import TRUTH_SCHEMA, Campaign, SquareConfig

_OPTION = re.compile(r"^    (\w+)  +(\S.*(?:\n {12,}\S.*)*)$", re.MULTILINE)


def schema_table(schema: pa.Schema) -> str:
    """A Markdown table of the fields, out of their metadata."""
    lines = ["| field | type | null | meaning |", "|---|---|---|---|"]
    for field in schema:
        kind = str(field.type).replace("<item: ", "<").replace(" not null", "")
        lines.append(f"| `{field.name}` | {kind} | {'yes' if field.nullable else 'no'} | {field.metadata[b'doc'].decode()} |")
        lines += [f"| `{field.name}[].{part.name}` | {part.type} | yes | {part.metadata[b'doc'].decode()} |" for part in _parts(field.type)]
    return "\n".join(lines)


def options_table(config: type[Any]) -> str:
    """A Markdown table of a configuration's keys, out of its docstring and defaults."""
    meanings = {key: " ".join(text.split()) for key, text in _OPTION.findall(config.__doc__ or "")}
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(config):
        if field.default is dataclasses.MISSING:
            default = "required" if field.default_factory is dataclasses.MISSING else f"`{field.name}.*`, below"
        elif field.default and isinstance(field.default, tuple) and all(isinstance(item, Campaign) for item in field.default):
            default = f"{len(field.default)} campaigns"
        else:
            default = f"`{_written(field.default)}`"
        lines.append(f"| `{field.name}` | {default} | {meanings[field.name]} |")
    return "\n".join(lines)


def _written(value: Any) -> str:
    """A default as it is typed behind `key=`."""
    if value is None or value == "":
        return "none" if value is None else '""'
    return str(value).lower() if isinstance(value, bool) else str(list(value) if isinstance(value, tuple) else value)


def fill(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part between its `<!-- begin NAME -->` and `<!-- end NAME -->` made anew."""
    for name, part in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        head, found, rest = page.partition(begin)
        assert found and end in rest, f"the page has no part {name!r}"
        page = f"{head}{begin}\n{part}\n{end}{rest.partition(end)[2]}"
    return page


def update_page(page: str) -> str:
    """docs/posts.md with its tables made anew."""
    return fill(
        page,
        {
            "post": schema_table(POST_SCHEMA),
            "deletions": schema_table(DELETIONS_SCHEMA),
            "truth": schema_table(TRUTH_SCHEMA),
            "square": options_table(SquareConfig),
            "campaign": options_table(Campaign),
        },
    )


def _parts(kind: pa.DataType) -> list[pa.Field]:
    inner = kind.value_type if pa.types.is_list(kind) else kind
    return list(inner) if pa.types.is_struct(inner) else []


if __name__ == "__main__":
    page = Path(sys.argv[1])
    write_atomically(page, update_page(page.read_text(encoding="utf-8")))
