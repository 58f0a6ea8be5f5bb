"""Whether the pictures of a variant still are those that were drawn, and still say what its texts say. Goes in: a variant's folder.
Comes out: findings."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from agora.ads.brief import Brief
from agora.ads.copywriting import Copy
from agora.ads.drawing import texts_shown
from agora.ads.job_folder import COPY, read_json
from agora.ads.policy import Finding
from agora.errors import DataError

RULE = "picture"


def shown_sha256(path: Path) -> str:
    """The hash of what a PNG shows: content credentials and other notes in the file do not change it. Raises DataError."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            return hashlib.sha256(f"{image.size}".encode() + image.convert("RGBA").tobytes()).hexdigest()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # a broken PNG may raise each
        raise DataError(f"{path} cannot be read ({error}); make the ads anew") from error


def picture_findings(copy: Copy, brief: Brief, folder: Path, pictures: Sequence[str], *, seen: Sequence[str] = ()) -> list[Finding]:
    """Pictures that are missing, show another text than copy.json holds now (both block), or were changed after they were drawn, which a
    person has to see. `seen`: hashes of pixels that one has seen and released. Raises DataError for a record that says nothing."""
    texts, found = texts_shown(brief, copy), []
    for name in pictures:
        path, record = folder / f"{name}.png", folder / f"{name}.json"
        if not path.is_file():
            reason = f"{path.name} is missing: make the ads again, which makes it anew"
            found.append(Finding(rule=RULE, severity="block", field="picture", span=name, reason=reason))
            continue
        table = read_json(record)
        try:
            lines, drawn = {field: " ".join(lines) for field, lines in table["layout"]["lines"].items()}, table["pixels_sha256"]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{record} does not say what its picture shows ({error!r}); make the ads anew") from error
        for field, text in texts.items():
            if field in lines and _squeezed(lines[field]) != _squeezed(text):
                reason = f"{path.name} shows {lines[field]!r}, {COPY} says {text!r}: put the text back, or make the ads anew"
                found.append(Finding(rule=RULE, severity="block", field=field, span=lines[field], reason=reason))
        if shown_sha256(path) not in (drawn, *seen):
            reason = (
                f"{path.name} was changed after it was drawn, and no rule reads pictures: look at it and release it, or make the ads anew"
            )
            found.append(Finding(rule=RULE, severity="review", field="picture", span=name, reason=reason))
    return found


def _squeezed(text: str) -> str:
    """A text without what line breaks change: blanks, hyphens, and the ending dot."""
    return re.sub(r"[\s\u00ad\u2010-]+", "", unicodedata.normalize("NFKC", text)).rstrip(".")


__all__ = ["picture_findings", "shown_sha256"]
