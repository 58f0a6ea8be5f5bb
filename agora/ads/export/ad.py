"""One ad as exporters take it, and reading a list of them from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from agora.errors import DataError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Ad:
    """What an exported row is made of. `headlines` and `descriptions`: further ones for ads that take several; the single ones come
    first."""

    name: str
    campaign: str
    ad_group: str
    landing_page: str
    headline: str
    description: str = ""
    short_description: str = ""
    primary_text: str = ""
    call_to_action: str = ""
    alt_text: str = ""
    headlines: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    path_1: str = ""
    path_2: str = ""
    image: str = ""
    image_url: str = ""
    context_hints: tuple[str, ...] = ()

    def value(self, field: str) -> str | tuple[str, ...]:
        """A field by name; lists hold the single text first and no text twice."""
        found: str | tuple[str, ...] = getattr(self, field)
        if field in ("headlines", "descriptions"):
            return tuple(dict.fromkeys(text for text in (getattr(self, field[:-1]), *found) if text))
        return found


def read_ads(path: Path) -> list[Ad]:
    """A JSON list of ads, or JSON lines. Raises DataError naming file, entry, field and value."""
    if not path.exists():
        raise UsageError(f"{path} does not exist; give a JSON file with a list of ads")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); give a JSON list of ads") from None
    try:
        entries = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: no JSON ({error.msg})") from None
    if not entries:
        raise DataError(f"{path} holds no ad")
    return [_ad(entry, f"{path}, ad {number}") for number, entry in enumerate(entries, 1)]


def leaves_folder(path: str) -> bool:
    """Whether a picture's path may point outside the folder of the ads: absolute, of a drive or a home, with "..", or an address."""
    parts = unquote(path.strip()).replace("\\", "/").split("/")
    return parts[0] == "" or parts[0].startswith("~") or ":" in parts[0] or ".." in (part.strip() for part in parts)


def _ad(entry: Any, where: str) -> Ad:
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: {str(entry)[:40]!r} is no JSON object")
    known = {field.name: field for field in fields(Ad)}
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key not in known:
            raise DataError(f"{where}: unknown field {key!r}; an ad has {', '.join(known)}")
        if key in ("headlines", "descriptions", "context_hints"):
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise DataError(f"{where}: {key} {value!r} must be a list of texts")
            values[key] = tuple(value)
        elif not isinstance(value, str):
            raise DataError(f"{where}: {key} {value!r} must be a text")
        else:
            values[key] = value
    missing = [name for name in ("name", "campaign", "ad_group", "landing_page", "headline") if not values.get(name)]
    if missing:
        raise DataError(f"{where}: no {missing[0]}")
    if values.get("image") and leaves_folder(values["image"]):
        raise DataError(f"{where}: image {values['image']!r} leaves the folder of the ads; give a path below it, or a link as image_url")
    return Ad(**values)
