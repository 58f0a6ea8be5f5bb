"""Write a sheet. Goes in: ads and a sheet. Comes out: CSV text that our own validator has re-read without a fault."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from agora.ads.export.ad import Ad
from agora.ads.export.sheet import Column, Sheet, safe_cell, sheet_named
from agora.ads.export.validate import validate
from agora.errors import DataError
from agora.files import write_atomically

_SHOWN = 5


def export(ads: Sequence[Ad], sheet: str | Sheet, *, out: Path | None = None) -> str:
    """The CSV text, written to `out` if given. Raises DataError with the first faults (line, column, value); nothing is written then."""
    sheet = sheet_named(sheet) if isinstance(sheet, str) else sheet
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(sheet.header)
    for ad in ads:
        writer.writerow([safe_cell(cell) for column in sheet.columns for cell in _cells(ad, column)])
    text = buffer.getvalue()
    faults = validate(text, sheet)
    if faults:
        more = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
        raise DataError(f"{sheet.name}: " + "; ".join(map(str, faults[:_SHOWN])) + more)
    if out is not None:
        write_atomically(out, text.encode(sheet.encoding))
    return text


def _cells(ad: Ad, column: Column) -> list[str]:
    """The cells of one column for one ad; repeated columns are filled up with empty ones, what is too much is left to the validator."""
    if column.value:
        return [column.value]
    found = ad.value(column.source)
    if column.repeat:
        texts = list(found)[: column.repeat]
        return texts + [""] * (column.repeat - len(texts))
    if column.kind == "json_list":
        return [json.dumps(list(found), ensure_ascii=False) if found else ""]
    text = found if isinstance(found, str) else "; ".join(found)
    return [button_value(text, column.one_of) if column.kind == "button" else text]


def button_value(text: str, allowed: Sequence[str]) -> str:
    """A call to action as the platform's word for it: 'Shop now' -> 'SHOP_NOW'. What it does not know becomes its first word, which is
    neutral."""
    plain = "_".join(text.upper().replace("-", " ").split())
    return plain if plain in allowed else allowed[0]
