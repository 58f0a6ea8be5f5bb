"""Briefs that were sent. Goes in: a form's values or a file's text, and pictures. Comes out: a folder with them, read by agora.ads.brief.

FOLDER/brief.json|brief.toml|page.html     kit.json (what of the brand was given beside the file)     logo.png, product_picture.jpg, ...

Nothing outside the folder is ever opened: a brief that names a picture by a path is refused before it is read. Pictures are PNG, JPEG or
WebP by their content, of bounded size, and are decoded once before they are kept.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from agora.ads.brief import Brief, read_brief
from agora.ads.images.product import read_picture
from agora.errors import ConfigError, DataError

Role = Literal["logo", "product_picture"]
ROLES: Final[tuple[Role, ...]] = ("logo", "product_picture")
FILES: Final = {".toml": "brief.toml", ".json": "brief.json", ".html": "page.html", ".htm": "page.html"}
"""Endings that are taken, and the name that the file gets."""
MAX_TEXT_BYTES: Final = 1 << 20
MAX_PICTURE_BYTES: Final = 4 << 20
MAX_SIDE: Final = 6_000
KIT: Final = "kit.json"
_PLAIN: Final = re.compile(r"[\w][\w.-]{0,79}\.(?:png|jpe?g|webp)", re.ASCII | re.IGNORECASE)
_KINDS: Final = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"RIFF", ".webp"))


def write_form(folder: Path, form: Mapping[str, Any], pictures: Mapping[Role, bytes]) -> Brief:
    """Keep a form as brief.json and read it. Raises ConfigError, DataError."""
    return write_file(folder, "brief.json", json.dumps(form, ensure_ascii=False, indent=1) + "\n", pictures)


def write_file(folder: Path, name: str, text: str, pictures: Mapping[Role, bytes], kit: Mapping[str, Any] | None = None) -> Brief:
    """Keep an uploaded file under a name of ours and read it. `kit`: colours and fonts to use instead of the file's.

    Raises ConfigError, DataError; both without the folder's path.
    """
    ending = Path(name).suffix.lower()
    if ending not in FILES:
        raise ConfigError(f"the brief {name[:80]!r} must end in .toml, .json or .html")
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        raise ConfigError(f"the brief is longer than {MAX_TEXT_BYTES:,} bytes; it is a page of text")
    named = _named_pictures(text, ending)
    places = {}
    for role, data in pictures.items():
        kind = picture_ending(data, role)
        places[role] = named.get(role) or f"{role}{kind}"
        (folder / places[role]).write_bytes(data)
    if missing := next((role for role in named if role not in pictures), None):
        raise ConfigError(f"the brief names the picture {named[missing]!r} as {missing.replace('_', ' ')}; add this picture too")
    (folder / FILES[ending]).write_text(text, encoding="utf-8")
    (folder / KIT).write_text(json.dumps({**(kit or {}), **places}) + "\n", encoding="utf-8")
    try:
        return read_job_brief(folder)
    except (ConfigError, DataError) as error:
        raise ConfigError(str(error).replace(f"{folder}/", "").replace(str(folder), "the brief's folder")) from error


def read_job_brief(folder: Path) -> Brief:
    """The brief that `write_file` kept. Raises ConfigError, DataError."""
    path = next((folder / name for name in dict.fromkeys(FILES.values()) if (folder / name).is_file()), None)
    if path is None:
        raise DataError("the brief is gone; make a new one")
    brief = read_brief(path)
    kit = json.loads((folder / KIT).read_text(encoding="utf-8"))
    # Only pictures that were sent: what a page names as its picture may be any file of the folder.
    given: dict[str, Any] = {role: folder / kit[role] if role in kit else None for role in ROLES}
    given |= {key: tuple(kit[key]) for key in ("colours", "fonts") if kit.get(key)}
    return replace(brief, brand=replace(brief.brand, **given))


def picture_ending(data: bytes, what: str) -> str:
    """The ending that fits a picture's content. Raises ConfigError for what is no picture, or one that is too large."""
    if len(data) > MAX_PICTURE_BYTES:
        raise ConfigError(f"the {what.replace('_', ' ')} has {len(data):,} bytes; at most {MAX_PICTURE_BYTES:,} are taken")
    ending = next((ending for start, ending in _KINDS if data.startswith(start)), None)
    if ending is None or (ending == ".webp" and data[8:12] != b"WEBP"):
        raise ConfigError(f"the {what.replace('_', ' ')} is no PNG, JPEG or WebP picture")
    try:
        from PIL import Image
    except ImportError as error:
        from agora.errors import MissingExtraError

        raise MissingExtraError("pillow", "ads", "reading a picture") from error
    import io

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            if max(image.size) > MAX_SIDE:
                raise ConfigError(f"the {what.replace('_', ' ')} has {image.width} x {image.height} pixels; at most {MAX_SIDE:,} a side")
        read_picture(data, what=what)
    except (OSError, SyntaxError, ValueError, DataError, Image.DecompressionBombError) as error:
        raise ConfigError(f"the {what.replace('_', ' ')} cannot be read as a picture") from error
    return ending


def _named_pictures(text: str, ending: str) -> dict[Role, str]:
    """Pictures that a brief names. Raises ConfigError for a name that is a path or no picture."""
    if ending in (".html", ".htm"):
        return {}
    try:
        table: Any = tomllib.loads(text) if ending == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return {}  # the reader says what is wrong, with its line
    brand = table.get("brand") if isinstance(table, dict) else None
    found: dict[Role, str] = {}
    for role in ROLES:
        name = brand.get(role) if isinstance(brand, dict) else None
        if name is None:
            continue
        if not isinstance(name, str) or not _PLAIN.fullmatch(" ".join(name.split())):
            shown = repr(name[:80]) if isinstance(name, str) else f"({type(name).__name__})"
            raise ConfigError(f"brand.{role}={shown} must be the plain name of a picture that is sent along, such as {role}.png")
        found[role] = " ".join(name.split())
    return found


__all__ = ["FILES", "MAX_PICTURE_BYTES", "MAX_TEXT_BYTES", "ROLES", "Role", "picture_ending", "read_job_brief", "write_file", "write_form"]
